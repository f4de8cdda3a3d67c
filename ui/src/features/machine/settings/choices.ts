/** Values of a field with their words, for a select. */
type Translate = (key: string) => string;

export interface Choice<Value extends string> {
  readonly value: Value;
  readonly label: string;
  readonly disabled?: boolean;
}

export function choices<Value extends string>(
  t: Translate,
  field: string,
  values: readonly Value[],
): Choice<Value>[] {
  return values.map((value) => ({ value, label: t(`hardware.value.${field}.${value}`) }));
}
