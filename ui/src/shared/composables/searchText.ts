/** Finding by words: each word of the question somewhere in the text, in any order, case and accents aside. */
const folded = new Map<string, string>();

function fold(text: string): string {
  let known = folded.get(text);
  if (known === undefined) {
    known = text.normalize('NFKD').replace(/\p{M}/gu, '').toLocaleLowerCase();
    if (folded.size > 5_000) folded.clear();
    folded.set(text, known);
  }
  return known;
}

/** Zero where it does not match; the larger, the better the match. */
export function matchScore(text: string, question: string): number {
  const words = fold(question).split(/\s+/).filter(Boolean);
  if (words.length === 0) return 1;
  const target = fold(text);
  let score = 0;
  for (const word of words) {
    const at = target.indexOf(word);
    if (at < 0) return 0;
    const begins = at === 0 || /[\s\-_./:]/.test(target[at - 1] ?? '');
    score += at === 0 ? 4 : begins ? 3 : 1;
  }
  return score / words.length;
}
