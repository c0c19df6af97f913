import { putU16le, putU32le, u16le, u32le } from "../../bytes/endian.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { GD, INCOMPAT, RO_COMPAT, SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

const CRC32C_TYPE = 1;

/** The metadata checksums of a volume: CRC-32C, seeded with the volume's uuid or its stored seed. */
export class Checksums {
  readonly seed: number;
  constructor(sb: Superblock) {
    this.seed =
      (sb.incompat & INCOMPAT.checksumSeed) !== 0
        ? u32le(sb.raw, SB.checksumSeed)
        : Kernel.get().crc32cOf(0xffffffff, sb.raw.subarray(SB.uuid, SB.uuid + 16));
  }

  /** The volume's checksums, or null where it has none (or of a kind not known). */
  static of(sb: Superblock): Checksums | null {
    if ((sb.roCompat & RO_COMPAT.metadataChecksum) === 0) return null;
    return sb.raw[SB.checksumType] === CRC32C_TYPE ? new Checksums(sb) : null;
  }
}

/** True where a group descriptor's checksum is right, or where the volume has none. */
export function descriptorChecksumOk(sb: Superblock, group: number, raw: Uint8Array): boolean {
  return !sb.groupChecksums || descriptorChecksum(sb, group, raw) === u16le(raw, GD.checksum);
}

/** The checksum a group descriptor should have, whatever its checksum field holds. */
export function descriptorChecksum(sb: Superblock, group: number, raw: Uint8Array): number {
  const kernel = Kernel.get();
  const b = raw.slice();
  const number = new Uint8Array(4);
  putU32le(number, 0, group);
  const checksums = Checksums.of(sb);
  if (checksums !== null) {
    putU16le(b, GD.checksum, 0);
    return kernel.crc32cOf(kernel.crc32cOf(checksums.seed, number), b) & 0xffff;
  }
  const parts = [
    sb.raw.subarray(SB.uuid, SB.uuid + 16),
    number,
    b.subarray(0, GD.checksum),
    b.subarray(GD.checksum + 2),
  ];
  const joined = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    joined.set(p, at);
    at += p.length;
  }
  return kernel.borrow(joined.length, (slot) => {
    slot.bytes.set(joined);
    return kernel.crc16(0xffff, slot.at, joined.length);
  });
}
