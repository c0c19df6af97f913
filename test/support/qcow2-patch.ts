// A QCOW2 image in memory whose metadata can be damaged by hand.

/** Fields of the header, at most 8 bytes each. */
export const FIELD = {
  version: 4,
  size: 24,
  l1Entries: 36,
  l1Offset: 40,
  tableOffset: 48,
  tableClusters: 56,
  snapshots: 60,
  snapshotsOffset: 64,
  incompatible: 72,
  compatible: 80,
  autoclear: 88,
  refcountOrder: 96,
} as const;

export const COPIED = 1n << 63n;
export const COMPRESSED = 1n << 62n;
const OFFSET = 0x00fffffffffffe00n;

export class PatchedImage {
  bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes);
  }

  u32(at: number): number {
    return this.bytes.readUInt32BE(at);
  }
  put32(at: number, value: number): void {
    this.bytes.writeUInt32BE(value >>> 0, at);
  }
  u64(at: number): bigint {
    return this.bytes.readBigUInt64BE(at);
  }
  put64(at: number, value: bigint | number): void {
    this.bytes.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value)), at);
  }
  /** Ors bits into the 64-bit field at `at`. */
  or64(at: number, bits: bigint): void {
    this.put64(at, this.u64(at) | bits);
  }

  get clusterSize(): number {
    return 2 ** this.u32(20);
  }
  get version(): number {
    return this.u32(FIELD.version);
  }
  get order(): number {
    return this.version >= 3 ? this.u32(FIELD.refcountOrder) : 4;
  }
  get extended(): boolean {
    return this.version >= 3 && (this.u64(FIELD.incompatible) & 16n) !== 0n;
  }

  /** Byte offset of L1 entry `i`. */
  l1(i: number): number {
    return Number(this.u64(FIELD.l1Offset)) + i * 8;
  }
  /** Byte offset of entry `j` of the L2 table of L1 entry `i`. */
  l2(i: number, j: number): number {
    return Number(this.u64(this.l1(i)) & OFFSET) + j * (this.extended ? 16 : 8);
  }
  /** Byte offset of the L2 entry of guest cluster `n`. */
  guest(n: number): number {
    const entries = this.clusterSize / (this.extended ? 16 : 8);
    return this.l2(Math.floor(n / entries), n % entries);
  }
  /** Byte offset of entry `i` of the refcount table. */
  reftable(i: number): number {
    return Number(this.u64(FIELD.tableOffset)) + i * 8;
  }
  /** Sets the stored refcount of a cluster. */
  setRefcount(cluster: number, value: bigint | number): void {
    const { order } = this;
    const perBlock = (this.clusterSize * 8) >>> order;
    const block = Number(this.u64(this.reftable(Math.floor(cluster / perBlock))) & OFFSET);
    const i = cluster % perBlock;
    if (order === 6) this.put64(block + i * 8, value);
    else if (order === 5) this.put32(block + i * 4, Number(value));
    else if (order === 4) this.bytes.writeUInt16BE(Number(value), block + i * 2);
    else if (order === 3) this.bytes[block + i] = Number(value);
    else {
      const bit = i << order;
      const mask = ((1 << (1 << order)) - 1) << (bit & 7);
      const p = block + (bit >>> 3);
      this.bytes[p] = (this.bytes[p] & ~mask) | ((Number(value) << (bit & 7)) & mask);
    }
  }
  /** Cluster of an L1 or L2 entry's target. */
  cluster(at: number): number {
    return Number((this.u64(at) & OFFSET) / BigInt(this.clusterSize));
  }
  /** Makes the file `clusters` clusters longer. */
  grow(clusters: number): void {
    const cs = this.clusterSize;
    const size = Math.ceil(this.bytes.length / cs) * cs + clusters * cs;
    this.bytes = Buffer.concat([this.bytes, Buffer.alloc(size - this.bytes.length)]);
  }
  /** Byte offset of the data of header extension `type`, or -1. */
  extension(type: number): number {
    let at = this.version >= 3 ? this.u32(100) : 72;
    for (;;) {
      const t = this.u32(at);
      if (t === type) return at + 8;
      if (t === 0) return -1;
      at += 8 + Math.ceil(this.u32(at + 4) / 8) * 8;
    }
  }
}
