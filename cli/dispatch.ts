import { EXIT, report } from "./ui/errors.ts";
import { print, printError } from "./ui/out.ts";

/** What a command's module exports. `program` is the name that messages carry. Answers with the exit code. */
export interface Runnable {
  run(program: string, args: readonly string[]): Promise<number> | number;
}

interface Entry {
  readonly summary: string;
  readonly load: () => Promise<Runnable>;
}

const COMMANDS: Record<string, Entry> = {
  info: { summary: "what an image, device or volume is", load: () => import("./commands/info.ts") },
  map: { summary: "which bytes of an image hold data", load: () => import("./commands/map.ts") },
  capture: { summary: "save a volume into an image", load: () => import("./commands/capture.ts") },
  restore: {
    summary: "write an image back to a device or file",
    load: () => import("./commands/restore.ts"),
  },
  convert: { summary: "turn an image into another format", load: () => import("./commands/convert.ts") },
  compare: { summary: "compare the contents of two images", load: () => import("./commands/compare.ts") },
};

/** Native tools by name; those without `load` come with a later version. */
const TOOLS: Record<string, { readonly summary: string; readonly load?: Entry["load"] }> = {
  e2image: { summary: "as e2image of e2fsprogs", load: () => import("./native/e2image.ts") },
  o2image: { summary: "as o2image of ocfs2-tools" },
  "btrfs-image": { summary: "as btrfs-image of btrfs-progs" },
  ntfsclone: { summary: "as ntfsclone of ntfs-3g", load: () => import("./native/ntfsclone.ts") },
  "qemu-img": { summary: "as qemu-img of QEMU", load: () => import("./native/qemu-img.ts") },
};

/** Runs `imprint WORD ...`; answers with the exit code. */
export async function dispatch(args: readonly string[]): Promise<number> {
  const word = args[0];
  if (word === undefined) {
    printError(help());
    return EXIT.usage;
  }
  if (word === "--help" || word === "-h" || word === "help") {
    if (word === "help" && args[1] !== undefined) return dispatch([args[1], "--help"]);
    print(help());
    return EXIT.ok;
  }
  if (word === "--version" || word === "-V" || word === "version") {
    const { version } = await import("./version.ts");
    print(`imprint ${version()}\n`);
    return EXIT.ok;
  }
  if (Object.hasOwn(TOOLS, word)) return runTool(word, `imprint ${word}`, args.slice(1));
  if (!Object.hasOwn(COMMANDS, word)) {
    const near = nearest(word, [...Object.keys(COMMANDS), ...Object.keys(TOOLS)]);
    const kind = word.startsWith("-") ? "option" : "command";
    printError(`imprint: unknown ${kind} '${word}'${near === null ? "" : `; did you mean '${near}'?`}\n`);
    printError("Try 'imprint --help'.\n");
    return EXIT.usage;
  }
  const program = `imprint ${word}`;
  try {
    return await (await COMMANDS[word].load()).run(program, args.slice(1));
  } catch (error) {
    return report(program, error);
  }
}

/** Runs a native tool's command line under the name `program`. */
export async function runTool(tool: string, program: string, args: readonly string[]): Promise<number> {
  const { load } = TOOLS[tool];
  if (load === undefined) {
    printError(`${program}: ${tool} is not in this version yet\n`);
    return EXIT.failure;
  }
  return (await load()).run(program, args);
}

function help(): string {
  const rows = (entries: Record<string, { summary: string; load?: unknown }>): string =>
    Object.entries(entries)
      .filter(([, e]) => e.load !== undefined)
      .map(([name, e]) => `  ${name.padEnd(10)} ${e.summary}\n`)
      .join("");
  return `Usage: imprint COMMAND [OPTION]... [FILE]...
Save, restore, convert and inspect filesystem images.

Commands:
${rows(COMMANDS)}
Native tools, with their own options (also installed as imprint-NAME):
${rows(TOOLS)}
'imprint COMMAND --help' describes a command; 'imprint --version' prints the version.
`;
}

/** The candidate that needs the fewest edits, at most two, to become `word`; or null. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let least = 3;
  for (const c of candidates) {
    const d = word.length > 1 && c.startsWith(word) ? 0 : distance(word, c);
    if (d < least) {
      least = d;
      best = c;
    }
  }
  return best;
}

/** Edits (insert, delete, replace, swap of neighbours) between two words. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(row[j - 1] + 1, last[j] + 1, last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        row[j] = Math.min(row[j], before[j - 2] + 1);
    }
    before = last;
    last = row;
  }
  return last[b.length];
}
