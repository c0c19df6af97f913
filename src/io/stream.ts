import { IoError } from "../errors.ts";
import { Kernel } from "../kernel/kernel.ts";
import type { SequentialSource } from "./source.ts";
import type { Target } from "./target.ts";

/** Where a stream's bytes go, front to back: a pipe, a download, a WritableStream. */
export interface Sink {
  /** Takes all of `bytes`; they may be reused once the call has settled. */
  write(bytes: Uint8Array): void | Promise<void>;
  /** Takes `length` zeros; absent where they have to be written like anything else. */
  zeros?(length: number): void | Promise<void>;
  /**
   * Takes `length` bytes at `at` of the host's descriptor `fd`, without bringing them here; returns how many it could
   * (0: none), so that the rest is read and written.
   */
  pull?(fd: number, at: number, length: number): number | Promise<number>;
  /** The output is complete. */
  close(): void | Promise<void>;
  /** The output is given up: what was written is not to be used. */
  abort(): void | Promise<void>;
}

/** Writes to the sink are at least this many bytes, but for the last one. */
const BATCH = 256 * 1024;
/** Zeros of which at least as many are left to a sink that makes them itself. */
const MANY_ZEROS = 64 * 1024;
let zeros: Uint8Array | null = null;

/**
 * A target over a sink. Writes must come in ascending order and not overlap (IoError "ESPIPE" otherwise); gaps become
 * zeros. Small writes are gathered; writes of 256 KiB or more go through without a copy. Synchronous as long as the
 * sink is.
 */
export class StreamTarget implements Target {
  readonly label: string;
  readonly seekable = false;
  readonly fresh = true;
  readonly capacity = Number.POSITIVE_INFINITY;
  private readonly sink: Sink;
  private readonly batch = new Uint8Array(BATCH);
  private held = 0;
  private position = 0;
  private state: "open" | "committed" | "aborted" = "open";

  readonly pull?: NonNullable<Target["pull"]>;

  constructor(sink: Sink, label: string) {
    this.sink = sink;
    this.label = label;
    if (sink.pull !== undefined)
      this.pull = (fd, host, length, at) => {
        this.check("write", at);
        const r = this.fill(at - this.position);
        return r instanceof Promise ? r.then(() => this.take(fd, host, length)) : this.take(fd, host, length);
      };
  }

  /** Bytes of output so far, held ones included. */
  get written(): number {
    return this.position;
  }

  write(bytes: Uint8Array, at: number): void | Promise<void> {
    this.check("write", at);
    if (at > this.position) {
      const r = this.fill(at - this.position);
      if (r instanceof Promise) return r.then(() => this.put(bytes));
    }
    return this.put(bytes);
  }

  zero(at: number, length: number): void | Promise<void> {
    this.check("zero", at);
    return this.fill(at + length - this.position);
  }

  commit(size: number): void | Promise<void> {
    if (this.state !== "open") throw new IoError("ECLOSED", `${this.label}: commit after ${this.state}`);
    if (size < this.position)
      throw new IoError(
        "ESPIPE",
        `${this.label}: ${this.position} bytes already streamed, cannot end at ${size}`,
        size,
      );
    const r = this.fill(size - this.position);
    return r instanceof Promise ? r.then(() => this.finish()) : this.finish();
  }

  abort(): void | Promise<void> {
    if (this.state !== "open") return;
    this.state = "aborted";
    return this.sink.abort();
  }

  private check(what: string, at: number): void {
    if (this.state !== "open") throw new IoError("ECLOSED", `${this.label}: ${what} after ${this.state}`);
    if (at < this.position)
      throw new IoError(
        "ESPIPE",
        `${this.label}: cannot go back to byte ${at}, ${this.position} bytes already streamed`,
        at,
      );
  }

  private take(fd: number, host: number, length: number): number | Promise<number> {
    const count = (n: number): number => {
      this.position += n;
      return n;
    };
    const pull = (): number | Promise<number> => {
      const n = this.sink.pull!(fd, host, length);
      return n instanceof Promise ? n.then(count) : count(n);
    };
    const r = this.flush();
    return r instanceof Promise ? r.then(pull) : pull();
  }

  private put(bytes: Uint8Array): void | Promise<void> {
    const length = bytes.length;
    if (this.held + length <= BATCH) {
      this.batch.set(bytes, this.held);
      this.held += length;
      this.position += length;
      return;
    }
    const head = length >= BATCH && this.held === 0 ? 0 : BATCH - this.held;
    if (head > 0) this.batch.set(bytes.subarray(0, head), this.held);
    if (head > 0) this.held = BATCH;
    const r = this.flush();
    const rest = head > 0 ? bytes.subarray(head) : bytes;
    this.position += head;
    return r instanceof Promise ? r.then(() => this.putRest(rest)) : this.putRest(rest);
  }

  /** The batch is empty: pass large remainders on, keep small ones. */
  private putRest(rest: Uint8Array): void | Promise<void> {
    this.position += rest.length;
    if (rest.length >= BATCH) return this.sink.write(rest);
    this.batch.set(rest);
    this.held = rest.length;
  }

  private fill(length: number): void | Promise<void> {
    if (length >= MANY_ZEROS && this.sink.zeros !== undefined) {
      const r = this.flush();
      this.position += length;
      return r instanceof Promise ? r.then(() => this.sink.zeros!(length)) : this.sink.zeros(length);
    }
    while (length > 0) {
      const r = this.fillStep(length);
      length = r.left;
      if (r.wait !== null) return this.fillSlowly(r.wait, length);
    }
  }

  private async fillSlowly(wait: Promise<void>, length: number): Promise<void> {
    await wait;
    while (length > 0) {
      const r = this.fillStep(length);
      length = r.left;
      if (r.wait !== null) await r.wait;
    }
  }

  /** Adds zeros up to the end of a batch. */
  private fillStep(length: number): { left: number; wait: Promise<void> | null } {
    let wait: Promise<void> | null = null;
    if (this.held === 0 && length >= BATCH) {
      zeros ??= new Uint8Array(BATCH);
      this.position += BATCH;
      length -= BATCH;
      wait = promiseOf(this.sink.write(zeros));
    } else {
      const n = Math.min(length, BATCH - this.held);
      this.batch.fill(0, this.held, this.held + n);
      this.held += n;
      this.position += n;
      length -= n;
      if (this.held === BATCH) wait = promiseOf(this.flush());
    }
    return { left: length, wait };
  }

  private flush(): void | Promise<void> {
    if (this.held === 0) return;
    const n = this.held;
    this.held = 0;
    return this.sink.write(n === BATCH ? this.batch : this.batch.subarray(0, n));
  }

  private finish(): void | Promise<void> {
    const r = this.flush();
    const close = () => {
      this.state = "committed";
      return this.sink.close();
    };
    return r instanceof Promise ? r.then(close) : close();
  }
}

function promiseOf(r: void | Promise<void>): Promise<void> | null {
  return r instanceof Promise ? r : null;
}

/** Options of `spool`. */
export interface SpoolOptions {
  /** Bytes spooled so far. */
  readonly onProgress?: (bytes: number) => void;
  /** Throws (AbortError or what the caller likes) to stop. */
  readonly check?: () => void;
}

const SPOOL_BYTES = 512 * 1024;
const SPOOL_BLOCK = 4096;

/**
 * Copies all of a sequential source to `target` from byte 0 and returns its length in bytes. Blocks of 4 KiB that are
 * zero are left out where the target reads as zeros anyway. Neither commits nor closes.
 */
export async function spool(
  source: SequentialSource,
  target: Target,
  options: SpoolOptions = {},
): Promise<number> {
  const kernel = Kernel.get();
  const slot = kernel.take(SPOOL_BYTES);
  let at = 0;
  try {
    for (;;) {
      options.check?.();
      let length = 0;
      while (length < SPOOL_BYTES) {
        const r = source.next(length === 0 ? slot.bytes : slot.bytes.subarray(length));
        const n = r instanceof Promise ? await r : r;
        if (n === 0) break;
        length += n;
      }
      if (length === 0) return at;
      slot.bytes.fill(0, length, Math.min(Math.ceil(length / SPOOL_BLOCK) * SPOOL_BLOCK, SPOOL_BYTES));
      const runs = kernel.nonzeroRuns(slot.at, SPOOL_BLOCK, Math.ceil(length / SPOOL_BLOCK));
      const bounds = kernel.out.slice(0, runs * 2);
      let done = 0;
      for (let i = 0; i <= runs; i++) {
        const from = i < runs ? bounds[2 * i] * SPOOL_BLOCK : length;
        const to = i < runs ? Math.min(from + bounds[2 * i + 1] * SPOOL_BLOCK, length) : length;
        if (!target.fresh && from > done) {
          const r = target.zero(at + done, from - done);
          if (r instanceof Promise) await r;
        }
        if (to > from) {
          const r = target.write(slot.bytes.subarray(from, to), at + from);
          if (r instanceof Promise) await r;
        }
        done = to;
      }
      at += length;
      options.onProgress?.(at);
      if (length < SPOOL_BYTES) return at;
    }
  } finally {
    kernel.give(slot);
  }
}
