import { u32le } from "../../bytes/endian.ts";
import { ExtError } from "./errors.ts";
import { readFileMap, readMapped } from "./file-map.ts";
import { inodeSizeBytes } from "./inode.ts";
import { INO, ORPHAN_BLOCK_MAGIC, SB } from "./layout.ts";
import type { Parts } from "./parts.ts";

/** Orphans followed at most; each step of the list is one scattered read. */
const MOST_ORPHANS = 1 << 20;
const MOST_FILE_BYTES = 1 << 26;

/**
 * Inodes that are open-unlinked or being truncated: the list that starts in the superblock and runs through
 * the inodes' deletion times, and the entries of the orphan file. Damage ends the list with a line to
 * `warn`.
 */
export async function listOrphans(parts: Parts, warn: (line: string) => void): Promise<number[]> {
  const { sb, inodes } = parts;
  const found = new Set<number>();
  try {
    let ino = u32le(sb.raw, SB.lastOrphan);
    while (ino !== 0 && found.size < MOST_ORPHANS) {
      if (found.has(ino)) {
        warn(`the orphan list loops at inode ${ino}`);
        break;
      }
      const b = await inodes.read(ino);
      found.add(ino);
      ino = u32le(b, INO.deleteTime);
    }
    await addOrphanFile(parts, found);
  } catch (e) {
    if (!(e instanceof ExtError)) throw e;
    warn(`orphan list: ${e.message}`);
  }
  return [...found];
}

async function addOrphanFile(parts: Parts, found: Set<number>): Promise<void> {
  const { sb, source, inodes } = parts;
  const file = u32le(sb.raw, SB.orphanFileInode);
  if (file === 0) return;
  const inode = await inodes.read(file);
  const map = await readFileMap(source, sb, inode, file);
  const size = Math.min(inodeSizeBytes(inode, 0), MOST_FILE_BYTES);
  const block = new Uint8Array(sb.blockSize);
  for (let at = 0; at + sb.blockSize <= size && found.size < MOST_ORPHANS; at += sb.blockSize) {
    await readMapped(source, sb, map, block, at);
    if (u32le(block, sb.blockSize - 8) !== ORPHAN_BLOCK_MAGIC) continue;
    for (let o = 0; o < sb.blockSize - 8; o += 4) {
      const ino = u32le(block, o);
      if (ino !== 0) found.add(ino);
    }
  }
}
