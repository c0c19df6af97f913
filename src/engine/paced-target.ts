import type { Pace } from "../io/pace.ts";
import type { Target } from "../io/target.ts";

/** Most bytes that are zeroed between two looks at the event loop. */
const PIECE = 16 * 1024 * 1024;

/** Zeroes a range of a target piece by piece, so that a long one can be stopped. Bytes. */
export async function zeroRange(target: Target, at: number, length: number, pace: Pace): Promise<void> {
  const end = at + length;
  while (at < end) {
    const n = Math.min(PIECE, end - at);
    const r = target.zero(at, n);
    if (r instanceof Promise) await r;
    at += n;
    const wait = pace.step();
    if (wait !== undefined) await wait;
  }
}

/** A stream whose writes, and the gaps between them, let the event loop turn now and then. */
export class PacedTarget implements Target {
  readonly label: string;
  readonly seekable: boolean;
  readonly fresh: boolean;
  readonly capacity: number;
  readonly pull?: NonNullable<Target["pull"]>;
  private readonly base: Target;
  private readonly pace: Pace;
  private position = 0;

  constructor(base: Target, pace: Pace) {
    this.base = base;
    this.pace = pace;
    this.label = base.label;
    this.seekable = base.seekable;
    this.fresh = base.fresh;
    this.capacity = base.capacity;
    if (base.pull !== undefined) this.pull = (fd, host, length, at) => this.take(fd, host, length, at);
  }

  write(bytes: Uint8Array, at: number): void | Promise<void> {
    if (at - this.position > PIECE)
      return zeroRange(this.base, this.position, at - this.position, this.pace).then(() =>
        this.put(bytes, at),
      );
    return this.put(bytes, at);
  }

  async zero(at: number, length: number): Promise<void> {
    const from = Math.min(at, this.position);
    const end = at + length;
    await zeroRange(this.base, from, end - from, this.pace);
    this.position = Math.max(this.position, end);
  }

  async commit(size: number): Promise<void> {
    if (size > this.position) await this.zero(this.position, size - this.position);
    return this.base.commit(size);
  }

  abort(): void | Promise<void> {
    return this.base.abort();
  }

  private async take(fd: number, host: number, length: number, at: number): Promise<number> {
    if (at - this.position > PIECE) await zeroRange(this.base, this.position, at - this.position, this.pace);
    const r = this.base.pull!(fd, host, length, at);
    const n = r instanceof Promise ? await r : r;
    this.position = at + n;
    const wait = this.pace.step();
    if (wait !== undefined) await wait;
    return n;
  }

  private put(bytes: Uint8Array, at: number): void | Promise<void> {
    const r = this.base.write(bytes, at);
    this.position = at + bytes.length;
    return r instanceof Promise ? r.then(() => this.pace.step()) : this.pace.step();
  }
}
