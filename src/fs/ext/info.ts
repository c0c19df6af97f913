import { crc32c } from "../../bytes/crc32c.ts";
import { u16le, u32le } from "../../bytes/endian.ts";
import type { InfoField } from "../volume.ts";
import { COMPAT, FEATURE_NAMES, INCOMPAT, RO_COMPAT, SB, STATE_CLEAN, STATE_ERRORS } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** "ext2", "ext3" or "ext4", by the features it uses. */
export function kindOf(sb: Superblock): "ext2" | "ext3" | "ext4" {
  const fourIncompat =
    INCOMPAT.extents |
    INCOMPAT.wide |
    INCOMPAT.flexGroups |
    INCOMPAT.mmp |
    INCOMPAT.eaInode |
    INCOMPAT.checksumSeed |
    INCOMPAT.largeDirectory |
    INCOMPAT.inlineData |
    INCOMPAT.encrypt |
    INCOMPAT.casefold;
  const threeRo = RO_COMPAT.sparseSuper | RO_COMPAT.largeFile | 0x4;
  if ((sb.incompat & fourIncompat) !== 0 || (sb.roCompat & ~threeRo) !== 0) return "ext4";
  return (sb.compat & COMPAT.hasJournal) !== 0 ? "ext3" : "ext2";
}

/** Names of the volume's features, in e2fsprogs' words. */
export function featureNames(sb: Superblock): string[] {
  return FEATURE_NAMES.filter(([word, bit]) => (sb[word] & bit) !== 0).map(([, , name]) => name);
}

/** The volume's uuid in its usual text form. */
export function uuidText(b: Uint8Array, at: number): string {
  const hex = Array.from(b.subarray(at, at + 16), (v) => v.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function utf8(b: Uint8Array, at: number, length: number): string {
  let end = at;
  let bits = 0;
  while (end < at + length && b[end] !== 0) bits |= b[end++];
  const text = b.subarray(at, end);
  return bits < 0x80 ? String.fromCharCode(...text) : new TextDecoder().decode(text);
}

/** True where the superblock's checksum is right, or where it has none. */
function superblockChecksumOk(sb: Superblock): boolean {
  if ((sb.roCompat & RO_COMPAT.metadataChecksum) === 0) return true;
  return crc32c(0xffffffff, sb.raw.subarray(0, SB.checksum)) === u32le(sb.raw, SB.checksum);
}

function stateText(sb: Superblock): string {
  const state = u16le(sb.raw, SB.state);
  const parts = [(state & STATE_CLEAN) !== 0 ? "clean" : "not clean"];
  if ((state & STATE_ERRORS) !== 0) parts.push("with errors");
  if ((sb.incompat & INCOMPAT.recover) !== 0) parts.push("needs journal recovery");
  return parts.join(", ");
}

/** What `imprint info` says of an ext volume. Times are seconds since 1970. */
export function describe(sb: Superblock): InfoField[] {
  const { raw } = sb;
  const wideCount = (low: number, high: number) =>
    u32le(raw, low) + (sb.wide ? u32le(raw, high) * 2 ** 32 : 0);
  const time = (low: number, high: number) => u32le(raw, low) + raw[high] * 2 ** 32;
  const fields: InfoField[] = [
    { key: "label", label: "Label", value: utf8(raw, SB.label, 16) },
    { key: "uuid", label: "UUID", value: uuidText(raw, SB.uuid) },
    { key: "lastMounted", label: "Last mounted on", value: utf8(raw, SB.lastMounted, 64) },
    { key: "state", label: "State", value: stateText(sb) },
    { key: "features", label: "Features", value: featureNames(sb) },
    { key: "blockSize", label: "Block size", value: sb.blockSize, unit: "bytes" },
  ];
  if (sb.clusterBits > 0)
    fields.push({
      key: "clusterSize",
      label: "Cluster size",
      value: sb.blockSize * 2 ** sb.clusterBits,
      unit: "bytes",
    });
  fields.push(
    { key: "blocks", label: "Blocks", value: sb.blocks, unit: "count" },
    {
      key: "freeBlocks",
      label: "Free blocks",
      value: wideCount(SB.freeBlocksLow, SB.freeBlocksHigh),
      unit: "count",
    },
    { key: "groups", label: "Block groups", value: sb.groups, unit: "count" },
    { key: "inodes", label: "Inodes", value: sb.inodes, unit: "count" },
    { key: "freeInodes", label: "Free inodes", value: u32le(raw, SB.freeInodes), unit: "count" },
    { key: "inodeSize", label: "Inode size", value: sb.inodeSize, unit: "bytes" },
  );
  const times: [key: string, label: string, low: number, high: number][] = [
    ["created", "Created", SB.createTime, SB.createTimeHigh],
    ["mounted", "Last mount", SB.mountTime, SB.mountTimeHigh],
    ["written", "Last write", SB.writeTime, SB.writeTimeHigh],
    ["checked", "Last check", SB.checkTime, SB.checkTimeHigh],
  ];
  for (const [key, label, low, high] of times) {
    const value = time(low, high);
    if (value !== 0) fields.push({ key, label, value, unit: "time" });
  }
  if ((sb.roCompat & RO_COMPAT.metadataChecksum) !== 0)
    fields.push({ key: "checksumOk", label: "Superblock checksum ok", value: superblockChecksumOk(sb) });
  return fields;
}
