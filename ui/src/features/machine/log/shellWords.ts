/** Arguments as a command for a shell, one option a line, so that it can be read, compared and pasted. */

/** One argument, quoted where a shell would read it otherwise. */
export function shellQuote(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

/** The program, then each option with its value. */
export function shellLines(args: readonly string[]): string[] {
  const lines: string[] = [];
  args.forEach((argument, at) => {
    const word = shellQuote(argument);
    const last = lines.length - 1;
    const begins = at === 0 || argument.startsWith('-') || lines[last]?.includes(' ');
    if (begins) lines.push(word);
    else lines[last] = `${lines[last] ?? ''} ${word}`;
  });
  return lines;
}

export function shellCommand(args: readonly string[]): string {
  return shellLines(args).join(' \\\n  ');
}
