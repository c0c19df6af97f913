import { IoError } from "../../errors.ts";
import { i64le } from "../../fs/ntfs/record.ts";
import { clusterBytes, type ImageHeader, parseHeader } from "../../image/ntfsclone/header.ts";
import {
  GAP,
  GAP_BYTES,
  HEADER,
  HEADER_BYTES,
  MAJOR,
  NEXT,
  OLD_HEADER_BYTES,
} from "../../image/ntfsclone/layout.ts";
import type { SequentialSource, Source } from "../../io/source.ts";
import { BAD, DomainMap, FINISHED, UNTRIED } from "./domain-map.ts";
import { markLost } from "./marker.ts";

/** Bytes lost where a read fails, from the start of a cluster's data on. */
const SECTOR = 512;
/** How much less is read where a read fails, and how much more after one that does not. */
const STEP = 8;
/** From so many bytes on as many are read as are wanted. */
const MOST_CAP = 256 * 1024;
/** Commands that have to follow each other where a lost one is made up. */
const LEAST_PROOF = 4;

export interface RescueImageOptions {
  /** How often a sector that fails is tried again. Default 0. */
  readonly retries?: number;
  /** What is known of the image; kept up to date. What is bad in it is tried only as often as `retries` says. */
  readonly domain?: DomainMap;
  /** Called with the byte of the image from which on a piece of a cluster is lost. */
  readonly onLost?: (at: number) => void;
  /** Called with the byte of the image of a command that cannot be read and was concluded from what follows it. */
  readonly onGuess?: (at: number) => void;
}

/**
 * A special image of ntfsclone on a failing source, from front to back: sectors of clusters that cannot be read (EIO)
 * hold the marker of lost ones. A command that cannot be read is concluded from those that follow; where that is
 * impossible, and in the header, the read error is thrown.
 */
export class RescueImageInput implements SequentialSource {
  readonly label: string;
  /** Status of every byte of the image read so far. */
  readonly domain: DomainMap;
  /** Byte ranges of the volume that are lost, in the image's order. */
  readonly lost: [from: number, to: number][] = [];
  /** Commands that were concluded: bytes of the image, and what has to be there. */
  readonly concluded: (readonly [at: number, command: number])[] = [];
  private readonly source: Source;
  private readonly options: RescueImageOptions;
  private header: ImageHeader | null = null;
  private readonly head: number[] = [];
  /** Bytes of a gap's count. */
  private readonly gap: number[] = [];
  private at = 0;
  private cluster = 0;
  private inside: "header" | "padding" | "command" | "gap" | "data" | "nonsense" = "header";
  /** Bytes of the padding or data at hand that are still to come, and of the data that were handed over. */
  private left = 0;
  private done = 0;
  /** Bytes to read at once: few where a read has failed. */
  private cap = Number.POSITIVE_INFINITY;

  constructor(source: Source, options: RescueImageOptions = {}) {
    this.source = source;
    this.label = source.label;
    this.options = options;
    this.domain = options.domain ?? new DomainMap(source.size);
    for (const r of [...this.domain.runs()]) if (r.status !== BAD) this.domain.set(r.from, r.to, UNTRIED);
  }

  close(): void | Promise<void> {
    return this.source.close();
  }

  async next(into: Uint8Array): Promise<number> {
    const n = Math.min(into.length, this.source.size - this.at);
    if (n <= 0) return 0;
    // What is lost together: a byte of a command, or what is left of a sector of a cluster.
    const least = this.inside === "data" ? Math.min(this.left, SECTOR - (this.done % SECTOR)) : 1;
    const all = this.cleanFrom(n);
    for (let most = Math.min(all, this.cap); most > least; most = this.fewer(most)) {
      const length = this.cap < MOST_CAP || most < all ? this.whole(most, least) : most;
      const part = into.subarray(0, length);
      const got = await this.read(part, this.at);
      if (got === null && length > least) continue;
      if (got === null) break;
      this.cap = most * STEP;
      return this.follow(part.subarray(0, got));
    }
    this.cap = SECTOR * STEP;
    const piece = into.subarray(0, Math.min(n, least));
    const known = this.domain.statusAt(this.at) === BAD && this.inside === "data";
    for (let i = known ? 1 : 0; i <= (this.options.retries ?? 0); i++) {
      const length = await this.read(piece, this.at);
      if (length !== null) return this.follow(piece.subarray(0, length));
    }
    this.domain.set(this.at, this.at + piece.length, BAD);
    if (this.inside === "data") {
      markLost(piece);
      this.lose(piece.length);
      this.options.onLost?.(this.at);
      return this.skip(piece);
    }
    const command = this.inside === "command" ? await this.conclude() : null;
    if (command === null) throw new IoError("EIO", `${this.label}: read error at byte ${this.at}`, this.at);
    piece[0] = command;
    this.concluded.push([this.at, command]);
    this.options.onGuess?.(this.at);
    return this.skip(piece);
  }

  private fewer(most: number): number {
    return Math.floor(Math.min(most, MOST_CAP) / STEP);
  }

  /**
   * At most `most` bytes that end where a sector of the cluster at hand does; `least` where there
   * is no cluster at hand.
   */
  private whole(most: number, least: number): number {
    if (this.inside !== "data") return least;
    if (most >= this.left) return this.left;
    return Math.max(least, most - ((this.done + most) % SECTOR));
  }

  /** Bytes from here on, at most `n`, before the next that are known to be bad. */
  private cleanFrom(n: number): number {
    for (const r of this.domain.runs(this.at, this.at + n)) if (r.status === BAD) return r.from - this.at;
    return n;
  }

  private lose(length: number): void {
    const { header, lost } = this;
    const from = (this.cluster - 1) * (header?.clusterSize ?? 0) + this.done;
    const last = lost[lost.length - 1];
    if (last !== undefined && last[1] === from) last[1] = from + length;
    else lost.push([from, from + length]);
  }

  /** Bytes read from `at` on; null for a read error. */
  private async read(into: Uint8Array, at: number): Promise<number | null> {
    try {
      const r = this.source.read(into, at);
      return r instanceof Promise ? await r : r;
    } catch (error) {
      if (error instanceof IoError && error.code === "EIO") return null;
      throw error;
    }
  }

  /** The command that has to be here, as far as those behind it tell; null where they do not. */
  private async conclude(): Promise<number | null> {
    const { header } = this;
    if (header === null) return null;
    const next = this.cluster <= header.clusters ? Math.max(0, clusterBytes(header, this.cluster)) : -1;
    const isNext = next >= 0 && (await this.fits(this.at + 1 + next, this.cluster + 1));
    const count = new Uint8Array(GAP_BYTES - 1);
    let isGap = false;
    if ((await this.read(count, this.at + 1)) === count.length) {
      const to = this.cluster + i64le(count, 0);
      isGap =
        to !== this.cluster && to >= 0 && to <= header.clusters && (await this.fits(this.at + GAP_BYTES, to));
    }
    if (isNext === isGap) return null;
    return isNext ? NEXT : GAP;
  }

  /** Whether commands follow each other from byte `at` on, where cluster `cluster` is next. */
  private async fits(at: number, cluster: number): Promise<boolean> {
    const header = this.header!;
    const { size } = this.source;
    const command = new Uint8Array(GAP_BYTES);
    for (let i = 0; i < LEAST_PROOF; i++) {
      if (cluster > header.clusters) return true;
      if (at >= size) return at === size && cluster === header.clusters;
      const bytes = command.subarray(0, Math.min(GAP_BYTES, size - at));
      if ((await this.read(bytes, at)) !== bytes.length) return false;
      if (bytes[0] === NEXT) {
        const length = clusterBytes(header, cluster++);
        if (length < 0) return false;
        at += 1 + length;
      } else {
        if (bytes[0] !== GAP || bytes.length < GAP_BYTES) return false;
        const count = i64le(bytes, 1);
        cluster += count;
        if (count === 0 || cluster < 0 || cluster > header.clusters) return false;
        at += GAP_BYTES;
      }
    }
    return true;
  }

  /** As `follow`, for bytes that were not read. */
  private skip(bytes: Uint8Array): number {
    const { at } = this;
    this.follow(bytes);
    this.domain.set(at, at + bytes.length, BAD);
    return bytes.length;
  }

  /** Keeps track of what the bytes that are handed over are; returns their number. */
  private follow(bytes: Uint8Array): number {
    for (let i = 0; i < bytes.length; ) {
      if (this.inside === "nonsense") break;
      if (this.left > 0) {
        const n = Math.min(this.left, bytes.length - i);
        i += n;
        this.left -= n;
        this.done += n;
        if (this.left === 0) this.inside = "command";
      } else this.take(bytes[i++]);
    }
    this.domain.set(this.at, this.at + bytes.length, FINISHED);
    this.at += bytes.length;
    return bytes.length;
  }

  private take(byte: number): void {
    if (this.inside === "header") this.takeHeader(byte);
    else if (this.inside === "gap") {
      this.gap.push(byte);
      if (this.gap.length < GAP_BYTES - 1) return;
      this.cluster += i64le(Uint8Array.from(this.gap), 0);
      this.gap.length = 0;
      this.inside = "command";
    } else if (byte === GAP) this.inside = "gap";
    else if (byte !== NEXT || this.header === null) this.inside = "nonsense";
    else {
      this.left = Math.max(0, clusterBytes(this.header, this.cluster++));
      this.done = 0;
      if (this.left > 0) this.inside = "data";
    }
  }

  private takeHeader(byte: number): void {
    const { head } = this;
    head.push(byte);
    const old = head.length > HEADER.major && head[HEADER.major] < MAJOR;
    if (head.length < (old ? OLD_HEADER_BYTES : HEADER_BYTES)) return;
    try {
      this.header = parseHeader(Uint8Array.from(head));
      this.left = Math.max(0, this.header.dataOffset - head.length);
      this.inside = this.left > 0 ? "padding" : "command";
    } catch {
      // Whoever asked for the bytes finds out by itself.
      this.inside = "nonsense";
    }
  }
}
