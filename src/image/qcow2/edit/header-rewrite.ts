import { putU32be, putU64be, u32be, u64be } from "../../../bytes/endian.ts";
import { IoError } from "../../../errors.ts";
import { parseHeader, type Qcow2Header } from "../header.ts";
import { featureNames, type HeaderExtension, hasFeatureNames, isKnown, joinHeader } from "../header-bytes.ts";
import {
  AUTOCLEAR,
  COMPATIBLE_LAZY_REFCOUNTS,
  COMPRESSION,
  EXTENSION,
  H,
  INCOMPATIBLE,
  MAGIC,
  V2_HEADER_LENGTH,
  V3_HEADER_LENGTH,
} from "../layout.ts";
import type { HeaderChanges } from "./types.ts";

/** Autoclear bits that are known here; a writer clears all others. */
const KNOWN_AUTOCLEAR = (1 << AUTOCLEAR.bitmaps) | (1 << AUTOCLEAR.rawDataFile);

/** A header that does not fit into its cluster. */
export class HeaderFull extends IoError {
  constructor(length: number, clusterSize: number) {
    super("ENOSPC", `qcow2 header: ${length} bytes do not fit into a cluster of ${clusterSize}`);
  }
}

/** Where the tables are. Offsets in bytes. */
export interface TablePlaces {
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly tableOffset: number;
  readonly tableClusters: number;
  readonly snapshots: number;
  readonly snapshotsOffset: number;
}

/**
 * A header that is changed field by field: whatever is not known here (header fields, extensions, compatible
 * feature bits) stays as it is.
 */
export class HeaderState {
  /** The fixed fields, `header_length` bytes. */
  private fields: Uint8Array;
  private extensions: HeaderExtension[];
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
      const data = bytes.slice(at + 8, at + 8 + length);
      // Of those that are known, the last one counts.
      if (isKnown(type)) this.replace(type, data);
      else this.extensions.push({ type, data });
      at += 8 + Math.ceil(length / 8) * 8;
    }
  }

  private get version(): number {
    return u32be(this.fields, H.version);
  }

  /** Sets or clears bit `bit` (below 32) of the 64-bit field at `field`. */
  private setBit(field: number, bit: number, on: boolean): void {
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
    if (c.rawDataFile !== undefined) this.setBit(H.autoclear, AUTOCLEAR.rawDataFile, c.rawDataFile);
    if (c.bitmapsValid !== undefined) this.setBit(H.autoclear, AUTOCLEAR.bitmaps, c.bitmapsValid);
    if (c.lazyRefcounts !== undefined) this.setBit(H.compatible, COMPATIBLE_LAZY_REFCOUNTS, c.lazyRefcounts);
    if (c.dirty !== undefined) this.setBit(H.incompatible, INCOMPATIBLE.dirty, c.dirty);
    if (c.corrupt !== undefined) this.setBit(H.incompatible, INCOMPATIBLE.corrupt, c.corrupt);
    if (c.compressionType !== undefined) {
      this.widen();
      this.fields[H.compressionType] = c.compressionType;
      this.setBit(H.incompatible, INCOMPATIBLE.compressionType, c.compressionType !== COMPRESSION.zlib);
    }
  }

  private setBitmaps(b: NonNullable<HeaderChanges["bitmaps"]> | null): void {
    if (b === null) {
      this.replace(EXTENSION.bitmaps, null);
      if (this.version >= 3) this.setBit(H.autoclear, AUTOCLEAR.bitmaps, false);
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

  /** The header as it goes to disk. Throws HeaderFull where it does not fit into its cluster. */
  render(clusterSize: number): Uint8Array {
    this.widen();
    const v3 = this.version >= 3;
    const fields = this.fields.slice();
    if (v3) putU32be(fields, H.headerLength, fields.length);
    const old = this.extensions.find((e) => e.type === EXTENSION.features);
    const extensions = this.extensions.filter((e) => e.type !== EXTENSION.features);
    if (hasFeatureNames(this.version, clusterSize)) extensions.push(featureNames(old?.data));
    const out = joinHeader(fields, extensions, this.backingName);
    if (out.length > clusterSize) throw new HeaderFull(out.length, clusterSize);
    return out;
  }

  /** The header as it would be read back. */
  parsed(clusterSize: number): Qcow2Header {
    const b = new Uint8Array(clusterSize);
    b.set(this.render(clusterSize));
    return parseHeader(b);
  }
}
