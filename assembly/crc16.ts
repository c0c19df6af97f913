// CRC-16, reflected polynomial 0xA001, without inversion. Table k holds the remainder of a byte
// that k more bytes follow.
import { CRC16_TABLES } from "./arena";

const POLYNOMIAL: u32 = 0xa001;
let built = false;

function build(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let r = i;
    for (let k = 0; k < 8; k++) r = (r >>> 1) ^ (POLYNOMIAL & (0 - (r & 1)));
    store<u16>(CRC16_TABLES + ((i as usize) << 1), r as u16);
  }
  for (let p = CRC16_TABLES; p < CRC16_TABLES + 7 * 512; p += 2) {
    const r: u32 = load<u16>(p);
    store<u16>(p, ((r >>> 8) ^ entry(0, r & 0xff)) as u16, 512);
  }
  built = true;
}

function entry(table: usize, byte: u32): u32 {
  return load<u16>(CRC16_TABLES + (table << 9) + ((byte as usize) << 1));
}

/** The checksum of `length` bytes, continued from `crc`. */
export function crc16(crc: u32, at: usize, length: usize): u32 {
  if (!built) build();
  crc &= 0xffff;
  const end = at + length;
  for (; at + 8 <= end; at += 8) {
    const lower = load<u32>(at) ^ crc;
    const upper = load<u32>(at, 4);
    crc =
      entry(7, lower & 0xff) ^
      entry(6, (lower >>> 8) & 0xff) ^
      entry(5, (lower >>> 16) & 0xff) ^
      entry(4, lower >>> 24) ^
      entry(3, upper & 0xff) ^
      entry(2, (upper >>> 8) & 0xff) ^
      entry(1, (upper >>> 16) & 0xff) ^
      entry(0, upper >>> 24);
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ entry(0, (crc ^ load<u8>(at)) & 0xff);
  return crc;
}
