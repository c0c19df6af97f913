import { FormatError } from "../../errors.ts";
import type { Qcow2Header } from "../../image/qcow2/header.ts";
import { OFFSET_HIGH, OFFSET_LOW, SUBCLUSTERS } from "../../image/qcow2/layout.ts";
import { type SliceAt, Tables } from "../../image/qcow2/tables.ts";
import type { Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import type { RequestSink } from "./sink.ts";

/** A new QCOW2 image of which every cluster has its place already. */
export interface MappedImage {
  readonly header: Qcow2Header;
  /** The image as it was made, to look its tables up. */
  readonly source: Source;
  /** Size of the image file, bytes. */
  readonly size: number;
}

/** Writes into the places of an image that was allocated ahead; `disk`: the data file, where there is one. */
export function mappedSink(image: MappedImage, target: Target, disk: Target = target): RequestSink {
  const { header } = image;
  const cs = header.clusterSize;
  const sub = cs / SUBCLUSTERS;
  const tables = new Tables(image.source, header);
  const slice: SliceAt = { words: null, at: 0, index: 0, entries: 0 };
  const word = new Uint8Array(4);
  return {
    async write(bytes, at) {
      const end = at + bytes.length;
      for (let from = at; from < end; ) {
        const wait = tables.entriesAt(from, slice);
        if (wait !== null) {
          await wait;
          continue;
        }
        const { words, index } = slice;
        if (words === null) throw new FormatError("qcow2 L1 table", header.l1Offset, "a place is missing");
        const width = header.extendedL2 ? 4 : 2;
        const place = (i: number): number =>
          (words[width * i] & OFFSET_HIGH) * 0x100000000 + ((words[width * i + 1] & OFFSET_LOW) >>> 0);
        const cluster = from - (from % cs);
        const first = place(index);
        let n = 1;
        while (index + n < slice.entries && cluster + n * cs < end && place(index + n) === first + n * cs)
          n++;
        const to = Math.min(end, cluster + n * cs);
        const r = disk.write(bytes.subarray(from - at, to - at), first + (from - cluster));
        if (r instanceof Promise) await r;
        for (let i = 0; header.extendedL2 && i < n; i++) {
          const start = cluster + i * cs;
          const a = Math.max(0, Math.floor((from - start) / sub));
          const b = Math.min(SUBCLUSTERS, Math.ceil((to - start) / sub));
          const bits = b - a === SUBCLUSTERS ? 0xffffffff : ((2 ** (b - a) - 1) * 2 ** a) >>> 0;
          const p = 4 * (index + i) + 3;
          if ((words[p] | bits) >>> 0 === words[p]) continue;
          words[p] = (words[p] | bits) >>> 0;
          new DataView(word.buffer).setUint32(0, words[p]);
          const w = target.write(word, slice.at + 4 * p);
          if (w instanceof Promise) await w;
        }
        from = to;
      }
    },
    zero: null,
    finish: () => image.size,
  };
}
