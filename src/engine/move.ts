import { BlockSet } from "../bytes/block-set.ts";
import { ExtentList } from "../bytes/extents.ts";
import { AbortError, RefusedError } from "../errors.ts";
import { NameScrambler } from "../fs/ext/name-scrambler.ts";
import type { DurableFile, JournalStore } from "../io/durable.ts";
import { Pace } from "../io/pace.ts";
import { crcOf, type MoveFacts, MoveJournal, type MoveRecord } from "./move/journal.ts";
import { type BlockRange, MovePlan } from "./move/plan.ts";
import { StepBuffer } from "./move/step-buffer.ts";

export { crcOf, type MoveFacts, MoveJournal, type MoveRecord } from "./move/journal.ts";

/** Bytes of a step at most. */
export const MOVE_CHUNK = 4 * 1024 * 1024;
/** Bytes written between two records where nothing forces one. */
const RECORD_EVERY = 256 * 1024 * 1024;
const SUPERBLOCK_AT = 1024;
const SUPERBLOCK_BYTES = 1024;

export interface MoveOptions {
  /** Leave out blocks that are at their destination already. */
  readonly compare?: boolean;
  /** Called with the blocks moved so far, those of an earlier run included. */
  readonly onProgress?: (blocks: number) => void;
  /** Told of corrupt directory blocks: the block, and native's line. */
  readonly onCorrupt?: (block: number, line: string) => void;
  /** Aborting stops the move between two steps. */
  readonly signal?: AbortSignal;
}

/** The wishes a journal is held against. Offsets in bytes. */
export interface MoveWish {
  readonly source: number;
  readonly destination: number;
  readonly scramble: boolean;
  /** The file's inode number now, or null for a device. */
  readonly inode: number | null;
}

/** CRC of the superblock of a volume at byte `at`, as the facts of a move keep it. */
export function superblockCrc(file: DurableFile, at: number): number {
  const b = new Uint8Array(SUPERBLOCK_BYTES);
  return crcOf(b.subarray(0, file.read(b, at + SUPERBLOCK_AT)));
}

/**
 * Refuses to go on with a move that is not the one its journal is of: RefusedError "EJOURNAL". Checks the command's
 * offsets, the file's inode and size, and what the file holds where the move got to.
 */
export function checkMove(journal: MoveJournal, file: DurableFile, wish: MoveWish): void {
  const f = journal.facts;
  const refuse = (detail: string): never => {
    throw new RefusedError("EJOURNAL", `${file.label}: ${journal.label} ${detail}`);
  };
  if (
    f.source !== wish.source ||
    f.destination !== wish.destination ||
    (f.scrambled !== null) !== wish.scramble
  ) {
    const scrambled = f.scrambled === null ? "" : ", with names scrambled";
    refuse(
      `is the journal of another move that was interrupted: from byte ${f.source} to ${f.destination}${scrambled}; ` +
        "finish that one first, with its own command",
    );
  }
  const other = "does not belong to this file";
  if (f.inode !== wish.inode) refuse(`${other}: it was made for inode ${f.inode}, this is ${wish.inode}`);
  const size = file.size();
  const most = Math.max(f.fileSize, f.destination + f.blocks * f.blockSize);
  if (size < f.fileSize || (size > most && f.inode !== null) || (f.inode === null && size !== f.fileSize))
    refuse(`${other}: it was made for ${f.fileSize} bytes, this has ${size}`);
  const { record } = journal;
  const stranger = `${other}: it is of the filesystem ${uuidText(f.uuid)}, and the file holds something else`;
  if (record === null) {
    if (superblockCrc(file, f.source) !== f.superblock) refuse(stranger);
    return;
  }
  if (record.last === null) return;
  const plan = new MovePlan(f);
  const step = new StepBuffer(f.blockSize);
  step.choose(f.selected, plan.range(record.last.step));
  if (step.crcAt(file, f.destination, crcOf) !== record.last.crc) refuse(stranger);
}

/**
 * A move of a volume within one file, which can be interrupted at any time (killed, or by a power cut) without losing
 * anything: a journal beside the file knows how far it got and, where a step may overwrite its own source, holds that
 * step's blocks. `run` starts it or goes on with it. Blocks that are not selected keep what their place held.
 */
export class Move {
  readonly facts: MoveFacts;
  private readonly journal: MoveJournal;
  private readonly file: DurableFile;
  private readonly plan: MovePlan;
  private inDanger: boolean;

  /** `journal` as created, or loaded and checked with `checkMove`. */
  constructor(journal: MoveJournal, file: DurableFile) {
    this.journal = journal;
    this.facts = journal.facts;
    this.file = file;
    this.plan = new MovePlan(journal.facts);
    this.inDanger = journal.record !== null && !this.plan.apart;
  }

  /** False as long as the volume is whole where it was: the move could simply be given up. */
  get destroying(): boolean {
    return this.inDanger;
  }

  /**
   * Moves what is left to be moved and removes the journal. Returns how many blocks were there already (`compare`).
   * Throws AbortError and IoError: the journal stays where it is needed, and goes where nothing was destroyed.
   */
  async run(options: MoveOptions = {}): Promise<number> {
    try {
      return await this.go(options);
    } catch (error) {
      if (!this.inDanger) removeQuietly(this.journal);
      throw error;
    }
  }

  private async go(options: MoveOptions): Promise<number> {
    const { facts, plan, file, journal } = this;
    const { blockSize, source, destination, scrambled, selected } = facts;
    const names = new NameScrambler(blockSize, options.onCorrupt);
    const step = new StepBuffer(blockSize);
    const pace = new Pace(() => {
      if (options.signal?.aborted) throw new AbortError();
    });
    let same = 0;
    const store = (): void => {
      if (options.compare !== true) step.store(file, destination);
      else
        same += step.storeDifferent(file, destination, (block, bytes) =>
          file.write(bytes, destination + block * blockSize),
        );
    };
    file.grow(destination + facts.blocks * blockSize);
    const { record } = journal;
    let next = 0;
    let last: MoveRecord["last"] = null;
    if (record !== null) {
      names.counters.set(record.counters);
      last = record.last;
      next = record.step;
      if (record.data !== null) {
        step.choose(selected, plan.range(next));
        if (!step.fill(record.data))
          throw new RefusedError("EJOURNAL", `${journal.label}: holds other blocks than those of its step`);
        store();
        file.sync();
        last = { step: next++, crc: crcOf(step.data) };
      }
    }
    let moved = 0;
    for (let i = 0; i < next; i++) {
      step.choose(selected, plan.range(i));
      moved += step.blocks;
    }
    options.onProgress?.(moved);
    let durable = next;
    let unsynced = 0;
    for (let i = next; i < plan.steps; i++) {
      const wait = pace.step();
      if (wait !== undefined) await wait;
      if (!plan.keepsData && i > durable && (!plan.spares(durable, i) || unsynced >= RECORD_EVERY)) {
        // `step` still holds the last step that had blocks.
        if (unsynced > 0) last = { step: last!.step, crc: crcOf(step.data) };
        file.sync();
        journal.put({ step: i, data: null, last, counters: names.counters.slice() });
        durable = i;
        unsynced = 0;
      }
      if (!holdsAny(selected, plan.range(i))) continue;
      step.choose(selected, plan.range(i));
      step.load(file, source);
      if (scrambled !== null) for (const part of plan.parts(i)) step.scramble(names, scrambled, part);
      if (plan.keepsData) journal.put({ step: i, data: step.data, last, counters: names.counters.slice() });
      if (plan.overlaps(i)) this.inDanger = true;
      store();
      if (plan.keepsData) {
        file.sync();
        last = { step: i, crc: crcOf(step.data) };
      } else last = { step: i, crc: 0 };
      unsynced += step.data.length;
      moved += step.blocks;
      options.onProgress?.(moved);
    }
    file.sync();
    journal.remove();
    return same;
  }
}

/** What a move would write. */
export interface MoveList {
  readonly compare?: boolean;
  readonly onCorrupt?: (block: number, line: string) => void;
  /** Runs of blocks in the order of the move. */
  readonly onBlocks: (first: number, count: number) => void;
  /** Called with the blocks gone through so far. */
  readonly onProgress?: (blocks: number) => void;
  readonly signal?: AbortSignal;
}

/** Goes through a move without writing anything; returns how many blocks are there already (`compare`). */
export async function listMove(facts: MoveFacts, file: DurableFile, list: MoveList): Promise<number> {
  const plan = new MovePlan(facts);
  const names = new NameScrambler(facts.blockSize, list.onCorrupt);
  const step = new StepBuffer(facts.blockSize);
  const pace = new Pace(() => {
    if (list.signal?.aborted) throw new AbortError();
  });
  let same = 0;
  let done = 0;
  for (let i = 0; i < plan.steps; i++) {
    const wait = pace.step();
    if (wait !== undefined) await wait;
    for (const part of plan.parts(i)) {
      step.choose(facts.selected, part);
      if (facts.scrambled !== null || list.compare === true) step.load(file, facts.source);
      if (facts.scrambled !== null) step.scramble(names, facts.scrambled, part);
      if (list.compare === true)
        same += step.storeDifferent(file, facts.destination, (block, bytes) =>
          list.onBlocks(block, bytes.length / facts.blockSize),
        );
      else
        for (let k = 0; k < step.runs.count; k++)
          list.onBlocks(step.runs.start(k), step.runs.end(k) - step.runs.start(k));
      done += step.blocks;
      list.onProgress?.(done);
    }
  }
  return same;
}

/** Gives a journal up that nothing depends on. */
function removeQuietly(journal: MoveJournal): void {
  try {
    journal.remove();
  } catch {
    // It stays, and the same command goes on from it.
  }
}

function holdsAny(set: BlockSet, { first, last }: BlockRange): boolean {
  const runs = new ExtentList();
  set.runs(first, last, runs, 1);
  return runs.count > 0;
}

/**
 * Starts a move: the journal is there when this returns, and nothing else has changed. Where source and destination
 * are the same, only blocks that are scrambled are written.
 */
export function startMove(store: JournalStore, facts: MoveFacts, file: DurableFile): Move {
  const inPlace = facts.source === facts.destination;
  const selected = inPlace ? (facts.scrambled ?? new BlockSet(facts.blocks)) : facts.selected;
  return new Move(MoveJournal.create(store, { ...facts, selected }), file);
}

/** A UUID as people write it. */
export function uuidText(b: Uint8Array): string {
  const hex = Array.from(b, (v) => v.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
