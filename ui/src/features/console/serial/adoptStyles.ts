/**
 * The terminal writes style elements into the page, which the content policy does not let apply. What they hold is adopted as
 * constructed style sheets instead: those are made by script, not by markup, and the policy stays strict.
 */
export function adoptStyles(root: HTMLElement): () => void {
  const sheets = new Map<HTMLStyleElement, CSSStyleSheet>();

  function update(): void {
    const present = new Set(root.querySelectorAll('style'));
    for (const element of present) {
      let sheet = sheets.get(element);
      if (!sheet) {
        sheet = new CSSStyleSheet();
        sheets.set(element, sheet);
        document.adoptedStyleSheets.push(sheet);
      }
      sheet.replaceSync(element.textContent);
    }
    for (const [element, sheet] of sheets) {
      if (!present.has(element)) forget(element, sheet);
    }
  }

  function forget(element: HTMLStyleElement, sheet: CSSStyleSheet): void {
    sheets.delete(element);
    const at = document.adoptedStyleSheets.indexOf(sheet);
    if (at >= 0) document.adoptedStyleSheets.splice(at, 1);
  }

  const observer = new MutationObserver((changes) => {
    // The rows of the terminal change all the time; only what concerns a style element is looked at.
    const concerns = changes.some(
      ({ target, addedNodes, removedNodes }) =>
        target.nodeName === 'STYLE' ||
        [...addedNodes, ...removedNodes].some((node) => node.nodeName === 'STYLE'),
    );
    if (concerns) update();
  });
  observer.observe(root, { childList: true, subtree: true });
  update();
  return () => {
    observer.disconnect();
    for (const [element, sheet] of [...sheets]) forget(element, sheet);
  };
}
