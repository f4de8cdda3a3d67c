/** Fields and values of a specification in words: what waits for a restart is told with them. Pure but for the texts. */
import type { PendingChange } from '@/api/client';

type Translate = (key: string, values?: Record<string, unknown>) => string;
type Exists = (key: string) => boolean;

export interface ChangeWords {
  readonly what: string;
  readonly from: string;
  readonly to: string;
}

const LISTS = new Set(['disks', 'cdroms', 'nics', 'usb', 'shares', 'channels']);

/** `disks.disk0.bus` is “Disk disk0: bus”. */
export function fieldWords(t: Translate, te: Exists, field: string): string {
  const steps = field.split('.');
  const name = (step: string) => (te(`hardware.field.${step}`) ? t(`hardware.field.${step}`) : step);
  const [first = '', id] = steps;
  if (!LISTS.has(first) || id === undefined) return steps.map(name).join(' · ');
  const device = `${t(`hardware.one.${first}`)} ${id}`;
  const rest = steps.slice(2).filter((step) => step !== 'network');
  return rest.length === 0 ? device : `${device} · ${rest.map(name).join(' · ')}`;
}

function valueWords(t: Translate, te: Exists, field: string, value: string | null | undefined): string {
  if (value === null || value === undefined || value === '') return t('common.none');
  if (value === 'true') return t('common.yes');
  if (value === 'false') return t('common.no');
  const leaf = field.slice(field.lastIndexOf('.') + 1);
  const key = `hardware.value.${leaf}.${value}`;
  if (te(key)) return t(key);
  return value.startsWith('/') ? value.slice(value.lastIndexOf('/') + 1) : value;
}

export function changeWords(t: Translate, te: Exists, change: PendingChange): ChangeWords {
  return {
    what: fieldWords(t, te, change.field),
    from: valueWords(t, te, change.field, change.running),
    to: valueWords(t, te, change.field, change.next),
  };
}
