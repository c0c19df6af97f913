import { IoError } from "../../errors.ts";
import type { Target } from "../target.ts";

const PIECE = 1024 * 1024;
/** Pieces kept in this thread's memory; older ones are handed to the browser, which may move them to disk. */
const HOT = 32;
/** What one Blob may reach: its list of pieces is held in memory. */
const MOST = 256 * 1024 * 1024 * 1024;

/**
 * An output assembled as a Blob, for hosts without a file system. Pieces never written share one piece of zeros, so a
 * sparse output costs what its data costs.
 */
export class BlobTarget implements Target {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity = MOST;
  /** Least recently used first. */
  private readonly hot = new Map<number, Uint8Array<ArrayBuffer>>();
  private readonly cold = new Map<number, Blob>();
  private result: Blob | null = null;

  constructor(label: string) {
    this.label = label;
  }

  write(bytes: Uint8Array, at: number): void | Promise<void> {
    if (at + bytes.length > MOST) throw new IoError("EFBIG", `${this.label}: larger than ${MOST} bytes`, at);
    const first = Math.floor(at / PIECE);
    const last = Math.floor((at + bytes.length - 1) / PIECE);
    for (let i = first; i <= last; i++) if (this.cold.has(i)) return this.writeCold(bytes, at, first, last);
    for (let i = first; i <= last; i++) this.put(i, bytes, at);
  }

  private async writeCold(bytes: Uint8Array, at: number, first: number, last: number): Promise<void> {
    for (let i = first; i <= last; i++) {
      const cold = this.cold.get(i);
      if (cold !== undefined) {
        this.hot.set(i, new Uint8Array(await cold.arrayBuffer()));
        this.cold.delete(i);
      }
      this.put(i, bytes, at);
    }
  }

  private put(index: number, bytes: Uint8Array, at: number): void {
    let piece = this.hot.get(index);
    if (piece === undefined) piece = new Uint8Array(PIECE);
    else this.hot.delete(index);
    this.hot.set(index, piece);
    const base = index * PIECE;
    const from = Math.max(at, base);
    const to = Math.min(at + bytes.length, base + PIECE);
    piece.set(bytes.subarray(from - at, to - at), from - base);
    if (this.hot.size <= HOT) return;
    for (const [old, content] of this.hot) {
      this.hot.delete(old);
      this.cold.set(old, new Blob([content]));
      return;
    }
  }

  zero(): void {}

  async read(into: Uint8Array, at: number): Promise<number> {
    for (let done = 0; done < into.length; ) {
      const index = Math.floor((at + done) / PIECE);
      const skip = at + done - index * PIECE;
      const n = Math.min(PIECE - skip, into.length - done);
      const hot = this.hot.get(index);
      const cold = this.cold.get(index);
      if (hot !== undefined) into.set(hot.subarray(skip, skip + n), done);
      else if (cold !== undefined)
        into.set(new Uint8Array(await cold.slice(skip, skip + n).arrayBuffer()), done);
      else into.fill(0, done, done + n);
      done += n;
    }
    return into.length;
  }

  commit(size: number): void {
    if (this.result !== null) return;
    const zeros = new Blob([new Uint8Array(PIECE)]);
    const parts: Blob[] = [];
    for (let i = 0; i * PIECE < size; i++) {
      const hot = this.hot.get(i);
      const piece = hot !== undefined ? new Blob([hot]) : (this.cold.get(i) ?? zeros);
      parts.push((i + 1) * PIECE <= size ? piece : piece.slice(0, size - i * PIECE));
    }
    this.result = new Blob(parts, { type: "application/octet-stream" });
    this.drop();
  }

  abort(): void {
    this.drop();
  }

  /** The finished output; after `commit`. */
  blob(): Blob {
    if (this.result === null) throw new IoError("EBADF", `${this.label}: not finished`);
    return this.result;
  }

  private drop(): void {
    this.hot.clear();
    this.cold.clear();
  }
}
