/** Names for machines made of others. Pure. */

/** `name`, numbered from 2 on where that is needed to be no other machine's. */
export function freeMachineName(
  name: string,
  taken: ReadonlySet<string>,
  from: 'numbered' | 'itself' = 'numbered',
): string {
  if (from === 'itself' && !taken.has(name)) return name;
  for (let n = 2; ; n += 1) {
    const candidate = `${name} ${String(n)}`;
    if (!taken.has(candidate)) return candidate;
  }
}
