import { u32be, u64be } from "../../../bytes/endian.ts";
import { FormatError } from "../../../errors.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { HEADER_BYTES, parseHeader, type Qcow2Header } from "../header.ts";
import { H } from "../layout.ts";
import { hex64 } from "./result.ts";

/** Reads past this offset fail in qemu. */
export const LARGEST_FILE = 2 ** 63 - 2 ** 30;

/** Entries of an L1 table read at a time. */
export const L1_PIECE = 8192;

/** Flags of an image's L2 entries for the kernels: see assembly/qcow2-check.ts. */
const EXTENDED = 1;
const EXTERNAL = 2;

/** The file of an image as far as a check reads it: synchronously. */
export type CheckedFile = Pick<DurableFile, "label" | "size" | "read">;

/** An image under check: its header, its file. Offsets and sizes in bytes. */
export class CheckedImage {
  readonly file: CheckedFile;
  header: Qcow2Header;
  readonly clusterSize: number;
  /** Bytes of an L2 entry. */
  readonly entryBytes: number;
  readonly entriesPerTable: number;
  /** Size of the file in whole sectors, as qemu counts. */
  fileSize: number;
  /** As the header has them: not checked. */
  snapshots: number;
  readonly snapshotsOffset: { readonly high: number; readonly low: number };

  constructor(file: CheckedFile) {
    this.file = file;
    const b = headerBytes(file);
    this.header = parseHeader(b, { check: true });
    this.clusterSize = this.header.clusterSize;
    this.entryBytes = this.header.extendedL2 ? 16 : 8;
    this.entriesPerTable = this.clusterSize / this.entryBytes;
    this.fileSize = 0;
    this.snapshots = u32be(b, H.snapshots);
    this.snapshotsOffset = { high: u32be(b, H.snapshotsOffset), low: u32be(b, H.snapshotsOffset + 4) };
    this.measure();
  }

  /** Reads the header again, after it was changed. */
  reload(): void {
    this.header = parseHeader(headerBytes(this.file), { check: true });
  }

  /** Looks at the file's size again. */
  measure(): void {
    this.fileSize = Math.ceil(this.file.size() / 512) * 512;
  }

  /** What the kernels have to know of the L2 entries. */
  get entryFlags(): number {
    const { extendedL2, external } = this.header;
    return (extendedL2 ? EXTENDED : 0) | (external ? EXTERNAL : 0);
  }

  /** Clusters that the file covers, the last one maybe in part. */
  get fileClusters(): number {
    return Math.ceil(this.fileSize / this.clusterSize);
  }

  /** Fills `into` from byte `at`; zeros past the end of the file, as qemu reads. */
  read(into: Uint8Array, at: number): void {
    const n = at < this.fileSize ? this.file.read(into, at) : 0;
    into.fill(0, n);
  }
}

function headerBytes(file: CheckedFile): Uint8Array {
  const head = new Uint8Array(Math.min(HEADER_BYTES, file.size()));
  return head.subarray(0, file.read(head, 0));
}

/** The refcount table and blocks as they are stored. */
export class StoredRefcounts {
  private readonly image: CheckedImage;
  /** Offsets of the blocks, with their reserved bits: pairs of words, high first. */
  readonly table: Uint32Array;
  /** Refcounts in a block. */
  readonly perBlock: number;
  private readonly block: Uint8Array;
  private loaded = -1;

  constructor(image: CheckedImage) {
    this.image = image;
    const { header } = image;
    this.perBlock = (image.clusterSize * 8) / 2 ** header.refcountOrder;
    this.block = new Uint8Array(image.clusterSize);
    const bytes = new Uint8Array(header.tableClusters * image.clusterSize);
    image.read(bytes, header.tableOffset);
    this.table = new Uint32Array(bytes.length >>> 2);
    for (let i = 0; i < this.table.length; i++) this.table[i] = u32be(bytes, i * 4);
  }

  /** Entries of the table. */
  get entries(): number {
    return this.table.length >>> 1;
  }

  /** Byte offset of block `i`, reserved bits taken out; 0 where there is none. */
  blockOffset(i: number): number {
    if (i >= this.entries) return 0;
    return this.table[2 * i] * 0x100000000 + ((this.table[2 * i + 1] & 0xfffffe00) >>> 0);
  }

  /** True where block `i` cannot be read: its offset is not that of a cluster, or beyond what a file can have. */
  unreadable(i: number): boolean {
    return this.misaligned(i) || this.blockOffset(i) > LARGEST_FILE;
  }

  /** True where the offset of block `i` is not that of a cluster: exact also beyond 2^53. */
  misaligned(i: number): boolean {
    return i < this.entries && (this.table[2 * i + 1] & 0xfffffe00 & (this.image.clusterSize - 1)) !== 0;
  }

  /** The offset of block `i` in hexadecimal. */
  offsetText(i: number): string {
    return hex64(this.table[2 * i], (this.table[2 * i + 1] & 0xfffffe00) >>> 0);
  }

  /** Reads block `i` into `into`; zeros where there is none. */
  readBlock(i: number, into: Uint8Array): void {
    const offset = this.blockOffset(i);
    if (offset === 0) into.fill(0);
    else this.image.read(into, offset);
  }

  /** Sets the offset of block `i`. */
  put(i: number, offset: number): void {
    this.table[2 * i] = Math.floor(offset / 0x100000000);
    this.table[2 * i + 1] = offset % 0x100000000;
    this.forget();
  }

  /** Forgets what is kept of the blocks, after one was changed. */
  forget(): void {
    this.loaded = -1;
  }

  /** Refcount of a cluster as it is stored; null where its block cannot be read. */
  get(cluster: number): number | null {
    if (!this.load(cluster)) return null;
    if (this.loaded < 0) return 0;
    return refcountAt(this.block, cluster % this.perBlock, this.image.header.refcountOrder);
  }

  /** The same in decimal. */
  text(cluster: number): string {
    if (!this.load(cluster) || this.loaded < 0) return "0";
    return refcountText(this.block, cluster % this.perBlock, this.image.header.refcountOrder);
  }

  /** Loads a cluster's block: `loaded` is -1 where there is none. False where it cannot be read. */
  private load(cluster: number): boolean {
    const i = Math.floor(cluster / this.perBlock);
    if (this.blockOffset(i) === 0) {
      this.loaded = -1;
      return true;
    }
    if (this.unreadable(i)) return false;
    if (this.loaded !== i) {
      this.readBlock(i, this.block);
      this.loaded = i;
    }
    return true;
  }
}

/** Refcount `i` of a block of refcounts of 2^order bits. */
export function refcountAt(block: Uint8Array, i: number, order: number): number {
  switch (order) {
    case 3:
      return block[i];
    case 4:
      return (block[2 * i] << 8) | block[2 * i + 1];
    case 5:
      return u32be(block, 4 * i);
    case 6:
      return u64be(block, 8 * i);
    default: {
      const bit = i << order;
      return (block[bit >>> 3] >>> (bit & 7)) & ((1 << (1 << order)) - 1);
    }
  }
}

/** The same in decimal, exact also where a number is not. */
export function refcountText(block: Uint8Array, i: number, order: number): string {
  const n = refcountAt(block, i, order);
  if (n <= Number.MAX_SAFE_INTEGER) return String(n);
  return ((BigInt(u32be(block, 8 * i)) << 32n) | BigInt(u32be(block, 8 * i + 4))).toString();
}

/** Highest value a refcount of 2^order bits can have. */
export function refcountMax(order: number): number {
  return 2 ** (2 ** order) - 1;
}

/** Bytes of L1, L2 and bitmap tables that a check reads at most: beyond, tables must overlap. */
const MOST_TABLE_BYTES = 64 * 1024 ** 3;

/** Bounds what a check reads of tables that lead into each other. */
export class TableBudget {
  private spent = 0;

  /** Notes `bytes` of a table at byte `offset`. Throws FormatError where the check would not end. */
  spend(bytes: number, structure: string, offset: number): void {
    this.spent += bytes;
    if (this.spent > MOST_TABLE_BYTES)
      throw new FormatError(structure, offset, "tables overlap so often that the check would not end");
  }
}
