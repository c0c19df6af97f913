import type { Packer, WriteList } from "../../src/image/packer.ts";

/** True where all bytes of [from, to) are zero. */
function zero(b: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (b[i] !== 0) return false;
  return true;
}

/**
 * One byte for each cluster of `guest`: 1 where its unit (of `unit` bytes; the cluster by default) is not all
 * zero.
 */
export function nonzeroClusters(guest: Uint8Array, clusterSize: number, unit = clusterSize): Uint8Array {
  const n = Math.ceil(guest.length / clusterSize);
  const used = new Uint8Array(n);
  for (let at = 0; at < guest.length; at += unit)
    if (!zero(guest, at, Math.min(guest.length, at + unit)))
      used.fill(1, at / clusterSize, Math.min(n, (at + unit) / clusterSize));
  return used;
}

/** Runs (first, number) of set clusters in [from, to), relative to `from`. */
export function runsOf(used: Uint8Array, from: number, to: number): Uint32Array {
  const runs: number[] = [];
  for (let i = from; i < to; ) {
    while (i < to && used[i] === 0) i++;
    const first = i;
    while (i < to && used[i] !== 0) i++;
    if (i > first) runs.push(first - from, i - first);
  }
  return Uint32Array.from(runs);
}

/**
 * The reference copy loop: packs `guest` in chunks whose sizes (in clusters) `nextChunk` gives, and returns
 * the image. `takeTurns` builds a packer over the same state for each chunk, as several threads would.
 */
export function packToMemory(
  packer: Packer,
  guest: Uint8Array,
  nextChunk: () => number,
  takeTurns?: () => Packer,
  used = nonzeroClusters(guest, packer.clusterSize, packer.zeroUnit),
): Uint8Array {
  const writes: { guest: number; target: number; bytes: number | Uint8Array }[] = [];
  const out: WriteList = {
    data: (g, target, length) => void writes.push({ guest: g, target, bytes: length }),
    meta: (target, bytes) => void writes.push({ guest: -1, target, bytes: bytes.slice() }),
  };
  let current = packer;
  if (takeTurns !== undefined) {
    const shared = new Float64Array(new SharedArrayBuffer(packer.state.length * 8));
    shared.set(packer.state);
    packer.state = shared;
  }
  for (let at = 0; at < used.length; ) {
    const to = Math.min(used.length, at + nextChunk());
    const runs = runsOf(used, at, to);
    if (takeTurns !== undefined) {
      current = takeTurns();
      current.state = packer.state;
    }
    current.place(at, runs, runs.length / 2, out);
    at = to;
  }
  const size = packer.finish(out);
  const image = new Uint8Array(size);
  for (const w of writes) {
    const bytes = typeof w.bytes === "number" ? guest.subarray(w.guest, w.guest + w.bytes) : w.bytes;
    if (w.target + bytes.length > size) throw new Error(`write at ${w.target} beyond the end ${size}`);
    image.set(bytes, w.target);
  }
  return image;
}
