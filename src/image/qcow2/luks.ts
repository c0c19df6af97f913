import { cString, u16be, u32be } from "../../bytes/endian.ts";
import { FormatError, withNative } from "../../errors.ts";

/**
 * The header of LUKS version 1, as far as it describes an encrypted image. Big-endian. Facts: the LUKS On-Disk Format
 * Specification 1.2.3.
 */
const MAGIC = "LUKS\xba\xbe";
const L = {
  version: 6,
  cipherName: 8,
  cipherMode: 40,
  hash: 72,
  payloadOffset: 104,
  keyBytes: 108,
  masterIterations: 164,
  uuid: 168,
  slots: 208,
} as const;
const TEXT = 32;
const UUID = 40;
const SLOT = { length: 48, active: 0, iterations: 4, keyOffset: 40, stripes: 44 } as const;
const SLOTS = 8;
const ACTIVE = 0x00ac71f3;
const SECTOR = 512;

/** Bytes of the header. */
export const LUKS_HEADER_BYTES: number = L.slots + SLOTS * SLOT.length;

/** One place for a passphrase. Offsets in bytes from the start of the LUKS header. */
export interface LuksSlot {
  readonly active: boolean;
  readonly iterations: number;
  readonly keyOffset: number;
  readonly stripes: number;
}

/** What a LUKS header says of its encryption. */
export interface LuksHeader {
  readonly cipher: string;
  /** Bits of the cipher's key. */
  readonly keyBits: number;
  /** "xts", "cbc". */
  readonly mode: string;
  /** "plain64", "essiv". */
  readonly ivGenerator: string;
  readonly ivHash: string | null;
  readonly hash: string;
  readonly uuid: string;
  /** Bytes from the start of the LUKS header. */
  readonly payloadOffset: number;
  readonly masterIterations: number;
  readonly slots: readonly LuksSlot[];
}

/** Parses a LUKS 1 header; `at` is where it lies, for messages. Throws FormatError. */
export function parseLuksHeader(b: Uint8Array, at: number): LuksHeader {
  const fail = (detail: string): never => {
    throw new FormatError("LUKS header", at, detail);
  };
  if (b.length < LUKS_HEADER_BYTES) fail("cut short");
  for (let i = 0; i < MAGIC.length; i++)
    if (b[i] !== MAGIC.charCodeAt(i))
      throw withNative(new FormatError("LUKS header", at, "no LUKS magic"), "Volume is not in LUKS format");
  if (u16be(b, L.version) !== 1) fail(`version ${u16be(b, L.version)} is not known`);
  const mode = cString(b, L.cipherMode, TEXT);
  const dash = mode.indexOf("-");
  if (dash < 0) fail(`cipher mode "${mode}" names no IV generator`);
  const [generator, ivHash] = mode.slice(dash + 1).split(":");
  const keyBytes = u32be(b, L.keyBytes);
  const slots: LuksSlot[] = [];
  for (let p = L.slots; p < LUKS_HEADER_BYTES; p += SLOT.length)
    slots.push({
      active: u32be(b, p + SLOT.active) === ACTIVE,
      iterations: u32be(b, p + SLOT.iterations),
      keyOffset: u32be(b, p + SLOT.keyOffset) * SECTOR,
      stripes: u32be(b, p + SLOT.stripes),
    });
  return {
    cipher: cString(b, L.cipherName, TEXT),
    // XTS takes two keys.
    keyBits: (mode.slice(0, dash) === "xts" ? keyBytes / 2 : keyBytes) * 8,
    mode: mode.slice(0, dash),
    ivGenerator: generator,
    ivHash: ivHash ?? null,
    hash: cString(b, L.hash, TEXT),
    uuid: cString(b, L.uuid, UUID),
    payloadOffset: u32be(b, L.payloadOffset) * SECTOR,
    masterIterations: u32be(b, L.masterIterations),
    slots,
  };
}
