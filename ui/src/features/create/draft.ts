/** A machine that is being thought of: its fields, on which step each stands, and the request they become. Pure. */
import type {
  Accel,
  CreateDefaults,
  CreateSource,
  Firmware,
  ImageDownloadRequest,
  ImageId,
  VmCreateRequest,
  VmImportRequest,
} from '@/api/client';
import { toForwards, type ForwardRow } from '@/features/forwards';
import { NAME_MAX, nameProblem } from '@/features/hardware';
import { guestDraft, toCloudInit, type GuestDraft } from './guest';
import type { Medium } from './media';

export const SOURCES = ['cloud', 'iso', 'image', 'import', 'demo', 'empty'] as const;
export type Source = (typeof SOURCES)[number];
export type SourceKind = '' | Source;

/** A number field that was emptied is ''. */
export interface Draft {
  source: SourceKind;
  /** Of an ISO or a disk image: a file at hand, or one of the library and the catalogue. */
  from: 'file' | 'library';
  /** Path of the ISO, image or foreign machine on the host. */
  path: string;
  /** Key of what was picked from the library or the catalogue. */
  pick: string;
  usage: 'copy' | 'in_place';
  /** Of an image of the library: copied, or stood on. */
  library: 'copy' | 'linked';
  /** From an ISO: a new disk to install on, or none. From a copied image: grow it, or keep its size. */
  disk: 'new' | 'none';
  grow: 'keep' | 'grow';
  /** Bytes. */
  diskSize: number | '';
  name: string;
  /** osinfo-db's short id; '' is unknown. */
  os: string;
  cpus: number | '';
  /** MiB. */
  memory: number | '';
  accel: Accel;
  firmware: Firmware;
  tpm: boolean;
  /** A new disk of its own is encrypted. */
  encrypt: boolean;
  forwards: ForwardRow[];
  guest: GuestDraft;
  start: boolean;
}

export const STEPS = ['start', 'guest', 'resources', 'network', 'review'] as const;
export type Step = (typeof STEPS)[number];

/** The steps of a source: only a cloud image asks who signs in, and what is imported knows the rest itself. */
export function stepsOf(source: SourceKind): readonly Step[] {
  if (source === 'import') return ['start'];
  return source === 'cloud' ? STEPS : STEPS.filter((step) => step !== 'guest');
}

/** On which step a field stands; the first that fits. */
export function stepOf(path: string, source: SourceKind = ''): Step {
  if (source === 'import' || /^(source|path|pick|usage|library)/.test(path)) return 'start';
  if (path.startsWith('guest')) return 'guest';
  if (/^(firmware|tpm|forwards)/.test(path)) return 'network';
  return 'resources';
}

export function draftFrom(defaults: CreateDefaults): Draft {
  return {
    source: '',
    from: 'file',
    path: '',
    pick: '',
    usage: 'copy',
    library: 'copy',
    disk: 'new',
    grow: 'keep',
    diskSize: defaults.diskSize,
    name: defaults.name,
    os: '',
    cpus: defaults.cpus,
    memory: defaults.memory,
    accel: 'auto',
    firmware: 'bios',
    tpm: false,
    encrypt: false,
    forwards: [],
    guest: guestDraft(),
    start: true,
  };
}

type Choice = Readonly<Pick<Draft, 'source' | 'from' | 'disk' | 'usage' | 'grow'>>;

/** The machine begins from something of the library or the catalogue. */
export function fromLibrary(draft: Pick<Draft, 'source' | 'from'>): boolean {
  return (
    draft.source === 'cloud' ||
    ((draft.source === 'iso' || draft.source === 'image') && draft.from === 'library')
  );
}

/** The machine begins from a file at hand. */
export function fromFile(draft: Pick<Draft, 'source' | 'from'>): boolean {
  return (
    draft.source === 'import' ||
    ((draft.source === 'iso' || draft.source === 'image') && draft.from === 'file')
  );
}

/** A new or grown disk is asked for. */
export function wantsDiskSize(draft: Choice): boolean {
  if (draft.source === 'iso') return draft.disk === 'new';
  if (draft.source === 'cloud' || draft.source === 'empty') return true;
  if (draft.source !== 'image') return false;
  return (draft.from === 'library' || draft.usage === 'copy') && draft.grow === 'grow';
}

/** A disk of the machine's own that is written anew: the one that can be encrypted. */
export function makesNewDisk(draft: Pick<Draft, 'source' | 'from' | 'disk' | 'usage' | 'library'>): boolean {
  if (draft.source === 'iso') return draft.disk === 'new';
  if (draft.source === 'empty' || draft.source === 'demo') return true;
  if (fromLibrary(draft)) return draft.library === 'copy';
  return draft.source === 'image' && draft.usage === 'copy';
}

/** A field of the request, as the engine names it, in terms of the draft. */
export function fieldOf(field: string): string {
  const path = field.replace(/^spec\./, '').replace(/^nics\[0\]\.network\./, '');
  if (path === 'source.path' || /^(disks|cdroms)\[\d+\]\.file$/.test(path)) return 'path';
  if (path === 'source.diskSize') return 'diskSize';
  if (path === 'source.image' || path === 'url') return 'pick';
  return path.replace(/^cloudInit\.(\w+).*$/, 'guest.$1').replace('guest.generateKey', 'guest.keys');
}

function sourceOf(draft: Draft, image: ImageId | undefined): CreateSource {
  const sized = wantsDiskSize(draft) ? { diskSize: Number(draft.diskSize) } : {};
  if (fromLibrary(draft)) {
    const linked = draft.source !== 'iso' && draft.library === 'linked';
    return { kind: 'library', image: image ?? '', ...sized, ...(linked ? { linked } : {}) };
  }
  if (draft.source === 'iso') return { kind: 'iso', path: draft.path, ...sized };
  if (draft.source === 'image') {
    return draft.usage === 'copy'
      ? { kind: 'image_copy', path: draft.path, ...sized }
      : { kind: 'image_in_place', path: draft.path };
  }
  return draft.source === 'empty' ? { kind: 'empty', diskSize: Number(draft.diskSize) } : { kind: 'demo' };
}

/** `image` is the one of the library that was picked, or was downloaded for this. */
export function toRequest(draft: Draft, image?: ImageId): VmCreateRequest {
  return {
    name: draft.name,
    source: sourceOf(draft, image),
    cpus: Number(draft.cpus),
    memory: Number(draft.memory),
    firmware: draft.firmware,
    accel: draft.accel,
    ...(draft.os === '' ? {} : { os: draft.os }),
    ...(draft.tpm || draft.os !== '' ? { tpm: draft.tpm } : {}),
    ...(draft.encrypt && makesNewDisk(draft) ? { encrypt: true } : {}),
    ...(draft.source === 'cloud' ? { cloudInit: toCloudInit(draft.guest) } : {}),
    forwards: toForwards(draft.forwards),
    start: draft.start,
  };
}

export function toImport(draft: Draft): VmImportRequest {
  return {
    path: draft.path,
    name: draft.name,
    ...(draft.usage === 'in_place' ? { inPlace: true } : {}),
  };
}

/** What has to be downloaded before the machine can be made. */
export function toDownload(medium: Medium | undefined): ImageDownloadRequest | undefined {
  const entry = medium?.entry;
  if (!entry) return undefined;
  return {
    url: entry.url,
    mirrors: entry.mirrors,
    name: entry.name,
    ...(entry.checksumUrl === null ? {} : { checksumUrl: entry.checksumUrl }),
    ...(entry.signatureUrl === null ? {} : { signatureUrl: entry.signatureUrl }),
    catalogueId: entry.id,
  };
}

/** The name, or the name with the first number that nobody has. */
export function freeName(base: string, taken: ReadonlySet<string>): string {
  let name = base;
  for (let n = 2; taken.has(name); n += 1) name = `${base}-${String(n)}`;
  return name;
}

const ENDINGS = /\.(iso|qcow2|img|raw|vmdk|vdi|vhdx?|voidvm|ov[af]|xml|conf|vbox|vmx)$/i;

/** A name from the file's: `/iso/debian-12.5.0-amd64-netinst.iso` is `debian-12.5.0-amd64-netinst`; a number where it is taken. */
export function nameFromFile(path: string, taken: ReadonlySet<string>): string {
  const file = path.slice(path.lastIndexOf('/') + 1);
  const base = [...file.replace(ENDINGS, '').trim()].slice(0, NAME_MAX - 4).join('');
  const name = freeName(base, taken);
  return nameProblem(name, taken) === undefined ? name : '';
}

/** A file of another program's machine. */
export function isMachineFile(path: string): boolean {
  return /\.(voidvm|ov[af]|xml|conf|vbox|vmx)$/i.test(path);
}
