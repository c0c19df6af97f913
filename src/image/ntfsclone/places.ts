import type { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { clusterBytes, type ImageGeometry } from "./header.ts";
import { DATA_OFFSET, GAP_BYTES } from "./layout.ts";

/** Runs taken out of a set at a time. */
const RUNS = 4096;

/**
 * Where `saveImage` puts bytes of a volume, to change them in a finished image. Asked in ascending order it walks over the runs
 * once; else it starts anew.
 */
export class ImagePlaces {
  private readonly sets: readonly BlockSet[];
  private readonly geometry: ImageGeometry;
  private readonly list = new ExtentList();
  /** Set at hand, run of `list`, cluster behind the list. */
  private set = 0;
  private run = 0;
  private from = 0;
  /** Cluster behind the last run, and the byte of the image where the commands of the run at hand begin, its gap included. */
  private next = 0;
  private offset = DATA_OFFSET;

  /** `sets`: as `saveImage` got them; no cluster in two of them. */
  constructor(sets: readonly BlockSet[], geometry: ImageGeometry) {
    this.sets = sets;
    this.geometry = geometry;
  }

  /** Byte of the image that holds byte `at` of the volume; -1 where it is in no set. */
  of(at: number): number {
    const lcn = Math.floor(at / this.geometry.clusterSize);
    const here = this.find(lcn);
    if (here < 0) {
      this.rewind();
      const again = this.find(lcn);
      return again < 0 ? -1 : again + (at % this.geometry.clusterSize);
    }
    return here + (at % this.geometry.clusterSize);
  }

  /** Byte of the image where the data of a cluster begin, looked for from the run at hand on; -1 where there is none. */
  private find(lcn: number): number {
    const { list, geometry } = this;
    const stride = geometry.clusterSize + 1;
    while (this.set < this.sets.length) {
      if (this.run === list.count && !this.more()) continue;
      const start = list.start(this.run);
      const end = list.end(this.run);
      const begin = this.offset + (start === this.next ? 0 : GAP_BYTES);
      if (lcn >= start && lcn < end) return begin + (lcn - start) * stride + 1;
      this.offset = begin + (end - start - 1) * stride + 1 + clusterBytes(geometry, end - 1);
      this.next = end;
      this.run++;
    }
    return -1;
  }

  /** Takes the next runs; false where that leads to the next set. */
  private more(): boolean {
    const set = this.sets[this.set];
    this.list.clear();
    this.run = 0;
    if (this.from < set.limit) this.from = set.runs(this.from, set.limit, this.list, RUNS);
    if (this.list.count > 0) return true;
    if (this.from < set.limit) return false;
    this.set++;
    this.from = 0;
    return false;
  }

  private rewind(): void {
    this.list.clear();
    this.run = 0;
    this.set = 0;
    this.from = 0;
    this.next = 0;
    this.offset = DATA_OFFSET;
  }
}
