// An NTFS volume in memory that tests damage, structure by structure. Knows the format by itself: offsets are written
// out here and not taken from what is being tested.

function put(b: Buffer, at: number, size: number, value: number | bigint): void {
  let v = BigInt.asUintN(size * 8, BigInt(value));
  for (let i = 0; i < size; i++) {
    b[at + i] = Number(v & 0xffn);
    v >>= 8n;
  }
}

/** A FILE record at hand, its fixups removed; offsets are bytes into it. */
export class DamagedRecord {
  readonly number: number;
  readonly bytes: Buffer;

  constructor(number: number, bytes: Buffer) {
    this.number = number;
    this.bytes = bytes;
  }

  /** Writes a little-endian field of `size` bytes. */
  put(at: number, size: number, value: number | bigint): this {
    put(this.bytes, at, size, value);
    return this;
  }

  /** Offset of the nth attribute of a type, or -1. */
  find(type: number, nth = 0): number {
    let at = this.bytes.readUInt16LE(20);
    while (at + 8 <= this.bytes.length) {
      const found = this.bytes.readUInt32LE(at);
      if (found === 0xffffffff) return -1;
      if (found === type && nth-- === 0) return at;
      at += Math.max(this.bytes.readUInt32LE(at + 4), 8);
    }
    return -1;
  }

  attribute(type: number, nth = 0): number {
    const at = this.find(type, nth);
    if (at < 0) throw new Error(`record ${this.number} has no attribute 0x${type.toString(16)}`);
    return at;
  }

  /** Offset of the value of a resident attribute. */
  value(type: number, nth = 0): number {
    const at = this.attribute(type, nth);
    return at + this.bytes.readUInt16LE(at + 20);
  }

  /** Offset of the mapping pairs of a non-resident attribute. */
  pairs(type: number, nth = 0): number {
    const at = this.attribute(type, nth);
    return at + this.bytes.readUInt16LE(at + 32);
  }
}

/** A volume's bytes, to be damaged. */
export class DamagedVolume {
  readonly bytes: Buffer;
  readonly clusterSize: number;
  readonly recordSize: number;
  readonly clusters: number;
  readonly mft: number;
  readonly mirror: number;
  /** Byte runs of $MFT: (where, length). */
  readonly mftRuns: readonly (readonly [number, number])[];

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    const sector = bytes.readUInt16LE(11);
    const spc = bytes[13];
    this.clusterSize = sector * (spc > 128 ? 2 ** (256 - spc) : spc);
    const code = bytes.readInt8(64);
    this.recordSize = code < 0 ? 2 ** -code : code * this.clusterSize;
    this.clusters = Math.floor((Number(bytes.readBigInt64LE(40)) * sector) / this.clusterSize);
    this.mft = Number(bytes.readBigInt64LE(48)) * this.clusterSize;
    this.mirror = Number(bytes.readBigInt64LE(56)) * this.clusterSize;
    this.mftRuns = [[this.mft, this.recordSize * 16]];
    const r = this.record(0);
    this.mftRuns = this.runs(r.bytes, r.pairs(0x80)).map(([lcn, n]) => [
      lcn * this.clusterSize,
      n * this.clusterSize,
    ]);
  }

  put(at: number, size: number, value: number | bigint): this {
    put(this.bytes, at, size, value);
    return this;
  }

  /** Decodes mapping pairs: (LCN, clusters); holes have LCN -1. */
  runs(b: Buffer, at: number): [number, number][] {
    const runs: [number, number][] = [];
    let lcn = 0;
    while (b[at] !== 0) {
      const l = b[at] & 15;
      const o = b[at] >> 4;
      if (o > 0) lcn += b.readIntLE(at + 1 + l, o);
      runs.push([o > 0 ? lcn : -1, b.readIntLE(at + 1, l)]);
      at += 1 + l + o;
    }
    return runs;
  }

  /** Where record n lies, bytes. */
  place(n: number): number {
    let at = n * this.recordSize;
    for (const [from, length] of this.mftRuns) {
      if (at < length) return from + at;
      at -= length;
    }
    throw new Error(`record ${n} is not in $MFT`);
  }

  /** A copy of record n without its fixups; put it back by `store`. */
  record(n: number): DamagedRecord {
    return new DamagedRecord(n, this.unfix(this.place(n), this.recordSize));
  }

  /** Bytes of a multi-sector record at byte `at` without its fixups. */
  unfix(at: number, size: number): Buffer {
    const b = Buffer.from(this.bytes.subarray(at, at + size));
    const from = b.readUInt16LE(4);
    for (let i = 1; i <= size / 512; i++) b.copy(b, i * 512 - 2, from + i * 2, from + i * 2 + 2);
    return b;
  }

  /** Writes a multi-sector record with its fixups; `array` is where its update sequence array was. */
  fix(b: Buffer, at: number, array: number): void {
    const out = Buffer.from(b);
    for (let i = 1; i <= out.length / 512; i++) {
      out.copy(out, array + i * 2, i * 512 - 2, i * 512);
      out.copy(out, i * 512 - 2, array, array + 2);
    }
    out.copy(this.bytes, at);
  }

  /** Puts a record back, in $MFTMirr too where it has a copy there. */
  store(r: DamagedRecord, array = 48): void {
    this.fix(r.bytes, this.place(r.number), array);
    if (r.number < Math.max(4, this.clusterSize / this.recordSize))
      this.fix(r.bytes, this.mirror + r.number * this.recordSize, array);
  }

  /** Changes record n. */
  edit(n: number, change: (r: DamagedRecord) => unknown): void {
    const r = this.record(n);
    change(r);
    this.store(r);
  }

  /** The first record in use from number 24 on that `test` likes. */
  find(test: (r: DamagedRecord) => boolean): DamagedRecord {
    const total = this.mftRuns.reduce((n, [, length]) => n + length, 0) / this.recordSize;
    for (let n = 24; n < total; n++) {
      const at = this.place(n);
      if (this.bytes.toString("latin1", at, at + 4) !== "FILE") continue;
      const r = this.record(n);
      if ((r.bytes[22] & 1) !== 0 && test(r)) return r;
    }
    throw new Error("no such record");
  }

  /** The base record of a file, found by the parts that carry its name. */
  named(name: string): DamagedRecord {
    const r = this.find((r) => {
      if (r.find(0x30) < 0) return false;
      const at = r.value(0x30);
      return r.bytes.toString("utf16le", at + 66, at + 66 + r.bytes[at + 64] * 2) === name;
    });
    const base = r.bytes.readUIntLE(32, 6);
    return base === 0 ? r : this.record(base);
  }
}
