// Child processes for tests.
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Checkout folder (this module runs from build/test/support). */
export const root: string = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");

/** Our command line: as it is shipped where the whole suite runs after a build, else as compiled for tests. */
export const cli: string = join(root, process.env["IMPRINT_TEST_CLI"] ?? "build/cli/main.js");

export interface Outcome {
  /** Exit code; null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** Highest resident size seen, in bytes; 0 unless asked for. */
  readonly peak: number;
  readonly timedOut: boolean;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** File that becomes standard output instead of a pipe. */
  readonly stdoutFile?: string;
  readonly timeoutMs?: number;
  /** Poll /proc for the child's peak memory. */
  readonly watchMemory?: boolean;
}

/** What is kept of standard error: a broken volume makes the native tool repeat a warning without end. */
const MOST_WORDS = 1 << 22;

/** Runs a program to its end. Never throws for a non-zero exit. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return new Promise((done, fail) => {
    const out = options.stdoutFile === undefined ? "pipe" : openSync(options.stdoutFile, "w");
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: "C", ...options.env },
      stdio: ["pipe", out, "pipe"],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let peak = 0;
    let timedOut = false;
    const watch =
      options.watchMemory &&
      setInterval(() => {
        if (child.pid !== undefined) peak = Math.max(peak, residentPeak(child.pid));
      }, 10);
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, options.timeoutMs ?? 120_000);
    child.stdout?.on("data", (b: Buffer) => stdout.push(b));
    let heard = 0;
    child.stderr!.on("data", (b: Buffer) => {
      if (heard < MOST_WORDS) stderr.push(b);
      heard += b.length;
    });
    child.stdin!.on("error", () => {});
    child.stdin!.end(options.input ?? "");
    const finish = () => {
      clearTimeout(timer);
      if (watch) clearInterval(watch);
      if (typeof out === "number") closeSync(out);
    };
    child.on("error", (e) => {
      finish();
      fail(e);
    });
    child.on("close", (code, signal) => {
      finish();
      done({
        code,
        signal,
        stdout: Buffer.concat(stdout),
        stderr: Buffer.concat(stderr).toString("latin1"),
        peak,
        timedOut,
      });
    });
  });
}

/** VmHWM of a process in bytes, 0 when it is gone. */
export function residentPeak(pid: number): number {
  try {
    const m = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
    return m ? Number(m[1]) * 1024 : 0;
  } catch {
    return 0;
  }
}

/** Runs a program that must end with one of `codes` (0 alone by default). */
export async function must(
  program: string,
  args: readonly string[],
  options: RunOptions & { codes?: readonly number[] } = {},
): Promise<Outcome> {
  const r = await run(program, args, options);
  if (r.code === null || !(options.codes ?? [0]).includes(r.code)) {
    const said = `${r.stdout.subarray(0, 2000).toString("latin1")}\n${r.stderr.slice(0, 2000)}`;
    throw new Error(`${program} ${args.join(" ")} ended with ${r.code ?? r.signal}:\n${said}`);
  }
  return r;
}

/** A gate that lets at most `width` jobs run at once. */
export function limiter(width: number): <T>(job: () => Promise<T>) => Promise<T> {
  let free = width;
  const waiting: (() => void)[] = [];
  return async (job) => {
    if (free > 0) free--;
    else await new Promise<void>((go) => waiting.push(go));
    try {
      return await job();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free++;
    }
  };
}
