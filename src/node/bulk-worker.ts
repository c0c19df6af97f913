import { parentPort } from "node:worker_threads";
import { Copier, THREADED_CHUNK_BYTES } from "../engine/copy/copier.ts";
import { packerOf } from "../engine/copy/spec.ts";
import { Window } from "../engine/copy/window.ts";
import { AbortError, ImprintError, IoError, ReadError } from "../errors.ts";
import { descriptorIo } from "./copy-io.ts";
import { type ErrorKind, type FromHelper, SharedTurns, type ToHelper } from "./threads.ts";

// A helper thread of a bulk copy: the same copier on the same window, taking turns with the main thread.

const port = parentPort!;
let turns: SharedTurns | null = null;
let window: Window | null = null;
let copier: Copier | null = null;
/** Why the job could not be begun: told at its first window, which is when an answer is waited for. */
let unfit: FromHelper | null = null;

port.on("message", async (message: ToHelper) => {
  try {
    if ("job" in message) {
      const { job } = message;
      unfit = null;
      copier?.dispose();
      copier = null;
      turns = new SharedTurns(false, job.turns);
      window = new Window(job.window);
      const packer = packerOf(job.layout);
      packer.state = new Float64Array(job.state);
      copier = new Copier(packer, descriptorIo(job.target, job.labels, job.allocation), {
        skipZero: job.skipZero,
        ordered: job.ordered,
        shareFrom: 0,
        chunkBytes: THREADED_CHUNK_BYTES,
      });
      return;
    }
    if (unfit !== null) {
      post(unfit);
      return;
    }
    let before = 0;
    const { counts } = copier!;
    counts.walked = 0;
    counts.written = 0;
    await copier!.run(window!, turns!, () => {
      turns!.addWalked(counts.walked - before);
      before = counts.walked;
      return false;
    });
    post({ done: { walked: counts.walked, written: counts.written } });
  } catch (error) {
    turns?.fail();
    const failure: FromHelper = {
      error: {
        kind: kindOf(error),
        code: error instanceof ImprintError ? error.code : "EINTERNAL",
        message: error instanceof Error ? error.message : String(error),
        offset: error instanceof IoError ? error.offset : -1,
      },
    };
    if ("job" in message) unfit = failure;
    else post(failure);
  }
});

function kindOf(error: unknown): ErrorKind {
  if (error instanceof ReadError) return "ReadError";
  if (error instanceof IoError) return "IoError";
  return error instanceof AbortError ? "AbortError" : "Error";
}

function post(message: FromHelper): void {
  port.postMessage(message);
}
