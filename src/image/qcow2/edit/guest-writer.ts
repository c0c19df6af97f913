import { FormatError, IoError, UnsupportedError } from "../../../errors.ts";
import type { Qcow2Header } from "../header.ts";
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  CRYPT,
  L2_RESERVED_HIGH,
  L2_RESERVED_LOW,
  SUBCLUSTERS,
  ZERO_LOW,
} from "../layout.ts";
import type { ImageFile } from "./image-file.ts";
import { type L2Cache, offsetOf } from "./l2-cache.ts";
import {
  ALL,
  compressedEntry,
  entryClusters,
  isCopied,
  type L2Shape,
  l2Shape,
  subclusterMask,
} from "./l2-entries.ts";
import type { Refcounts } from "./refcounts.ts";

/** Zeros written at a time. */
const ZEROS = 256 * 1024;

/** What the writer needs of the editor. */
export interface WriterHost {
  readonly header: Qcow2Header;
  /** Holds the data clusters: the image, or its data file. */
  readonly data: ImageFile;
  readonly l2: L2Cache;
  readonly refcounts: Refcounts;
  /** Guest bytes as they read now. */
  read(into: Uint8Array, at: number): number | Promise<number>;
  /** Bytes of what lies below; 0 where nothing does. */
  readonly below: number;
  /** Called before guest data changes. */
  touch(): void;
  /** Told of the guest bytes that change. */
  changed(at: number, length: number): void;
  /** Called where changed tables may be written out. */
  relieve(): void;
}

/** Runs jobs one after the other, without a promise as long as none of them has one. */
function then(r: void | Promise<void>, next: () => void | Promise<void>): void | Promise<void> {
  return r instanceof Promise ? r.then(next) : next();
}

/**
 * Changes what guest clusters hold. Data is written in place where its cluster belongs to this image alone, else to
 * clusters that were free; L2 tables are changed in memory.
 */
export class GuestWriter {
  private readonly host: WriterHost;
  private readonly shape: L2Shape;
  private readonly clusterSize: number;
  private readonly sub: number;
  private readonly external: boolean;
  private readonly extent = { first: 0, n: 0 };
  private zeros: Uint8Array | null = null;
  /** Where the next compressed stream may go: right behind the last one. 0: nowhere. */
  private streamEnd = 0;

  constructor(host: WriterHost) {
    this.host = host;
    const { header } = host;
    this.shape = l2Shape(header.clusterBits, header.extendedL2);
    this.clusterSize = header.clusterSize;
    this.sub = header.extendedL2 ? header.clusterSize / SUBCLUSTERS : header.clusterSize;
    this.external = header.external;
  }

  private get size(): number {
    return this.host.header.size;
  }

  private begin(at: number, length: number, data: boolean): void {
    if (!(at >= 0 && length >= 0 && at + length <= this.size))
      throw new RangeError(`qcow2: ${length} bytes at ${at} exceed the disk of ${this.size} bytes`);
    const method = this.host.header.cryptMethod;
    if (data && method !== CRYPT.none)
      throw new UnsupportedError(
        `${this.host.data.file.label}: encrypted (${method === CRYPT.luks ? "LUKS" : "AES"}); encrypted data cannot be written`,
      );
    this.host.touch();
    this.host.changed(at, length);
  }

  /** Writes guest bytes. */
  write(bytes: Uint8Array, at: number): void | Promise<void> {
    if (bytes.length === 0) return;
    this.begin(at, bytes.length, true);
    return this.writeFrom(bytes, at, 0);
  }

  private writeFrom(bytes: Uint8Array, at: number, done: number): void | Promise<void> {
    const cs = this.clusterSize;
    const end = at + bytes.length;
    while (done < bytes.length) {
      const from = at + done;
      const cluster = Math.floor(from / cs);
      const base = cluster * cs;
      if (from === base && end - base >= cs) {
        const inTable = this.shape.perTable - (cluster % this.shape.perTable);
        const n = Math.min(Math.floor((end - base) / cs), inTable);
        this.writeClusters(bytes.subarray(done, done + n * cs), cluster, n);
        done += n * cs;
      } else {
        const n = Math.min(end, base + cs) - from;
        const r = this.writePart(bytes.subarray(done, done + n), cluster, from - base);
        done += n;
        const rest = done;
        if (r instanceof Promise) return r.then(() => this.writeFrom(bytes, at, rest));
      }
      this.host.relieve();
    }
  }

  /** Index of a cluster's first word in its table. */
  private word(cluster: number): number {
    return (cluster % this.shape.perTable) * this.shape.words;
  }

  private tableIndex(cluster: number): number {
    return Math.floor(cluster / this.shape.perTable);
  }

  private damaged(cluster: number, detail: string): FormatError {
    const i = this.tableIndex(cluster);
    return new FormatError("qcow2 L2 entry", this.host.l2.at(i) + this.word(cluster) * 4, detail);
  }

  /** Refuses entries that break the format. */
  private check(words: Uint32Array, cluster: number): void {
    const p = this.word(cluster);
    const high = words[p];
    const low = words[p + 1];
    if (high & COMPRESSED_HIGH) {
      if (this.external) throw this.damaged(cluster, "compressed cluster in an image with a data file");
      return;
    }
    if ((high & L2_RESERVED_HIGH) | (low & L2_RESERVED_LOW)) throw this.damaged(cluster, "reserved bits set");
    const at = offsetOf(high, low);
    if (at % this.clusterSize !== 0 || at > Number.MAX_SAFE_INTEGER)
      throw this.damaged(cluster, `cluster at 0x${at.toString(16)} is not aligned`);
    if (this.shape.extended) {
      if (words[p + 2] & words[p + 3]) throw this.damaged(cluster, "subclusters both stored and zero");
      if (words[p + 3] !== 0 && at === 0 && !(this.external && isCopied(high)))
        throw this.damaged(cluster, "stored subclusters without a cluster");
    } else if (low & ZERO_LOW && this.host.header.version < 3)
      throw this.damaged(cluster, "zero cluster in a version 2 image");
  }

  /** Host offset where a cluster can be written in place; -1 where it has to get a new place. */
  private ownPlace(words: Uint32Array | null, cluster: number): number {
    if (words === null) return -1;
    const p = this.word(cluster);
    const high = words[p];
    const low = words[p + 1];
    if ((high | low) === 0) return -1;
    this.check(words, cluster);
    if (!isCopied(high)) return -1;
    const at = offsetOf(high, low);
    if (this.external) {
      if (at !== cluster * this.clusterSize)
        throw this.damaged(cluster, `cluster at 0x${at.toString(16)}, not where the data file has it`);
      return at;
    }
    if (at === 0) return -1;
    const count = this.host.refcounts.get(at / this.clusterSize);
    if (count === 0)
      throw this.damaged(
        cluster,
        `cluster at 0x${at.toString(16)} has the refcount 0 (check -r can repair that)`,
      );
    if (count > 1) return -1;
    this.host.refcounts.guard(at / this.clusterSize, 1);
    return at;
  }

  /** True where the entry already says that all bytes of the cluster are stored. */
  private stored(words: Uint32Array, p: number): boolean {
    return this.shape.extended ? words[p + 3] === ALL && words[p + 2] === 0 : (words[p + 1] & ZERO_LOW) === 0;
  }

  /** Gives back what an entry refers to, and empties it. */
  private drop(words: Uint32Array, cluster: number): void {
    const p = this.word(cluster);
    if (!this.external) {
      this.check(words, cluster);
      entryClusters(this.shape, words[p], words[p + 1], this.extent);
      const { first, n } = this.extent;
      if (n > 0) {
        this.host.refcounts.guard(first, n);
        this.host.refcounts.release(first, n);
      }
    }
    words.fill(0, p, p + this.shape.words);
  }

  private point(words: Uint32Array, cluster: number, at: number): void {
    const p = this.word(cluster);
    const high = Math.floor(at / 0x100000000);
    words[p] = (high | COPIED_HIGH) >>> 0;
    words[p + 1] = at - high * 0x100000000;
  }

  private fill(words: Uint32Array, p: number): void {
    if (this.shape.extended) {
      words[p + 2] = 0;
      words[p + 3] = ALL;
    } else words[p + 1] = (words[p + 1] & ~ZERO_LOW) >>> 0;
  }

  /** Writes `n` whole clusters of one L2 table. */
  private writeClusters(bytes: Uint8Array, cluster: number, n: number): void {
    const { l2, refcounts, data } = this.host;
    const cs = this.clusterSize;
    const i = this.tableIndex(cluster);
    let words = l2.get(i)?.words ?? null;
    for (let j = 0; j < n; ) {
      const own = this.ownPlace(words, cluster + j);
      let m = 1;
      if (own >= 0) {
        while (j + m < n && this.ownPlace(words, cluster + j + m) === own + m * cs) m++;
        data.write(bytes.subarray(j * cs, (j + m) * cs), own);
        for (let k = j; k < j + m; k++) {
          const p = this.word(cluster + k);
          if (this.stored(words!, p)) continue;
          words = l2.own(i).words;
          this.fill(words, p);
        }
      } else {
        while (j + m < n && this.ownPlace(words, cluster + j + m) < 0) m++;
        words = l2.own(i).words;
        let at: number;
        if (this.external) at = (cluster + j) * cs;
        else {
          at = refcounts.takeUpTo(m) * cs;
          m = refcounts.taken;
        }
        data.write(bytes.subarray(j * cs, (j + m) * cs), at);
        for (let k = 0; k < m; k++) {
          this.drop(words, cluster + j + k);
          this.point(words, cluster + j + k, at + k * cs);
          this.fill(words, this.word(cluster + j + k));
        }
      }
      j += m;
    }
  }

  /** Writes a part of one cluster: whole subclusters around it get a place, the rest of them keeps what it read as. */
  private writePart(bytes: Uint8Array, cluster: number, from: number): void | Promise<void> {
    const { l2 } = this.host;
    const cs = this.clusterSize;
    const i = this.tableIndex(cluster);
    const words = l2.get(i)?.words ?? null;
    const own = this.ownPlace(words, cluster);
    const p = this.word(cluster);
    const to = from + bytes.length;
    // What has to be written: whole subclusters, or more where the data moves.
    let first = Math.floor(from / this.sub);
    let end = Math.ceil(to / this.sub);
    let keepStored = 0;
    if (own >= 0 && this.covers(words!, p, first, end)) {
      this.host.data.write(bytes, own + from);
      return;
    }
    if (own < 0 && words !== null) {
      const moving = words[p] & COMPRESSED_HIGH ? ALL : this.shape.extended ? words[p + 3] : 0;
      if (moving !== 0) {
        first = 0;
        end = SUBCLUSTERS;
        keepStored = moving;
      }
    }
    const lo = first * this.sub;
    const hi = Math.min(end * this.sub, cs);
    const buffer = new Uint8Array(hi - lo);
    const base = cluster * cs;
    const place = () => {
      buffer.set(bytes, from - lo);
      this.placePart(
        buffer,
        cluster,
        lo,
        own,
        subclusterMask(Math.floor(from / this.sub), Math.ceil(to / this.sub)) | keepStored,
      );
    };
    const readTo = Math.min(base + hi, this.size);
    // Nothing of the old bytes is left where the write reaches the disk's end.
    if (from === lo && base + to >= readTo) return place();
    const r = this.host.read(buffer.subarray(0, readTo - base - lo), base + lo);
    return r instanceof Promise ? r.then(place) : place();
  }

  /** True where subclusters [first, end) of a cluster in its own place are stored. */
  private covers(words: Uint32Array, p: number, first: number, end: number): boolean {
    if (!this.shape.extended) return this.stored(words, p);
    const mask = subclusterMask(first, end);
    return (words[p + 3] & mask) >>> 0 === mask;
  }

  /** Writes `buffer` at byte `lo` of a cluster, in place or to a new one, and marks `mask` as stored. */
  private placePart(buffer: Uint8Array, cluster: number, lo: number, own: number, mask: number): void {
    const { l2, refcounts, data } = this.host;
    const words = l2.own(this.tableIndex(cluster)).words;
    const p = this.word(cluster);
    let zeros = 0;
    let used = 0;
    if (this.shape.extended && (words[p] & COMPRESSED_HIGH) === 0) {
      zeros = words[p + 2];
      used = words[p + 3];
    }
    let at = own;
    if (own < 0) {
      at = this.external ? cluster * this.clusterSize : refcounts.take(1) * this.clusterSize;
      data.write(buffer, at + lo);
      this.drop(words, cluster);
      this.point(words, cluster, at);
    } else data.write(buffer, at + lo);
    if (this.shape.extended) {
      words[p + 2] = (zeros & ~mask) >>> 0;
      words[p + 3] = (used | mask) >>> 0;
    } else this.fill(words, p);
  }

  /** Makes guest bytes read as zeros. */
  writeZeros(at: number, length: number): void | Promise<void> {
    if (length === 0) return;
    this.begin(at, length, false);
    return this.zeroFrom(at, at + length);
  }

  private zeroFrom(at: number, end: number): void | Promise<void> {
    const cs = this.clusterSize;
    while (at < end) {
      const cluster = Math.floor(at / cs);
      const base = cluster * cs;
      const i = this.tableIndex(cluster);
      const tableEnd = Math.min((i + 1) * this.shape.perTable * cs, end);
      let r: Promise<void> | undefined;
      let next: number;
      if (l2Empty(this.host.l2, i) && base >= this.host.below) {
        next = tableEnd;
        if (this.external && this.host.header.rawDataFile) this.zeroData(at, next);
      } else if (at === base && (end - base >= cs || end === this.size)) {
        const last =
          tableEnd === this.size || tableEnd % cs === 0
            ? Math.ceil(tableEnd / cs)
            : Math.floor(tableEnd / cs);
        next = Math.min(last * cs, end);
        r = this.zeroClusters(cluster, last - cluster) ?? undefined;
      } else {
        next = Math.min(end, base + cs);
        r = this.zeroPart(cluster, at - base, next - base) ?? undefined;
      }
      this.host.relieve();
      at = next;
      const rest = next;
      if (r instanceof Promise) return r.then(() => this.zeroFrom(rest, end));
    }
  }

  /**
   * Marks the whole clusters [from, to) as zeros (version 3), also where nothing lies below. Bytes, multiples
   * of a cluster or the end.
   */
  markZero(from: number, to: number): void {
    const cs = this.clusterSize;
    const last = Math.ceil(to / cs);
    for (let c = from / cs; c < last; c++) {
      const { words } = this.host.l2.own(this.tableIndex(c));
      const p = this.word(c);
      this.drop(words, c);
      if (this.shape.extended) words[p + 2] = ALL;
      else words[p + 1] = ZERO_LOW;
      if (c % this.shape.perTable === 0) this.host.relieve();
    }
  }

  /** Zeros whole clusters of one L2 table. */
  private zeroClusters(cluster: number, n: number): void | Promise<void> {
    const { l2, header } = this.host;
    const i = this.tableIndex(cluster);
    if (this.external && header.rawDataFile)
      this.zeroData(cluster * this.clusterSize, (cluster + n) * this.clusterSize);
    for (let j = 0; j < n; j++) {
      const c = cluster + j;
      const p = this.word(c);
      let words = l2.get(i)?.words ?? null;
      const bare = c * this.clusterSize >= this.host.below;
      if (words === null ? bare : this.readsZero(words, p, bare)) continue;
      if (this.external && header.rawDataFile && words !== null && isCopied(words[p])) continue;
      if (!bare && header.version < 3) {
        // Version 2 cannot say that a cluster hides what lies below.
        const from = c * this.clusterSize;
        const zeros = new Uint8Array(Math.min(this.clusterSize, this.size - from));
        const r = this.writeFrom(zeros, from, 0);
        const left = n - j - 1;
        if (r instanceof Promise) return r.then(() => this.zeroClusters(c + 1, left));
        continue;
      }
      words = l2.own(i).words;
      this.drop(words, c);
      if (bare) continue;
      if (this.shape.extended) words[p + 2] = ALL;
      else words[p + 1] = ZERO_LOW;
    }
  }

  /** True where a cluster reads as zeros for sure; `bare`: nothing lies below it. */
  private readsZero(words: Uint32Array, p: number, bare: boolean): boolean {
    const high = words[p];
    if (high & COMPRESSED_HIGH) return false;
    if (this.shape.extended)
      return bare ? words[p + 3] === 0 && (words[p] | words[p + 1]) === 0 : words[p + 2] === ALL;
    if (words[p + 1] & ZERO_LOW) return true;
    return bare && (high | words[p + 1]) === 0;
  }

  private zeroPart(cluster: number, from: number, to: number): void | Promise<void> {
    const { l2 } = this.host;
    const i = this.tableIndex(cluster);
    const p = this.word(cluster);
    const base = cluster * this.clusterSize;
    const bare = base >= this.host.below;
    const words = l2.get(i)?.words ?? null;
    if (words === null ? bare : this.readsZero(words, p, bare)) {
      if (this.external && this.host.header.rawDataFile) this.zeroData(base + from, base + to);
      return;
    }
    const compressed = words !== null && (words[p] & COMPRESSED_HIGH) !== 0;
    const toEnd = base + to === this.size;
    const first = Math.ceil(from / this.sub);
    const end = toEnd ? Math.ceil(to / this.sub) : Math.floor(to / this.sub);
    if (!this.shape.extended || compressed || first >= end || (this.external && this.host.header.rawDataFile))
      return this.writeFrom(new Uint8Array(to - from), base + from, 0);
    // Whole subclusters are marked, the rest is written.
    const head = first * this.sub;
    const tail = Math.min(end * this.sub, to);
    return then(from < head ? this.writeFrom(new Uint8Array(head - from), base + from, 0) : undefined, () =>
      then(tail < to ? this.writeFrom(new Uint8Array(to - tail), base + tail, 0) : undefined, () => {
        const w = l2.own(i).words;
        if (words !== null) this.check(w, cluster);
        const mask = subclusterMask(first, end);
        w[p + 2] = (w[p + 2] | mask) >>> 0;
        w[p + 3] = (w[p + 3] & ~mask) >>> 0;
      }),
    );
  }

  /** Writes zeros to the data file itself. */
  private zeroData(from: number, to: number): void {
    this.zeros ??= new Uint8Array(ZEROS);
    const end = Math.min(to, this.host.data.size);
    for (let at = from; at < end; at += ZEROS)
      this.host.data.write(this.zeros.subarray(0, Math.min(ZEROS, end - at)), at);
  }

  /** Makes the clusters that lie wholly in the range unallocated. */
  discard(at: number, length: number): void {
    this.begin(at, length, false);
    const cs = this.clusterSize;
    const end = at + length;
    const last = end === this.size ? Math.ceil(end / cs) : Math.floor(end / cs);
    for (let c = Math.ceil(at / cs); c < last; ) {
      const i = this.tableIndex(c);
      const tableEnd = Math.min((i + 1) * this.shape.perTable, last);
      if (l2Empty(this.host.l2, i)) {
        c = tableEnd;
        continue;
      }
      if (this.external && this.host.header.rawDataFile) this.zeroData(c * cs, tableEnd * cs);
      this.discardIn(i, c, tableEnd);
      this.host.relieve();
      c = tableEnd;
    }
  }

  /** Empties entries [from, to) of table `i`, also of clusters past the disk's end. */
  discardIn(i: number, from: number, to: number): void {
    const { l2 } = this.host;
    let words = l2.get(i)!.words;
    for (let c = from; c < to; c++) {
      const p = this.word(c);
      let any = words[p] | words[p + 1];
      if (this.shape.extended) any |= words[p + 2] | words[p + 3];
      if (any === 0) continue;
      words = l2.own(i).words;
      this.drop(words, c);
    }
  }

  /** Stores one cluster as a compressed stream. */
  writeCompressed(stream: Uint8Array, at: number): void {
    const cs = this.clusterSize;
    if (at % cs !== 0 || stream.length === 0 || stream.length > cs)
      throw new RangeError(`qcow2: a compressed cluster of ${stream.length} bytes at ${at}`);
    if (this.external)
      throw new UnsupportedError(`${this.host.data.file.label}: no compressed clusters with a data file`);
    this.begin(at, Math.min(cs, this.size - at), true);
    const cluster = at / cs;
    const words = this.host.l2.own(this.tableIndex(cluster)).words;
    const place = this.takeBytes(stream.length);
    const entry = compressedEntry(this.shape, place, stream.length);
    if (entry === null)
      throw new IoError("EFBIG", `${this.host.data.file.label}: too long for compressed clusters`);
    this.host.data.write(stream, place);
    this.drop(words, cluster);
    const p = this.word(cluster);
    words[p] = entry[0];
    words[p + 1] = entry[1];
    this.host.relieve();
  }

  /** Room for a stream: behind the last one where it fits, across into the next cluster where that is free. */
  private takeBytes(length: number): number {
    const { refcounts } = this.host;
    const cs = this.clusterSize;
    const lastCluster = Math.floor((this.streamEnd - 1) / cs);
    let at = this.streamEnd;
    if (at !== 0) {
      const count = refcounts.get(lastCluster);
      if (count === 0 || count >= refcounts.most) at = 0;
    }
    const left = at === 0 ? 0 : (lastCluster + 1) * cs - at;
    if (at !== 0 && length <= left) refcounts.addReference(lastCluster);
    else {
      const next = refcounts.take(1);
      if (left > 0 && next === lastCluster + 1) refcounts.addReference(lastCluster);
      else at = next * cs;
    }
    this.streamEnd = (at + length) % cs === 0 ? 0 : at + length;
    return at;
  }

  /** Nothing may follow the last stream any more: its cluster can have been freed and used anew. */
  committed(): void {
    this.streamEnd = 0;
  }
}

function l2Empty(l2: L2Cache, i: number): boolean {
  return l2.at(i) === 0;
}
