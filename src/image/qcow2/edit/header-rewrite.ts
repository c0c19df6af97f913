import { putU32be, putU64be, u32be, u64be } from "../../../bytes/endian.ts";
import { IoError } from "../../../errors.ts";
import type { Qcow2Header } from "../header.ts";
import { parseHeader } from "../header.ts";
import {
  AUTOCLEAR,
  COMPATIBLE_LAZY_REFCOUNTS,
  COMPRESSION,
  EXTENSION,
  FEATURE_NAMES,
  FEATURE_ROW,
  H,
  INCOMPATIBLE,
  MAGIC,
  V2_HEADER_LENGTH,
  V3_HEADER_LENGTH,
} from "../layout.ts";
import type { HeaderChanges } from "./types.ts";

/** Autoclear bits that are known here; a writer clears all others. */
const KNOWN_AUTOCLEAR = (1 << AUTOCLEAR.bitmaps) | (1 << AUTOCLEAR.rawDataFile);

/** Where the tables are. Offsets in bytes. */
export interface TablePlaces {
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly tableOffset: number;
  readonly tableClusters: number;
  readonly snapshots: number;
  readonly snapshotsOffset: number;
}

interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

/**
 * A header that is changed field by field: whatever is not known here (header fields, extensions, compatible feature bits)
 * stays as it is. Extensions come out in the order qemu writes them: backing format, data file, encryption, feature names,
 * bitmaps, the unknown ones in their order, end, backing file name. Source: qemu-img 7.2's own headers.
 */
export class HeaderState {
  /** The fixed fields, `header_length` bytes. */
  private fields: Uint8Array;
  private extensions: Extension[];
  private backingName: Uint8Array | null;

  /** `bytes`: the start of the image, as `parseHeader` wants it and has accepted. */
  constructor(bytes: Uint8Array, header: Qcow2Header) {
    this.fields = bytes.slice(0, header.headerLength);
    this.extensions = [];
    const nameAt = u64be(bytes, H.backingOffset);
    this.backingName = nameAt === 0 ? null : bytes.slice(nameAt, nameAt + u32be(bytes, H.backingLength));
    const end = Math.min(header.clusterSize, bytes.length, nameAt === 0 ? Number.POSITIVE_INFINITY : nameAt);
    for (let at = header.headerLength; at + 8 <= end; ) {
      const type = u32be(bytes, at);
      const length = u32be(bytes, at + 4);
      if (type === EXTENSION.end) break;
      this.extensions.push({ type, data: bytes.slice(at + 8, at + 8 + length) });
      at += 8 + Math.ceil(length / 8) * 8;
    }
  }

  private get version(): number {
    return u32be(this.fields, H.version);
  }

  /** True where a bit of the 64-bit field at `field` is set. */
  private bit(field: number, bit: number, on: boolean): void {
    const mask = 1 << bit;
    const old = u32be(this.fields, field + 4);
    putU32be(this.fields, field + 4, on ? old | mask : old & ~mask);
  }

  private replace(type: number, data: Uint8Array | null): void {
    const i = this.extensions.findIndex((e) => e.type === type);
    if (i >= 0) this.extensions.splice(i, 1);
    if (data !== null) this.extensions.push({ type, data });
  }

  /** Clears the autoclear bits that are not known here; true where there were any. */
  clearUnknownAutoclear(): boolean {
    if (this.version < 3) return false;
    const high = u32be(this.fields, H.autoclear);
    const low = u32be(this.fields, H.autoclear + 4);
    if (high === 0 && (low & ~KNOWN_AUTOCLEAR) === 0) return false;
    putU32be(this.fields, H.autoclear, 0);
    putU32be(this.fields, H.autoclear + 4, low & KNOWN_AUTOCLEAR);
    return true;
  }

  setTables(t: TablePlaces): void {
    const f = this.fields;
    putU64be(f, H.l1Offset, t.l1Offset);
    putU32be(f, H.l1Entries, t.l1Entries);
    putU64be(f, H.tableOffset, t.tableOffset);
    putU32be(f, H.tableClusters, t.tableClusters);
    putU32be(f, H.snapshots, t.snapshots);
    putU64be(f, H.snapshotsOffset, t.snapshotsOffset);
  }

  apply(c: HeaderChanges): void {
    const text = new TextEncoder();
    if (c.version !== undefined) this.setVersion(c.version);
    const f = this.fields;
    const v3 = this.version >= 3;
    if (c.size !== undefined) putU64be(f, H.size, c.size);
    if (c.refcountOrder !== undefined && v3) putU32be(f, H.refcountOrder, c.refcountOrder);
    if (c.backingFile !== undefined) {
      this.backingName = c.backingFile === null ? null : text.encode(c.backingFile);
      if (c.backingFile === null) this.replace(EXTENSION.backingFormat, null);
    }
    if (c.backingFormat !== undefined)
      this.replace(EXTENSION.backingFormat, c.backingFormat === null ? null : text.encode(c.backingFormat));
    if (c.dataFile !== undefined)
      this.replace(EXTENSION.dataFile, c.dataFile === null ? null : text.encode(c.dataFile));
    if (c.bitmaps !== undefined) this.setBitmaps(c.bitmaps);
    if (!v3) return;
    if (c.rawDataFile !== undefined) this.bit(H.autoclear, AUTOCLEAR.rawDataFile, c.rawDataFile);
    if (c.bitmapsValid !== undefined) this.bit(H.autoclear, AUTOCLEAR.bitmaps, c.bitmapsValid);
    if (c.lazyRefcounts !== undefined) this.bit(H.compatible, COMPATIBLE_LAZY_REFCOUNTS, c.lazyRefcounts);
    if (c.dirty !== undefined) this.bit(H.incompatible, INCOMPATIBLE.dirty, c.dirty);
    if (c.corrupt !== undefined) this.bit(H.incompatible, INCOMPATIBLE.corrupt, c.corrupt);
    if (c.compressionType !== undefined) {
      this.widen();
      this.fields[H.compressionType] = c.compressionType;
      this.bit(H.incompatible, INCOMPATIBLE.compressionType, c.compressionType !== COMPRESSION.zlib);
    }
  }

  private setBitmaps(b: NonNullable<HeaderChanges["bitmaps"]> | null): void {
    if (b === null) {
      this.replace(EXTENSION.bitmaps, null);
      if (this.version >= 3) this.bit(H.autoclear, AUTOCLEAR.bitmaps, false);
      return;
    }
    const data = new Uint8Array(24);
    putU32be(data, 0, b.count);
    putU64be(data, 8, b.size);
    putU64be(data, 16, b.offset);
    this.replace(EXTENSION.bitmaps, data);
  }

  /** Version 3 headers as qemu writes them have 112 bytes at least. */
  private widen(): void {
    if (this.version < 3 || this.fields.length >= V3_HEADER_LENGTH) return;
    const wider = new Uint8Array(V3_HEADER_LENGTH);
    wider.set(this.fields);
    this.fields = wider;
  }

  private setVersion(version: number): void {
    if (version === this.version) return;
    const fields = new Uint8Array(version >= 3 ? V3_HEADER_LENGTH : V2_HEADER_LENGTH);
    fields.set(this.fields.subarray(0, V2_HEADER_LENGTH));
    putU32be(fields, 0, MAGIC);
    putU32be(fields, H.version, version);
    if (version >= 3) {
      putU32be(fields, H.refcountOrder, 4);
      putU32be(fields, H.headerLength, V3_HEADER_LENGTH);
    } else this.replace(EXTENSION.features, null);
    this.fields = fields;
  }

  /** The header as it goes to disk. Throws IoError "ENOSPC" where it does not fit into its cluster. */
  render(clusterSize: number): Uint8Array {
    this.widen();
    const v3 = this.version >= 3;
    const f = this.fields.slice();
    if (v3) putU32be(f, H.headerLength, f.length);
    const parts: Uint8Array[] = [f];
    let length = f.length;
    const add = (e: Extension) => {
      const b = new Uint8Array(8 + Math.ceil(e.data.length / 8) * 8);
      putU32be(b, 0, e.type);
      putU32be(b, 4, e.data.length);
      b.set(e.data, 8);
      parts.push(b);
      length += b.length;
    };
    const of = (type: number) => this.extensions.find((e) => e.type === type);
    const known = [EXTENSION.backingFormat, EXTENSION.dataFile, EXTENSION.crypto] as number[];
    for (const type of known) {
      const e = of(type);
      if (e !== undefined) add(e);
    }
    const old = of(EXTENSION.features);
    if (v3 && clusterSize > 4096) add({ type: EXTENSION.features, data: featureNames(old?.data) });
    known.push(EXTENSION.features, EXTENSION.bitmaps);
    const bitmaps = of(EXTENSION.bitmaps);
    if (bitmaps !== undefined) add(bitmaps);
    for (const e of this.extensions) if (!known.includes(e.type)) add(e);
    add({ type: EXTENSION.end, data: new Uint8Array(0) });
    putU64be(f, H.backingOffset, this.backingName === null ? 0 : length);
    putU32be(f, H.backingLength, this.backingName === null ? 0 : this.backingName.length);
    if (this.backingName !== null) {
      parts.push(this.backingName);
      length += this.backingName.length;
    }
    if (length > clusterSize)
      throw new IoError(
        "ENOSPC",
        `qcow2 header: ${length} bytes do not fit into a cluster of ${clusterSize}`,
      );
    const out = new Uint8Array(length);
    let at = 0;
    for (const p of parts) {
      out.set(p, at);
      at += p.length;
    }
    return out;
  }

  /** The header as it would be read back. */
  parsed(clusterSize: number): Qcow2Header {
    const b = new Uint8Array(clusterSize);
    b.set(this.render(clusterSize));
    return parseHeader(b);
  }
}

/** The rows qemu writes, then those of `old` that name other bits. */
function featureNames(old: Uint8Array | undefined): Uint8Array {
  const rows: Uint8Array[] = FEATURE_NAMES.map(([kind, bit, name]) => {
    const row = new Uint8Array(FEATURE_ROW);
    row[0] = kind;
    row[1] = bit;
    row.set(new TextEncoder().encode(name), 2);
    return row;
  });
  if (old !== undefined)
    for (let p = 0; p + FEATURE_ROW <= old.length; p += FEATURE_ROW)
      if (!rows.some((r) => r[0] === old[p] && r[1] === old[p + 1])) rows.push(old.slice(p, p + FEATURE_ROW));
  const out = new Uint8Array(rows.length * FEATURE_ROW);
  rows.forEach((r, i) => {
    out.set(r, i * FEATURE_ROW);
  });
  return out;
}
