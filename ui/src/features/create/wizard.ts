/**
 * The wizard's thinking: the draft and its form, what was chosen and looked at, and the fields that follow it until somebody
 * touches them (name, sizes, firmware, the forward for ssh).
 */
import { computed, shallowRef, watch } from 'vue';
import { useI18n } from 'vue-i18n';
import { call, type CreateDefaults, type OsPreset } from '@/api/client';
import { useMachines } from '@/api/stores';
import { suggestForward, takenPorts } from '@/features/forwards';
import { useErrorText } from '@/shared/composables/errorText';
import { useForm, type Form } from '@/shared/composables/form';
import { formatBytes, formatMiB } from '@/shared/format';
import {
  draftFrom,
  fieldOf,
  freeName,
  fromFile,
  fromLibrary,
  isMachineFile,
  nameFromFile,
  SOURCES,
  stepOf,
  stepsOf,
  type Draft,
  type Step,
} from './draft';
import { USER } from './guest';
import { imageTrouble, useImage } from './image';
import { useLook } from './looking';
import { useMedia } from './media';
import { fill, wishesOf, type Wishes } from './preset';
import { draftSchema, type Facts } from './schema';

/** What somebody said before the wizard opened. */
export interface Beginning {
  /** A dropped file. */
  readonly file?: string | undefined;
  /** A way to begin. */
  readonly source?: string | undefined;
  /** An image of the library, by its id. */
  readonly image?: string | undefined;
}

const SSH = 22;

function beginningOf({ file, source, image }: Beginning, defaults: CreateDefaults): Partial<Draft> {
  if (image !== undefined) return { source: 'image', from: 'library', pick: `image:${image}` };
  if (file !== undefined) return { source: isMachineFile(file) ? 'import' : 'image', path: file };
  const known = SOURCES.find((one) => one === source);
  return known === undefined || (known === 'demo' && defaults.demoDisk === null) ? {} : { source: known };
}

export function useWizard(defaults: () => CreateDefaults, beginning: Beginning) {
  const { t } = useI18n();
  const machines = useMachines();
  const errorText = useErrorText();
  const takenNames = computed(() => new Set(machines.list.map((vm) => vm.name)));
  const taken = computed(() => takenPorts(machines.list));

  const form: Form<Draft> = useForm(
    () => draftSchema((key, values) => t(key, values ?? {}), facts.value, form.values),
    { ...draftFrom(defaults()), ...beginningOf(beginning, defaults()) },
    { words: (error) => errorText(error.body).sentence, fieldOf },
  );
  const draft = form.values;
  const media = useMedia();
  const medium = computed(() => (fromLibrary(draft) ? media.find(draft.pick) : undefined));

  // ---- what is at the path
  const image = useImage(() => (fromFile(draft) && draft.source !== 'import' ? draft.path : ''));
  const plan = useLook(
    () => (draft.source === 'import' ? draft.path : ''),
    (path) => call('vm.import.inspect', { path }),
  );
  /** The ISO to recognise: at hand, or in the library. */
  const disc = useLook(
    () => {
      if (draft.source !== 'iso') return '';
      return draft.from === 'file' ? draft.path : (medium.value?.image?.path ?? '');
    },
    async (path) => (await call('os.detect', { path })) ?? undefined,
  );

  const imageProblem = computed(() => {
    const failed = draft.source === 'import' ? plan.error.value : image.error.value;
    if (failed) {
      const { sentence, hint } = errorText(failed.body);
      return hint ? `${sentence} ${hint}` : sentence;
    }
    const info = image.info.value;
    if (!info || (draft.source !== 'iso' && draft.source !== 'image')) return undefined;
    const trouble = imageTrouble(info, { source: draft.source, usage: draft.usage });
    return trouble && t(`create.image.trouble.${trouble}`, { name: info.usedBy ?? '' });
  });
  const facts = computed<Facts>(() => ({
    defaults: defaults(),
    takenNames: takenNames.value,
    image: fromFile(draft) ? image.info.value : undefined,
    imageProblem: imageProblem.value,
    medium: medium.value,
    format: { bytes: formatBytes, mib: formatMiB },
  }));

  // ---- until somebody writes a name, it follows what is chosen
  let nameTouched = false;
  let ownName = draft.name;
  function setName(name: string): void {
    if (nameTouched || name === '') return;
    ownName = name;
    draft.name = name;
  }
  watch(
    () => draft.name,
    (name) => {
      if (name !== ownName) nameTouched = true;
    },
  );

  // ---- until somebody touches them, resources and firmware follow the operating system
  const preset = shallowRef<OsPreset>();
  const plain = (): Wishes => ({
    cpus: defaults().cpus,
    memory: defaults().memory,
    diskSize: defaults().diskSize,
    firmware: 'bios',
    tpm: false,
  });
  let filled = plain();
  function usePreset(now: OsPreset | undefined): void {
    preset.value = now;
    draft.os = now?.os.id ?? '';
    filled = fill(draft, filled, now ? wishesOf(now, defaults()) : plain());
  }
  let question = 0;
  /** The preset of an operating system that is known by its id; none where the data does not know it. */
  async function presetOf(os: string | undefined): Promise<void> {
    const own = ++question;
    const found = os === undefined ? [] : await call('os.list', { search: os }).catch(() => []);
    if (own === question) usePreset(found.find((one) => one.os.id === os));
  }
  watch(disc.info, (found) => {
    if (draft.source === 'iso' && (found || !medium.value)) usePreset(found);
  });

  // A dropped file, or one of the other kind, says itself what it is.
  watch(image.info, (info) => {
    if (!info) return;
    if (info.path === beginning.file) draft.source = info.kind === 'iso' ? 'iso' : 'image';
    if (draft.source === 'image' && draft.grow === 'keep') draft.diskSize = info.virtualSize;
    setName(nameFromFile(info.path, takenNames.value));
  });
  watch(plan.info, (found) => {
    if (found) setName(freeName(found.name, takenNames.value));
  });
  watch(medium, (now) => {
    if (!now) return;
    if (beginning.image !== undefined && draft.pick === `image:${beginning.image}`)
      draft.source = now.kind === 'iso' ? 'iso' : now.cloudInit ? 'cloud' : 'image';
    setName(freeName(now.os ?? nameFromFile(now.name, new Set()), takenNames.value));
    if (now.user !== undefined || draft.guest.user === '') draft.guest.user = now.user ?? USER;
    if (draft.source !== 'iso' || !now.image) void presetOf(now.os);
    const least = now.virtualSize ?? 0;
    if (draft.source === 'image' && draft.grow === 'keep') draft.diskSize = least;
  });

  /** The forward that was made for ssh, while it is as it was made. */
  let sshForward = '';
  watch(
    () => draft.source,
    (source, before) => {
      if (before !== undefined) {
        question += 1;
        usePreset(undefined);
        draft.pick = beginning.image !== undefined && source === 'image' ? draft.pick : '';
      }
      if (source === 'iso' || source === 'cloud' || source === 'empty') draft.diskSize = filled.diskSize;
      if (source === 'demo') setName(freeName(t('create.demoName'), takenNames.value));
      const [first] = draft.forwards;
      if (source === 'cloud' && !draft.forwards.some((row) => row.guestPort === SSH)) {
        const row = suggestForward(SSH, draft.forwards, taken.value);
        draft.forwards.push(row);
        sshForward = JSON.stringify(row);
      } else if (source !== 'cloud' && first && JSON.stringify(first) === sshForward) draft.forwards.shift();
    },
    { immediate: true },
  );

  const steps = computed(() => stepsOf(draft.source));
  const wrongSteps = computed(() => {
    const wrong = new Set<Step>();
    const mark = (path: string) => {
      if (form.errorOf(path) !== undefined) wrong.add(stepOf(path, draft.source));
    };
    for (const path of [
      'source',
      'path',
      'pick',
      'diskSize',
      'name',
      'cpus',
      'memory',
      'accel',
      'firmware',
      'tpm',
      'encrypt',
      'os',
    ])
      mark(path);
    for (const field of Object.keys(draft.guest)) mark(`guest.${field}`);
    for (const field of ['hostPort', 'guestPort', 'hostAddress'])
      draft.forwards.forEach((_, index) => {
        mark(`forwards[${String(index)}].${field}`);
      });
    return wrong;
  });

  return {
    form,
    draft,
    media,
    medium,
    image,
    plan,
    disc,
    imageProblem,
    preset,
    presetOf,
    usePreset,
    taken,
    steps,
    wrongSteps,
  };
}

export type Wizard = ReturnType<typeof useWizard>;
