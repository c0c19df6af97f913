// Both programs with the same command line: ntfsclone and ours.
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { imprint, type Outcome, type RunOptions, run } from "./native.ts";

/** In an argument: the output's path, which each program has its own of. */
export const OUT = "@";

export interface Said {
  readonly code: number | null;
  /** Text or image on standard output. */
  readonly stdout: Buffer;
  /**
   * What both would have to say alike: standard error without the banner and the usage, and the
   * text of standard output.
   */
  readonly stderr: string;
  readonly messages: string;
  readonly output: string;
  readonly exists: boolean;
}

export interface Pair {
  readonly native: Said;
  readonly ours: Said;
}

/** Runs both in `dir`, ours with its output beside native's. */
export async function both(dir: string, args: readonly string[], options: RunOptions = {}): Promise<Pair> {
  const [native, ours] = await Promise.all([one("native"), one("ours")]);
  return { native, ours };

  async function one(who: "native" | "ours"): Promise<Said> {
    const folder = join(dir, who);
    mkdirSync(folder, { recursive: true });
    const output = join(folder, "out");
    const own = args.map((a) => a.replace(OUT, output));
    const cwd = { cwd: dir, ...options };
    const r = who === "native" ? await run("ntfsclone", own, cwd) : await imprint(["ntfsclone", ...own], cwd);
    return { ...said(r, folder), output, exists: existsSync(output) };
  }
}

function said(r: Outcome, folder: string): Omit<Said, "output" | "exists"> {
  const plain = (text: string): string => text.replaceAll(folder, "DIR");
  const stderr = r.stderr
    .replace(/^ntfsclone v2022\.10\.3 \(.*\)\n/, "")
    .replace(/\nUsage: [\s\S]*/, "\nUSAGE");
  return {
    code: r.code,
    stdout: r.stdout,
    stderr: plain(stderr),
    messages: plain(r.stdout.toString("latin1")),
  };
}
