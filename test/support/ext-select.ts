// A selection applied to its source, as e2image's raw output would hold it, without the engine in between.
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { ExtentList } from "../../src/bytes/extents.ts";
import { DATA, MapRuns } from "../../src/bytes/runs.ts";
import { type ExtOpenOptions, type ExtVolume, openExt } from "../../src/fs/ext/volume.ts";
import type { Selection } from "../../src/fs/volume.ts";
import type { Source } from "../../src/io/source.ts";

/** A plain file, read synchronously. */
export function fileSource(path: string): Source & { close(): void } {
  const fd = openSync(path, "r");
  const size = fstatSync(fd).size;
  return {
    size,
    label: path,
    read: (into: Uint8Array, at: number) => readSync(fd, into, 0, into.length, at),
    map(from: number, to: number) {
      const runs = new MapRuns(from);
      runs.push(to - from, DATA);
      return runs;
    },
    close: () => closeSync(fd),
  };
}

/** The same source, answering every read with a promise. */
export function slowly(source: Source): Source {
  return {
    size: source.size,
    label: source.label,
    read: async (into: Uint8Array, at: number) => source.read(into, at),
    map: (from: number, to: number) => source.map(from, to),
    close: () => source.close(),
  };
}

/** Writes the selected blocks of `source` to `path` as a fresh raw image of the volume's size. */
export async function writeSelected(
  source: Source,
  volume: ExtVolume,
  s: Selection,
  path: string,
): Promise<void> {
  const fd = openSync(path, "w");
  const runs = new ExtentList();
  const b = new Uint8Array(1 << 20);
  s.blocks.runs(0, s.blocks.limit, runs);
  for (let i = 0; i < runs.count; i++) {
    const end = runs.end(i) * s.blockSize;
    for (let at = runs.start(i) * s.blockSize; at < end; ) {
      const piece = b.subarray(0, Math.min(b.length, end - at));
      const n = await source.read(piece, at);
      if (n === 0) break;
      writeSync(fd, piece, 0, n, at);
      at += n;
    }
  }
  ftruncateSync(fd, volume.size);
  closeSync(fd);
}

/** Opens, selects and writes; returns the selection. */
export async function selectTo(
  image: string,
  out: string,
  options: Parameters<ExtVolume["select"]>[0],
  open: ExtOpenOptions = {},
): Promise<Selection> {
  const source = fileSource(image);
  try {
    const volume = await openExt(source, open);
    const s = await volume.select(options);
    await writeSelected(source, volume, s, out);
    return s;
  } finally {
    source.close();
  }
}
