// Changes to NTFS volumes byte by byte, for what no tool makes. Knows only what it needs: the first extent of $MFT.
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";

/** An attribute record: where it starts in its FILE record and how long it is. */
export interface FoundAttribute {
  readonly at: number;
  readonly length: number;
}

/** An NTFS volume in a file, open for reading and writing. `close` it. */
export class NtfsPatch {
  readonly fd: number;
  readonly sectorSize: number;
  readonly clusterSize: number;
  readonly clusters: number;
  readonly recordSize: number;
  readonly mft: number;
  readonly mirror: number;

  constructor(path: string) {
    this.fd = openSync(path, "r+");
    const boot = this.read(0, 512);
    this.sectorSize = boot.readUInt16LE(11);
    const code = boot[13];
    this.clusterSize = this.sectorSize * (code > 128 ? 2 ** (256 - code) : code);
    this.clusters = Math.floor((Number(boot.readBigInt64LE(40)) * this.sectorSize) / this.clusterSize);
    const record = boot.readInt8(64);
    this.recordSize = record < 0 ? 2 ** -record : record * this.clusterSize;
    this.mft = Number(boot.readBigInt64LE(48)) * this.clusterSize;
    this.mirror = Number(boot.readBigInt64LE(56)) * this.clusterSize;
  }

  close(): void {
    closeSync(this.fd);
  }

  get fileSize(): number {
    return fstatSync(this.fd).size;
  }

  read(at: number, length: number): Buffer {
    const b = Buffer.alloc(length);
    readSync(this.fd, b, 0, length, at);
    return b;
  }

  write(at: number, bytes: Uint8Array): void {
    writeSync(this.fd, bytes, 0, bytes.length, at);
  }

  /** Changes the boot sector and its copy. */
  boot(change: (b: Buffer) => void): void {
    const b = this.read(0, 512);
    change(b);
    this.write(0, b);
    const copy = Number(b.readBigInt64LE(40)) * this.sectorSize;
    if (copy + 512 <= this.fileSize) this.write(copy, b);
  }

  /** A record of the first extent of $MFT without its fixups. */
  record(number: number): Buffer {
    const b = this.read(this.mft + number * this.recordSize, this.recordSize);
    const from = b.readUInt16LE(4);
    for (let i = 1; i < b.readUInt16LE(6); i++) b.writeUInt16LE(b.readUInt16LE(from + 2 * i), 512 * i - 2);
    return b;
  }

  /** Changes a record, in $MFTMirr too where it is there. */
  change(number: number, change: (b: Buffer) => void): void {
    const b = this.record(number);
    change(b);
    const from = b.readUInt16LE(4);
    for (let i = 1; i < b.readUInt16LE(6); i++) {
      b.writeUInt16LE(b.readUInt16LE(512 * i - 2), from + 2 * i);
      b.writeUInt16LE(b.readUInt16LE(from), 512 * i - 2);
    }
    this.write(this.mft + number * this.recordSize, b);
    const mirrored = Math.max(4, Math.floor(this.clusterSize / this.recordSize));
    if (number < mirrored) this.write(this.mirror + number * this.recordSize, b);
  }

  /** Places of the bytes of a non-resident, unnamed attribute, cluster by cluster. */
  clustersOf(number: number, type: number): number[] {
    const b = this.record(number);
    const a = find(b, type);
    const places: number[] = [];
    let p = a.at + b.readUInt16LE(a.at + 32);
    let lcn = 0;
    while (b[p] !== 0) {
      const n = b[p] & 15;
      const d = b[p] >> 4;
      const length = Number(b.readUIntLE(p + 1, n));
      if (d > 0) lcn += b.readIntLE(p + 1 + n, d);
      for (let i = 0; i < length; i++) places.push(d === 0 ? -1 : lcn + i);
      p += 1 + n + d;
    }
    return places;
  }

  /** Marks clusters in $Bitmap. */
  mark(from: number, count: number): void {
    const places = this.clustersOf(6, 0x80);
    for (let c = from; c < from + count; c++) {
      const byte = Math.floor(c / 8);
      const at = places[Math.floor(byte / this.clusterSize)] * this.clusterSize + (byte % this.clusterSize);
      const b = this.read(at, 1);
      b[0] |= 1 << (c % 8);
      this.write(at, b);
    }
  }

  /** First cluster of `count` that $Bitmap says are free, from `from` on. */
  free(count: number, from = 0): number {
    const places = this.clustersOf(6, 0x80);
    let run = 0;
    for (let c = from; c < this.clusters; c++) {
      const byte = Math.floor(c / 8);
      const at = places[Math.floor(byte / this.clusterSize)] * this.clusterSize + (byte % this.clusterSize);
      run = (this.read(at, 1)[0] >> (c % 8)) & 1 ? 0 : run + 1;
      if (run === count) return c - count + 1;
    }
    throw new Error(`no ${count} free clusters in a row`);
  }

  /** Makes clusters bad: $BadClus:$Bad maps them, $Bitmap marks them. Runs ascending. */
  bad(runs: readonly (readonly [number, number])[]): void {
    const pairs: number[] = [];
    const number = (v: number): number[] => {
      const bytes = [];
      for (;;) {
        bytes.push(v & 255);
        v = Math.floor(v / 256);
        if (v === 0 && bytes[bytes.length - 1] < 128) return bytes;
      }
    };
    let at = 0;
    let lcn = 0;
    for (const [from, count] of runs) {
      if (from > at) {
        const hole = number(from - at);
        pairs.push(hole.length, ...hole);
      }
      const length = number(count);
      const delta = number(from - lcn);
      pairs.push(length.length | (delta.length << 4), ...length, ...delta);
      lcn = from;
      at = from + count;
      this.mark(from, count);
    }
    if (at < this.clusters) {
      const hole = number(this.clusters - at);
      pairs.push(hole.length, ...hole);
    }
    pairs.push(0);
    this.change(8, (b) => {
      const a = find(b, 0x80, 1);
      const from = a.at + b.readUInt16LE(a.at + 32);
      const room = a.at + a.length - from;
      const length = Math.ceil(pairs.length / 8) * 8;
      const grow = Math.max(0, length - room);
      const used = b.readUInt32LE(24);
      b.copyWithin(a.at + a.length + grow, a.at + a.length, used);
      b.fill(0, from, a.at + a.length + grow);
      b.set(pairs, from);
      b.writeUInt32LE(a.length + grow, a.at + 4);
      b.writeUInt32LE(used + grow, 24);
    });
  }
}

/** The `nth` attribute of a type in a record. */
export function find(b: Buffer, type: number, nth = 0): FoundAttribute {
  for (let at = b.readUInt16LE(20); ; ) {
    const t = b.readUInt32LE(at);
    if (t === 0xffffffff) throw new Error(`no attribute 0x${type.toString(16)}`);
    const length = b.readUInt32LE(at + 4);
    if (t === type && nth-- === 0) return { at, length };
    at += length;
  }
}

/** Opens a volume, changes it and closes it. */
export function patchNtfs(path: string, job: (p: NtfsPatch) => void): void {
  const p = new NtfsPatch(path);
  try {
    job(p);
  } finally {
    p.close();
  }
}
