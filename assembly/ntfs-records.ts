// Which FILE records of an NTFS master file table own which clusters. Base records whose attributes are all in the
// record and as they should be are answered right here as runs of clusters; anything else is named for a visit.

import { RAW } from "./fixup";

const KIND_VISIT: u32 = 0xffff;
const STANDARD_SIZE: u32 = 48;

const IN_USE: u32 = 1;
const STANDARD_INFORMATION: u32 = 0x10;
const ATTRIBUTE_LIST: u32 = 0x20;
const LAST_TYPE: u32 = 0x1000;
const END: u32 = 0xffffffff;

/** Whether the record at `p`, its fixups removed as far as there are any (`state`), is a base record in use. */
export function isBaseInUse(p: usize, state: u8): bool {
  if (state != 0 && state != RAW) return false;
  return (<u32>load<u16>(p, 22) & IN_USE) != 0 && load<u64>(p, 32) == 0;
}

/** A signed little-endian field of 1 to 8 bytes at `p`; bytes up to p + 7 must be readable. */
function field(p: usize, bytes: u32): i64 {
  const shift: i64 = 64 - ((bytes as i64) << 3);
  return (load<i64>(p) << shift) >> shift;
}

/**
 * Walks `count` records of `recordSize` bytes at `at`, fixups removed, whose state in `states` is 0; the first `apart`
 * of them are named for a visit, whatever they hold. Writes triples (LCN low, LCN high | kind << 16, length), kind
 * being the attribute's type / 16 plus 0x1000 where it has a name, or (index of the record, visit << 16, 0), to `into`;
 * neighbours of one kind are merged. A record writes recordSize / 3 triples at most. Clusters of `clusterSize` bytes
 * count as valid below `limit`. Eight bytes after the last record must be readable. Returns the number of triples.
 */
export function ntfsRecords(
  at: usize,
  recordSize: u32,
  count: u32,
  states: usize,
  apart: u32,
  clusterSize: u32,
  limit: f64,
  into: usize,
): u32 {
  const most: i64 = <i64>limit;
  const clusterMask: u64 = <u64>clusterSize - 1;
  const shift: u64 = <u64>ctz(clusterSize);
  let out = into;
  let lastKind: u32 = 0xfffffff;
  let lastEnd: i64 = 0;
  let p = at;
  for (let i: u32 = 0; i < count; i++, p += recordSize) {
    const state = load<u8>(states + i);
    if (!isBaseInUse(p, state)) continue;
    const outBefore = out;
    const kindBefore = lastKind;
    const endBefore = lastEnd;
    // Of the run before this record, which may have grown by a merge.
    const lengthBefore: u32 = out > into ? load<u32>(out - 12, 8) : 0;
    const used: u32 = load<u32>(p, 24);
    let a: u32 = load<u16>(p, 20);
    let visit: bool =
      state != 0 ||
      i < apart ||
      load<u32>(p, 28) != recordSize ||
      used > recordSize ||
      (a & 7) != 0 ||
      a < 42;
    let type: u32 = 0;
    while (!visit) {
      if (a + 8 > used) {
        visit = true;
        break;
      }
      const q = p + a;
      const next: u32 = load<u32>(q);
      if (next == END) {
        visit = type == 0;
        break;
      }
      const length: u32 = load<u32>(q, 4);
      // Ascending from the standard information on, each whole and within the record.
      if (
        next < type ||
        (type == 0 && next != STANDARD_INFORMATION) ||
        next == ATTRIBUTE_LIST ||
        next > LAST_TYPE ||
        (length & 7) != 0 ||
        length < 24 ||
        length > used - a
      ) {
        visit = true;
        break;
      }
      type = next;
      if (load<u8>(q, 8) == 0) {
        const value: u32 = load<u32>(q, 16);
        if (
          <u64>load<u16>(q, 20) + <u64>value > <u64>length ||
          (type == STANDARD_INFORMATION && value < STANDARD_SIZE)
        ) {
          visit = true;
          break;
        }
      } else {
        const end: usize = q + length;
        let pair: usize = q + <usize>load<u16>(q, 32);
        if (length < 64 || load<i64>(q, 16) != 0 || pair < q + 64 || pair >= end) {
          visit = true;
          break;
        }
        const kind: u32 = (type >> 4) | (load<u8>(q, 9) != 0 ? 0x1000 : 0);
        let vcn: i64 = 0;
        let lcn: i64 = 0;
        for (;;) {
          if (pair >= end) {
            visit = true;
            break;
          }
          const head: u32 = load<u8>(pair);
          if (head == 0) break;
          const lengthBytes: u32 = head & 15;
          const lcnBytes: u32 = head >> 4;
          if (
            lengthBytes == 0 ||
            lengthBytes > 8 ||
            lcnBytes > 8 ||
            pair + 1 + lengthBytes + lcnBytes > end
          ) {
            visit = true;
            break;
          }
          const run: i64 = field(pair + 1, lengthBytes);
          if (run <= 0 || run > 0xffffffff) {
            visit = true;
            break;
          }
          vcn += run;
          if (lcnBytes != 0) {
            lcn += field(pair + 1 + lengthBytes, lcnBytes);
            if (lcn < 0 || lcn >= most || run > most - lcn) {
              visit = true;
              break;
            }
            const joint: i64 = <i64>load<u32>(out - 12, 8) + run;
            if (lastKind == kind && lastEnd == lcn && joint <= 0xffffffff) {
              store<u32>(out - 12, <u32>joint, 8);
            } else {
              store<u32>(out, <u32>lcn);
              store<u32>(out, <u32>(lcn >> 32) | (kind << 16), 4);
              store<u32>(out, <u32>run, 8);
              out += 12;
              lastKind = kind;
            }
            lastEnd = lcn + run;
          }
          pair += 1 + lengthBytes + lcnBytes;
        }
        const highest: i64 = load<i64>(q, 24);
        const allocated: u64 = load<u64>(q, 40);
        if (highest != 0 && highest != vcn - 1) visit = true;
        // More runs than it says it has room for.
        if (allocated >> 62 != 0 || <u64>vcn > (allocated + clusterMask) >> shift) visit = true;
        if (visit) break;
      }
      a += length;
    }
    if (!visit) continue;
    out = outBefore;
    if (out > into && kindBefore != KIND_VISIT) store<u32>(out - 12, lengthBefore, 8);
    lastKind = kindBefore;
    lastEnd = endBefore;
    store<u32>(out, i);
    store<u32>(out, KIND_VISIT << 16, 4);
    store<u32>(out, 0, 8);
    out += 12;
    lastKind = KIND_VISIT;
  }
  return <u32>((out - into) / 12);
}
