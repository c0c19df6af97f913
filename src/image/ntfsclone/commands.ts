import { FormatError } from "../../errors.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import type { ImageHeader } from "./header.ts";

/** Words of the kernel's state; see assembly/ntfsclone.ts. */
const POSITION = 0;
const LAST = 1;
const DEVICE = 2;
const DONE = 3;
const PACKED = 4;
const WHY = 5;
const BACK = 6;
const WORDS = 8;

/** Why the kernel stopped. */
const MORE = 0;
const FULL = 1;
const END = 2;
const BAD_COMMAND = 3;
const ZERO_GAP = 4;
const BAD_GAP = 5;

export type CommandFault = "command" | "zero gap" | "gap" | "behind device" | "truncated";

/** A command stream that cannot be followed. `offset` is the command's byte in the image. */
export class CommandError extends FormatError {
  readonly fault: CommandFault;
  /** The byte in the place of a command. */
  readonly command: number;
  readonly detail: string;
  constructor(fault: CommandFault, offset: number, detail: string, command = 0) {
    super("ntfsclone command", offset, detail);
    this.fault = fault;
    this.command = command;
    this.detail = detail;
  }
}

/**
 * Follows the commands of an image, buffer by buffer. The runs of a call lie in `runs`: triples of first cluster, byte
 * in the buffer, clusters; the next kernel call overwrites them.
 */
export class CommandReader {
  readonly runs: Float64Array;
  private readonly header: ImageHeader;
  private readonly kernel = Kernel.get();
  private readonly slot: Slot;
  private readonly state: Float64Array;
  /** Byte of the image of the next command. */
  offset: number;
  /** Bytes of clusters that the last call packed. */
  packed = 0;
  /** What stopped the last call, to be thrown once its runs are dealt with; null where nothing is wrong. */
  failure: CommandError | null = null;

  /** Reads all commands, or those from one on: its byte in the image, and the cluster that is next there. */
  constructor(header: ImageHeader, start = { offset: header.dataOffset, position: 0 }) {
    this.header = header;
    this.slot = this.kernel.take(8 * WORDS);
    this.state = new Float64Array(this.slot.bytes.buffer, this.slot.at, WORDS);
    this.state.fill(0);
    this.state[POSITION] = start.position;
    this.state[LAST] = header.clusters;
    this.state[DEVICE] = header.deviceSize;
    const { out } = this.kernel;
    this.runs = new Float64Array(out.buffer, out.byteOffset, Math.floor(out.length / 2));
    this.offset = start.offset;
  }

  dispose(): void {
    this.kernel.give(this.slot);
  }

  /** The next cluster. */
  get position(): number {
    return this.state[POSITION];
  }

  /** True once the last cluster was met: what follows in the image has no meaning. */
  get ended(): boolean {
    return this.position > this.header.clusters;
  }

  /** True where a gap led back: what comes later replaces what came before. */
  get wentBack(): boolean {
    return this.state[BACK] > 0;
  }

  /**
   * Reads the commands in `length` bytes at wasm address `at`, which are the image's from `offset` on. With `pack` the
   * clusters are moved together to the buffer's start; else they are skipped, maybe beyond the buffer. Returns the number
   * of runs; `offset` is where to go on, and `failure` what is wrong there.
   */
  read(at: number, length: number, pack: boolean): number {
    const { state } = this;
    const raw = this.kernel.raw;
    const count = raw.readCommands(at, length, this.header.clusterSize, pack ? 1 : 0, this.slot.at) >>> 0;
    const done = state[DONE];
    this.packed = state[PACKED];
    const why = state[WHY];
    this.offset += done;
    if (why !== MORE && why !== FULL && why !== END) this.failure = this.error(why, this.offset, at + done);
    return count;
  }

  private error(why: number, offset: number, at: number): CommandError {
    const bytes = new Uint8Array(this.state.buffer, at, 1);
    const where = `at cluster ${this.position} of ${this.header.clusters}`;
    if (why === BAD_COMMAND)
      return new CommandError("command", offset, `invalid command code ${bytes[0]} ${where}`, bytes[0]);
    if (why === ZERO_GAP) return new CommandError("zero gap", offset, `a gap of 0 clusters ${where}`);
    if (why === BAD_GAP) return new CommandError("gap", offset, `a gap ${where} leads out of the volume`);
    return new CommandError("behind device", offset, `a cluster ${where}, behind the end of the device`);
  }

  /** The error for an image that ends here, at byte `size`. */
  truncated(size: number): CommandError {
    return new CommandError(
      "truncated",
      this.offset,
      `the image ends at byte ${size}, at cluster ${this.position} of ${this.header.clusters}`,
    );
  }
}
