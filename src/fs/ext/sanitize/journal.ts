import { putU32be, u16be, u32be } from "../../../bytes/endian.ts";
import type { MapRuns } from "../../../bytes/runs.ts";
import type { Source } from "../../../io/source.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import type { FileMap } from "../file-map.ts";
import {
  JBD,
  JBD_COMMIT,
  JBD_DESCRIPTOR,
  JBD_INCOMPAT,
  JBD_REVOKE,
  JBD_SUPERBLOCK_V1,
  JBD_SUPERBLOCK_V2,
  JBD_TAG,
} from "./layout.ts";

const HEADER = 12;
const KNOWN_INCOMPAT = 0x3f;

/** The log of a volume, as far as replaying needs it. */
export interface Journal {
  readonly blockSize: number;
  /** Blocks of the log, its superblock included. */
  readonly length: number;
  readonly first: number;
  readonly sequence: number;
  /** Log block where unwritten changes start; 0 where there are none. */
  readonly start: number;
  readonly incompat: number;
  readonly uuid: Uint8Array;
  readonly fastCommitBlocks: number;
}

/** Reads a journal's superblock; a line about what is wrong with it where it is none. */
export function parseJournal(b: Uint8Array, blockSize: number): Journal | string {
  const type = u32be(b, JBD.type);
  if (u32be(b, 0) !== JBD.magic || (type !== JBD_SUPERBLOCK_V1 && type !== JBD_SUPERBLOCK_V2))
    return "it has no superblock";
  const version2 = type === JBD_SUPERBLOCK_V2;
  const incompat = version2 ? u32be(b, JBD.incompat) : 0;
  if ((incompat & ~KNOWN_INCOMPAT) !== 0) return "it has features that are not known";
  const fast = (incompat & 0x20) !== 0 ? u32be(b, JBD.fastCommitBlocks) || 256 : 0;
  const journal: Journal = {
    blockSize: u32be(b, JBD.blockSize),
    length: u32be(b, JBD.length),
    first: u32be(b, JBD.first),
    sequence: u32be(b, JBD.firstSequence),
    start: u32be(b, JBD.start),
    incompat,
    uuid: b.slice(JBD.uuid, JBD.uuid + 16),
    fastCommitBlocks: fast,
  };
  if (journal.blockSize !== blockSize) return `its blocks have ${journal.blockSize} bytes`;
  const end = journal.length - fast;
  if (journal.first < 1 || journal.first >= end || journal.start >= journal.length)
    return "its log has impossible bounds";
  return journal;
}

/** Blocks that a replay brings: where each one's newest content lies in the log. */
export interface Replay {
  /** Block of the volume -> block of the volume that holds its content. */
  readonly blocks: ReadonlyMap<number, number>;
  /** Contents whose first word was escaped in the log. */
  readonly escaped: ReadonlySet<number>;
  readonly transactions: number;
  /** Sequence number that the next transaction would have. */
  readonly nextSequence: number;
  readonly warnings: readonly string[];
}

interface Transaction {
  readonly sequence: number;
  readonly tags: { readonly block: number; readonly from: number; readonly escaped: boolean }[];
  readonly revoked: number[];
}

/** Reads the log: every complete transaction, as recovery would replay it. */
export async function readReplay(source: Source, journal: Journal, map: FileMap): Promise<Replay> {
  return new LogReader(source, journal, map).run();
}

class LogReader {
  private readonly source: Source;
  private readonly j: Journal;
  private readonly map: FileMap;
  private readonly kernel = Kernel.get();
  private readonly sums: boolean;
  private readonly seed: number;
  private readonly warnings: string[] = [];

  constructor(source: Source, journal: Journal, map: FileMap) {
    this.source = source;
    this.j = journal;
    this.map = map;
    this.sums = (journal.incompat & (JBD_INCOMPAT.checksumV2 | JBD_INCOMPAT.checksumV3)) !== 0;
    this.seed = this.kernel.crc32cOf(0xffffffff, journal.uuid);
  }

  async run(): Promise<Replay> {
    const { j } = this;
    const done: Transaction[] = [];
    let { sequence } = j;
    let at = j.start;
    let open: Transaction = { sequence, tags: [], revoked: [] };
    const end = j.length - j.fastCommitBlocks;
    for (let steps = 0; at !== 0 && steps < end; steps++) {
      const b = await this.read(at);
      if (b === null || u32be(b, 0) !== JBD.magic || u32be(b, JBD.sequence) !== sequence) break;
      const type = u32be(b, JBD.type);
      if (type === JBD_DESCRIPTOR) {
        if (!this.tailRight(b)) break;
        const n = await this.descriptor(b, at, open);
        if (n < 0) break;
        steps += n;
        at = this.after(at, n + 1);
      } else if (type === JBD_REVOKE) {
        if (!this.tailRight(b)) break;
        this.revoke(b, open);
        at = this.after(at, 1);
      } else if (type === JBD_COMMIT) {
        if (!this.commitRight(b)) break;
        done.push(open);
        sequence = (sequence + 1) >>> 0;
        open = { sequence, tags: [], revoked: [] };
        at = this.after(at, 1);
      } else break;
    }
    return this.result(done, sequence);
  }

  private result(done: readonly Transaction[], sequence: number): Replay {
    const revoked = new Map<number, number>();
    done.forEach((t, i) => {
      for (const block of t.revoked) revoked.set(block, i);
    });
    const blocks = new Map<number, number>();
    const escaped = new Set<number>();
    done.forEach((t, i) => {
      for (const tag of t.tags) {
        const last = revoked.get(tag.block);
        if (last !== undefined && last >= i) continue;
        blocks.set(tag.block, tag.from);
        if (tag.escaped) escaped.add(tag.block);
        else escaped.delete(tag.block);
      }
    });
    if (this.j.fastCommitBlocks > 0)
      this.warnings.push("fast commits behind the last whole transaction are not replayed");
    return {
      blocks,
      escaped,
      transactions: done.length,
      nextSequence: (sequence + 1) >>> 0,
      warnings: this.warnings,
    };
  }

  /** The log block `n` behind `at`; the log is a ring. */
  private after(at: number, n: number): number {
    const end = this.j.length - this.j.fastCommitBlocks;
    const next = at + n;
    return next >= end ? this.j.first + ((next - end) % (end - this.j.first)) : next;
  }

  private physical(block: number): number {
    const i = this.map.find(block);
    if (i >= this.map.count || this.map.logical[i] > block) return -1;
    return this.map.physical[i] + (block - this.map.logical[i]);
  }

  private async read(block: number): Promise<Uint8Array | null> {
    const physical = this.physical(block);
    if (physical < 0) return null;
    const b = new Uint8Array(this.j.blockSize);
    const at = physical * b.length;
    if (at >= this.source.size) return null;
    const r = this.source.read(b, at);
    return (r instanceof Promise ? await r : r) === b.length ? b : null;
  }

  /** Checks the checksum in the last four bytes of a descriptor or revoke block. */
  private tailRight(b: Uint8Array): boolean {
    if (!this.sums) return true;
    const at = b.length - 4;
    const zeroed = b.slice();
    putU32be(zeroed, at, 0);
    return this.kernel.crc32cOf(this.seed, zeroed) === u32be(b, at);
  }

  private commitRight(b: Uint8Array): boolean {
    if (!this.sums) return true;
    const zeroed = b.slice();
    putU32be(zeroed, 16, 0);
    return this.kernel.crc32cOf(this.seed, zeroed) === u32be(b, 16);
  }

  /** Takes the tags of a descriptor block; returns how many blocks follow it, -1 where it cannot be read. */
  private async descriptor(b: Uint8Array, at: number, t: Transaction): Promise<number> {
    const { j } = this;
    const v3 = (j.incompat & JBD_INCOMPAT.checksumV3) !== 0;
    const wide = (j.incompat & JBD_INCOMPAT.wide) !== 0;
    const size = v3 ? 16 : wide ? 12 : 8;
    const room = b.length - (this.sums ? 4 : 0);
    let n = 0;
    for (let o = HEADER; o + size <= room; ) {
      const flags = v3 ? u32be(b, o + 4) : u16be(b, o + 6);
      const high = wide ? u32be(b, o + 8) : 0;
      const block = high * 0x100000000 + u32be(b, o);
      n++;
      const from = this.physical(this.after(at, n));
      if (from < 0) return -1;
      t.tags.push({ block, from, escaped: (flags & JBD_TAG.escaped) !== 0 });
      o += size + ((flags & JBD_TAG.sameUuid) === 0 ? 16 : 0);
      if ((flags & JBD_TAG.last) !== 0) break;
    }
    return n;
  }

  private revoke(b: Uint8Array, t: Transaction): void {
    const used = Math.min(u32be(b, HEADER), b.length - (this.sums ? 4 : 0));
    const wide = (this.j.incompat & JBD_INCOMPAT.wide) !== 0;
    const size = wide ? 8 : 4;
    for (let o = 16; o + size <= used; o += size)
      t.revoked.push(wide ? u32be(b, o) * 0x100000000 + u32be(b, o + 4) : u32be(b, o));
  }
}

/** A source as it would be after a replay: some of its blocks have their content elsewhere. */
export class ReplayedSource implements Source {
  readonly size: number;
  readonly label: string;
  private readonly base: Source;
  private readonly blockSize: number;
  private readonly replay: Replay;

  constructor(base: Source, blockSize: number, replay: Replay) {
    this.base = base;
    this.size = base.size;
    this.label = base.label;
    this.blockSize = blockSize;
    this.replay = replay;
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    return this.base.map(from, to);
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const r = this.base.read(into, at);
    return r instanceof Promise ? r.then((n) => this.patch(into, at, n)) : this.patch(into, at, r);
  }

  close(): void | Promise<void> {
    return this.base.close();
  }

  private patch(into: Uint8Array, at: number, n: number): number | Promise<number> {
    const { blockSize: bs, replay } = this;
    const pending: Promise<void>[] = [];
    for (let block = Math.floor(at / bs); block * bs < at + n; block++) {
      const from = replay.blocks.get(block);
      if (from === undefined) continue;
      const start = Math.max(block * bs, at);
      const end = Math.min((block + 1) * bs, at + n);
      const piece = into.subarray(start - at, end - at);
      const finish = () => {
        // The log hides blocks that begin like its own.
        if (!replay.escaped.has(block)) return;
        const magic = [0xc0, 0x3b, 0x39, 0x98];
        for (let i = 0; i < 4; i++) {
          const o = block * bs + i;
          if (o >= start && o < end) piece[o - start] = magic[i];
        }
      };
      const r = this.base.read(piece, from * bs + (start - block * bs));
      if (r instanceof Promise) pending.push(r.then(finish));
      else finish();
    }
    return pending.length === 0 ? n : Promise.all(pending).then(() => n);
  }
}

/** Makes a journal's superblock (the first block of its log) say that there is nothing to replay. */
export function rewriteJournalSuperblock(b: Uint8Array, journal: Journal | null, nextSequence: number): void {
  b.fill(0, JBD.superblockSize);
  if (journal === null) {
    b.fill(0);
    return;
  }
  putU32be(b, JBD.start, 0);
  putU32be(b, JBD.firstSequence, nextSequence);
  if ((journal.incompat & (JBD_INCOMPAT.checksumV2 | JBD_INCOMPAT.checksumV3)) === 0) return;
  putU32be(b, JBD.checksum, 0);
  putU32be(b, JBD.checksum, Kernel.get().crc32cOf(0xffffffff, b.subarray(0, JBD.superblockSize)));
}
