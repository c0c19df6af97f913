import type { BlockSet } from "../../bytes/block-set.ts";
import type { Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import type { PackerSpec, WriteList } from "../packer.ts";
import { createPacker } from "./packer.ts";
import { Spans } from "./spans.ts";
import type { StreamablePacker } from "./streamable-packer.ts";

/** Bytes of the guest read and written at a time. */
const PIECE = 512 * 1024;

export interface StreamOptions {
  readonly spec: PackerSpec;
  /** Guest clusters to store, as `place` would get them: block = spec.clusterSize bytes. */
  readonly clusters: BlockSet;
  readonly source: Source;
  readonly target: Target;
  /** Data bytes written so far. */
  readonly onProgress?: (done: number) => void;
}

/** Sizes of an image that holds exactly these clusters, bytes. */
export interface Qcow2Plan {
  readonly size: number;
  /** Of which guest data. */
  readonly data: number;
}

/** Clusters that `place` gets at a time: an L2 table's span, or as many as the packer wants together. */
function spanOf(packer: StreamablePacker): number {
  return Math.max(packer.clusterSize / 8, (packer.chunkUnit ?? 0) / packer.clusterSize);
}

/** A piece of the file whose place and content are known before the data moves. */
interface Known {
  readonly at: number;
  readonly bytes: Uint8Array | null;
  /** Guest offset and length where the piece is data that went into a gap left earlier. */
  readonly guest: number;
  readonly length: number;
}

/**
 * Follows a packer through the guest and tells apart what comes in file order and what goes back into earlier
 * gaps (which happens where a refcount table was left behind).
 */
class Order {
  /** End of the data and L2 tables so far. */
  high = 0;
  /** L2 table being filled. */
  table = -1;
  /** `high` before the data of the table at hand: packers hand on a table's entries after its data. */
  private before = 0;

  data(target: number, length: number): boolean {
    if (target < this.high) return false;
    this.high = target + length;
    return true;
  }

  /**
   * Entries of the table at `at` (a cluster) come: "same" table as the last, a "new" one in order, or one
   * that went "back" into a gap. `reserved`: tables are placed ahead of the data, and so always in order.
   */
  entries(at: number, clusterSize: number, reserved: boolean): "same" | "new" | "back" {
    let kind: "same" | "new" | "back" = "same";
    if (at !== this.table) {
      kind = at >= this.before || reserved ? "new" : "back";
      this.table = at;
      if (kind === "new") this.high = Math.max(this.high, at + clusterSize);
    }
    this.before = this.high;
    return kind;
  }
}

/** Everything about the image that does not need the guest's bytes. */
class DryRun {
  readonly packer: StreamablePacker;
  readonly size: number;
  data = 0;
  readonly known: Known[] = [];
  /** Numbers of the refcount blocks, by their place. */
  readonly blocks: Uint32Array;

  constructor(spec: PackerSpec, clusters: BlockSet) {
    const packer = createPacker(spec);
    const cs = packer.clusterSize;
    const reserved = spec.kind === "e2image";
    this.packer = packer;
    const order = new Order();
    let lateTable: Uint8Array | null = null;
    const out: WriteList = {
      data: (guest, target, length) => {
        this.data += length;
        if (!order.data(target, length)) this.known.push({ at: target, bytes: null, guest, length });
      },
      meta: (target, bytes) => {
        const at = target - (target % cs);
        const kind = order.entries(at, cs, reserved);
        if (kind !== "same") lateTable = null;
        if (kind === "back") {
          lateTable = new Uint8Array(cs);
          this.known.push({ at, bytes: lateTable, guest: -1, length: cs });
        }
        lateTable?.set(bytes, target - at);
      },
    };
    const spans = new Spans(clusters, spanOf(packer));
    while (spans.next()) packer.place(spans.base, spans.runs, spans.count, out);
    this.size = packer.settle();
    packer.heads({
      data() {},
      meta: (at, bytes) => this.known.push({ at, bytes: bytes.slice(), guest: -1, length: bytes.length }),
    });
    this.known.sort((a, b) => a.at - b.at);
    const n = packer.refcountBlocks();
    const blocks = new Uint32Array(n);
    let count = 0;
    let ascending = true;
    for (let i = 0; i < n; i++) {
      const at = packer.refcountBlockAt(i);
      if (at === 0) continue;
      if (count > 0 && at < packer.refcountBlockAt(blocks[count - 1])) ascending = false;
      blocks[count++] = i;
    }
    this.blocks = blocks.subarray(0, count);
    if (!ascending) this.blocks.sort((a, b) => packer.refcountBlockAt(a) - packer.refcountBlockAt(b));
  }
}

/** The exact size of the image that `streamQcow2` (or a packer) makes of these clusters. */
export function planQcow2(spec: PackerSpec, clusters: BlockSet): Qcow2Plan {
  const dry = new DryRun(spec, clusters);
  return { size: dry.size, data: dry.data };
}

/**
 * Writes a QCOW2 image front to back in one pass, without seeking: the same bytes as the packer's own order
 * gives. The guest is read once. Memory: the L1 table, and the L2 tables and segments of two spans. Does not
 * commit; returns the file's size in bytes.
 */
export async function streamQcow2(options: StreamOptions): Promise<number> {
  const { spec, clusters, source, target } = options;
  const dry = new DryRun(spec, clusters);
  const writer = new Writer(dry, source, target, options.onProgress);
  const packer = createPacker(spec);
  const cs = packer.clusterSize;
  const reserved = spec.kind === "e2image";
  const order = new Order();
  let table: Uint8Array | null = null;
  let limit = 0;
  const out: WriteList = {
    data: (guest, at, length) => {
      if (order.data(at, length)) writer.data(guest, at, length);
    },
    meta: (at, bytes) => {
      const start = at - (at % cs);
      const kind = order.entries(start, cs, reserved);
      if (kind === "new") {
        table = writer.table(start);
        limit = start;
      } else if (kind === "back") {
        table = null;
        limit = order.high;
      }
      table?.set(bytes, at - start);
    },
  };
  const spans = new Spans(clusters, spanOf(packer));
  while (spans.next()) {
    packer.place(spans.base, spans.runs, spans.count, out);
    await writer.flush(limit);
  }
  await writer.flush(Number.POSITIVE_INFINITY);
  return dry.size;
}

/** Queues what the packer decides and writes it in file order, merged with what was known before. */
class Writer {
  private readonly dry: DryRun;
  private readonly source: Source;
  private readonly target: Target;
  private readonly onProgress: ((done: number) => void) | undefined;
  private guest = new Float64Array(1024);
  private at = new Float64Array(1024);
  private length = new Float64Array(1024);
  private count = 0;
  private first = 0;
  private tables: { at: number; bytes: Uint8Array }[] = [];
  private readonly spare: Uint8Array[] = [];
  private nextKnown = 0;
  private nextBlock = 0;
  private done = 0;
  private readonly buffer = new Uint8Array(PIECE);
  private readonly block: Uint8Array;

  constructor(dry: DryRun, source: Source, target: Target, onProgress: ((done: number) => void) | undefined) {
    this.dry = dry;
    this.source = source;
    this.target = target;
    this.onProgress = onProgress;
    this.block = new Uint8Array(dry.packer.clusterSize);
  }

  data(guest: number, at: number, length: number): void {
    const p = this.count - 1;
    if (
      p >= this.first &&
      this.guest[p] + this.length[p] === guest &&
      this.at[p] + this.length[p] === at &&
      this.length[p] < PIECE
    ) {
      this.length[p] += length;
      return;
    }
    if (this.count === this.at.length) this.room();
    const i = this.count++;
    this.guest[i] = guest;
    this.at[i] = at;
    this.length[i] = length;
  }

  /** A new, empty L2 table to fill, written when the file gets there. */
  table(at: number): Uint8Array {
    const bytes = this.spare.pop()?.fill(0) ?? new Uint8Array(this.block.length);
    this.tables.push({ at, bytes });
    return bytes;
  }

  /** Writes everything that lies before `limit`. */
  async flush(limit: number): Promise<void> {
    const { dry } = this;
    for (;;) {
      const data = this.first < this.count ? this.at[this.first] : Number.POSITIVE_INFINITY;
      const table = this.tables.length > 0 ? this.tables[0].at : Number.POSITIVE_INFINITY;
      const known =
        this.nextKnown < dry.known.length ? dry.known[this.nextKnown].at : Number.POSITIVE_INFINITY;
      const block =
        this.nextBlock < dry.blocks.length
          ? dry.packer.refcountBlockAt(dry.blocks[this.nextBlock])
          : Number.POSITIVE_INFINITY;
      const next = Math.min(data, table, known, block);
      if (next >= limit) return;
      if (next === data) {
        const i = this.first++;
        await this.copy(this.guest[i], data, this.length[i]);
      } else if (next === table) {
        const t = this.tables.shift()!;
        await this.write(t.bytes, t.at);
        this.spare.push(t.bytes);
      } else if (next === known) {
        const k = dry.known[this.nextKnown++];
        if (k.bytes !== null) await this.write(k.bytes, k.at);
        else await this.copy(k.guest, k.at, k.length);
      } else {
        dry.packer.renderRefcountBlock(dry.blocks[this.nextBlock++], this.block);
        await this.write(this.block, block);
      }
    }
  }

  private async write(bytes: Uint8Array, at: number): Promise<void> {
    const r = this.target.write(bytes, at);
    if (r instanceof Promise) await r;
  }

  private async copy(guest: number, at: number, length: number): Promise<void> {
    for (let i = 0; i < length; i += PIECE) {
      const bytes = this.buffer.subarray(0, Math.min(PIECE, length - i));
      const want = Math.max(0, Math.min(bytes.length, this.source.size - guest - i));
      let n = 0;
      if (want > 0) {
        const r = this.source.read(bytes.subarray(0, want), guest + i);
        n = r instanceof Promise ? await r : r;
      }
      bytes.fill(0, n);
      await this.write(bytes, at + i);
      this.done += bytes.length;
      this.onProgress?.(this.done);
    }
  }

  private room(): void {
    if (this.first > this.count / 2) {
      this.guest.copyWithin(0, this.first, this.count);
      this.at.copyWithin(0, this.first, this.count);
      this.length.copyWithin(0, this.first, this.count);
      this.count -= this.first;
      this.first = 0;
      return;
    }
    const wider = (a: Float64Array) => {
      const b = new Float64Array(a.length * 2);
      b.set(a);
      return b;
    };
    this.guest = wider(this.guest);
    this.at = wider(this.at);
    this.length = wider(this.length);
  }
}
