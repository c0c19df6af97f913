// Command lines of ours in processes that are warm already: starting Node for each of thousands
// would take many minutes.
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { limiter, type Outcome, type RunOptions, root } from "./run.ts";
import type { WarmAnswer, WarmJob } from "./warm.ts";

const turn = limiter(2);
const idle: Warm[] = [];

/**
 * Whether a command line may share a process: it neither reads standard input nor writes an image to standard output.
 */
export function canShare(args: readonly string[], options: RunOptions): boolean {
  return (
    process.env["IMPRINT_TEST_SPAWN"] !== "1" &&
    Object.keys(options.env ?? {}).length === 0 &&
    options.input === undefined &&
    options.stdoutFile === undefined &&
    !args.some((a) => a === "-" || /^-\w+-$|^\/(dev\/(std|fd)|proc\/self)/.test(a))
  );
}

/** Runs `imprint ARGS`. A command that crashes or hangs takes its process along; the next one gets a new one. */
export function warmly(args: readonly string[], options: RunOptions): Promise<Outcome> {
  return turn(async () => {
    let warm = idle.pop();
    while (warm?.gone) warm = idle.pop();
    warm ??= new Warm();
    const outcome = await warm.run(args, options);
    if (!warm.gone) idle.push(warm);
    return outcome;
  });
}

/** One such process. It does not keep this one alive while it has nothing to do, and ends with it. */
class Warm {
  gone = false;
  private readonly child: ChildProcess;
  private readonly ready: Promise<void>;
  private answer: ((a: WarmAnswer) => void) | null = null;
  private ended: ((code: number | null, signal: NodeJS.Signals | null) => void) | null = null;
  private stray = 0;
  private stderr = "";

  constructor() {
    const child = fork(join(root, "build/test/support/warm.js"), [], {
      env: { ...process.env, LC_ALL: "C" },
      execArgv: ["--expose-gc"],
      serialization: "advanced",
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    this.child = child;
    // What a command prints is caught: the rest was written past that, or tells of a crash.
    child.stdout!.on("data", (b: Buffer) => {
      this.stray += b.length;
    });
    child.stderr!.on("data", (b: Buffer) => {
      this.stderr += b.toString("latin1");
    });
    child.on("error", () => this.end(null, null));
    child.on("close", (code, signal) => this.end(code, signal));
    this.ready = new Promise((done) => {
      child.once("close", done);
      child.on("message", (a: WarmAnswer | "ready") => {
        if (a === "ready") done();
        else this.answer?.(a);
      });
    });
    this.hold(false);
  }

  async run(args: readonly string[], options: RunOptions): Promise<Outcome> {
    const { child } = this;
    this.hold(true);
    await this.ready;
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      this.gone = true;
      child.kill("SIGKILL");
    }, options.timeoutMs ?? 120_000);
    const job: WarmJob = {
      args,
      cwd: options.cwd ?? process.cwd(),
      watchMemory: options.watchMemory ?? false,
    };
    try {
      return await new Promise<Outcome>((done, fail) => {
        this.answer = (a) => {
          if (this.stray === 0) {
            // An answer is one, even where this process was too busy to hear it in time.
            done({ ...a, stdout: Buffer.from(a.stdout), signal: null, timedOut: false });
            return;
          }
          child.kill("SIGKILL");
          this.gone = true;
          fail(new Error(`imprint ${args.join(" ")} wrote to standard output as to a file`));
        };
        this.ended = (code, signal) =>
          done({ code, signal, stdout: Buffer.alloc(0), stderr: this.stderr, peak: 0, timedOut });
        if (!child.connected) fail(new Error(`no process to run commands in: ${this.stderr}`));
        else
          child.send(job, (e) => {
            if (e !== null) fail(e);
          });
      });
    } finally {
      clearTimeout(timer);
      this.answer = null;
      this.ended = null;
      this.hold(false);
    }
  }

  private end(code: number | null, signal: NodeJS.Signals | null): void {
    this.gone = true;
    this.ended?.(code, signal);
  }

  /** Whether this process waits for that one. */
  private hold(wait: boolean): void {
    const { child } = this;
    const sockets = [child.stdout, child.stderr] as unknown as { ref(): void; unref(): void }[];
    for (const handle of [child, child.channel, ...sockets]) {
      if (wait) handle?.ref();
      else handle?.unref();
    }
  }
}
