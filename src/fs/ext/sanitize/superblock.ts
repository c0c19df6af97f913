import { putU32le, u32le } from "../../../bytes/endian.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import { INCOMPAT, RO_COMPAT, SB } from "../layout.ts";
import { DOMAIN, type Keys, replacePath } from "./keys.ts";
import { MMP_CHECKSUM, MMP_MAGIC, MMP_TEXT, SB_TEXT } from "./layout.ts";
import type { WordKind } from "./report.ts";
import { moveChecksum, type Sums } from "./sums.ts";
import type { Words } from "./words.ts";

/** A text field up to its NUL. */
function field(b: Uint8Array, at: number, length: number): Uint8Array {
  const whole = b.subarray(at, at + length);
  const end = whole.indexOf(0);
  return end < 0 ? whole : whole.subarray(0, end);
}

/** Notes the texts of a superblock's 1024 bytes for the search; returns how many there are. */
export function noteSuperblock(raw: Uint8Array, words: Words): number {
  let n = 0;
  for (const [name, [at, length]] of Object.entries(SB_TEXT)) {
    const text = field(raw, at, length);
    const kind: WordKind = name === "lastMounted" ? "path" : "label";
    words.addPath(text, kind);
    if (text.length > 0) n++;
  }
  return n;
}

/**
 * Replaces the texts of a superblock (1024 bytes) by as much other text; mount options, which the kernel
 * would read, are dropped. `clean` clears the mark that the journal has to be replayed.
 */
export function rewriteSuperblock(raw: Uint8Array, keys: Keys, clean: boolean): void {
  const kernel = Kernel.get();
  const sum = () => kernel.crc32cOf(0xffffffff, raw.subarray(0, SB.checksum));
  const before = sum();
  let n = 0;
  for (const [name, [at, length]] of Object.entries(SB_TEXT)) {
    const text = field(raw, at, length);
    if (name === "mountOptions") text.fill(0);
    else if (name === "lastMounted") replacePath(text, keys, DOMAIN.superblock, n);
    else keys.fill(text, DOMAIN.superblock, n);
    raw.fill(0, at + text.length, at + length);
    n++;
  }
  if (clean) putU32le(raw, SB.incompat, (u32le(raw, SB.incompat) & ~INCOMPAT.recover) >>> 0);
  if ((u32le(raw, SB.roCompat) & RO_COMPAT.metadataChecksum) !== 0)
    moveChecksum(raw, SB.checksum, before, sum());
}

/** Notes the texts of an MMP block. */
export function noteMmp(b: Uint8Array, words: Words): number {
  if (u32le(b, 0) !== MMP_MAGIC) return 0;
  let n = 0;
  for (const [at, length] of Object.values(MMP_TEXT)) {
    const text = field(b, at, length);
    words.addPath(text, "label");
    if (text.length > 0) n++;
  }
  return n;
}

/** Replaces the names of host and device in an MMP block; a block that is none is zeroed. */
export function rewriteMmp(b: Uint8Array, keys: Keys, sums: Sums | null): void {
  if (u32le(b, 0) !== MMP_MAGIC) {
    b.fill(0);
    return;
  }
  const kernel = Kernel.get();
  const sum = () => kernel.crc32cOf(sums!.seed, b.subarray(0, MMP_CHECKSUM));
  const before = sums === null ? 0 : sum();
  let n = 0;
  for (const [at, length] of Object.values(MMP_TEXT)) {
    const text = field(b, at, length);
    keys.fill(text, DOMAIN.mmp, n++);
    b.fill(0, at + text.length, at + length);
  }
  b.fill(0, MMP_CHECKSUM + 4);
  b.fill(0, 116, MMP_CHECKSUM);
  if (sums !== null) moveChecksum(b, MMP_CHECKSUM, before, sum());
}
