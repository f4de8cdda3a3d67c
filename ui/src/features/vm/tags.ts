/** Tags as they are written: words between commas, each once. */
export function tagsOf(text: string): string[] {
  const tags = text
    .split(/[,，;；]/)
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '');
  return [...new Set(tags)];
}

/** Whether these are more, or longer, than what may be kept. */
export function badTags(text: string): boolean {
  const tags = tagsOf(text);
  return tags.length > 20 || tags.some((tag) => [...tag].length > 40);
}
