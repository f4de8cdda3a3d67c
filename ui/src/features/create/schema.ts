/** What the wizard's fields may hold: the engine's own rules, so that most mistakes show while one types. */
import { z } from 'zod';
import type { CreateDefaults, ImageInfo } from '@/api/client';
import { forwardsSchema, type ForwardRow } from '@/features/forwards';
import { cpusSchema, DISK_MAX, DISK_MIN, memorySchema, nameSchema } from '@/features/hardware';
import { fromFile, fromLibrary, wantsDiskSize, type Draft, type SourceKind } from './draft';
import { guestProblems, type GuestDraft } from './guest';
import type { Medium } from './media';

type Translate = (key: string, values?: Record<string, unknown>) => string;

/** What the fields are checked against besides themselves. */
export interface Facts {
  readonly defaults: CreateDefaults;
  readonly takenNames: ReadonlySet<string>;
  /** What the chosen file turned out to be, where that is known. */
  readonly image: ImageInfo | undefined;
  /** Why the chosen file cannot be used. */
  readonly imageProblem: string | undefined;
  /** What was picked from the library or the catalogue. */
  readonly medium: Medium | undefined;
  readonly format: { readonly bytes: (bytes: number) => string; readonly mib: (mib: number) => string };
}

/** Bytes a new disk has to have at least: what is copied into it must fit. */
function leastDisk(draft: Draft, facts: Facts): number {
  if (draft.source === 'iso') return DISK_MIN;
  const inside = fromLibrary(draft) ? facts.medium?.virtualSize : facts.image?.virtualSize;
  return Math.max(DISK_MIN, inside ?? 0);
}

export function draftSchema(t: Translate, facts: Facts, draft: Draft) {
  const { defaults, format } = facts;
  const within = (from: number, to: number, words: () => string) =>
    z.custom<number | ''>(
      (value) => typeof value === 'number' && Number.isFinite(value) && value >= from && value <= to,
      { error: words },
    );
  const least = leastDisk(draft, facts);
  const imported = draft.source === 'import';

  return z.object({
    source: z.custom<SourceKind>((value) => value !== '', { error: () => t('create.problem.source') }),
    from: z.enum(['file', 'library']),
    path: z.string().superRefine((path, context) => {
      if (!fromFile(draft)) return;
      let message: string | undefined;
      if (path === '') message = t('create.problem.noFile');
      else if (!path.startsWith('/')) message = t('create.problem.relative');
      else message = facts.imageProblem;
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    }),
    pick: z.string().superRefine((_, context) => {
      if (fromLibrary(draft) && !facts.medium)
        context.addIssue({ code: 'custom', message: t('create.problem.noPick') });
    }),
    usage: z.enum(['copy', 'in_place']),
    library: z.enum(['copy', 'linked']),
    disk: z.enum(['new', 'none']),
    grow: z.enum(['keep', 'grow']),
    diskSize: wantsDiskSize(draft)
      ? within(least, DISK_MAX, () =>
          t('create.problem.disk', { least: format.bytes(least), most: format.bytes(DISK_MAX) }),
        )
      : z.custom<number | ''>(),
    name: nameSchema(t, facts.takenNames),
    os: z.string(),
    cpus: imported ? z.custom<number | ''>() : cpusSchema(t),
    memory: imported ? z.custom<number | ''>() : memorySchema(t, defaults.maxMemory, format.mib),
    accel: z.enum(['auto', 'kvm', 'tcg']),
    firmware: z.enum(['bios', 'uefi', 'uefi_secure']),
    tpm: z.boolean(),
    encrypt: z.boolean(),
    forwards: imported ? z.custom<ForwardRow[]>() : forwardsSchema(t),
    guest: z.custom<GuestDraft>().superRefine((guest, context) => {
      if (draft.source !== 'cloud') return;
      for (const [field, problem] of guestProblems(guest))
        context.addIssue({ code: 'custom', path: [field], message: t(`create.guest.problem.${problem}`) });
    }),
    start: z.boolean(),
  });
}
