import { u16le, u32le } from "../../../bytes/endian.ts";
import {
  DX_BLOCK_MASK,
  DX_ENTRY,
  DX_NODE_LIMITS,
  DX_ROOT_INFO,
  DX_ROOT_LIMITS,
  HASH_SIPHASH,
  HASH_UNSIGNED,
} from "./layout.ts";

const MOST_LEVELS = 3;

/** The index of a directory: which hashes each leaf may hold. Blocks are logical blocks of the directory. */
export interface HashTree {
  /** As dirhash takes it. */
  readonly version: number;
  /** Inner nodes, the root (block 0) not among them. */
  readonly nodes: ReadonlySet<number>;
  /** Leaves in the order of their hashes. */
  readonly leaves: readonly number[];
  /** Lowest hash of each leaf, bit 0 clear. */
  readonly bounds: readonly number[];
}

/** Bytes of a root or node that mean something: header, and entries up to the count. */
export function indexUsed(block: Uint8Array, isRoot: boolean): number {
  const limits = isRoot ? DX_ROOT_LIMITS : DX_NODE_LIMITS;
  return Math.min(limits + DX_ENTRY * Math.max(u16le(block, limits + 2), 1), block.length);
}

/** Byte offset of an index block's checksum tail (reserved word, checksum), or -1 where it has no room. */
export function indexTail(block: Uint8Array, isRoot: boolean): number {
  const limits = isRoot ? DX_ROOT_LIMITS : DX_NODE_LIMITS;
  const at = limits + DX_ENTRY * u16le(block, limits);
  return at + 8 <= block.length ? at : -1;
}

/**
 * Reads a directory's index; a line about what is wrong with it where it cannot be followed. `read` gives a
 * logical block, or null where the directory has none.
 */
export async function readHashTree(
  read: (block: number) => Promise<Uint8Array | null> | Uint8Array | null,
  blocks: number,
  unsigned: boolean,
): Promise<HashTree | string> {
  const nodes = new Set<number>();
  const leaves: number[] = [];
  const bounds: number[] = [];
  const seen = new Set<number>([0]);
  const load = async (block: number): Promise<Uint8Array | null> => {
    const r = read(block);
    return (r instanceof Promise ? await r : r)?.slice() ?? null;
  };
  const root = await load(0);
  if (root === null) return "its index has no root";
  let version = root[DX_ROOT_INFO + 4];
  const levels = root[DX_ROOT_INFO + 6];
  if (root[DX_ROOT_INFO + 5] !== 8 || levels >= MOST_LEVELS) return "its index root is none";
  if (version > HASH_SIPHASH || version === HASH_SIPHASH) return `its index has hash version ${version}`;
  if (version < HASH_UNSIGNED && unsigned) version += HASH_UNSIGNED;

  const walk = async (
    node: Uint8Array,
    limits: number,
    level: number,
    low: number,
  ): Promise<string | null> => {
    const limit = u16le(node, limits);
    const count = u16le(node, limits + 2);
    if (count === 0 || count > limit || limits + DX_ENTRY * limit > node.length)
      return "a node of its index has an impossible count";
    for (let i = 0; i < count; i++) {
      const at = limits + DX_ENTRY * i;
      const bound = i === 0 ? low : (u32le(node, at) & ~1) >>> 0;
      const block = u32le(node, at + 4) & DX_BLOCK_MASK;
      if (block >= blocks || seen.has(block)) return `its index leads to block ${block}`;
      if (bounds.length > 0 && bound < bounds[bounds.length - 1]) return "its index is out of order";
      seen.add(block);
      if (level === 0) {
        leaves.push(block);
        bounds.push(bound);
        continue;
      }
      const child = await load(block);
      if (child === null) return `its index leads to block ${block}`;
      nodes.add(block);
      const bad = await walk(child, DX_NODE_LIMITS, level - 1, bound);
      if (bad !== null) return bad;
    }
    return null;
  };
  const bad = await walk(root, DX_ROOT_LIMITS, levels, 0);
  return bad ?? { version, nodes, leaves, bounds };
}
