// The native tools and our own command line for tests, and what compares their outputs.
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cli, type Outcome, type RunOptions, run } from "./run.ts";
import { canShare, warmly } from "./warm-pool.ts";

export { cli, limiter, must, type Outcome, type RunOptions, residentPeak, root, run } from "./run.ts";

/** Runs our command line, in a process that has run others before where that makes no difference. */
export function imprint(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return canShare(args, options) ? warmly(args, options) : imprintProcess(args, options);
}

/** Runs our command line in a process of its own, as a shell does. */
export function imprintProcess(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return run(process.execPath, [cli, ...args], options);
}

/** Gives `job` a fresh scratch folder and removes it afterwards. */
export async function inScratch<T>(name: string, job: (dir: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), `imprint-${name}-`));
  try {
    return await job(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Null when two files hold the same bytes, else where they differ first. */
export function fileDifference(a: string, b: string): string | null {
  const sizeA = statSync(a).size;
  const sizeB = statSync(b).size;
  if (sizeA !== sizeB) return `sizes ${sizeA} and ${sizeB}`;
  const fa = openSync(a, "r");
  const fb = openSync(b, "r");
  try {
    const x = Buffer.alloc(1 << 20);
    const y = Buffer.alloc(1 << 20);
    for (let at = 0; at < sizeA; ) {
      const n = readSync(fa, x, 0, x.length, at);
      const m = readSync(fb, y, 0, y.length, at);
      if (n !== m || n === 0) return `short read at ${at}`;
      if (!x.subarray(0, n).equals(y.subarray(0, n))) {
        let i = 0;
        while (x[i] === y[i]) i++;
        return `first difference at byte ${at + i} of ${sizeA}`;
      }
      at += n;
    }
    return null;
  } finally {
    closeSync(fa);
    closeSync(fb);
  }
}

/** Null when `file` holds exactly `bytes`. */
export function bytesDifference(file: string, bytes: Uint8Array): string | null {
  const want = readFileSync(file);
  if (want.length !== bytes.length) return `sizes ${want.length} and ${bytes.length}`;
  if (want.equals(bytes)) return null;
  let i = 0;
  while (want[i] === bytes[i]) i++;
  return `first difference at byte ${i} of ${want.length}`;
}

/** Output of `e2fsck -fn` on a file as one string with the file's own name taken out, and the exit code. */
export async function fsck(file: string): Promise<string> {
  const r = await run("e2fsck", ["-fn", file]);
  return `${r.code}\n${r.stdout.toString("latin1").replaceAll(file, "FILE")}${r.stderr.replaceAll(file, "FILE")}`;
}
