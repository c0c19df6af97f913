// A process that runs command lines one after another for `warmly` (warm-pool.ts): Node starts
// once, not for each of them.
import { readFileSync, writeFileSync } from "node:fs";
import { runHere } from "./in-process.ts";

/** What the pool asks for. */
export interface WarmJob {
  readonly args: readonly string[];
  readonly cwd: string;
  /** Whether to measure the memory that this command takes. */
  readonly watchMemory: boolean;
}

/** What it gets back; a command that ends the process gets no answer. */
export interface WarmAnswer {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** Highest resident size during the command, in bytes; 0 unless asked for. */
  readonly peak: number;
}

const send = process.send?.bind(process);
if (send === undefined) throw new Error("this module is for warm-pool.ts");

process.on("disconnect", () => process.exit());
process.on("message", async (job: WarmJob) => {
  if (job.watchMemory) {
    globalThis.gc?.();
    // 5: the highest resident size starts anew from what is resident now.
    writeFileSync("/proc/self/clear_refs", "5");
  }
  const said = await runHere(job.args, job.cwd);
  const answer: WarmAnswer = {
    code: said.code,
    stdout: Buffer.from(said.stdout, "latin1"),
    stderr: said.stderr,
    peak: job.watchMemory
      ? Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "latin1"))![1]) * 1024
      : 0,
  };
  send(answer);
});

// The command line is loaded: what takes long from now on is the command.
send("ready");
