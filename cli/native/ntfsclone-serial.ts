import { randomBytes } from "node:crypto";
import { u16le, u64le } from "../../src/bytes/endian.ts";
import type { MapRuns } from "../../src/bytes/runs.ts";
import { BOOT, BOOT_SIZE, OEM_ID } from "../../src/fs/ntfs/layout.ts";
import type { Source } from "../../src/io/source.ts";
import type { Say } from "./ntfsclone-text.ts";

/** Gives a clone a new serial number: in its boot sector and in the copy behind the volume. */
export class NewSerial {
  private readonly half: boolean;
  private readonly say: Say;
  private serial: Buffer | null = null;
  /** Byte of the backup boot sector, once the first one was met. */
  private backup = -1;

  /** `half`: only the upper 32 bits are new. */
  constructor(half: boolean, say: Say) {
    this.half = half;
    this.say = say;
  }

  /** Changes what is a serial number in the volume's bytes from `at` on. The boot sector has to come first. */
  patch(bytes: Uint8Array, at: number): void {
    if (at === 0 && isBoot(bytes, 0)) this.learn(bytes);
    if (this.serial === null) return;
    for (const boot of [0, this.backup]) {
      const from = boot - at;
      if (from >= 0 && from + BOOT_SIZE <= bytes.length && isBoot(bytes, from))
        bytes.set(this.serial, from + BOOT.serial);
    }
  }

  private learn(bytes: Uint8Array): void {
    this.backup = u64le(bytes, BOOT.sectors) * u16le(bytes, BOOT.bytesPerSector);
    if (this.serial !== null) return;
    this.serial = randomBytes(8);
    if (this.half) this.serial.set(bytes.subarray(BOOT.serial, BOOT.serial + 4));
    this.say(`New serial number      : 0x${this.serial.readBigUInt64LE().toString(16)}\n`);
  }
}

function isBoot(bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < OEM_ID.length; i++)
    if (bytes[at + BOOT.oemId + i] !== OEM_ID.charCodeAt(i)) return false;
  return bytes.length - at >= BOOT_SIZE;
}

/** A volume that is read with a new serial number. Not plain, so that every byte comes through here. */
export class NewSerialSource implements Source {
  readonly size: number;
  readonly label: string;
  private readonly base: Source;
  private readonly serial: NewSerial;

  constructor(base: Source, serial: NewSerial) {
    this.base = base;
    this.serial = serial;
    this.size = base.size;
    this.label = base.label;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const patch = (n: number): number => {
      this.serial.patch(into.subarray(0, n), at);
      return n;
    };
    const r = this.base.read(into, at);
    return r instanceof Promise ? r.then(patch) : patch(r);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    return this.base.map(from, to);
  }

  close(): void | Promise<void> {
    return this.base.close();
  }
}
