import { u32le } from "../../bytes/endian.ts";
import { IoError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import type { BootSector } from "./boot.ts";
import { ENOENT, NtfsError } from "./errors.ts";
import { badState, isUsable, RECORD_OK, RECORD_UNREADABLE, removeFixup, removeFixups } from "./fixup.ts";
import { MAGIC_FILE } from "./layout.ts";
import { readRuns } from "./run-reader.ts";
import { endOf, HOLE_LCN, RUN, type Runs, runOf } from "./runlist.ts";

/** Bytes of $MFT read and scanned at once. */
const BATCH_BYTES = 256 * 1024;
/** Single records are read this many bytes at a time, and this many such windows are kept. */
const WINDOW_BYTES = 32 * 1024;
const MOST_WINDOWS = 32;

interface Window {
  readonly bytes: Uint8Array;
  readonly states: Uint8Array;
}

/** The master file table: FILE records by number, in batches or one by one, fixups removed. */
export class Mft {
  readonly source: Source;
  readonly boot: BootSector;
  /** Bytes of a record. */
  readonly recordSize: number;
  /** Where $MFT lies. */
  runs: Runs;
  /** What it says of itself, bytes; neither needs to be true. */
  private readonly size: number;
  private readonly initialized: number;
  private readonly windows = new Map<number, Window>();

  constructor(source: Source, boot: BootSector, runs: Runs, sizes: { size: number; initialized: number }) {
    this.source = source;
    this.boot = boot;
    this.recordSize = boot.recordSize;
    this.runs = runs;
    this.size = sizes.size;
    this.initialized = sizes.initialized;
  }

  /** Records of it: initialized size / record size, as native counts them, as far as there are clusters for them. */
  get records(): number {
    const bytes = Math.min(endOf(this.runs) * this.boot.clusterSize, this.initialized);
    return Math.max(0, Math.floor(bytes / this.recordSize));
  }

  /** Records that can be read: the number after the last one. */
  get mapped(): number {
    return Math.max(0, Math.min(this.records, Math.floor(this.size / this.recordSize)));
  }

  /** Adds an extent that follows what is known. */
  append(runs: Runs): void {
    const all = new Float64Array(this.runs.length + runs.length);
    all.set(this.runs);
    all.set(runs, this.runs.length);
    this.runs = all;
    this.windows.clear();
  }

  /**
   * One record, a copy, fixups removed. Throws NtfsError: NTFS_NO_RECORD for a number past the end, NTFS_BAD_RECORD
   * without FILE magic or with a torn one; IoError from the source.
   */
  read(number: number): Uint8Array | Promise<Uint8Array> {
    if (!(number >= 0 && number < this.mapped))
      throw new NtfsError("NTFS_NO_RECORD", `NTFS record ${number}`, -1, `there are ${this.records}`, {
        errno: ENOENT,
      });
    const per = Math.max(1, Math.floor(WINDOW_BYTES / this.recordSize));
    const index = Math.floor(number / per);
    const known = this.windows.get(index);
    if (known !== undefined) return this.pick(known, number, number - index * per);
    const first = index * per;
    const r = this.load(first, Math.min(per, this.mapped - first));
    const keep = (w: Window): Uint8Array => {
      if (this.windows.size >= MOST_WINDOWS) this.windows.delete(this.windows.keys().next().value!);
      this.windows.set(index, w);
      return this.pick(w, number, number - first);
    };
    return r instanceof Promise ? r.then(keep) : keep(r);
  }

  /** Where a record starts on the volume, bytes; -1 where it lies in no cluster. */
  place(number: number): number {
    const at = number * this.recordSize;
    const { clusterSize } = this.boot;
    const i = runOf(this.runs, Math.floor(at / clusterSize));
    if (i < 0 || this.runs[i + 1] === HOLE_LCN) return -1;
    return this.runs[i + 1] * clusterSize + at - this.runs[i] * clusterSize;
  }

  /** Batches of records [from, to). `close` what is returned. */
  scan(from = 0, to = this.records): RecordScan {
    return new RecordScan(this, from, Math.min(to, this.mapped));
  }

  private pick(w: Window, number: number, i: number): Uint8Array {
    const state = w.states[i];
    if (isUsable(state)) return w.bytes.slice(i * this.recordSize, (i + 1) * this.recordSize);
    throw badState(state, number, u32le(w.bytes, i * this.recordSize), this.place(number));
  }

  private load(first: number, count: number): Window | Promise<Window> {
    const size = this.recordSize;
    const window = { bytes: new Uint8Array(count * size), states: new Uint8Array(count) };
    const { bytes, states } = window;
    const unfix = (): Window => {
      for (let i = 0; i < count; i++)
        if (states[i] === RECORD_OK)
          states[i] = removeFixup(bytes.subarray(i * size, (i + 1) * size), MAGIC_FILE);
      return window;
    };
    const r = this.fill(bytes, states, first);
    return r instanceof Promise ? r.then(unfix) : unfix();
  }

  /**
   * Reads records from number `first` into `bytes`, as stored; `states` get RECORD_OK or RECORD_UNREADABLE. What cannot
   * be read at once is read again record by record, so that one bad sector costs one record.
   */
  fill(bytes: Uint8Array, states: Uint8Array, first: number): void | Promise<void> {
    states.fill(RECORD_OK);
    try {
      const r = this.readAt(bytes, first);
      return r?.catch((error) => this.fillSingly(bytes, states, first, error));
    } catch (error) {
      return this.fillSingly(bytes, states, first, error);
    }
  }

  private readAt(bytes: Uint8Array, first: number): void | Promise<void> {
    const { source, boot, recordSize } = this;
    return readRuns(source, boot.clusterSize, this.runs, bytes, first * recordSize, "$MFT");
  }

  private async fillSingly(
    bytes: Uint8Array,
    states: Uint8Array,
    first: number,
    error: unknown,
  ): Promise<void> {
    if (!survivable(error)) throw error;
    const size = this.recordSize;
    for (let i = 0; i * size < bytes.length; i++) {
      const record = bytes.subarray(i * size, (i + 1) * size);
      try {
        const r = this.readAt(record, first + i);
        if (r instanceof Promise) await r;
      } catch (error) {
        if (!survivable(error)) throw error;
        record.fill(0);
        states[i] = RECORD_UNREADABLE;
      }
    }
  }
}

/** Errors that cost a record and not the job. */
function survivable(error: unknown): boolean {
  return error instanceof IoError || error instanceof NtfsError;
}

/**
 * Walks records in ascending order, a batch at a time. After `next` has answered true, `count` records, the first
 * numbered `first`, lie in `bytes` with their fixups removed, and `states` says which are usable; both hold until the
 * next call. Stretches of $MFT that lie in holes are left out. Takes arena slots: `close` it.
 */
export class RecordScan {
  first = 0;
  count = 0;
  private readonly mft: Mft;
  private readonly slot: Slot;
  private readonly stateSlot: Slot;
  private readonly most: number;
  private readonly to: number;
  private at: number;

  constructor(mft: Mft, from: number, to: number) {
    this.mft = mft;
    this.at = from;
    this.to = to;
    this.most = Math.max(1, Math.floor(BATCH_BYTES / mft.recordSize));
    const kernel = Kernel.get();
    // Kernels read fields of eight bytes, past the last record's end too.
    this.slot = kernel.take(this.most * mft.recordSize + 8);
    this.stateSlot = kernel.take(this.most);
  }

  /** Records of the batch, one after the other. */
  get bytes(): Uint8Array {
    return this.slot.bytes;
  }
  /** RECORD_OK, RECORD_NO_MAGIC, RECORD_BAD_FIXUP or RECORD_UNREADABLE, one a record. */
  get states(): Uint8Array {
    return this.stateSlot.bytes;
  }
  /** wasm address of `bytes`, for kernels. */
  get address(): number {
    return this.slot.at;
  }
  /** wasm address of `states`. */
  get stateAddress(): number {
    return this.stateSlot.at;
  }

  close(): void {
    const kernel = Kernel.get();
    kernel.give(this.stateSlot);
    kernel.give(this.slot);
  }

  /** Loads the next batch; false at the end. */
  next(): boolean | Promise<boolean> {
    this.skipHole();
    if (this.at >= this.to) return false;
    this.first = this.at;
    this.count = Math.min(this.most, this.to - this.at);
    this.at += this.count;
    const { recordSize } = this.mft;
    const states = this.stateSlot.bytes.subarray(0, this.count);
    const unfix = (): boolean => {
      const unreadable = states.includes(RECORD_UNREADABLE) ? states.slice() : null;
      removeFixups(this.slot, recordSize, this.count, MAGIC_FILE, this.stateSlot);
      unreadable?.forEach((state, i) => {
        if (state === RECORD_UNREADABLE) states[i] = state;
      });
      return true;
    };
    const r = this.mft.fill(this.slot.bytes.subarray(0, this.count * recordSize), states, this.first);
    return r instanceof Promise ? r.then(unfix) : unfix();
  }

  /** Past records that lie wholly in a hole of $MFT. */
  private skipHole(): void {
    const { runs, recordSize, boot } = this.mft;
    let i = runOf(runs, Math.floor((this.at * recordSize) / boot.clusterSize));
    for (; i >= 0 && i < runs.length && runs[i + 1] === HOLE_LCN; i += RUN) {
      const end = (runs[i] + runs[i + 2]) * boot.clusterSize;
      this.at = Math.max(this.at, Math.floor(end / recordSize));
      if (this.at * recordSize < end) return;
    }
  }
}
