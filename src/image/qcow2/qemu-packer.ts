import { UnsupportedError } from "../../errors.ts";
import type { ByteRequests, PackerSpec, WriteList } from "../packer.ts";
import { Allocator, BLOCKS_AT } from "./allocator.ts";
import { L2Segment } from "./entries.ts";
import { qemuHeader } from "./header-writer.ts";
import { COMPRESSED_HIGH, COPIED_HIGH, L2_SLICE_BYTES, LIMIT, SUBCLUSTERS, ZERO_LOW } from "./layout.ts";
import { finishAll, type StreamablePacker } from "./streamable-packer.ts";

/** qemu-img converts in buffers of this many bytes; a request to the image never spans two. */
const BUFFER = 2 * 1024 * 1024;
/** Runs of zeros shorter than this are stored, where callers widen the runs they pass. */
const ZERO_UNIT = 4096;

// State behind the allocator's: scalars, then the L1 table in bytes.
const READY = 0;
const L1_AT = 1;
/**
 * The request that the last chunk ended in: its first host cluster, clusters so far, guest cluster to go on
 * at.
 */
const OPEN_AT = 2;
const OPEN_COUNT = 3;
const OPEN_NEXT = 4;
/** Exact requests: the guest cluster placed last, plus one; its host cluster; its stored subclusters. */
const LAST_GUEST = 5;
const LAST_HOST = 6;
const LAST_USED = 7;
/** Byte after the last data byte that was placed, whole subclusters. */
const DATA_END = 8;
/** Byte of the image where the next compressed cluster may go, or 0: qemu packs them end to end. */
const FREE_BYTE = 9;
/** Byte after the last compressed one. */
const PACKED_END = 10;
/** Subclusters of the last guest cluster that read as zeros, and that cluster plus one. */
const LAST_ZEROS = 11;
const ZEROS_GUEST = 12;
const SCALARS = 16;

/**
 * The layout of `qemu-img convert -O qcow2` (7.2, in-order writes, a source without holes): header, refcount
 * table, first refcount block, L1 table, then L2 tables and data as they come; refcount blocks follow the
 * request that first needs them.
 */
export class QemuPacker implements StreamablePacker {
  readonly clusterSize: number;
  readonly guestSize: number;
  readonly chunkUnit: number;
  readonly zeroUnit: number;
  private readonly spec: Extract<PackerSpec, { kind: "qemu" }>;
  private readonly bits: number;
  private readonly clusters: number;
  private readonly l1Entries: number;
  private readonly l2Entries: number;
  /** Clusters of one buffer. */
  private readonly perBuffer: number;
  /**
   * True where the refcount table can never move: requests may always be placed before their end is known.
   */
  private readonly eager: boolean;
  private readonly space: Allocator;
  private readonly scalars: number;
  private readonly l1: number;
  private readonly segment: L2Segment;
  private readonly sliceEntries: number;
  /** L1 index of the segment's table, -1 where it is empty. */
  private openTable = -1;
  readonly exact?: ByteRequests;
  private array: Float64Array;
  /** Compressed clusters that touch a cluster of the image, where there are more than one. */
  private shares = new Uint16Array(0);

  constructor(spec: Extract<PackerSpec, { kind: "qemu" }>) {
    const cs = spec.clusterSize;
    this.spec = spec;
    this.clusterSize = cs;
    this.guestSize = spec.guestSize;
    this.bits = Math.log2(cs);
    this.clusters = Math.ceil(spec.guestSize / cs);
    const entryBytes = spec.extendedL2 ? 16 : 8;
    this.l2Entries = cs / entryBytes;
    this.sliceEntries = Math.min(cs, L2_SLICE_BYTES) / entryBytes;
    this.l1Entries = Math.ceil(this.clusters / this.l2Entries);
    if (this.l1Entries * 8 > LIMIT.l1)
      throw new UnsupportedError(`qcow2: ${spec.guestSize} bytes are too many for clusters of ${cs}`);
    this.perBuffer = Math.max(1, BUFFER / cs);
    const perBlock = (cs * 8) / 2 ** spec.refcountOrder;
    const fixed = this.clusters + this.l1Entries + Math.ceil((this.l1Entries * 8) / cs) + 8;
    let blocks = 0;
    for (let last = -1; last !== blocks; ) {
      last = blocks;
      blocks = Math.ceil((fixed + blocks + 4 * Math.ceil((blocks * 8) / cs)) / perBlock);
    }
    this.eager = blocks <= cs / 8;
    this.zeroUnit = Math.max(cs, ZERO_UNIT);
    this.chunkUnit = this.eager ? this.zeroUnit : Math.max(cs, BUFFER);
    const slots = this.eager ? cs / 8 : Math.ceil(blocks * 1.1) + 64;
    this.space = new Allocator(cs, spec.refcountOrder, Math.min(slots, LIMIT.refcountTable / 8));
    this.scalars = this.space.length;
    this.l1 = this.scalars + SCALARS;
    this.array = new Float64Array(this.l1 + this.l1Entries);
    this.space.state = this.array;
    this.segment = new L2Segment(this.l2Entries, spec.extendedL2);
    if (spec.exact !== undefined)
      this.exact = {
        rules: spec.exact,
        request: (from, to, out) => this.exactRequest(from, to, out),
        compressed: (guest, size, out) => this.compressed(guest, size, out),
        zero: (from, to, out) => this.zeroClusters(from, to, out),
        flush: (out) => this.flushTable(out),
      };
    // A header that does not fit must fail before any data moves.
    this.header();
  }

  get state(): Float64Array {
    return this.array;
  }

  set state(array: Float64Array) {
    this.array = array;
    this.space.state = array;
  }

  private begin(): void {
    const s = this.array;
    this.space.begin();
    s[this.scalars + READY] = 1;
    const l1Clusters = Math.ceil((this.l1Entries * 8) / this.clusterSize);
    s[this.scalars + L1_AT] = l1Clusters > 0 ? this.space.take(l1Clusters) : this.space.next;
  }

  place(base: number, runs: Uint32Array, count: number, out: WriteList): void {
    const s = this.array;
    if (s[this.scalars + READY] === 0) this.begin();
    let open = -1;
    for (let r = 0; r < count; r++) {
      const to = base + runs[2 * r] + runs[2 * r + 1];
      for (let guest = base + runs[2 * r]; guest < to; ) {
        const end = Math.min(to, (Math.floor(guest / this.perBuffer) + 1) * this.perBuffer);
        const cut = end === to && r === count - 1 && end % this.perBuffer !== 0;
        open = this.request(guest, end, cut, open, out);
        guest = end;
      }
    }
    if (open >= 0) this.segment.flush(s[this.l1 + open], out);
  }

  /**
   * Places one request [guest, end); `cut`: the next chunk may go on with it. Returns the L1 index of the
   * open segment.
   */
  private request(guest: number, end: number, cut: boolean, open: number, out: WriteList): number {
    const { array: s, space, l2Entries, segment, scalars } = this;
    const cs = this.clusterSize;
    let host = -1;
    if (s[scalars + OPEN_COUNT] > 0 && s[scalars + OPEN_NEXT] !== guest) this.closeRequest();
    while (guest < end) {
      const l1 = Math.floor(guest / l2Entries);
      const index = guest - l1 * l2Entries;
      if (l1 !== open) {
        if (open >= 0) segment.flush(s[this.l1 + open], out);
        open = l1;
      }
      const n = Math.min(end - guest, l2Entries - index);
      let at: number;
      let got = n;
      if (s[scalars + OPEN_COUNT] > 0) {
        at = s[scalars + OPEN_AT] + s[scalars + OPEN_COUNT];
        this.extend(n, guest + n);
        if (!(cut && guest + n === end) || index + n === l2Entries) this.closeRequest();
      } else {
        if (s[this.l1 + l1] === 0) s[this.l1 + l1] = space.take(1) * cs;
        const open = cut && guest + n === end && index + n < l2Entries;
        if (open && (this.eager || space.clear(this.perBuffer))) {
          at = space.next;
          s[scalars + OPEN_AT] = at;
          this.extend(n, guest + n);
        } else if (host < 0) at = space.take(n);
        else {
          at = host;
          got = space.takeAt(host, n);
          if (got === 0) {
            host = -1;
            continue;
          }
        }
      }
      out.data(guest * cs, at * cs, got * cs);
      segment.set(index, got, at * cs, cs);
      host = at + got;
      guest += got;
    }
    return open;
  }

  /** One write of qemu-img, [from, to) bytes of the guest. */
  private exactRequest(from: number, to: number, out: WriteList): void {
    const { array: s, space, l2Entries, segment, scalars } = this;
    const cs = this.clusterSize;
    if (s[scalars + READY] === 0) this.begin();
    const end = Math.ceil(to / cs);
    let guest = Math.floor(from / cs);
    // Where the request would go on in the file, or -1.
    let host = -1;
    if (s[scalars + LAST_GUEST] === guest + 1) {
      const stop = Math.min(to, (guest + 1) * cs);
      const at = s[scalars + LAST_HOST];
      this.table(Math.floor(guest / l2Entries), out);
      segment.set(guest % l2Entries, 1, at * cs, cs);
      this.used(guest, from, stop, s[scalars + LAST_USED]);
      out.data(from, at * cs + (from - guest * cs), stop - from);
      this.reached(at, stop - guest * cs);
      host = at + 1;
      guest++;
    }
    while (guest < end) {
      const l1 = Math.floor(guest / l2Entries);
      const index = guest - l1 * l2Entries;
      const n = Math.min(end - guest, this.sliceEntries - (index % this.sliceEntries));
      this.table(l1, out);
      let at: number;
      let got = n;
      if (this.external) at = guest;
      else if (host < 0) at = space.take(n);
      else {
        at = host;
        got = space.takeAt(host, n);
        if (got === 0) {
          host = -1;
          continue;
        }
      }
      const first = Math.max(from, guest * cs);
      const stop = Math.min(to, (guest + got) * cs);
      segment.set(index, got, at * cs, cs);
      this.used(guest, first, stop, 0);
      out.data(first, at * cs + (first - guest * cs), stop - first);
      host = at + got;
      guest += got;
      s[scalars + LAST_GUEST] = guest;
      s[scalars + LAST_HOST] = host - 1;
      this.reached(host - 1, stop - (guest - 1) * cs);
    }
  }

  private compressed(guest: number, size: number, out: WriteList): number {
    const { array: s, scalars, l2Entries } = this;
    if (s[scalars + READY] === 0) this.begin();
    this.table(Math.floor(guest / l2Entries), out);
    const at = this.takeBytes(size);
    const sectors = Math.floor((at + size - 1) / 512) - Math.floor(at / 512);
    const shift = 62 - (this.bits - 8) - 32;
    const high = (COMPRESSED_HIGH | (sectors << shift) | Math.floor(at / 0x100000000)) >>> 0;
    this.segment.setWords(guest % l2Entries, 1, high, at % 0x100000000);
    s[scalars + PACKED_END] = Math.max(s[scalars + PACKED_END], at + size);
    return at;
  }

  /** Takes `size` bytes for a compressed cluster: behind the last one where they fit. */
  private takeBytes(size: number): number {
    const { array: s, scalars, space } = this;
    const cs = this.clusterSize;
    const most = 2 ** (2 ** this.spec.refcountOrder) - 1;
    let at = s[scalars + FREE_BYTE];
    if (at !== 0 && this.sharesOf(Math.floor(at / cs)) >= most) at = 0;
    let room = cs - (at % cs);
    for (;;) {
      if (at === 0 || room < size) {
        const found = space.find() * cs;
        if (at === 0 || Math.ceil(at / cs) * cs !== found) {
          at = found;
          room = cs;
        } else room += cs;
      }
      const first = Math.floor(at / cs);
      const last = Math.floor((at + size - 1) / cs);
      if (space.share(first, last - first + 1)) {
        this.addShare(first);
        if (last > first) this.addShare(last);
        const end = at + size;
        s[scalars + FREE_BYTE] = end % cs === 0 ? 0 : end;
        return at;
      }
      at = 0;
    }
  }

  private sharesOf(cluster: number): number {
    return cluster < this.shares.length ? this.shares[cluster] : 0;
  }

  private addShare(cluster: number): void {
    if (cluster >= this.shares.length) {
      const wider = new Uint16Array(Math.max(cluster + 1, this.shares.length * 2, 4096));
      wider.set(this.shares);
      this.shares = wider;
    }
    this.shares[cluster]++;
  }

  private zeroClusters(from: number, to: number, out: WriteList): void {
    const { array: s, l2Entries, segment, scalars } = this;
    const cs = this.clusterSize;
    if (s[scalars + READY] === 0) this.begin();
    const end = Math.ceil(to / cs);
    for (let guest = Math.floor(from / cs); guest < end; ) {
      const l1 = Math.floor(guest / l2Entries);
      const index = guest - l1 * l2Entries;
      this.table(l1, out);
      if (!this.spec.extendedL2) {
        const n = Math.min(end - guest, l2Entries - index);
        segment.setWords(index, n, 0, ZERO_LOW);
        guest += n;
        continue;
      }
      // The disk's last cluster is zeroed as a whole, if from its start.
      const whole = to >= this.guestSize && from <= guest * cs;
      this.zeroSubclusters(guest, from, whole ? end * cs : to);
      guest++;
    }
  }

  private zeroSubclusters(guest: number, from: number, to: number): void {
    const { array: s, scalars, segment } = this;
    const cs = this.clusterSize;
    const bits = this.subclusterBits(guest, from, to);
    const index = guest % this.l2Entries;
    const placed = s[scalars + LAST_GUEST] === guest + 1;
    const used = placed ? (s[scalars + LAST_USED] & ~bits) >>> 0 : 0;
    const before = s[scalars + ZEROS_GUEST] === guest + 1 ? s[scalars + LAST_ZEROS] : 0;
    const zeros = (before | bits) >>> 0;
    if (placed) segment.set(index, 1, s[scalars + LAST_HOST] * cs, cs);
    else segment.setWords(index, 1, 0, 0);
    segment.subclusters(index, zeros, used);
    if (placed) s[scalars + LAST_USED] = used;
    s[scalars + ZEROS_GUEST] = guest + 1;
    s[scalars + LAST_ZEROS] = zeros;
  }

  private subclusterBits(cluster: number, from: number, to: number): number {
    const cs = this.clusterSize;
    const sub = cs / SUBCLUSTERS;
    const a = Math.max(0, Math.floor((from - cluster * cs) / sub));
    const b = Math.min(SUBCLUSTERS, Math.ceil((to - cluster * cs) / sub));
    return b - a === SUBCLUSTERS ? 0xffffffff : ((2 ** (b - a) - 1) * 2 ** a) >>> 0;
  }

  private get external(): boolean {
    return this.spec.dataFile != null;
  }

  /** Makes `l1` the table whose entries are collected; takes its cluster where it has none. */
  private table(l1: number, out: WriteList): void {
    const s = this.array;
    if (s[this.l1 + l1] === 0) s[this.l1 + l1] = this.space.take(1) * this.clusterSize;
    if (l1 === this.openTable) return;
    this.flushTable(out);
    this.openTable = l1;
  }

  private flushTable(out: WriteList): void {
    if (this.openTable >= 0) this.segment.flush(this.array[this.l1 + this.openTable], out);
    this.openTable = -1;
  }

  /** Extended entries: marks the subclusters of [from, to) as stored, which begins at cluster `guest`. */
  private used(guest: number, from: number, to: number, before: number): void {
    if (!this.spec.extendedL2) return;
    const { array: s, scalars } = this;
    const last = Math.ceil(to / this.clusterSize) - 1;
    for (const cluster of last > guest ? [guest, last] : [guest]) {
      const bits = (this.subclusterBits(cluster, from, to) | (cluster === guest ? before : 0)) >>> 0;
      let zeros = 0;
      if (s[scalars + ZEROS_GUEST] === cluster + 1)
        zeros = s[scalars + LAST_ZEROS] = (s[scalars + LAST_ZEROS] & ~bits) >>> 0;
      this.segment.subclusters(cluster % this.l2Entries, zeros, bits);
      s[scalars + LAST_USED] = bits;
    }
  }

  /** Data reach byte `to` of host cluster `at`. */
  private reached(at: number, to: number): void {
    if (this.external) return;
    const cs = this.clusterSize;
    const unit = this.spec.extendedL2 ? cs / SUBCLUSTERS : cs;
    const end = at * cs + Math.ceil(to / unit) * unit;
    const s = this.array;
    if (end > s[this.scalars + DATA_END]) s[this.scalars + DATA_END] = end;
  }

  private extend(n: number, next: number): void {
    const s = this.array;
    s[this.scalars + OPEN_COUNT] += n;
    s[this.scalars + OPEN_NEXT] = next;
  }

  /** The open request is over: takes its clusters, and the refcount block that may follow them. */
  private closeRequest(): void {
    const s = this.array;
    const n = s[this.scalars + OPEN_COUNT];
    s[this.scalars + OPEN_COUNT] = 0;
    if (n > 0 && this.space.take(n) !== s[this.scalars + OPEN_AT])
      throw new RangeError("qcow2 packer: an open request was moved");
  }

  private header(): Uint8Array {
    const cs = this.clusterSize;
    return qemuHeader({
      version: this.spec.version,
      clusterBits: this.bits,
      size: Math.ceil(this.guestSize / 512) * 512,
      l1Entries: this.l1Entries,
      l1Offset: this.l1Entries === 0 ? 0 : this.array[this.scalars + L1_AT] * cs,
      tableOffset: this.space.table * cs,
      tableClusters: this.space.tableClusters,
      refcountOrder: this.spec.refcountOrder,
      backingFile: this.spec.backingFile,
      backingFormat: this.spec.backingFormat,
      compressionType: this.spec.compressionType,
      extendedL2: this.spec.extendedL2,
      lazyRefcounts: this.spec.lazyRefcounts,
      dataFile: this.spec.dataFile,
      rawDataFile: this.spec.rawDataFile,
    });
  }

  settle(): number {
    if (this.array[this.scalars + READY] === 0) this.begin();
    this.closeRequest();
    const cs = this.clusterSize;
    const end = this.space.end * cs;
    const size = this.writtenEnd(end);
    return this.spec.wholeSectors ? Math.ceil(size / 512) * 512 : size;
  }

  /** The last byte that is written, plus one; `end`: of the last cluster taken. */
  private writtenEnd(end: number): number {
    const { array: s, clusterSize: cs } = this;
    // An L1 table at the very end is written without padding.
    const l1End = s[this.scalars + L1_AT] * cs + this.l1Entries * 8;
    if (end - l1End < cs && end >= l1End) return l1End;
    // A last data cluster is written as far as its subclusters are in use.
    const data = s[this.scalars + DATA_END];
    if (this.spec.extendedL2 && data > end - cs && data < end) return data;
    const packed = s[this.scalars + PACKED_END];
    return packed > end - cs && packed < end ? packed : end;
  }

  heads(out: WriteList): void {
    const { array: s, space } = this;
    const cs = this.clusterSize;
    out.meta(0, this.header());
    this.entries(this.l1, this.l1Entries, COPIED_HIGH, 1, s[this.scalars + L1_AT] * cs, out);
    this.entries(BLOCKS_AT, space.blocks, 0, cs, space.table * cs, out);
    space.stale((cluster, from, entries) =>
      this.entries(BLOCKS_AT + from, entries, 0, cs, cluster * cs, out),
    );
  }

  /** Writes `count` entries of the state, times `unit`, as table entries at `target`. */
  private entries(
    from: number,
    count: number,
    flags: number,
    unit: number,
    target: number,
    out: WriteList,
  ): void {
    const most = 8192;
    const bytes = new Uint8Array(Math.min(count, most) * 8);
    const view = new DataView(bytes.buffer);
    for (let done = 0; done < count; done += most) {
      const n = Math.min(most, count - done);
      for (let i = 0; i < n; i++) {
        const v = this.array[from + done + i] * unit;
        const high = Math.floor(v / 0x100000000);
        view.setUint32(i * 8, v === 0 ? 0 : high | flags);
        view.setUint32(i * 8 + 4, v - high * 0x100000000);
      }
      out.meta(target + done * 8, bytes.subarray(0, n * 8));
    }
  }

  refcountBlocks(): number {
    return this.space.blocks;
  }

  refcountBlockAt(i: number): number {
    return this.space.blockAt(i) * this.clusterSize;
  }

  renderRefcountBlock(i: number, into: Uint8Array): void {
    this.space.renderBlock(i, into);
    this.renderShares(i * this.space.perBlock, into);
  }

  /** Puts the counts of clusters that several compressed ones share into refcount block bytes. */
  private renderShares(first: number, into: Uint8Array): void {
    const width = 2 ** this.spec.refcountOrder;
    const end = Math.min(this.shares.length, first + this.space.perBlock);
    for (let c = first; c < end; c++) {
      let value = this.shares[c];
      if (value < 2) continue;
      const i = c - first;
      if (width < 8) {
        const shift = (i * width) & 7;
        const p = (i * width) >>> 3;
        into[p] = (into[p] & ~((2 ** width - 1) << shift)) | (value << shift);
        continue;
      }
      const step = width / 8;
      for (let p = (i + 1) * step - 1; p >= i * step; p--) {
        into[p] = value & 255;
        value >>>= 8;
      }
    }
  }

  l2At(guest: number): number {
    return this.array[this.l1 + Math.floor(guest / this.l2Entries)];
  }

  finish(out: WriteList): number {
    return finishAll(this, out);
  }
}
