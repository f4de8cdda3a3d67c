/** Tags as they are written: words between commas, each once. */
export function tagsOf(text: string): string[] {
  const tags = text
    .split(/[,，;；]/)
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '');
  return [...new Set(tags)];
}
