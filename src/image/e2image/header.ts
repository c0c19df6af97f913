import { cString, putU32le, u32le } from "../../bytes/endian.ts";
import {
  DESCRIPTION,
  DEVICE_NAME_BYTES,
  HEADER,
  HEADER_BYTES,
  HOSTNAME_BYTES,
  MAGIC,
  UUID_BYTES,
} from "./layout.ts";
import type { Sections } from "./sections.ts";

/** Where an image comes from, as its header says. */
export interface Origin {
  /** Host it was made on, at most 64 bytes of UTF-8. */
  readonly hostname: string;
  /** The volume's device as it was named, at most 63 bytes of UTF-8. */
  readonly deviceName: string;
  /** Device number (st_rdev) of the volume's device, 0 where it is a file; low 32 bits. */
  readonly fsDevice: number;
  /** Device and inode number (st_dev, st_ino) of the image file; low 32 bits. */
  readonly imageDevice: number;
  readonly imageInode: number;
  /** Seconds since 1970. */
  readonly time: number;
}

/** The header of a normal image. */
export interface Header extends Origin {
  readonly uuid: Uint8Array;
  /** Bytes. */
  readonly blockSize: number;
  readonly sections: Pick<Sections, "superblock" | "inodeTables" | "blockBitmap" | "inodeBitmap">;
}

/** The header block of an image. */
export function encodeHeader(header: Header): Uint8Array {
  const b = new Uint8Array(header.blockSize);
  const text = new TextEncoder();
  putU32le(b, HEADER.magic, MAGIC);
  b.set(text.encode(DESCRIPTION), HEADER.description);
  b.set(text.encode(header.hostname).subarray(0, HOSTNAME_BYTES), HEADER.hostname);
  putU32le(b, HEADER.fsDevice, header.fsDevice);
  b.set(text.encode(header.deviceName).subarray(0, DEVICE_NAME_BYTES - 1), HEADER.deviceName);
  b.set(header.uuid, HEADER.uuid);
  putU32le(b, HEADER.blockSize, header.blockSize);
  putU32le(b, HEADER.imageDevice, header.imageDevice);
  putU32le(b, HEADER.imageInode, header.imageInode);
  putU32le(b, HEADER.time, header.time % 2 ** 32);
  putU32le(b, HEADER.timeHigh, Math.floor(header.time / 2 ** 32));
  for (const [name, at] of Object.entries(header.sections))
    putU32le(b, HEADER[name as keyof Header["sections"]], at);
  return b;
}

/** True where `head` starts as a normal image does. */
export function probeHeader(head: Uint8Array): boolean {
  return head.length >= HEADER_BYTES && u32le(head, HEADER.magic) === MAGIC;
}

/** Reads a header, whatever its values mean. */
export function parseHeader(b: Uint8Array): Header {
  const section = (name: keyof Header["sections"]): number => u32le(b, HEADER[name]);
  return {
    hostname: utf8(b, HEADER.hostname, HOSTNAME_BYTES),
    deviceName: utf8(b, HEADER.deviceName, DEVICE_NAME_BYTES),
    fsDevice: u32le(b, HEADER.fsDevice),
    imageDevice: u32le(b, HEADER.imageDevice),
    imageInode: u32le(b, HEADER.imageInode),
    time: u32le(b, HEADER.time) + u32le(b, HEADER.timeHigh) * 2 ** 32,
    uuid: b.slice(HEADER.uuid, HEADER.uuid + UUID_BYTES),
    blockSize: u32le(b, HEADER.blockSize),
    sections: {
      superblock: section("superblock"),
      inodeTables: section("inodeTables"),
      blockBitmap: section("blockBitmap"),
      inodeBitmap: section("inodeBitmap"),
    },
  };
}

function utf8(b: Uint8Array, at: number, length: number): string {
  const text = cString(b, at, length);
  return new TextDecoder().decode(b.subarray(at, at + text.length));
}
