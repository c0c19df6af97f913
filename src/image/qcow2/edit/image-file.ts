import { DATA, MapRuns } from "../../../bytes/runs.ts";
import { FormatError } from "../../../errors.ts";
import type { DurableFile } from "../../../io/durable.ts";
import type { Source } from "../../../io/source.ts";

/** Bytes gathered before they are written at once. */
export const GATHER = 1024 * 1024;

/** A piece of a table that has a place in the file. */
export interface Placed {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/**
 * The file of an image under change: remembers how long it is, so that asking costs no system call, and writes tables
 * that lie side by side at once.
 */
export class ImageFile {
  readonly file: DurableFile;
  private readonly clusterSize: number;
  private length: number;
  private gather: Uint8Array | null = null;

  constructor(file: DurableFile, clusterSize: number) {
    this.file = file;
    this.clusterSize = clusterSize;
    this.length = file.size();
  }

  /** Bytes the file holds. */
  get size(): number {
    return this.length;
  }

  /** It is a block device: what nothing refers to holds old bytes, also where nothing was ever stored. */
  get device(): boolean {
    return this.file.blockDevice === true;
  }

  /**
   * Reads a piece of metadata; where the file ends inside its last cluster the rest is zeros. Throws FormatError
   * where it ends before that.
   */
  readTable(structure: string, at: number, bytes: number): Uint8Array {
    this.demand(structure, at, bytes);
    const b = new Uint8Array(bytes);
    this.file.read(b, at);
    return b;
  }

  /** As `readTable`, into an array that is there. */
  readTableInto(structure: string, into: Uint8Array, at: number): void {
    this.demand(structure, at, into.length);
    into.fill(0, this.file.read(into, at));
  }

  private demand(structure: string, at: number, bytes: number): void {
    if (at + bytes > Math.ceil(this.length / this.clusterSize) * this.clusterSize)
      throw new FormatError(
        structure,
        at,
        `${bytes} bytes, but the file ends at 0x${this.length.toString(16)}`,
      );
  }

  /** Reads; what lies past the end is zeros. */
  read(into: Uint8Array, at: number): void {
    into.fill(0, at < this.length ? this.file.read(into, at) : 0);
  }

  write(bytes: Uint8Array, at: number): void {
    this.file.write(bytes, at);
    if (at + bytes.length > this.length) this.length = at + bytes.length;
  }

  /** Writes pieces in the order of their places, neighbours at once. Sorts `pieces`. */
  writeAll(pieces: Placed[]): void {
    pieces.sort((a, b) => a.at - b.at);
    for (let i = 0; i < pieces.length; ) {
      const first = pieces[i].at;
      let end = first + pieces[i].bytes.length;
      let n = i + 1;
      while (n < pieces.length && pieces[n].at === end && end + pieces[n].bytes.length - first <= GATHER)
        end += pieces[n++].bytes.length;
      if (n === i + 1) this.write(pieces[i].bytes, first);
      else {
        this.gather ??= new Uint8Array(GATHER);
        for (let k = i; k < n; k++) this.gather.set(pieces[k].bytes, pieces[k].at - first);
        this.write(this.gather.subarray(0, end - first), first);
      }
      i = n;
    }
  }

  /** Makes the file at least `size` bytes long: the new bytes read as zeros. */
  grow(size: number): void {
    if (size <= this.length) return;
    this.file.grow(size);
    this.length = Math.max(size, this.file.size());
  }

  /** Cuts the file to `size` bytes where it is longer. */
  cut(size: number): void {
    if (size >= this.length) return;
    this.file.truncate(size);
    this.length = this.file.size();
  }

  /** Makes the file `size` bytes long, cut or with a hole. */
  resize(size: number): void {
    if (size < this.length) this.cut(size);
    else this.grow(size);
  }

  sync(): void {
    this.file.sync();
  }

  /** The file as a source: all of it data. */
  source(): Source {
    const { file } = this;
    const size = () => this.length;
    return {
      get size() {
        return size();
      },
      label: file.label,
      plain: file.host === undefined ? undefined : { file: file.host, base: 0 },
      read: (into, at) => (at < size() ? file.read(into, at) : 0),
      map: (from, to) => {
        const runs = new MapRuns(from);
        runs.push(Math.min(to, size()) - from, DATA);
        return runs;
      },
      close: () => {},
    };
  }
}
