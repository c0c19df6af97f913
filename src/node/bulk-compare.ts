import type { Worker } from "node:worker_threads";
import type { BulkComparer, Pieces } from "../engine/compare-pieces.ts";
import { breathe, Pace } from "../io/pace.ts";
import { SharedPieces, Slots } from "./shared-pieces.ts";
import { workerFile } from "./worker-file.ts";

/** Plain bytes of a list from which a helper thread pays for its start, and from which one that is there is put to use. */
const HELPER_FROM = 128 * 1024 * 1024;
const READY_FROM = 4 * 1024 * 1024;
/** Milliseconds that the main thread waits for the helper's last piece before it looks at its event loop meanwhile. */
const PATIENCE_MS = 10;

class NodeComparer implements BulkComparer {
  private readonly from: number;
  private readonly file: URL;
  private worker: Worker | null = null;
  /** The helper could not start, or died: what it did not finish is left to the caller, as is all that follows. */
  private lost = false;

  constructor(from: number, file: URL) {
    this.from = from;
    this.file = file;
  }

  get worthFrom(): number {
    if (this.lost) return Number.POSITIVE_INFINITY;
    return this.worker === null ? this.from : Math.min(this.from, READY_FROM);
  }

  async run(pieces: Pieces, onSame: (count: number) => void): Promise<void> {
    const shared = SharedPieces.of(pieces);
    this.living()?.postMessage(shared.buffer);
    let same = 0;
    const report = (): void => {
      same = shared.sameUntil(same);
      onSame(same);
    };
    const pace = new Pace(report);
    const slots = new Slots();
    try {
      while (shared.work(slots, () => pace.due)) await pace.turn();
    } finally {
      slots.dispose();
      // Whatever happened: nobody is to read from the descriptors any more when this is over.
      shared.stopAt(0);
      while (!shared.close() && !this.lost) {
        shared.waitLeft(PATIENCE_MS);
        if (!shared.close()) await breathe();
      }
    }
    shared.marks(pieces.same);
    report();
  }

  async close(): Promise<void> {
    const { worker } = this;
    this.worker = null;
    await worker?.terminate();
  }

  private living(): Worker | null {
    if (this.worker !== null || this.lost) return this.worker;
    const fail = (): void => {
      this.lost = true;
    };
    try {
      const threads = process.getBuiltinModule("node:worker_threads");
      this.worker = new threads.Worker(this.file, { execArgv: [] });
      this.worker.unref();
      this.worker.on("error", fail);
      this.worker.on("exit", fail);
    } catch {
      fail();
    }
    return this.worker;
  }
}

/** What `nodeComparer` takes for tests. */
export interface NodeComparerOptions {
  /** Plain bytes of a list from which a helper is started. */
  readonly from?: number;
  /** The helper's file. */
  readonly file?: URL;
}

/** Node's fast comparer: two threads for large stretches. Close it. */
export function nodeComparer(options: NodeComparerOptions = {}): BulkComparer {
  return new NodeComparer(options.from ?? HELPER_FROM, options.file ?? workerFile("compare-worker"));
}
