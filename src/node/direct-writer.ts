import * as fs from "node:fs";
import { DIRECT_GRAIN, DIRECT_LEAST, DIRECT_MEMORY, leftToCache } from "../io/node/direct.ts";
import { writePiece } from "../io/node/file-io.ts";
import { codeOf } from "../io/node/host-error.ts";
import type { CopyTarget } from "./copy-io.ts";

/** Long writes by which a way of writing is tried. */
const TRIAL = 4;
/** Long writes of the better way after which is seen what it costs now. */
const SPELL = 64;
/** Spells after which the other way is tried again, at first; four times as many each time, up to the most. */
const PATIENCE = 4;
const MOST_PATIENCE = 256;
/** The other way is tried at once when the better one costs this much more than when it was chosen. */
const DEARER = 1.5;
/** A disk must be this much cheaper than the page cache: what went through the page cache can be read from there. */
const ADVANTAGE = 0.8;

type Way = "cached" | "direct";

/**
 * Writes long runs past the page cache where that is the faster way: memory for the page cache may be dear (a virtual
 * machine whose host takes free memory back, a machine whose dirty pages are at their limit), a disk may be slow. Both
 * are measured on the way, again and again.
 */
export class DirectWriter {
  private readonly target: CopyTarget;
  private readonly label: string;
  private readonly now: () => number;
  private able: boolean;
  /** Milliseconds a byte when the ways were last compared; null before. */
  private readonly cost: Record<Way, number | null> = { cached: null, direct: null };
  private way: Way;
  private trying = true;
  /** Long writes left of this trial or spell, and what it took so far. */
  private left = TRIAL;
  private ms = 0;
  private bytes = 0;
  private patience = PATIENCE;
  private spells = 0;

  /** `now`: milliseconds on a clock of the host's. */
  constructor(target: CopyTarget, label: string, now: () => number = () => performance.now()) {
    this.target = target;
    this.label = label;
    this.now = now;
    this.able = target.direct >= 0;
    this.way = target.flushed ? "direct" : "cached";
  }

  /** Writes `length` bytes of `bytes` from index `from` at byte `at`. Throws IoError naming the offset. */
  write(bytes: Uint8Array, from: number, length: number, at: number): void {
    const head = (DIRECT_GRAIN - (at % DIRECT_GRAIN)) % DIRECT_GRAIN;
    const direct = length - head - ((at + length) % DIRECT_GRAIN);
    if (!this.able || direct < DIRECT_LEAST) {
      this.through(bytes, from, length, at);
      return;
    }
    const begin = this.now();
    if (this.way === "cached") this.through(bytes, from, length, at);
    else {
      if (head > 0) this.through(bytes, from, head, at);
      this.past(bytes, from + head, direct, at + head);
      const done = head + direct;
      if (done < length) this.through(bytes, from + done, length - done, at + done);
    }
    if (!this.target.flushed) this.note(this.now() - begin, length);
  }

  private through(bytes: Uint8Array, from: number, length: number, at: number): void {
    writePiece(this.target.fd, bytes, from, length, at, this.label);
  }

  private past(bytes: Uint8Array, from: number, length: number, at: number): void {
    let done = 0;
    if ((bytes.byteOffset + from) % DIRECT_MEMORY === 0)
      try {
        done = fs.writeSync(this.target.direct, bytes, from, length, at);
      } catch (error) {
        done = leftToCache(error, this.label, at);
        if (codeOf(error) === "EINVAL") this.able = false;
      }
    if (done < length) this.through(bytes, from + done, length - done, at + done);
  }

  /** Takes down what a long write took; at the end of a trial or spell, chooses the way that is next. */
  private note(ms: number, bytes: number): void {
    this.ms += ms;
    this.bytes += bytes;
    if (--this.left > 0) return;
    const { way, cost } = this;
    const now = this.ms / this.bytes;
    const before = cost[way];
    const other = way === "cached" ? "direct" : "cached";
    if (this.trying || before === null) {
      cost[way] = now;
      if (cost[other] === null) this.begin(other, true);
      else this.decide(cost.cached!, cost.direct!);
      return;
    }
    this.spells++;
    if (now < DEARER * before && this.spells < this.patience) {
      this.begin(way, false);
      return;
    }
    if (this.spells >= this.patience) this.patience = Math.min(4 * this.patience, MOST_PATIENCE);
    cost[way] = now;
    this.begin(other, true);
  }

  private decide(cached: number, direct: number): void {
    this.spells = 0;
    this.begin(direct < ADVANTAGE * cached ? "direct" : "cached", false);
  }

  private begin(way: Way, trying: boolean): void {
    this.way = way;
    this.trying = trying;
    this.left = trying ? TRIAL : SPELL;
    this.ms = 0;
    this.bytes = 0;
  }
}
