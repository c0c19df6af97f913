/**
 * glibc's getopt_long as data: one table of options drives parsing, messages, help texts and completions.
 * Behaviour and wording of the messages follow getopt_long(3) of glibc 2.36.
 */

/** One option of a command. */
export interface OptionSpec {
  /** What the parser reports for it; several specs with one key are spellings of the same option. */
  readonly key: string;
  /** One character, without the dash. */
  readonly short?: string;
  /** Long name without the dashes. */
  readonly long?: string;
  /** Name of its argument in help texts; an option without `arg` takes none. */
  readonly arg?: string;
  /** True where the argument may be left out; it must then be attached (`-ofoo`, `--name=foo`). */
  readonly optional?: boolean;
  /** One line for the help text; an option without it stays out of the help. */
  readonly help?: string;
  /** True where no abbreviation is taken for it: options that a native tool's own abbreviations must not meet. */
  readonly exact?: boolean;
}

/** One parsed item, in command line order. An error carries glibc's message without the program prefix. */
export type Item =
  | { readonly kind: "option"; readonly key: string; readonly value: string | null; readonly name: string }
  | { readonly kind: "operand"; readonly value: string }
  | {
      readonly kind: "error";
      readonly message: string;
      /** True where an option lacks its argument. */
      readonly missing?: boolean;
      /** The word that C finds before optind: the last one read to its end; absent where that is the command's name. */
      readonly word?: string;
    };

export interface ParseSettings {
  /** Stop at the first operand instead of permuting (POSIXLY_CORRECT, or a sub-command word). */
  readonly posix?: boolean;
}

/**
 * Yields options, operands and errors in the order of `args`. After an error it goes on as getopt does, so that the
 * caller decides whether the first one ends everything.
 */
export function* parse(
  args: readonly string[],
  specs: readonly OptionSpec[],
  settings: ParseSettings = {},
): Generator<Item, void> {
  let i = 0;
  while (i < args.length) {
    const word = args[i++];
    if (word === "--") break;
    if (word === "-" || !word.startsWith("-")) {
      yield { kind: "operand", value: word };
      if (settings.posix) break;
    } else if (word.startsWith("--") && specs.some((s) => s.long !== undefined)) {
      const found = longOption(word.slice(2), specs);
      if (found.kind === "needs-argument") {
        if (i < args.length)
          yield { kind: "option", key: found.spec.key, value: args[i++], name: `--${found.spec.long}` };
        else
          yield {
            kind: "error",
            message: `option '--${found.spec.long}' requires an argument`,
            missing: true,
            word,
          };
      } else yield found.kind === "error" ? { ...found, word } : found;
    } else {
      // A cluster: flags until one takes the rest of the word, or the next word, as its argument.
      for (let c = 1; c < word.length; ) {
        const letter = String.fromCodePoint(word.codePointAt(c)!);
        c += letter.length;
        const spec = letter === ":" || letter === ";" ? undefined : specs.find((s) => s.short === letter);
        if (spec === undefined) {
          // Only the last letter of a cluster is read to the word's end.
          const before: string | undefined = c < word.length ? args[i - 2] : word;
          yield { kind: "error", message: `invalid option -- '${letter}'`, word: before };
          continue;
        }
        let value: string | null = null;
        if (spec.arg !== undefined) {
          if (c < word.length) value = word.slice(c);
          else if (!spec.optional) {
            if (i >= args.length) {
              yield {
                kind: "error",
                message: `option requires an argument -- '${letter}'`,
                missing: true,
                word,
              };
              break;
            }
            value = args[i++];
          }
          c = word.length;
        }
        yield { kind: "option", key: spec.key, value, name: `-${letter}` };
      }
    }
  }
  while (i < args.length) yield { kind: "operand", value: args[i++] };
}

type LongResult = Item | { readonly kind: "needs-argument"; readonly spec: OptionSpec };

/** Resolves `name` or `name=value` (dashes already off), exactly or by an abbreviation that fits one option only. */
function longOption(text: string, specs: readonly OptionSpec[]): LongResult {
  const equals = text.indexOf("=");
  const name = equals < 0 ? text : text.slice(0, equals);
  let spec = specs.find((s) => s.long === name);
  if (spec === undefined) {
    const candidates = specs.filter((s) => s.exact !== true && s.long?.startsWith(name));
    spec = candidates[0];
    const same = (s: OptionSpec): boolean =>
      s.key === spec!.key &&
      (s.arg === undefined) === (spec!.arg === undefined) &&
      s.optional === spec!.optional;
    if (spec === undefined) return { kind: "error", message: `unrecognized option '--${text}'` };
    if (!candidates.every(same)) {
      const listed = candidates.filter((s) => s === spec || !same(s)).map((s) => ` '--${s.long}'`);
      return { kind: "error", message: `option '--${text}' is ambiguous; possibilities:${listed.join("")}` };
    }
  }
  if (equals >= 0) {
    if (spec.arg === undefined)
      return { kind: "error", message: `option '--${spec.long}' doesn't allow an argument` };
    return { kind: "option", key: spec.key, value: text.slice(equals + 1), name: `--${spec.long}` };
  }
  if (spec.arg !== undefined && !spec.optional) return { kind: "needs-argument", spec };
  return { kind: "option", key: spec.key, value: null, name: `--${spec.long}` };
}

/** The options of a help text, one or more aligned lines each; at most `width` columns. */
export function describeOptions(specs: readonly OptionSpec[], width = 80): string {
  const rows = specs.filter((s) => s.help !== undefined).map((s) => [spelling(s), s.help!] as const);
  const column = Math.min(28, Math.max(0, ...rows.map((r) => r[0].length)) + 4);
  const lines: string[] = [];
  for (const [name, help] of rows) {
    const words = wrap(help, width - column);
    let head = `  ${name}`;
    if (head.length + 2 > column) {
      lines.push(head);
      head = "";
    }
    for (const text of words) {
      lines.push(head.padEnd(column) + text);
      head = "";
    }
  }
  return lines.map((l) => l + "\n").join("");
}

function spelling(s: OptionSpec): string {
  const long = s.long === undefined ? "" : `--${s.long}`;
  const value = s.arg === undefined ? "" : s.optional ? `[${long ? "=" : ""}${s.arg}]` : ` ${s.arg}`;
  if (s.short === undefined) return `    ${long}${value}`;
  return `-${s.short}${long ? `, ${long}` : ""}${value}`;
}

/** Breaks a line at spaces so that no piece is longer than `width`, where words allow it. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  if (line !== "") lines.push(line);
  return lines;
}
