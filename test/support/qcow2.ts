import { randomFillSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { MapRuns } from "../../src/bytes/runs.ts";
import { nodeCodecs } from "../../src/codec/node/codecs.ts";
import { type OpenQcow2Options, openQcow2, type Qcow2Image } from "../../src/image/qcow2/reader.ts";
import { openFileSource } from "../../src/io/node/file-source.ts";
import { fileGate } from "../../src/io/node/gate.ts";
import type { Source } from "../../src/io/source.ts";
import { must } from "./native.ts";
import type { Random } from "./random.ts";

/** Bytes in runs of up to `longest` units: a share of `density` random, the rest zero. */
export function patchwork(
  random: Random,
  size: number,
  unit: number,
  density: number,
  longest = 40,
): Uint8Array {
  const b = new Uint8Array(size);
  for (let i = 0; i < size; ) {
    const n = Math.min((1 + random.below(longest)) * unit, size - i);
    if (random.below(1000) < density * 1000) randomFillSync(b, i, n);
    i += n;
  }
  return b;
}

/** As `patchwork`, but bytes that compress well. */
export function squeezable(random: Random, size: number): Uint8Array {
  const b = new Uint8Array(size);
  for (let i = 0; i < size; ) {
    const n = Math.min(1 + random.below(3000), size - i);
    b.fill(random.below(4) === 0 ? 0 : random.below(256), i, i + n);
    i += n;
  }
  return b;
}

export function qemuImg(...args: string[]): Promise<{ stdout: Buffer; stderr: string; code: number | null }> {
  return must("qemu-img", args);
}

/** Opens an image file with the file gate; close both. */
export async function openFile(
  path: string,
  options: OpenQcow2Options = {},
): Promise<{ image: Qcow2Image; close(): Promise<void> }> {
  const source = openFileSource(path);
  try {
    const image = await openQcow2(source, fileGate(), { codecs: nodeCodecs, ...options });
    return {
      image,
      close: async () => {
        await image.close();
        source.close();
      },
    };
  } catch (e) {
    source.close();
    throw e;
  }
}

/** All of a source, read in pieces of `piece` bytes. */
export async function readAll(source: Source, piece = 512 * 1024): Promise<Uint8Array> {
  const b = new Uint8Array(source.size);
  for (let at = 0; at < b.length; ) {
    const part = b.subarray(at, Math.min(b.length, at + piece));
    // Rubbish in the buffer must not survive.
    part.fill(0xa5);
    const r = source.read(part, at);
    const n = r instanceof Promise ? await r : r;
    if (n !== part.length) throw new Error(`read ${n} of ${part.length} bytes at ${at}`);
    at += n;
  }
  return b;
}

/** All runs of a source's map, batches put together, checked for order and completeness. */
export async function mapAll(source: Source, visit: (runs: MapRuns, i: number) => void): Promise<void> {
  for (let from = 0; from < source.size; ) {
    const r = source.map(from, source.size);
    const runs = r instanceof Promise ? await r : r;
    if (runs.count === 0) throw new Error(`empty map at ${from}`);
    let at = from;
    for (let i = 0; i < runs.count; i++) {
      if (runs.at[i] !== at) throw new Error(`map: run at ${runs.at[i]}, ${at} expected`);
      visit(runs, i);
      at += runs.length[i];
    }
    if (at !== runs.end || at > source.size) throw new Error(`map: ends at ${runs.end}, runs at ${at}`);
    from = at;
  }
}

/** The first byte where two arrays differ, as text, or null. */
export function difference(got: Uint8Array, want: Uint8Array): string | null {
  if (got.length === want.length && Buffer.compare(got, want) === 0) return null;
  let i = 0;
  while (i < got.length && i < want.length && got[i] === want[i]) i++;
  return `lengths ${got.length} and ${want.length}, first difference at 0x${i.toString(16)}`;
}

export function writeBytes(path: string, bytes: Uint8Array): string {
  writeFileSync(path, bytes);
  return path;
}

export function readBytes(path: string): Uint8Array {
  const b = readFileSync(path);
  return new Uint8Array(b.buffer, b.byteOffset, b.length);
}
