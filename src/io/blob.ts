import { DATA, MapRuns } from "../bytes/runs.ts";
import { IoError } from "../errors.ts";
import type { Source } from "./source.ts";

/** The part of FileReaderSync used here; it exists in web workers only. */
interface SyncReader {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}

/**
 * A source over a Blob or File. In a web worker reads are synchronous (FileReaderSync); elsewhere they are promises.
 * Each read costs about a millisecond whatever its size: put `cached` around it.
 */
export class BlobSource implements Source {
  readonly size: number;
  readonly label: string;
  readonly plain: NonNullable<Source["plain"]>;
  private readonly blob: Blob;
  private readonly reader: SyncReader | null;

  /** `label`: the file's name by default. */
  constructor(blob: Blob, label?: string) {
    this.blob = blob;
    this.size = blob.size;
    this.label = label ?? ("name" in blob && typeof blob.name === "string" ? blob.name : "blob");
    this.plain = { file: { path: this.label, fd: -1 }, base: 0 };
    const Reader = (globalThis as { FileReaderSync?: new () => SyncReader }).FileReaderSync;
    this.reader = Reader === undefined ? null : new Reader();
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const length = Math.min(into.length, this.size - at);
    if (length <= 0) return 0;
    const part = this.blob.slice(at, at + length);
    if (this.reader === null)
      return part.arrayBuffer().then(
        (bytes) => this.fill(into, bytes, at, length),
        (error: unknown) => this.fail(error, at),
      );
    let bytes: ArrayBuffer;
    try {
      bytes = this.reader.readAsArrayBuffer(part);
    } catch (error) {
      this.fail(error, at);
    }
    return this.fill(into, bytes, at, length);
  }

  map(from: number, to: number): MapRuns {
    const runs = new MapRuns(from);
    runs.push(Math.min(to, this.size) - from, DATA, 0, from, this.plain.file);
    return runs;
  }

  close(): void {}

  private fill(into: Uint8Array, bytes: ArrayBuffer, at: number, length: number): number {
    if (bytes.byteLength !== length)
      throw new IoError(
        "ESHORT",
        `${this.label}: ${bytes.byteLength} of ${length} bytes at ${at}`,
        at + bytes.byteLength,
      );
    into.set(new Uint8Array(bytes));
    return length;
  }

  /** A file that changed or went away since it was chosen ends here (NotReadableError, NotFoundError). */
  private fail(error: unknown, at: number): never {
    const detail = error instanceof Error ? error.message : String(error);
    throw new IoError("EIO", `${this.label}: read error at byte ${at}: ${detail}`, at, error);
  }
}
