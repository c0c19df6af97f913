import { instantiateSync } from "@assemblyscript/loader";
import { Arena, type Slot } from "./arena.ts";
import type { KernelExports } from "./exports.ts";
import { kernelBytes } from "./generated/kernel-bytes.ts";

export type { Slot } from "./arena.ts";

/**
 * The WebAssembly kernels, one instance a thread. Memory is sized once and never grows, so views stay valid while I/O
 * is in flight. Addresses (`at`) are wasm addresses: a slot's `at` plus an offset into it. Results that are lists land
 * in `out`, which the next call may overwrite.
 */
export class Kernel {
  private static instance: Kernel | null = null;
  /** The thread's instance, made at the first call. */
  static get(): Kernel {
    Kernel.instance ??= new Kernel();
    return Kernel.instance;
  }

  private readonly x: KernelExports;
  private readonly arena: Arena;
  /** List results: u32 words, OUT_WORDS of them. */
  readonly out: Uint32Array;

  private constructor() {
    const { exports } = instantiateSync<Record<string, unknown>>(kernelBytes());
    this.x = exports as unknown as KernelExports;
    const memory = this.x.memory.buffer;
    this.out = new Uint32Array(memory, this.x.outAddress(), this.x.outWords());
    this.arena = new Arena(memory, this.x.arenaAddress(), this.x.arenaLength());
  }

  /**
   * Takes `length` bytes (rounded up to 64) of the arena at a multiple of `alignment`, which is one of 64; throws
   * RangeError when it is used up. Contents are arbitrary.
   */
  take(length: number, alignment?: number): Slot {
    return this.arena.take(length, alignment);
  }

  /** Gives a slot back; throws RangeError where it was given back before. */
  give(slot: Slot): void {
    this.arena.give(slot);
  }

  /** Runs `use` with a slot of `length` bytes and gives it back however `use` ends. */
  borrow<T>(length: number, use: (slot: Slot) => T): T {
    const slot = this.take(length);
    try {
      return use(slot);
    } finally {
      this.give(slot);
    }
  }

  /** True where `length` bytes at `at` are all zero. */
  isZero(at: number, length: number): boolean {
    return this.x.isZero(at, length) !== 0;
  }

  /**
   * Runs of blocks that are not all zero among `blocks` blocks of `blockSize` bytes at `at`: pairs (first, count) in
   * `out`; returns the number of pairs. At most out.length / 2 pairs fit: callers pass at most out.length blocks.
   */
  nonzeroRuns(at: number, blockSize: number, blocks: number): number {
    return this.x.nonzeroRuns(at, blockSize, blocks) >>> 0;
  }

  /**
   * Sectors (512 bytes) worth storing among `sectors` at `at`: pairs (first, count) in `out`; returns the number of
   * pairs. `sector`: number of the first one on its disk. Runs of at least `least` zero sectors are left out; pieces
   * begin and end at multiples of `alignment` sectors, a power of two (see assembly/sectors.ts).
   */
  storedSectors(at: number, sectors: number, sector: number, least: number, alignment: number): number {
    return this.x.storedSectors(at, sectors, sector | 0, least, alignment) >>> 0;
  }

  /** Index of the first byte where two areas differ, or -1. */
  firstDifference(a: number, b: number, length: number): number {
    return this.x.firstDifference(a, b, length) | 0;
  }

  /** First set bit in [from, to) of the little-endian bitmap at `at`, or `to`. */
  nextSet(at: number, from: number, to: number): number {
    return this.x.nextSet(at, from, to) >>> 0;
  }

  /** First clear bit in [from, to), or `to`. */
  nextClear(at: number, from: number, to: number): number {
    return this.x.nextClear(at, from, to) >>> 0;
  }

  /**
   * Runs of set bits in [from, to): pairs (first, count) in `out`, at most `most` pairs (and no more than fit); returns
   * the number of pairs. To go on, call again from the end of the last pair.
   */
  setRuns(at: number, from: number, to: number, most = this.out.length >>> 1): number {
    return this.x.setRuns(at, from, to, Math.min(most, this.out.length >>> 1)) >>> 0;
  }

  /** Number of set bits in `length` bytes. */
  popcount(at: number, length: number): number {
    return this.x.popcount(at, length) >>> 0;
  }

  /** CRC-32C (Castagnoli, reflected, no final inversion) continued from `crc`. */
  crc32c(crc: number, at: number, length: number): number {
    return this.x.crc32c(crc, at, length) >>> 0;
  }

  /** CRC-16 (reflected 0xA001, as ext group descriptors use it) continued from `crc`. */
  crc16(crc: number, at: number, length: number): number {
    return this.x.crc16(crc, at, length) & 0xffff;
  }

  /** CRC-32C of a JS array, through the arena in pieces. */
  crc32cOf(crc: number, bytes: Uint8Array): number {
    return this.borrow(Math.min(Math.max(bytes.length, 1), 65536), (slot) => {
      for (let i = 0; i < bytes.length; i += slot.bytes.length) {
        const piece = bytes.subarray(i, i + slot.bytes.length);
        slot.bytes.set(piece);
        crc = this.crc32c(crc, slot.at, piece.length);
      }
      return crc >>> 0;
    });
  }

  /**
   * Big-endian u64 progression: entry i = (value + i * step) with `flags` or-ed into the high word; `count` entries at
   * `at`. Fills QCOW2 L1, L2 and refcount tables. `value` in bytes, below 2^53.
   */
  fillBe64(at: number, count: number, value: number, step: number, flags: number): void {
    this.x.fillBe64(at, count, value, step, flags);
  }

  /** Turns the bytes of each of `count` u32 words at `at` around, in place. */
  turnWords(at: number, count: number): void {
    this.x.turnWords(at, count);
  }

  /** Sets `count` refcounts of 2^order bits to `value`, from entry `first` of the refcount block at `at`. */
  fillRefcounts(at: number, first: number, count: number, order: number, value: number): void {
    this.x.fillRefcounts(at, first, count, order, value);
  }

  /** Raw exports, for kernels that serve one format only (typed in exports.ts). */
  get raw(): KernelExports {
    return this.x;
  }
}
