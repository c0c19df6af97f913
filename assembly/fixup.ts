// NTFS update sequences: the last two bytes of every 512-byte stride of a record hold a sequence number, and an array
// in the record's head holds the bytes that belong there.

const STRIDE: usize = 512;

const OK: u8 = 0;
const NO_MAGIC: u8 = 1;
const TORN: u8 = 2;
export const RAW: u8 = 4;

/** Offset of the update sequence array of the record of `size` bytes at `p`, or 0 where it cannot be one. */
function arrayOf(p: usize, size: usize): usize {
  const offset: usize = load<u16>(p, 4);
  const count: usize = load<u16>(p, 6);
  if ((offset & 1) != 0 || offset < 8 || count != size / STRIDE + 1) return 0;
  if (offset + (count << 1) > STRIDE - 2) return 0;
  return offset;
}

/**
 * Removes the fixups of `count` records of `size` bytes (a multiple of 512) at `at`; one byte of state a record goes to
 * `states`: 0, 1 without the magic, 2 torn, 4 with an impossible array. Returns how many are not 0;
 * they stay as they are.
 */
export function ntfsUnfix(at: usize, size: usize, count: u32, magic: u32, states: usize): u32 {
  let bad: u32 = 0;
  let p = at;
  for (let i: u32 = 0; i < count; i++, p += size) {
    let state = OK;
    if (load<u32>(p) != magic) {
      state = NO_MAGIC;
    } else {
      const offset = arrayOf(p, size);
      if (offset == 0) state = RAW;
      else {
        const number = load<u16>(p + offset);
        const end = p + size;
        for (let q = p + STRIDE; q <= end; q += STRIDE) {
          if (load<u16>(q - 2) != number) {
            state = TORN;
            break;
          }
        }
        if (state == OK) {
          let from = p + offset + 2;
          for (let q = p + STRIDE; q <= end; q += STRIDE, from += 2) store<u16>(q - 2, load<u16>(from));
        }
      }
    }
    store<u8>(states + i, state);
    if (state != OK) bad++;
  }
  return bad;
}

/**
 * Applies the fixups of `count` records of `size` bytes at `at`, each with its sequence number counted up by one (0 and
 * 0xffff are left out). Records without the magic or without room for an array are left alone.
 * Returns how many were done.
 */
export function ntfsFix(at: usize, size: usize, count: u32, magic: u32): u32 {
  let done: u32 = 0;
  let p = at;
  for (let i: u32 = 0; i < count; i++, p += size) {
    if (load<u32>(p) != magic) continue;
    const offset = arrayOf(p, size);
    if (offset == 0) continue;
    let number: u32 = (<u32>load<u16>(p + offset) + 1) & 0xffff;
    if (number == 0 || number == 0xffff) number = 1;
    store<u16>(p + offset, <u16>number);
    const end = p + size;
    let to = p + offset + 2;
    for (let q = p + STRIDE; q <= end; q += STRIDE, to += 2) {
      store<u16>(to, load<u16>(q - 2));
      store<u16>(q - 2, <u16>number);
    }
    done++;
  }
  return done;
}
