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
import { markLost } from "./marker.ts";

/** Bytes lost where a read fails, from the start of a cluster's data on. */
const SECTOR = 512;

/**
 * A special image of ntfsclone on a failing source, from front to back: sectors of clusters that cannot be read (EIO) hold the
 * marker of lost ones, and `onLost` is told where in the image they are. A read error in the header or in a command, which say
 * what follows, is thrown.
 */
export class RescueImageInput implements SequentialSource {
  readonly label: string;
  private readonly source: Source;
  private readonly onLost: (at: number) => void;
  private readonly retries: number;
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

  /** `retries`: how often a sector that fails is tried again. */
  constructor(source: Source, retries: number, onLost: (at: number) => void) {
    this.source = source;
    this.label = source.label;
    this.retries = retries;
    this.onLost = onLost;
  }

  close(): void | Promise<void> {
    return this.source.close();
  }

  async next(into: Uint8Array): Promise<number> {
    const n = Math.min(into.length, this.source.size - this.at);
    if (n <= 0) return 0;
    const got = await this.read(into.subarray(0, n));
    if (got !== null) return this.follow(into.subarray(0, got));
    // Piece by piece: a byte of a command, or what is left of a sector of a cluster.
    const most = this.inside === "data" ? Math.min(this.left, SECTOR - (this.done % SECTOR)) : 1;
    const piece = into.subarray(0, Math.min(n, most));
    for (let i = 0; i <= this.retries; i++) {
      const length = await this.read(piece);
      if (length !== null) return this.follow(piece.subarray(0, length));
    }
    if (this.inside !== "data")
      throw new IoError("EIO", `${this.label}: read error at byte ${this.at}`, this.at);
    markLost(piece);
    this.onLost(this.at);
    return this.follow(piece);
  }

  /** Bytes read from here on; null for a read error. */
  private async read(into: Uint8Array): Promise<number | null> {
    try {
      const r = this.source.read(into, this.at);
      return r instanceof Promise ? await r : r;
    } catch (error) {
      if (error instanceof IoError && error.code === "EIO") return null;
      throw error;
    }
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
