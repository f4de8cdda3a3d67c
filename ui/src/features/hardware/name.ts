/** What a machine may be called. */

export const NAME_MAX = 100;

export type NameProblem = 'empty' | 'long' | 'spaces' | 'control' | 'id' | 'taken';

/** The engine's own rules for names, so that most mistakes show while one types. */
export function nameProblem(name: string, taken: ReadonlySet<string>): NameProblem | undefined {
  if (name === '') return 'empty';
  if ([...name].length > NAME_MAX) return 'long';
  if (name.trim() !== name) return 'spaces';
  if (/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u.test(name)) return 'control';
  if (/^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(name)) return 'id';
  return taken.has(name) ? 'taken' : undefined;
}
