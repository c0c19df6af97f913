// Which inodes of an ext2/3/4 inode table own which blocks. Inodes whose whole map sits in the inode are
// answered right here as runs of blocks; anything else (trees, odd or corrupt shapes) is named for a visit.

const DATA_TOO: u32 = 1;
const WIDE: u32 = 2;
const EA_VALUES: u32 = 4;
const VISIT_ALL: u32 = 8;

const KIND_DATA: u32 = 0;
const KIND_DIRECTORY: u32 = 1;
const KIND_XATTR: u32 = 2;
const KIND_VISIT: u32 = 0xffff;

const DIRECTORY: u32 = 0x4000;
const REGULAR: u32 = 0x8000;
const SYMLINK: u32 = 0xa000;
const EXTENTS: u32 = 0x80000;
const EA_INODE: u32 = 0x200000;
const INLINE: u32 = 0x10000000;

// The extents of the inode at hand, until all of them are known to be plain.
const starts = memory.data(16 * 8);
const lengths = memory.data(16 * 4);

/**
 * Walks `count` inodes of `inodeSize` bytes at `at`. Blocks count as valid in [first, limit). Writes
 * triples (start low, start high | kind << 16, length), or (index of the inode, visit << 16, 0), to `into`;
 * neighbours of one kind are merged. Each inode writes 13 triples at most. Returns the number of triples.
 */
export function extInodes(
  at: usize,
  inodeSize: u32,
  count: u32,
  flags: u32,
  first: u32,
  limit: f64,
  into: usize,
): u32 {
  const low: u64 = first;
  const high: u64 = <u64>limit;
  let out: usize = into;
  let lastKind: u32 = 0xfffffff;
  let lastEnd: u64 = 0;
  let p: usize = at;
  for (let i: u32 = 0; i < count; i++, p += inodeSize) {
    if (load<u16>(p, 26) == 0) continue;
    const mode: u32 = <u32>load<u16>(p) & 0xf000;
    let xattr: u64 = load<u32>(p, 104);
    if (flags & WIDE) xattr |= (<u64>load<u16>(p, 118)) << 32;
    const inodeFlags: u32 = load<u32>(p, 32);
    let visit: bool =
      (flags & VISIT_ALL) != 0 || (xattr != 0 && (xattr < low || xattr >= high || mode == SYMLINK));
    let n: u32 = 0;
    if (!visit && (mode == REGULAR || mode == DIRECTORY || mode == SYMLINK)) {
      if (mode == SYMLINK && (load<u32>(p, 28) != 0 || (inodeFlags & INLINE) != 0)) {
        visit = true;
      } else if (mode != SYMLINK && !(inodeFlags & INLINE)) {
        const all: bool =
          mode == DIRECTORY ||
          (flags & DATA_TOO) != 0 ||
          ((flags & EA_VALUES) != 0 && (inodeFlags & EA_INODE) != 0);
        if (inodeFlags & EXTENTS) {
          if (load<u16>(p, 46) != 0) visit = true;
          else if (all) {
            const entries: u32 = load<u16>(p, 42);
            const room: u32 = load<u16>(p, 44);
            if (load<u16>(p, 40) != 0xf30a || entries > room || room < 2 || room > 4) visit = true;
            else {
              let next: u64 = 0;
              for (let e: u32 = 0; e < entries; e++) {
                const q: usize = p + 52 + e * 12;
                let length: u32 = load<u16>(q, 4);
                if (length > 32768) length -= 32768;
                const logical: u64 = load<u32>(q);
                const start: u64 = ((<u64>load<u16>(q, 6)) << 32) | <u64>load<u32>(q, 8);
                if (length == 0 || logical < next || start < low || start + length > high) {
                  visit = true;
                  break;
                }
                next = logical + length;
                store<u64>(starts + (n << 3), start);
                store<u32>(lengths + (n << 2), length);
                n++;
              }
            }
          }
        } else if ((load<u32>(p, 88) | load<u32>(p, 92) | load<u32>(p, 96)) != 0) {
          visit = true;
        } else if (all) {
          for (let e: u32 = 0; e < 12; e++) {
            const block: u64 = load<u32>(p + 40 + (e << 2));
            if (block == 0) continue;
            if (block < low || block >= high) {
              visit = true;
              break;
            }
            if (
              n > 0 &&
              load<u64>(starts + ((n - 1) << 3)) + <u64>load<u32>(lengths + ((n - 1) << 2)) == block
            ) {
              store<u32>(lengths + ((n - 1) << 2), load<u32>(lengths + ((n - 1) << 2)) + 1);
            } else {
              store<u64>(starts + (n << 3), block);
              store<u32>(lengths + (n << 2), 1);
              n++;
            }
          }
        }
      }
    }
    if (visit) {
      store<u32>(out, i);
      store<u32>(out, KIND_VISIT << 16, 4);
      store<u32>(out, 0, 8);
      out += 12;
      lastKind = KIND_VISIT;
      continue;
    }
    if (xattr != 0) {
      if (lastKind == KIND_XATTR && lastEnd == xattr) {
        store<u32>(out - 12, load<u32>(out - 12, 8) + 1, 8);
      } else {
        store<u32>(out, <u32>xattr);
        store<u32>(out, <u32>(xattr >> 32) | (KIND_XATTR << 16), 4);
        store<u32>(out, 1, 8);
        out += 12;
        lastKind = KIND_XATTR;
      }
      lastEnd = xattr + 1;
    }
    const kind: u32 = mode == DIRECTORY ? KIND_DIRECTORY : KIND_DATA;
    for (let e: u32 = 0; e < n; e++) {
      const start: u64 = load<u64>(starts + (e << 3));
      const length: u32 = load<u32>(lengths + (e << 2));
      if (lastKind == kind && lastEnd == start) {
        store<u32>(out - 12, load<u32>(out - 12, 8) + length, 8);
      } else {
        store<u32>(out, <u32>start);
        store<u32>(out, <u32>(start >> 32) | (kind << 16), 4);
        store<u32>(out, length, 8);
        out += 12;
        lastKind = kind;
      }
      lastEnd = start + length;
    }
  }
  return <u32>((out - into) / 12);
}
