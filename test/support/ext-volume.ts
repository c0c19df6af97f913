// A plain ext4 volume with files for tests that need one real input, and containers of it.
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { noise } from "./ext-tree.ts";
import { must } from "./native.ts";

/** An ext4 volume of `size` bytes with a few hundred files. */
export async function extVolume(dir: string, name: string, size: number): Promise<string> {
  const tree = join(dir, `${name}.tree`);
  mkdirSync(join(tree, "many"), { recursive: true });
  for (let i = 0; i < 300; i++) writeFileSync(join(tree, "many", `file-${i}`), noise(i + 1, i * 37));
  writeFileSync(join(tree, "large"), noise(99, 5 * 1024 * 1024 + 123));
  const sparse = join(tree, "sparse");
  writeFileSync(sparse, "");
  truncateSync(sparse, 3 * 1024 * 1024);
  const file = join(dir, name);
  writeFileSync(file, "");
  truncateSync(file, size);
  await must("mke2fs", [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-L",
    "page-test",
    "-U",
    UUID,
    "-d",
    tree,
    file,
  ]);
  return file;
}

export const UUID = "6f1c7f0e-8d53-4c7a-9f6e-3c1c5e0c2a11";

/** A disk with an MBR of two partitions: swap-like noise, then `volume`. Answers with its path. */
export function mbrDisk(dir: string, name: string, volume: string): string {
  const SECTOR = 512;
  const bytes = readFileSync(volume);
  const first = { start: 2048, count: 2048 };
  const second = { start: 4096, count: bytes.length / SECTOR };
  const head = Buffer.alloc(SECTOR);
  for (const [i, [type, p]] of (
    [
      [0x82, first],
      [0x83, second],
    ] as const
  ).entries()) {
    const at = 446 + 16 * i;
    head[at + 4] = type;
    head.writeUInt32LE(p.start, at + 8);
    head.writeUInt32LE(p.count, at + 12);
  }
  head[510] = 0x55;
  head[511] = 0xaa;
  const file = join(dir, name);
  const fd = openSync(file, "w");
  writeSync(fd, head, 0, head.length, 0);
  writeSync(fd, noise(7, 65536), 0, 65536, first.start * SECTOR);
  writeSync(fd, bytes, 0, bytes.length, second.start * SECTOR);
  closeSync(fd);
  return file;
}

/** What dumpe2fs says of a volume, by label. */
export async function dumpe2fs(file: string): Promise<ReadonlyMap<string, string>> {
  const r = await must("dumpe2fs", ["-h", file]);
  const facts = new Map<string, string>();
  for (const line of r.stdout.toString("latin1").split("\n")) {
    const m = /^([^:]+):\s+(.*)$/.exec(line);
    if (m !== null) facts.set(m[1], m[2]);
  }
  return facts;
}

/** A copy of a file with one little-endian u32 changed. Answers with its path. */
export function patched(file: string, to: string, at: number, value: number): string {
  cpSync(file, to);
  const word = Buffer.alloc(4);
  word.writeUInt32LE(value);
  const fd = openSync(to, "r+");
  writeSync(fd, word, 0, 4, at);
  closeSync(fd);
  return to;
}
