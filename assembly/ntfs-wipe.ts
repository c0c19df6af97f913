// Takes what is private out of NTFS FILE records and index blocks, in place: contents of small files, what
// deleted files left, and times.
import { ntfsFix, ntfsUnfix } from "./fixup";
import { isBaseInUse } from "./ntfs-records";

const FILE: u32 = 0x454c4946;
const BAAD: u32 = 0x44414142;
const INDX: u32 = 0x58444e49;
const HEADER: u32 = 48;
/** Records above this number are users'. */
const LAST_SYSTEM: f64 = 11;

const IN_USE: u32 = 1;
const STANDARD_INFORMATION: u32 = 0x10;
const FILE_NAME: u32 = 0x30;
const DATA: u32 = 0x80;
const INDEX_ROOT: u32 = 0x90;
const ATTRIBUTE_LIST: u32 = 0x20;
const END: u32 = 0xffffffff;
const LAST_ENTRY: u32 = 2;
/** The name "$Q" as it is stored. */
const QUOTAS: u32 = 0x00510024;
const QUOTA_VERSION: u32 = 2;

/** 1970-01-01 in NTFS time. */
const EPOCH: u64 = 0x019db1ded53e8000;

/** Flags. */
const KEEP_TIMES: u32 = 1;

// Counters (f64), all but the last as ntfsclone prints them.
/** Bytes behind the used part of a record that were not zero. */
const UNUSED: usize = 0;
/** Bytes of records not in use that were not zero. */
const DELETED: usize = 8;
/** Bytes of resident data that were not zero. */
const RESIDENT: usize = 16;
/** Bytes of times. */
const TIMES: usize = 24;
/** Records of files in use. */
const USED: usize = 32;
/** Bytes, not zero, of what should be records of users and is none. */
const STRAY: usize = 40;
/** Bytes of times in index blocks that their bitmap says are in use. */
const LISTED: usize = 48;

function add(counters: usize, which: usize, n: u32): void {
  store<f64>(counters + which, load<f64>(counters + which) + (n as f64));
}

/** Puts the fixups back; the update sequence number stays what it was (0 and 0xffff become 1). */
function close(p: usize, size: u32, magic: u32): void {
  const number = p + <usize>load<u16>(p, 4);
  const n: u32 = load<u16>(number);
  store<u16>(number, <u16>(n <= 1 ? 0xfffe : n - 1));
  ntfsFix(p, size, 1, magic);
}

/** Zeroes [from, to); returns how many bytes were not zero. */
function wipe(from: usize, to: usize): u32 {
  const zero = i8x16.splat(0);
  let n: u32 = 0;
  let p = from;
  for (; p + 16 <= to; p += 16) n += popcnt<u32>(i8x16.bitmask(i8x16.ne(v128.load(p), zero)) as u32);
  for (; p < to; p++) n += load<u8>(p) != 0 ? 1 : 0;
  if (n > 0) memory.fill(from, 0, to - from);
  return n;
}

/** "BadSecto" and "R\0": how a sector begins that could not be read. */
const LOST: u64 = 0x6f74636553646142;
const LOST_END: u16 = 0x0052;
/** Question marks: what the rest of it holds. */
const LOST_FILL: u64 = 0x3f3f3f3f3f3f3f3f;
const STRIDE: u32 = 512;

/** Whether 512 bytes hold nothing but the marker of a sector that could not be read, or the end of one. */
function isLost(p: usize): bool {
  const marked = load<u64>(p) == LOST;
  if (marked) {
    if (load<u16>(p, 8) != LOST_END) return false;
    for (let i: usize = 10; i < 16; i++) if (load<u8>(p + i) != <u8>LOST_FILL) return false;
  }
  for (let i: usize = marked ? 16 : 0; i < STRIDE; i += 8) if (load<u64>(p + i) != LOST_FILL) return false;
  return true;
}

/** Zeroes what is no record, from byte `from` of it on, but for sectors that say that they could not be read. */
function wipeStray(p: usize, from: u32, size: u32): u32 {
  let n: u32 = 0;
  for (let at: u32 = 0; at < size; at += STRIDE) {
    const end: u32 = min(at + STRIDE, size);
    if (end - at == STRIDE && isLost(p + at)) continue;
    if (end > from) n += wipe(p + max(at, from), p + end);
  }
  return n;
}

function wipeTimes(p: usize): void {
  store<u64>(p, EPOCH);
  store<u64>(p, EPOCH, 8);
  store<u64>(p, EPOCH, 16);
  store<u64>(p, EPOCH, 24);
}

/**
 * Times in the entries of a file-name index whose header is at `header`, nothing from `limit` on. Returns their bytes.
 */
function wipeNames(header: usize, limit: usize): u32 {
  let n: u32 = 0;
  const first: u32 = load<u32>(header);
  const end: u64 = min((header as u64) + <u64>load<u32>(header, 4), limit as u64);
  for (let p: u64 = (header as u64) + <u64>first; p + 16 <= end; ) {
    const entry = p as usize;
    const length: u32 = load<u16>(entry, 8);
    if ((load<u16>(entry, 12) & (LAST_ENTRY as u16)) != 0 || length < 16) break;
    if (p + 56 > end) break;
    wipeTimes(entry + 24);
    n += 32;
    p += length as u64;
  }
  return n;
}

/** Change times in the entries of a $Q index. Returns their bytes as ntfsclone counts them, four each. */
function wipeQuotas(header: usize, limit: usize): u32 {
  let n: u32 = 0;
  const end: u64 = min((header as u64) + <u64>load<u32>(header, 4), limit as u64);
  for (let p: u64 = (header as u64) + <u64>load<u32>(header); p + 16 <= end; ) {
    const entry = p as usize;
    const length: u32 = load<u16>(entry, 8);
    if ((load<u16>(entry, 12) & (LAST_ENTRY as u16)) != 0 || length < 16) break;
    if (p + 44 > end) break;
    if (load<u32>(entry, 20) == QUOTA_VERSION) {
      store<u64>(entry, EPOCH, 36);
      n += 4;
    }
    p += length as u64;
  }
  return n;
}

/**
 * One record without fixups. Where the chain of attributes of a user's record breaks, the rest of it is zeroed, as
 * nobody can say what it is.
 */
function wipeRecord(p: usize, size: u32, user: bool, flags: u32, counters: usize): void {
  const used: u32 = min(load<u32>(p, 24), size);
  if (user) add(counters, UNUSED, wipe(p + used, p + size));
  if ((<u32>load<u16>(p, 22) & IN_USE) == 0) {
    if (user && used > HEADER) add(counters, DELETED, wipe(p + HEADER, p + used));
    return;
  }
  let standard = false;
  let a: u32 = load<u16>(p, 20);
  for (;;) {
    const q = p + a;
    if (a + 4 <= used && load<u32>(q) == END) break;
    const length: u32 = a + 24 <= used ? load<u32>(q, 4) : 0;
    if (length < 24 || length > used - a) {
      if (user && a >= 8 && a < used) add(counters, RESIDENT, wipe(q, p + used));
      break;
    }
    const type: u32 = load<u32>(q);
    if (type == STANDARD_INFORMATION) standard = true;
    if (load<u8>(q, 8) == 0) {
      const offset: u32 = load<u16>(q, 20);
      const value: usize = q + min(offset, length);
      const bytes: u32 = min(load<u32>(q, 16), length - min(offset, length));
      if (type == DATA) {
        if (user) add(counters, RESIDENT, wipe(value, value + bytes));
      } else if ((flags & KEEP_TIMES) == 0) {
        if (type == STANDARD_INFORMATION) {
          if (bytes >= 32) {
            wipeTimes(value);
            add(counters, TIMES, 32);
          }
        } else if (type == FILE_NAME) {
          if (bytes >= 40) {
            wipeTimes(value + 8);
            add(counters, TIMES, 32);
          }
        } else if (type == INDEX_ROOT && bytes >= 32) {
          if (load<u32>(value) == FILE_NAME) add(counters, TIMES, wipeNames(value + 16, value + bytes));
          else if (load<u8>(q, 9) == 2 && load<u16>(q, 10) + 4 <= length) {
            if (load<u32>(q + <usize>load<u16>(q, 10)) == QUOTAS)
              add(counters, TIMES, wipeQuotas(value + 16, value + bytes));
          }
        }
      }
    }
    a += length;
  }
  if (standard && load<u64>(p, 32) == 0) add(counters, USED, 1);
}

/**
 * Wipes `count` records of `recordSize` bytes at `at`, as stored (with fixups), the first of them numbered
 * `first`. Of users' records that are torn, or marked so, only the head stays; what is no record at all is zeroed
 * where it should be a user's.
 */
export function ntfsWipeRecords(
  at: usize,
  recordSize: u32,
  count: u32,
  first: f64,
  flags: u32,
  scratch: usize,
  counters: usize,
): void {
  let p = at;
  for (let i: u32 = 0; i < count; i++, p += recordSize) {
    const user = first + (i as f64) > LAST_SYSTEM;
    const magic: u32 = load<u32>(p);
    if (magic == FILE && ntfsUnfix(p, recordSize, 1, FILE, scratch) == 0) {
      wipeRecord(p, recordSize, user, flags, counters);
      close(p, recordSize, FILE);
    } else if (user) {
      if (magic == FILE) store<u32>(p, BAAD);
      const from: u32 = magic == FILE || magic == BAAD ? HEADER : 0;
      add(counters, STRAY, wipeStray(p, from, recordSize));
    }
  }
}

/**
 * Wipes the times in `count` blocks of `blockSize` bytes of a file-name index at `at`, as stored. The index's
 * bitmap of `bits` bits lies at `bitmap`; the first block has number `bit`. With `listedOnly`, blocks whose bit is
 * not set stay as they are.
 */
export function ntfsWipeIndex(
  at: usize,
  blockSize: u32,
  count: u32,
  bitmap: usize,
  bits: u32,
  bit: u32,
  listedOnly: bool,
  scratch: usize,
  counters: usize,
): void {
  let p = at;
  for (let i: u32 = 0; i < count; i++, p += blockSize) {
    const b = bit + i;
    const listed = b < bits && ((load<u8>(bitmap + (b >> 3)) >> (b & 7)) & 1) != 0;
    if (listedOnly && !listed) continue;
    if (load<u32>(p) != INDX) continue;
    if (ntfsUnfix(p, blockSize, 1, INDX, scratch) != 0) continue;
    if (load<u32>(p, 24) >= 16 && load<u32>(p, 32) <= blockSize) {
      const n = wipeNames(p + 24, p + blockSize);
      add(counters, TIMES, n);
      if (listed) add(counters, LISTED, n);
    }
    close(p, blockSize, INDX);
  }
}

/**
 * Names, among `count` records of `recordSize` bytes at `at`, fixups removed as far as there are any, the base records
 * in use that may own metadata outside of their record: with an attribute list, with a non-resident attribute that is
 * no $DATA, and those that are not as they should be; of the first `apart` all. Writes their indexes (u32) to `into`;
 * returns how many.
 */
export function ntfsOwners(
  at: usize,
  recordSize: u32,
  count: u32,
  states: usize,
  apart: u32,
  into: usize,
): u32 {
  let n: u32 = 0;
  let p = at;
  for (let i: u32 = 0; i < count; i++, p += recordSize) {
    const state = load<u8>(states + i);
    if (!isBaseInUse(p, state)) continue;
    const used: u32 = min(load<u32>(p, 24), recordSize);
    let owner = i < apart || state != 0;
    let a: u32 = load<u16>(p, 20);
    while (!owner) {
      const q = p + a;
      if (a + 4 <= used && load<u32>(q) == END) break;
      const length: u32 = a + 24 <= used ? load<u32>(q, 4) : 0;
      if (length < 24 || length > used - a) {
        owner = true;
        break;
      }
      const type: u32 = load<u32>(q);
      owner = type == ATTRIBUTE_LIST || (load<u8>(q, 8) != 0 && type != DATA);
      a += length;
    }
    if (owner) {
      store<u32>(into + (n << 2), i);
      n++;
    }
  }
  return n;
}
