import { BlockSet } from "../../bytes/block-set.ts";
import { putU32le, putU64le, u32le, u64le } from "../../bytes/endian.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { FormatError } from "../../errors.ts";
import { NAME_LENGTHS } from "../../fs/ext/name-scrambler.ts";
import type { DurableFile, JournalStore } from "../../io/durable.ts";
import { Kernel } from "../../kernel/kernel.ts";
import {
  FLAG_INODE,
  FLAG_SCRAMBLE,
  HEADER,
  HEADER_BYTES,
  MAGIC,
  RUN_BYTES,
  SLOT,
  SLOT_BYTES,
  SLOT_MAGIC,
  VERSION,
} from "./journal-layout.ts";
import { type MoveGeometry, MovePlan } from "./plan.ts";

/** Runs written or read at once. */
const RUNS_AT_ONCE = 4096;
const MOST_BLOCK = 65536;
const MOST_CHUNK = 1 << 28;

/** What a move is of, and how far apart: all that a journal keeps of the command and the volume. */
export interface MoveFacts extends MoveGeometry {
  /** Bytes of the file or device before the move. */
  readonly fileSize: number;
  /** Inode number of a file; null for a device. */
  readonly inode: number | null;
  /** 16 bytes: the volume's. */
  readonly uuid: Uint8Array;
  /** CRC-32C of the superblock's 1024 bytes. */
  readonly superblock: number;
  /** What progress is counted against. */
  readonly marks: number;
  readonly selected: BlockSet;
  /** Blocks whose names are scrambled on the way; null where nothing is. */
  readonly scrambled: BlockSet | null;
}

/** How far a move got. */
export interface MoveRecord {
  /** Steps before this one are done and durable. */
  readonly step: number;
  /** What step `step` writes, where the plan keeps data. */
  readonly data: Uint8Array | null;
  /** The last step before that had blocks, and the CRC of what it wrote; null without one. */
  readonly last: { readonly step: number; readonly crc: number } | null;
  /** Names of each length so far, those of `data` included. */
  readonly counters: Uint32Array;
}

/** CRC-32C as the journal uses it. */
export function crcOf(bytes: Uint8Array, crc = 0xffffffff): number {
  return Kernel.get().crc32cOf(crc, bytes);
}

/** The journal of a move: the facts, which never change, and two slots that take turns. */
export class MoveJournal {
  readonly facts: MoveFacts;
  /** The record that counts; null before the first. */
  record: MoveRecord | null;
  private readonly store: JournalStore;
  private readonly file: DurableFile;
  private readonly slots: number;
  private readonly slotBytes: number;
  private sequence: number;

  private constructor(
    store: JournalStore,
    file: DurableFile,
    facts: MoveFacts,
    layout: { readonly slots: number; readonly slotBytes: number },
    found: { readonly record: MoveRecord; readonly sequence: number } | null,
  ) {
    this.store = store;
    this.file = file;
    this.facts = facts;
    this.slots = layout.slots;
    this.slotBytes = layout.slotBytes;
    this.record = found?.record ?? null;
    this.sequence = found?.sequence ?? 0;
  }

  /** What messages call it. */
  get label(): string {
    return this.store.label;
  }

  /** Makes the journal of a move that has not begun. */
  static create(store: JournalStore, facts: MoveFacts): MoveJournal {
    const plan = new MovePlan(facts);
    const runs = countRuns(facts.selected);
    const scrambledRuns = facts.scrambled === null ? 0 : countRuns(facts.scrambled);
    const slots = aligned(HEADER_BYTES + (runs + scrambledRuns) * RUN_BYTES);
    const slotBytes = aligned(SLOT_BYTES + (plan.keepsData ? plan.unitBlocks * facts.blockSize : 0));
    const file = store.create((f) => {
      const w = new RunWriter(f, HEADER_BYTES);
      w.add(facts.selected);
      if (facts.scrambled !== null) w.add(facts.scrambled);
      const h = new Uint8Array(HEADER_BYTES);
      for (let i = 0; i < MAGIC.length; i++) h[HEADER.magic + i] = MAGIC.charCodeAt(i);
      putU32le(h, HEADER.version, VERSION);
      const flags = (facts.scrambled === null ? 0 : FLAG_SCRAMBLE) | (facts.inode === null ? 0 : FLAG_INODE);
      putU32le(h, HEADER.flags, flags);
      putU64le(h, HEADER.fileSize, facts.fileSize);
      putU64le(h, HEADER.inode, facts.inode ?? 0);
      putU64le(h, HEADER.source, facts.source);
      putU64le(h, HEADER.destination, facts.destination);
      putU64le(h, HEADER.blocks, facts.blocks);
      putU32le(h, HEADER.blockSize, facts.blockSize);
      putU32le(h, HEADER.chunk, facts.chunk);
      h.set(facts.uuid, HEADER.uuid);
      putU32le(h, HEADER.superblock, facts.superblock);
      putU64le(h, HEADER.marks, facts.marks);
      putU64le(h, HEADER.runs, runs);
      putU64le(h, HEADER.scrambledRuns, scrambledRuns);
      putU64le(h, HEADER.slots, slots);
      putU32le(h, HEADER.slotBytes, slotBytes);
      putU32le(h, HEADER.runsCrc, w.finish());
      putU32le(h, HEADER.crc, crcOf(h.subarray(0, HEADER.crc)));
      f.write(h, 0);
      f.grow(slots + 2 * slotBytes);
    });
    return new MoveJournal(store, file, facts, { slots, slotBytes }, null);
  }

  /** The journal of a move that was interrupted, or null. Throws FormatError where it is damaged. */
  static load(store: JournalStore): MoveJournal | null {
    const file = store.open();
    if (file === null) return null;
    const h = new Uint8Array(HEADER_BYTES);
    const n = file.read(h, 0);
    for (let i = 0; i < MAGIC.length; i++)
      if (n < HEADER_BYTES || h[i] !== MAGIC.charCodeAt(i))
        throw damaged(0, "it is not the journal of a move");
    const version = u32le(h, HEADER.version);
    if (version !== VERSION) throw damaged(HEADER.version, `version ${version}, only ${VERSION} is known`);
    if (u32le(h, HEADER.crc) !== crcOf(h.subarray(0, HEADER.crc)))
      throw damaged(HEADER.crc, "checksum is wrong");
    const number = (at: number, most: number): number => {
      const v = u64le(h, at);
      if (v > most) throw damaged(at, `${v} is more than ${most}`);
      return v;
    };
    const most = Number.MAX_SAFE_INTEGER;
    const blockSize = u32le(h, HEADER.blockSize);
    if (blockSize < 1024 || blockSize > MOST_BLOCK || (blockSize & (blockSize - 1)) !== 0)
      throw damaged(HEADER.blockSize, `blocks of ${blockSize} bytes`);
    const chunk = u32le(h, HEADER.chunk);
    if (chunk === 0 || chunk > MOST_CHUNK) throw damaged(HEADER.chunk, `steps of ${chunk} bytes`);
    const blocks = number(HEADER.blocks, Math.floor(most / 2 / blockSize));
    const flags = u32le(h, HEADER.flags);
    const runs = number(HEADER.runs, blocks);
    const scrambledRuns = number(HEADER.scrambledRuns, blocks);
    const r = new RunReader(file, HEADER_BYTES);
    const selected = r.next(runs, blocks);
    const scrambled = (flags & FLAG_SCRAMBLE) !== 0 ? r.next(scrambledRuns, blocks) : null;
    if (r.crc !== u32le(h, HEADER.runsCrc)) throw damaged(HEADER_BYTES, "checksum of the runs is wrong");
    const facts: MoveFacts = {
      source: number(HEADER.source, Math.floor(most / 2)),
      destination: number(HEADER.destination, Math.floor(most / 2)),
      blockSize,
      blocks,
      chunk,
      fileSize: number(HEADER.fileSize, most),
      inode: (flags & FLAG_INODE) !== 0 ? u64le(h, HEADER.inode) : null,
      uuid: h.slice(HEADER.uuid, HEADER.uuid + 16),
      superblock: u32le(h, HEADER.superblock),
      marks: number(HEADER.marks, most),
      selected,
      scrambled,
    };
    const slots = number(HEADER.slots, most);
    const slotBytes = u32le(h, HEADER.slotBytes);
    const plan = new MovePlan(facts);
    const data = plan.keepsData ? plan.unitBlocks * blockSize : 0;
    if (
      slots !== aligned(HEADER_BYTES + (runs + scrambledRuns) * RUN_BYTES) ||
      slotBytes !== aligned(SLOT_BYTES + data)
    )
      throw damaged(HEADER.slots, "slots are not where they belong");
    if (file.size() !== slots + 2 * slotBytes)
      throw damaged(file.size(), `it has ${file.size()} bytes in place of ${slots + 2 * slotBytes}`);
    const found = [0, 1]
      .map((i) => readSlot(file, slots + i * slotBytes, slotBytes - SLOT_BYTES, plan))
      .filter((s) => s !== null)
      .sort((a, b) => b.sequence - a.sequence)[0];
    // The first record goes to slot 1: with anything in slot 0 there was one that is not readable any more.
    if (found === undefined && !isClear(file, slots)) throw damaged(slots, "neither slot can be read");
    return new MoveJournal(store, file, facts, { slots, slotBytes }, found ?? null);
  }

  /** Writes the next record; it is durable on return. The one before stays until the one after. */
  put(record: MoveRecord): void {
    const sequence = this.sequence + 1;
    const data = record.data;
    const b = new Uint8Array(SLOT_BYTES);
    putU32le(b, SLOT.magic, SLOT_MAGIC);
    putU32le(b, SLOT.sequence, sequence);
    putU32le(b, SLOT.kind, data === null ? 0 : 1);
    putU64le(b, SLOT.step, record.step);
    if (data !== null) {
      putU32le(b, SLOT.dataLength, data.length);
      putU32le(b, SLOT.dataCrc, crcOf(data));
    }
    if (record.last !== null) {
      putU64le(b, SLOT.lastStep, record.last.step + 1);
      putU32le(b, SLOT.lastCrc, record.last.crc);
    }
    for (let i = 0; i < NAME_LENGTHS; i++) putU32le(b, SLOT.counters + 4 * i, record.counters[i]);
    putU32le(b, SLOT.crc, crcOf(b.subarray(0, SLOT.crc)));
    const at = this.slots + (sequence & 1) * this.slotBytes;
    if (data !== null) this.file.write(data, at + SLOT_BYTES);
    this.file.write(b, at);
    this.file.sync();
    this.sequence = sequence;
    this.record = record;
  }

  /** Removes it: the move is complete, or nothing was destroyed. */
  remove(): void {
    this.store.remove();
  }
}

function readSlot(
  file: DurableFile,
  at: number,
  room: number,
  plan: MovePlan,
): { record: MoveRecord; sequence: number } | null {
  const b = new Uint8Array(SLOT_BYTES);
  if (file.read(b, at) < SLOT_BYTES || u32le(b, SLOT.magic) !== SLOT_MAGIC) return null;
  if (u32le(b, SLOT.crc) !== crcOf(b.subarray(0, SLOT.crc))) return null;
  const kept = u32le(b, SLOT.kind) === 1;
  const step = u64le(b, SLOT.step);
  const lastStep = u64le(b, SLOT.lastStep);
  const length = u32le(b, SLOT.dataLength);
  if (step > plan.steps || lastStep > step || kept !== plan.keepsData || length > room) return null;
  let data: Uint8Array | null = null;
  if (kept) {
    data = new Uint8Array(length);
    if (file.read(data, at + SLOT_BYTES) < length || crcOf(data) !== u32le(b, SLOT.dataCrc)) return null;
  }
  const counters = new Uint32Array(NAME_LENGTHS);
  for (let i = 0; i < NAME_LENGTHS; i++) counters[i] = u32le(b, SLOT.counters + 4 * i);
  const last = lastStep === 0 ? null : { step: lastStep - 1, crc: u32le(b, SLOT.lastCrc) };
  return { record: { step, data, last, counters }, sequence: u32le(b, SLOT.sequence) };
}

function isClear(file: DurableFile, at: number): boolean {
  const b = new Uint8Array(SLOT_BYTES);
  const n = file.read(b, at);
  return b.subarray(0, n).every((v) => v === 0);
}

function damaged(at: number, detail: string): FormatError {
  return new FormatError("journal of a move", at, detail, "EJOURNAL");
}

function aligned(n: number): number {
  return Math.ceil(n / 4096) * 4096;
}

function eachBatch(set: BlockSet, use: (runs: ExtentList) => void): void {
  const runs = new ExtentList();
  for (let from = 0; from < set.limit; ) {
    runs.clear();
    from = set.runs(from, set.limit, runs, RUNS_AT_ONCE);
    use(runs);
  }
}

function countRuns(set: BlockSet): number {
  let n = 0;
  eachBatch(set, (runs) => {
    n += runs.count;
  });
  return n;
}

class RunWriter {
  private readonly file: DurableFile;
  private at: number;
  private crc = 0xffffffff;

  constructor(file: DurableFile, at: number) {
    this.file = file;
    this.at = at;
  }

  add(set: BlockSet): void {
    eachBatch(set, (runs) => {
      const b = new Uint8Array(runs.count * RUN_BYTES);
      for (let i = 0; i < 2 * runs.count; i++) putU64le(b, 8 * i, runs.bounds[i]);
      if (b.length === 0) return;
      this.crc = crcOf(b, this.crc);
      this.file.write(b, this.at);
      this.at += b.length;
    });
  }

  finish(): number {
    return this.crc;
  }
}

class RunReader {
  crc = 0xffffffff;
  private readonly file: DurableFile;
  private at: number;

  constructor(file: DurableFile, at: number) {
    this.file = file;
    this.at = at;
  }

  /** Reads `count` runs within [0, limit). */
  next(count: number, limit: number): BlockSet {
    const set = new BlockSet(limit);
    let end = 0;
    for (let done = 0; done < count; ) {
      const b = new Uint8Array(Math.min(count - done, RUNS_AT_ONCE) * RUN_BYTES);
      if (this.file.read(b, this.at) < b.length) throw damaged(this.at, "it ends amid its runs");
      for (let o = 0; o < b.length; o += RUN_BYTES) {
        const from = u64le(b, o);
        const to = u64le(b, o + 8);
        if (from < end || to <= from || to > limit)
          throw damaged(this.at + o, `run of blocks ${from} to ${to}`);
        set.add(from, to);
        end = to;
      }
      this.crc = crcOf(b, this.crc);
      this.at += b.length;
      done += b.length / RUN_BYTES;
    }
    return set;
  }
}
