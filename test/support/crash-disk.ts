// A disk in memory that loses what was not flushed: whatever is written reaches the platter in sectors of 512 bytes, in
// any order, and only a flush is a promise. After a number of operations the power goes.
import type { DurableFile, JournalStore } from "../../src/io/durable.ts";
import type { Random } from "./random.ts";

const SECTOR = 512;

/** The power went. */
export class PowerCut extends Error {}

/** Counts down to the power cut, over everything on one machine. */
export class Power {
  /** Operations done so far. */
  operations = 0;
  private left: number;
  private gone = false;

  constructor(left = Number.POSITIVE_INFINITY) {
    this.left = left;
  }

  /** One more operation; throws when it is the one that does not happen any more, and ever after. */
  spend(): void {
    this.operations++;
    if (this.gone || this.left-- <= 0) {
      this.gone = true;
      throw new PowerCut("the power went");
    }
  }
}

/** A file whose unflushed sectors may or may not survive. */
export class CrashFile implements DurableFile {
  readonly label: string;
  private readonly power: () => Power;
  /** What a reader sees. */
  private now: Buffer;
  /** What is on the platter for sure. */
  private safe: Buffer;
  private dirty = new Set<number>();

  constructor(label: string, bytes: Uint8Array, power: () => Power) {
    this.label = label;
    this.now = Buffer.from(bytes);
    this.safe = Buffer.from(bytes);
    this.power = power;
  }

  get bytes(): Buffer {
    return this.now;
  }

  size(): number {
    return this.now.length;
  }

  read(into: Uint8Array, at: number): number {
    const n = Math.max(0, Math.min(into.length, this.now.length - at));
    into.set(this.now.subarray(at, at + n));
    return n;
  }

  write(bytes: Uint8Array, at: number): void {
    const cut = this.spend();
    this.extend(at + bytes.length);
    this.now.set(bytes, at);
    for (let s = Math.floor(at / SECTOR); s * SECTOR < at + bytes.length; s++) this.dirty.add(s);
    // The power goes while this is under way.
    if (cut !== null) throw cut;
  }

  grow(size: number): void {
    const cut = this.spend();
    if (cut !== null) throw cut;
    this.extend(size);
  }

  truncate(size: number): void {
    const cut = this.spend();
    if (cut !== null) throw cut;
    if (size < this.now.length) this.now = Buffer.from(this.now.subarray(0, size));
    else this.extend(size);
  }

  sync(): void {
    const cut = this.spend();
    if (cut !== null) throw cut;
    this.safe = Buffer.from(this.now);
    this.dirty.clear();
  }

  /** What is there after a power cut: each unflushed sector old or new, a length old or new. */
  crash(random: Random): void {
    const size = random.below(2) === 0 ? this.safe.length : this.now.length;
    const after = Buffer.alloc(size);
    this.safe.copy(after, 0, 0, Math.min(size, this.safe.length));
    const share = random.below(4);
    for (const s of this.dirty)
      if (random.below(3) < share)
        this.now.copy(after, s * SECTOR, s * SECTOR, Math.min((s + 1) * SECTOR, size));
    this.now = after;
    this.safe = Buffer.from(after);
    this.dirty.clear();
  }

  private spend(): PowerCut | null {
    try {
      this.power().spend();
      return null;
    } catch (e) {
      return e as PowerCut;
    }
  }

  private extend(size: number): void {
    if (size > this.now.length) this.now = Buffer.concat([this.now, Buffer.alloc(size - this.now.length)]);
  }
}

/** A folder with one journal in it. */
export class CrashStore implements JournalStore {
  readonly label = "journal";
  private file: CrashFile | null = null;
  private readonly power: () => Power;
  private leaving = false;

  constructor(power: () => Power) {
    this.power = power;
  }

  get exists(): boolean {
    return this.file !== null;
  }

  open(): DurableFile | null {
    return this.file;
  }

  create(fill: (file: DurableFile) => void): DurableFile {
    const file = new CrashFile(this.label, new Uint8Array(0), this.power);
    fill(file);
    file.sync();
    this.power().spend();
    this.file = file;
    return file;
  }

  remove(): void {
    this.leaving = true;
    this.power().spend();
    this.file = null;
    this.leaving = false;
  }

  crash(random: Random): void {
    this.file?.crash(random);
    if (this.leaving && random.below(2) === 0) this.file = null;
    this.leaving = false;
  }
}
