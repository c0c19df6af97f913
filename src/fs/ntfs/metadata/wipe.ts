import { Kernel, type Slot } from "../../../kernel/kernel.ts";

/** Counters of the kernel, f64 each; see assembly/ntfs-wipe.ts. */
const UNUSED = 0;
const DELETED = 1;
const RESIDENT = 2;
const TIMES = 3;
const USED = 4;
const STRAY = 5;
const LISTED = 6;
const COUNTERS = 8;
/** Bytes behind the counters that kernels use for themselves. */
const SCRATCH = 8;

const KEEP_TIMES = 1;

/** What was wiped, in bytes; only bytes that were not zero count, but for times. */
export interface MetadataCounts {
  /** Records of $MFT, and those of files in use. */
  readonly records: number;
  readonly usedRecords: number;
  /** Behind the used part of records; in records not in use; contents of files, in records in use. */
  readonly unused: number;
  readonly deleted: number;
  readonly resident: number;
  /** Of times: in $MFT; in index blocks; in those index blocks that are in use. */
  readonly recordTimes: number;
  readonly indexTimes: number;
  readonly listedIndexTimes: number;
  /** Of what is no record (torn, or old data behind the last one), where it would be a user's. */
  readonly stray: number;
  /** The same in $MFTMirr. */
  readonly mirrorUnused: number;
  readonly mirrorDeleted: number;
  readonly mirrorResident: number;
  readonly mirrorTimes: number;
}

/** The wiping kernels and what they count. `close` it. */
export class WipeCounters {
  private readonly slot: Slot;
  private readonly values: Float64Array;
  private indexTimes = 0;

  constructor() {
    this.slot = Kernel.get().take(COUNTERS * 8 + SCRATCH);
    this.values = new Float64Array(this.slot.bytes.buffer, this.slot.at, COUNTERS);
    this.values.fill(0);
  }

  close(): void {
    Kernel.get().give(this.slot);
  }

  /** Wipes `count` records of `size` bytes as stored at wasm address `at`; `first`: number of the first. */
  records(at: number, size: number, count: number, first: number, keepTimes: boolean): void {
    const { slot } = this;
    const flags = keepTimes ? KEEP_TIMES : 0;
    Kernel.get().raw.ntfsWipeRecords(at, size, count, first, flags, slot.at + COUNTERS * 8, slot.at);
  }

  /**
   * Wipes the times in `count` index blocks of `size` bytes as stored at wasm address `at`. `bitmap`: where it lies,
   * its bits, and the first block's bit.
   */
  index(
    at: number,
    size: number,
    count: number,
    bitmap: { readonly at: number; readonly bits: number; readonly first: number },
    listedOnly: boolean,
  ): void {
    const { slot, values } = this;
    const before = values[TIMES];
    Kernel.get().raw.ntfsWipeIndex(
      at,
      size,
      count,
      bitmap.at,
      bitmap.bits,
      bitmap.first,
      listedOnly ? 1 : 0,
      slot.at + COUNTERS * 8,
      slot.at,
    );
    this.indexTimes += values[TIMES] - before;
  }

  counts(records: number, mirror: WipeCounters): MetadataCounts {
    const { values } = this;
    return {
      records,
      usedRecords: values[USED],
      unused: values[UNUSED],
      deleted: values[DELETED],
      resident: values[RESIDENT],
      recordTimes: values[TIMES] - this.indexTimes,
      indexTimes: this.indexTimes,
      listedIndexTimes: values[LISTED],
      stray: values[STRAY] + mirror.values[STRAY],
      mirrorUnused: mirror.values[UNUSED],
      mirrorDeleted: mirror.values[DELETED],
      mirrorResident: mirror.values[RESIDENT],
      mirrorTimes: mirror.values[TIMES],
    };
  }
}

/** The figures that the native tool prints at the end, in their order. */
export interface NativeFigures {
  readonly records: number;
  readonly usedRecords: number;
  readonly unused: number;
  readonly deleted: number;
  readonly resident: number;
  readonly times: number;
  readonly total: number;
}

/**
 * What the native tool would print. Saving an image it counts contents and times twice, and the copies in $MFTMirr too;
 * cloning to a file (`image` false) each once.
 */
export function nativeFigures(c: MetadataCounts, image: boolean): NativeFigures {
  const once = {
    unused: c.unused,
    deleted: c.deleted,
    resident: c.resident,
    times: c.recordTimes + c.listedIndexTimes,
  };
  const f = image
    ? {
        unused: c.unused + c.mirrorUnused,
        deleted: c.deleted + c.mirrorDeleted,
        resident: 2 * c.resident + c.mirrorResident,
        times: once.times + c.recordTimes + c.indexTimes + c.mirrorTimes,
      }
    : once;
  return {
    records: c.records,
    usedRecords: c.usedRecords,
    ...f,
    total: f.unused + f.deleted + f.resident + f.times,
  };
}

/** The lines that the native tool prints at the end, without their newlines. */
export function figureLines(f: NativeFigures): string[] {
  const line = (text: string, n: number): string => `${text}= ${`${n}`.padStart(10)}`;
  return [
    line("Num of MFT records       ", f.records),
    line("Num of used MFT records  ", f.usedRecords),
    line("Wiped unused MFT data    ", f.unused),
    line("Wiped deleted MFT data   ", f.deleted),
    line("Wiped resident user data ", f.resident),
    line("Wiped timestamp data     ", f.times),
    line("Wiped totally            ", f.total),
  ];
}
