import { UnsupportedError } from "../../errors.ts";
import { Pace } from "../../io/pace.ts";
import type { SequentialSource, Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import { CommandReader } from "./commands.ts";
import { type ImageHeader, parseHeader, volumeEnd } from "./header.ts";
import { HEADER_BYTES } from "./layout.ts";

/** Bytes of the image in memory at a time, where clusters are not larger than half of that. */
const BATCH_BYTES = 512 * 1024;

/** Options of `ImageStream.restore`. */
export interface RestoreOptions {
  /** Called with the clusters stored so far, and the cluster that comes next; throws AbortError to stop. */
  readonly onProgress?: (stored: number, position: number) => void;
  /** May change the data of clusters before they are written; the first of them is `lcn`. */
  readonly change?: (lcn: number, bytes: Uint8Array) => void;
}

export interface RestoreResult {
  /** Bytes of the volume with its backup boot sector, or without where the image has none. */
  readonly size: number;
  /** False where the image, as those before 10.1, ends before the cluster with the backup boot sector. */
  readonly backupBoot: boolean;
}

/** A special image read from front to back, in bounded memory. */
export class ImageStream {
  readonly header: ImageHeader;
  private readonly input: SequentialSource;
  /** Bytes of commands that were read with the header. */
  private readonly head: Uint8Array;
  /** Bytes by which the image ends before its commands begin. */
  private readonly missing: number;

  private constructor(input: SequentialSource, header: ImageHeader, head: Uint8Array, missing: number) {
    this.input = input;
    this.header = header;
    this.head = head;
    this.missing = missing;
  }

  /** Reads the header. Throws FormatError, UnsupportedError, IoError. */
  static async open(input: SequentialSource): Promise<ImageStream> {
    const head = new Uint8Array(HEADER_BYTES);
    const length = await fill(input, head, 0);
    const header = parseHeader(head.subarray(0, length));
    const rest = head.subarray(Math.min(header.dataOffset, length), length);
    let skip = header.dataOffset - length;
    const scratch = new Uint8Array(Math.max(Math.min(skip, 65536), 0));
    while (skip > 0) {
      const r = input.next(scratch.subarray(0, Math.min(skip, scratch.length)));
      const n = r instanceof Promise ? await r : r;
      if (n === 0) break;
      skip -= n;
    }
    return new ImageStream(input, header, rest, Math.max(skip, 0));
  }

  /**
   * Follows the commands and writes every cluster to its place on `target` (null: nowhere, to test the image); bytes in
   * between are left alone. A target that cannot seek takes only images in ascending order that begin with the first
   * cluster (UnsupportedError "EORDER"). Commits nothing. Throws CommandError, IoError.
   */
  async restore(target: Target | null, options: RestoreOptions = {}): Promise<RestoreResult> {
    const kernel = Kernel.get();
    const size = Math.max(BATCH_BYTES, 2 * (this.header.clusterSize + 16));
    const slot = kernel.take(size);
    const reader = new CommandReader(this.header);
    try {
      return await this.follow(reader, slot, target, options);
    } finally {
      reader.dispose();
      kernel.give(slot);
    }
  }

  private async follow(
    reader: CommandReader,
    slot: Slot,
    target: Target | null,
    options: RestoreOptions,
  ): Promise<RestoreResult> {
    const { header, input } = this;
    const { clusterSize } = header;
    const { bytes } = slot;
    bytes.set(this.head);
    let filled = this.head.length;
    let stored = 0;
    let moved = false;
    const report = options.onProgress;
    const pace = new Pace(() => report?.(stored, reader.position));
    let ends = false;
    while (!reader.ended) {
      if (!ends) {
        filled = await fill(input, bytes, filled);
        ends = filled < bytes.length;
      }
      const from = reader.offset;
      const count = reader.read(slot.at, filled, true);
      const runs = reader.runs.slice(0, 3 * count);
      const packed = reader.packed;
      if (target !== null && !target.seekable) moved = checkOrder(runs, reader, moved);
      for (let i = 0; i < runs.length; i += 3) {
        const data = bytes.subarray(runs[i + 1], i + 3 < runs.length ? runs[i + 4] : packed);
        options.change?.(runs[i], data);
        const r = target?.write(data, runs[i] * clusterSize);
        if (r instanceof Promise) await r;
        stored += runs[i + 2];
      }
      report?.(stored, reader.position);
      if (reader.failure !== null) throw reader.failure;
      const done = reader.offset - from;
      bytes.copyWithin(0, done, filled);
      filled -= done;
      if (done === 0 && ends && !reader.ended) {
        if (filled === 0 && reader.position === header.clusters)
          return { size: header.clusters * clusterSize, backupBoot: false };
        throw reader.truncated(reader.offset + filled - this.missing);
      }
      const wait = pace.step();
      if (wait !== undefined) await wait;
    }
    return { size: volumeEnd(header), backupBoot: true };
  }
}

/** Refuses what cannot be written front to back; returns whether a cluster was met by now. */
function checkOrder(runs: Float64Array, reader: CommandReader, moved: boolean): boolean {
  const first = runs.length > 0 ? runs[0] : reader.position;
  if (reader.wentBack || (!moved && first > 0))
    throw new UnsupportedError("ntfsclone image: its clusters are not in ascending order", "EORDER");
  return moved || runs.length > 0;
}

/** Reads until `into` is full or the input ends; returns the bytes that are in it. */
async function fill(input: SequentialSource, into: Uint8Array, filled: number): Promise<number> {
  while (filled < into.length) {
    const r = input.next(into.subarray(filled));
    const n = r instanceof Promise ? await r : r;
    if (n === 0) break;
    filled += n;
  }
  return filled;
}

/** A source's bytes from front to back. */
export function frontToBack(source: Source): SequentialSource {
  let at = 0;
  const count = (n: number): number => {
    at += n;
    return n;
  };
  return {
    label: source.label,
    next(into) {
      const r = source.read(into, at);
      return r instanceof Promise ? r.then(count) : count(r);
    },
    close: () => source.close(),
  };
}
