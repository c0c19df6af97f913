import type { Move, MoveFacts, MoveJournal, MoveOptions } from "../../src/engine/move.ts";
import { AbortError, ImprintError, RefusedError, UnsupportedError } from "../../src/errors.ts";
import type { ExtSelectOptions } from "../../src/fs/ext/select.ts";
import type { ExtVolume } from "../../src/fs/ext/volume.ts";
import type { JournalStore } from "../../src/io/durable.ts";
import type { FileSource } from "../../src/io/node/file-source.ts";
import type { InPlaceTarget } from "../../src/io/node/in-place-target.ts";
import type { EndSignal } from "../../src/io/node/live-files.ts";
import type { Source } from "../../src/io/source.ts";
import { printable } from "../ui/format.ts";
import { print, printError } from "../ui/out.ts";
import { BlockLister, BlockNotes } from "./e2image-blocks.ts";
import type { E2imageOptions } from "./e2image-options.ts";
import { BlockProgress } from "./e2image-progress.ts";

const SIGNAL_NUMBER = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
const UUID_AT = 104;

/** What e2image.ts does for its other modes too. */
interface Shared {
  isQcow2(file: Source): Promise<boolean>;
  /** Says in native's words that no filesystem can be opened; returns the exit code. */
  noFilesystem(error: unknown): number;
  /** An error of the walk over the inodes in native's words. */
  iterationFailure(error: unknown): unknown;
}

/** `e2image -ra [-o FROM] [-O TO] FILE`: moves a filesystem within one file or device. */
export async function move(program: string, o: E2imageOptions, shared: Shared): Promise<number> {
  if (o.verify) throw new UnsupportedError("--verify is not for a move: its source is gone afterwards");
  if (o.ignoreReadErrors)
    throw new UnsupportedError("--ignore-read-errors is not for a move: what cannot be read would be lost");
  const m = await import("../../src/node.ts");
  let file: FileSource;
  try {
    file = m.openFileSource(o.source);
  } catch (error) {
    return shared.noFilesystem(error);
  }
  const stop = new Stop();
  m.onSignals((signal) => stop.received(signal));
  try {
    const path = o.journal ?? (await journalPath(m.finalPath(o.source), file.blockDevice));
    const job = new MoveJob(program, o, file, stop);
    if (o.list) {
      m.refuseJournal(path, o.source);
      return await job.fresh(shared, (facts) => job.list(facts));
    }
    const store = m.openJournalStore(path);
    try {
      const journal = m.MoveJournal.load(store);
      if (journal !== null) return await job.resume(journal);
      return await job.fresh(shared, (facts) => job.start(facts, store));
    } finally {
      store.close();
    }
  } finally {
    m.onSignals(null);
    file.close();
  }
}

/** Beside a file; for a device, whose folder does not outlive a restart, in the folder for the state of programs. */
async function journalPath(path: string, device: boolean): Promise<string> {
  const m = await import("../../src/node.ts");
  if (!device) return m.journalBeside(path);
  const { join } = await import("node:path");
  const { homedir } = await import("node:os");
  const { mkdirSync } = await import("node:fs");
  const state = process.env["XDG_STATE_HOME"] || join(homedir(), ".local", "state");
  const folder = join(state, "imprint");
  mkdirSync(folder, { recursive: true });
  return m.journalBeside(join(folder, path.replace(/^\/dev\//, "").replaceAll("/", "-")));
}

/** Ctrl-C during a move: a warning first, as in native, where stopping leaves the filesystem half moved. */
class Stop {
  readonly abort = new AbortController();
  move: Move | null = null;
  journal = "";
  private warned = false;

  received(signal: EndSignal): void {
    if (this.abort.signal.aborted) process.exit(128 + SIGNAL_NUMBER[signal]);
    if (signal !== "SIGINT" || this.warned || this.move?.destroying !== true) {
      this.abort.abort();
      return;
    }
    this.warned = true;
    printError(
      "\rStopping now will destroy the filesystem, interrupt again if you are sure\n" +
        `(unless you run the same command again afterwards: ${this.journal} lets it finish)\n`,
    );
  }
}

class MoveJob {
  private readonly program: string;
  private readonly o: E2imageOptions;
  private readonly file: FileSource;
  private readonly stop: Stop;
  private readonly progress: BlockProgress | null;
  private readonly notes = new BlockNotes(print);

  constructor(program: string, o: E2imageOptions, file: FileSource, stop: Stop) {
    this.program = program;
    this.o = o;
    this.file = file;
    this.stop = stop;
    this.progress = o.progress ? new BlockProgress(printError) : null;
  }

  /** Opens the filesystem, selects its blocks and hands over what the move is of. */
  async fresh(shared: Shared, use: (facts: MoveFacts) => Promise<number>): Promise<number> {
    const { o, file } = this;
    const m = await import("../../src/node.ts");
    if (await shared.isQcow2(file))
      throw new UnsupportedError(`${o.source}: is a QCOW2 image, within which nothing can be moved`);
    const { openExt } = await import("../../src/fs/ext/volume.ts");
    let volume: ExtVolume;
    try {
      const source = m.slice(file, o.sourceOffset, Math.max(0, file.size - o.sourceOffset));
      volume = await openExt(source, { superblock: o.superblock, blockSize: o.blocksize });
    } catch (error) {
      return shared.noFilesystem(error);
    }
    const end = o.targetOffset + volume.size;
    if (end > Number.MAX_SAFE_INTEGER / 2)
      throw new RefusedError("ETOOLARGE", `${o.source}: would have to be ${end} bytes long`);
    if (!o.list) m.checkTarget(o.source, { needed: file.blockDevice ? end : 0 });
    const wishes: ExtSelectOptions = {
      scope: "data",
      nativeSelection: o.nativeSelection,
      complete: !o.nativeSelection,
      wholeInodeTables: file.blockDevice,
      scramble: o.scramble,
      signal: this.stop.abort.signal,
      onWarnings: (lines) => printError(lines.map((line) => `${printable(line)}\n`).join("")),
      onProgress: () => this.progress?.scan(),
    };
    const selection = await volume.select(wishes).catch((error: unknown) => {
      throw shared.iterationFailure(error);
    });
    const { blocks, blockSize } = selection;
    const last = new m.ExtentList();
    blocks.runs(Math.floor((file.size - o.sourceOffset) / blockSize), blocks.limit, last);
    if (last.count > 0)
      throw new RefusedError(
        "ESHORT",
        `${o.source}: ends at byte ${file.size}, before ${last.total()} blocks of the filesystem; it stays where it is`,
      );
    const head = new Uint8Array(1024);
    file.read(head, o.sourceOffset + 1024);
    return use({
      source: o.sourceOffset,
      destination: o.targetOffset,
      blockSize,
      blocks: blocks.limit,
      chunk: stepBytes(m.MOVE_CHUNK),
      fileSize: file.size,
      inode: this.inode(),
      uuid: volume.superblock.raw.slice(UUID_AT, UUID_AT + 16),
      superblock: m.crcOf(head),
      marks: selection.marks,
      selected: blocks,
      scrambled: selection.scrambled ?? null,
    });
  }

  async list(facts: MoveFacts): Promise<number> {
    const m = await import("../../src/node.ts");
    const lister = new BlockLister(this.notes);
    this.progress?.begin(facts.marks, facts.blockSize);
    const { file } = this;
    const same = await m.listMove(facts, m.readOnlyFile(file), {
      compare: this.o.compare,
      onCorrupt: (block, line) => this.notes.add(block, line),
      onBlocks: (first, count) => lister.add(first, count),
      onProgress: (blocks) => this.moved(facts, blocks),
      signal: this.stop.abort.signal,
    });
    lister.finish();
    return this.done(same);
  }

  async start(facts: MoveFacts, store: JournalStore): Promise<number> {
    const m = await import("../../src/node.ts");
    const target = m.openInPlaceTarget(this.o.source);
    try {
      const durable = m.durableTarget(target);
      return await this.run(m.startMove(store, facts, durable), store.label, target);
    } finally {
      target.abort();
    }
  }

  /** Goes on with a move that was interrupted. */
  async resume(journal: MoveJournal): Promise<number> {
    const m = await import("../../src/node.ts");
    m.checkTarget(this.o.source);
    const target = m.openInPlaceTarget(this.o.source);
    try {
      const durable = m.durableTarget(target);
      m.checkMove(journal, durable, {
        source: this.o.sourceOffset,
        destination: this.o.targetOffset,
        scramble: this.o.scramble,
        inode: this.inode(),
      });
      printError(`${this.program}: going on with the move that was interrupted (${journal.label})\n`);
      return await this.run(new m.Move(journal, durable), journal.label, target);
    } finally {
      target.abort();
    }
  }

  private async run(move: Move, journal: string, target: InPlaceTarget): Promise<number> {
    const { facts } = move;
    this.stop.journal = journal;
    this.stop.move = move;
    this.progress?.begin(facts.marks, facts.blockSize);
    const options: MoveOptions = {
      compare: this.o.compare,
      onCorrupt: (block, line) => this.notes.add(block, line),
      onProgress: (blocks) => this.moved(facts, blocks),
      signal: this.stop.abort.signal,
    };
    try {
      const same = await move.run(options);
      return this.done(same);
    } catch (error) {
      throw whatIsLeft(error, move, journal, target.label);
    }
  }

  private moved({ blocks, blockSize }: MoveFacts, done: number): void {
    this.progress?.update({ phase: "copy", done: done * blockSize, total: blocks * blockSize });
  }

  private done(same: number): number {
    this.notes.finish();
    this.progress?.end();
    if (this.o.compare) print(`${same} blocks already contained the data to be copied\n`);
    return 0;
  }

  private inode(): number | null {
    return this.file.blockDevice ? null : Number(this.file.stat.ino & 0x1fffffffffffffn);
  }
}

/** Bytes of a step: the engine's, or what IMPRINT_MOVE_STEP says (tests). */
function stepBytes(usual: number): number {
  const wanted = Number(process.env["IMPRINT_MOVE_STEP"]);
  return wanted >= 1024 && wanted <= usual ? Math.floor(wanted) : usual;
}

/** An error with what a person has to know then: where the filesystem is. */
function whatIsLeft(error: unknown, move: Move, journal: string, label: string): unknown {
  const left = move.destroying
    ? `the same command goes on with the move (${journal} is needed for that; until then the filesystem is unusable)`
    : `the filesystem of ${label} is whole where it was`;
  if (error instanceof AbortError) return new AbortError(`interrupted: ${left}`);
  if (error instanceof ImprintError)
    return new ImprintError(error.code, `${error.message}; ${left}`, { cause: error });
  return error;
}
