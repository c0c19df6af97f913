// A folder of files with every kind of content that an ext volume stores differently. Always the same bytes.
import {
  closeSync,
  ftruncateSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

/** A seeded generator (xorshift32): the same numbers on every machine. */
export function random(seed: number): () => number {
  let s = seed >>> 0 || 1;
  return () => {
    s ^= s << 13;
    s >>>= 0;
    s ^= s >>> 17;
    s ^= s << 5;
    s >>>= 0;
    return s;
  };
}

/** `length` bytes that look like noise. */
export function noise(seed: number, length: number): Buffer {
  const next = random(seed);
  const b = Buffer.alloc(length);
  for (let i = 0; i + 4 <= length; i += 4) b.writeUInt32LE(next(), i);
  return b;
}

/** A file of `size` bytes with data only at the given offsets. */
export function sparseFile(
  path: string,
  size: number,
  data: readonly (readonly [number, Uint8Array])[],
): void {
  const fd = openSync(path, "w");
  ftruncateSync(fd, size);
  for (const [at, bytes] of data) writeSync(fd, bytes, 0, bytes.length, at);
  closeSync(fd);
}

export interface TreeOptions {
  /** Noise files with sizes up to 40 KB. */
  readonly files?: number;
  /** Names in one wide directory. */
  readonly names?: number;
}

/** Fills `dir` (made here): nested directories, noise, zeros, holes, hard links, short and long symlinks. */
export function fillTree(dir: string, options: TreeOptions = {}): string {
  const next = random(42);
  mkdirSync(join(dir, "a/b/c/d/e"), { recursive: true });
  for (let i = 0; i < (options.files ?? 30); i++) {
    const size = i === 0 ? 0 : next() % 40_000;
    writeFileSync(join(dir, ["", "a", "a/b", "a/b/c", "a/b/c/d/e"][i % 5]!, `file-${i}`), noise(i + 7, size));
  }
  writeFileSync(join(dir, "big"), noise(99, 400_000));
  writeFileSync(join(dir, "zeros"), Buffer.alloc(50_000));
  writeFileSync(join(dir, "text"), "the same line again and again\n".repeat(500));
  sparseFile(join(dir, "holes"), 700_000, [
    [0, noise(3, 1000)],
    [70_000, noise(4, 9000)],
    [300_000, noise(5, 1)],
    [650_000, noise(6, 4000)],
  ]);
  linkSync(join(dir, "big"), join(dir, "a/big-again"));
  for (const n of [1, 4, 58, 59, 60, 61, 200, 1000])
    symlinkSync("target/".repeat(200).slice(0, n), join(dir, `link-${n}`));
  mkdirSync(join(dir, "wide"));
  for (let i = 0; i < (options.names ?? 120); i++)
    writeFileSync(join(dir, "wide", `a name of some length, number ${i}`), i % 3 ? "" : `${i}`);
  fixTimes(dir);
  return dir;
}

/** Sets every access and modification time below `dir`, so that volumes built of it are alike. */
export function fixTimes(dir: string): void {
  for (const e of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, e.name);
    if (e.isDirectory()) fixTimes(path);
    lutimesSync(path, 1_600_000_000, 1_600_000_000);
  }
}
