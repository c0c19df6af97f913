import type { HostFile } from "../bytes/runs.ts";

/**
 * A file or device that is changed in place, where it matters what a power cut leaves. Everything answers
 * synchronously and throws IoError. Offsets and sizes in bytes.
 */
export interface DurableFile {
  readonly label: string;
  /** Bytes it holds now. */
  size(): number;
  /** Fills `into` from byte `at`; returns the bytes read, short only at the end. */
  read(into: Uint8Array, at: number): number;
  write(bytes: Uint8Array, at: number): void;
  /** Makes a file at least `size` bytes long; devices are as long as they are. */
  grow(size: number): void;
  /** Makes a file exactly `size` bytes long: cut, or longer by a hole. Devices only grow in name: nothing happens. */
  truncate(size: number): void;
  /** Returns when everything written so far would survive a power cut. */
  sync(): void;
  /** The host file behind it, where there is one. */
  readonly host?: HostFile;
  /** It is a block device: as long as it is, and full of old bytes. */
  readonly blockDevice?: boolean;
}

/** The one place where a job keeps the journal that makes it resumable. */
export interface JournalStore {
  /** What messages call the journal: its path. */
  readonly label: string;
  /** The journal that is there, or null. */
  open(): DurableFile | null;
  /** Makes the journal: `fill` writes it, and it is there under its name, durable and whole, or not at all. */
  create(fill: (file: DurableFile) => void): DurableFile;
  /** Removes the journal for good. */
  remove(): void;
}
