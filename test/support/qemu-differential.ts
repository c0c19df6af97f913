// The installed qemu-img and ours on the same command line.

import { runHere, type Said } from "./in-process.ts";
import { run } from "./native.ts";

/** What the installed qemu-img answers. */
export async function nativeSaid(args: readonly string[], cwd: string): Promise<Said> {
  const r = await run("qemu-img", args, { cwd, timeoutMs: 20_000 });
  return { code: r.code ?? -1, stdout: r.stdout.toString("latin1"), stderr: r.stderr };
}

/** What ours answers, in this process. */
export function ourSaid(args: readonly string[], cwd: string): Promise<Said> {
  return runHere(["qemu-img", ...args], cwd);
}

/**
 * Both answers, or null where they are equal. `mask` takes out of each text what may differ. One after the other: both
 * may write the same file.
 */
export async function difference(
  args: readonly string[],
  cwd: string,
  mask: (text: string) => string = (text) => text,
): Promise<string | null> {
  const theirs = await nativeSaid(args, cwd);
  const ours = await ourSaid(args, cwd);
  const text = (s: Said): string => `exit ${s.code}\n${mask(s.stdout)}---\n${mask(s.stderr)}`;
  if (text(theirs) === text(ours)) return null;
  return `qemu-img ${args.join(" ")}\nnative: ${text(theirs)}\nours: ${text(ours)}`;
}
