// CRC-32C (Castagnoli), reflected polynomial 0x82F63B78, without inversion at either end. Table k holds the remainder of
// a byte that k more bytes follow.
import { CRC32C_TABLES } from "./arena";

const POLYNOMIAL: u32 = 0x82f63b78;
let built = false;

function build(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let r = i;
    for (let k = 0; k < 8; k++) r = (r >>> 1) ^ (POLYNOMIAL & (0 - (r & 1)));
    store<u32>(CRC32C_TABLES + ((i as usize) << 2), r);
  }
  for (let p = CRC32C_TABLES; p < CRC32C_TABLES + 15 * 1024; p += 4) {
    const r = load<u32>(p);
    store<u32>(p, (r >>> 8) ^ entry(0, r & 0xff), 1024);
  }
  built = true;
}

function entry(table: usize, byte: u32): u32 {
  return load<u32>(CRC32C_TABLES + (table << 10) + ((byte as usize) << 2));
}

/** Four bytes that `after` more bytes of this step follow. */
function word(after: usize, v: u32): u32 {
  return (
    entry(after + 3, v & 0xff) ^
    entry(after + 2, (v >>> 8) & 0xff) ^
    entry(after + 1, (v >>> 16) & 0xff) ^
    entry(after, v >>> 24)
  );
}

/** The checksum of `length` bytes, continued from `crc`. */
export function crc32c(crc: u32, at: usize, length: usize): u32 {
  if (!built) build();
  const end = at + length;
  for (; at + 16 <= end; at += 16) {
    crc =
      word(12, load<u32>(at) ^ crc) ^
      word(8, load<u32>(at, 4)) ^
      word(4, load<u32>(at, 8)) ^
      word(0, load<u32>(at, 12));
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ entry(0, (crc ^ load<u8>(at)) & 0xff);
  return crc;
}
