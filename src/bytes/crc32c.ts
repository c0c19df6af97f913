/**
 * CRC-32C (Castagnoli, reflected, no final inversion) continued from `crc`, a bit at a time: for a single small
 * structure whose reader should not have to start the kernels, which do the same at full speed.
 */
export function crc32c(crc: number, bytes: Uint8Array): number {
  for (let i = 0; i < bytes.length; i++) {
    crc ^= bytes[i];
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return crc >>> 0;
}
