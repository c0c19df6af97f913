import type { MapRuns } from "../../../bytes/runs.ts";
import type { Source } from "../../../io/source.ts";
import { SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE } from "../layout.ts";
import { ranks } from "./block-table.ts";
import { type BlockContext, BlockRewriter } from "./blocks.ts";
import { type InodeContext, InodeRewriter } from "./inodes.ts";
import { type Journal, rewriteJournalSuperblock } from "./journal.ts";
import { Sums } from "./sums.ts";
import { rewriteMmp, rewriteSuperblock } from "./superblock.ts";

/** Everything that rewriting a volume's blocks needs; the checksums come with the source. */
export interface Rewriting extends Omit<BlockContext, "sums">, Omit<InodeContext, "sums" | "sb" | "keys"> {
  /** First block of each group's inode table, and how many of its inodes were ever used. */
  readonly tables: Float64Array;
  readonly used: Uint32Array;
  /** -1 where there is none. */
  readonly mmpBlock: number;
  readonly journalHead: number;
  readonly journal: Journal | null;
  readonly nextSequence: number;
  /** Nothing is left to replay. */
  readonly clean: boolean;
  /** The last block of descriptors, and how many of its bytes hold some. */
  readonly lastDescriptors: { readonly block: number; readonly used: number };
}

/**
 * A volume whose blocks are rewritten as they are read, so that it goes into any image format. Its map has
 * no host bytes: every block comes through here. Close it to give its kernel memory back; the base source
 * stays open.
 */
export class SanitizedSource implements Source {
  readonly size: number;
  readonly label: string;
  private readonly base: Source;
  private readonly r: Rewriting;
  private readonly sums: Sums | null;
  private readonly blocks: BlockRewriter;
  private readonly inodes: InodeRewriter;
  private readonly tableOrder: Uint32Array;
  private readonly tableStarts: Float64Array;
  private closed = false;

  /** `base`: the volume restricted to its selection. */
  constructor(base: Source, rewriting: Rewriting) {
    this.base = base;
    this.size = base.size;
    this.label = base.label;
    this.r = rewriting;
    this.sums = Sums.of(rewriting.sb);
    const context = { ...rewriting, sums: this.sums };
    this.blocks = new BlockRewriter(context);
    this.inodes = new InodeRewriter(context);
    this.tableOrder = ranks(rewriting.tables);
    this.tableStarts = Float64Array.from(this.tableOrder, (group) => rewriting.tables[group]);
  }

  async map(from: number, to: number): Promise<MapRuns> {
    const r = this.base.map(from, to);
    const runs = r instanceof Promise ? await r : r;
    for (let i = 0; i < runs.count; i++) {
      runs.host[i] = -1;
      runs.file[i] = -1;
    }
    return runs;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const bs = this.r.sb.blockSize;
    const length = Math.max(0, Math.min(into.length, this.size - at));
    if (length === 0) return 0;
    if (at % bs === 0 && length % bs === 0) {
      const whole = into.subarray(0, length);
      const r = this.base.read(whole, at);
      const rewrite = (n: number) => {
        this.rewrite(whole.subarray(0, n), at / bs);
        return n;
      };
      return r instanceof Promise ? r.then(rewrite) : rewrite(r);
    }
    const first = Math.floor(at / bs);
    const whole = new Uint8Array((Math.ceil((at + length) / bs) - first) * bs);
    const copy = (n: number) => {
      this.rewrite(whole, first);
      const from = at - first * bs;
      const got = Math.min(length, n - from);
      into.set(whole.subarray(from, from + got));
      return got;
    };
    const r = this.base.read(whole, first * bs);
    return r instanceof Promise ? r.then(copy) : copy(r);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.inodes.close();
    this.blocks.close();
    this.sums?.close();
  }

  /** Rewrites whole blocks from block `first` on. */
  private rewrite(b: Uint8Array, first: number): void {
    const { r } = this;
    const bs = r.sb.blockSize;
    const end = first + Math.ceil(b.length / bs);
    const block = (n: number) => b.subarray((n - first) * bs, (n - first + 1) * bs);
    this.special(first, end, block);
    const { table } = r;
    let last = -1;
    for (let i = table.find(first); i < table.count && table.block[i] < end; i++) {
      if (table.block[i] === last) continue;
      last = table.block[i];
      const bytes = block(last);
      if (bytes.length === bs) this.blocks.rewrite(bytes, i);
    }
    this.inodeTables(first, end, block);
  }

  private special(first: number, end: number, block: (n: number) => Uint8Array): void {
    const { r } = this;
    const bs = r.sb.blockSize;
    const has = (n: number) => n >= first && n < end;
    const sbBlock = Math.floor(SUPERBLOCK_OFFSET / bs);
    if (has(0)) {
      const b = block(0);
      b.fill(0, 0, Math.min(SUPERBLOCK_OFFSET, b.length));
      if (sbBlock === 0) b.fill(0, SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE);
    }
    if (has(sbBlock)) {
      const at = SUPERBLOCK_OFFSET - sbBlock * bs;
      rewriteSuperblock(block(sbBlock).subarray(at, at + SUPERBLOCK_SIZE), r.keys, r.clean);
    }
    const backup = r.sb.backupBlock;
    if (backup > sbBlock && has(backup)) {
      const b = block(backup);
      rewriteSuperblock(b.subarray(0, SUPERBLOCK_SIZE), r.keys, r.clean);
      b.fill(0, SUPERBLOCK_SIZE);
    }
    if (r.mmpBlock >= 0 && has(r.mmpBlock)) rewriteMmp(block(r.mmpBlock), r.keys, this.sums);
    if (r.journalHead >= 0 && has(r.journalHead))
      rewriteJournalSuperblock(block(r.journalHead), r.journal, r.nextSequence);
    if (has(r.lastDescriptors.block)) block(r.lastDescriptors.block).fill(0, r.lastDescriptors.used);
  }

  private inodeTables(first: number, end: number, block: (n: number) => Uint8Array): void {
    const { sb, used } = this.r;
    const { tableStarts: starts, tableOrder: order } = this;
    let lo = 0;
    let hi = starts.length;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (starts[mid] + sb.inodeBlocks <= first) lo = mid + 1;
      else hi = mid;
    }
    for (let t = lo; t < starts.length && starts[t] < end; t++) {
      if (starts[t] === 0) continue;
      const group = order[t];
      const from = Math.max(starts[t], first);
      const to = Math.min(starts[t] + sb.inodeBlocks, end);
      for (let n = from; n < to; n++) this.inodeBlock(block(n), group, n - starts[t], used[group]);
    }
  }

  private inodeBlock(b: Uint8Array, group: number, index: number, used: number): void {
    const { sb } = this.r;
    const size = sb.inodeSize;
    for (let i = 0; i < sb.inodesPerBlock && (i + 1) * size <= b.length; i++) {
      const inGroup = index * sb.inodesPerBlock + i;
      const inode = b.subarray(i * size, (i + 1) * size);
      if (inGroup >= used) inode.fill(0);
      else this.inodes.rewrite(inode, group * sb.inodesPerGroup + inGroup + 1);
    }
  }
}
