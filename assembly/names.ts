// The names of ext directory blocks as `e2image -s` rewrites them.
import { OUT } from "./arena";

const DOT: u8 = 0x2e;
const BAD_RECORD: u32 = 0;
const BAD_NAME: u32 = 1;

function isDots(name: usize, length: u32): bool {
  if (length == 1) return load<u8>(name) == DOT;
  return length == 2 && load<u8>(name) == DOT && load<u8>(name, 1) == DOT;
}

function note(to: usize, block: u32, kind: u32, value: u32): usize {
  store<u32>(to, block);
  store<u32>(to, kind, 4);
  store<u32>(to, value, 8);
  return to + 12;
}

/**
 * Renames every entry of `blocks` directory blocks of `blockSize` bytes at `at`: "A..." counted in base 26
 * from the left, by the 256 counters (u32, one a length) at `counters`; "." and ".." stay, slack is zeroed.
 * A bad record length becomes the rest of the block, which is left alone; a bad name length becomes what
 * fits. Triples (block, 0 bad record length or 1 bad name length, the length) go to the out area; returns
 * how many.
 */
export function scrambleNames(at: usize, blockSize: u32, blocks: u32, counters: usize): u32 {
  let out: usize = OUT;
  for (let block: u32 = 0; block < blocks; block++, at += blockSize) {
    let p: u32 = 0;
    while (p + 8 < blockSize) {
      const entry = at + p;
      const rest = blockSize - p;
      const stored: u32 = load<u16>(entry, 4);
      const record: u32 =
        stored == 0 || stored == 65535 ? blockSize : (stored & 0xfffc) | ((stored & 3) << 16);
      if (record < 8 || (record & 3) != 0 || record > rest) {
        out = note(out, block, BAD_RECORD, record);
        store<u16>(entry, <u16>(rest < 65535 ? rest : 65535), 4);
        break;
      }
      p += record;
      const length: u32 = load<u8>(entry, 6);
      if (length + 8 > record) {
        out = note(out, block, BAD_NAME, length);
        store<u8>(entry, <u8>(record - 8), 6);
        continue;
      }
      const name = entry + 8;
      memory.fill(name + length, 0, record - length - 8);
      if (isDots(name, length)) continue;
      memory.fill(name, 0x41, length);
      const counter = counters + (length << 2);
      let id = load<u32>(counter);
      store<u32>(counter, id + 1);
      for (let i: u32 = 0; id != 0 && i < length; i++, id /= 26) {
        store<u8>(name + i, <u8>(0x41 + (id % 26)));
      }
    }
  }
  return <u32>((out - OUT) / 12);
}
