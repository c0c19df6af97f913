import { Pace } from "../../io/pace.ts";
import type { Source } from "../../io/source.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { CommandReader } from "./commands.ts";
import type { ImageHeader } from "./header.ts";
import { FOLDED, RunIndex } from "./run-index.ts";

/** Bytes read at a time where clusters are small, and where it is cheaper to read between them. */
const SCAN_BYTES = 512 * 1024;
const HOP_BYTES = 512;
/** Clusters from this size on are hopped over. */
export const LARGE_CLUSTER = 16 * 1024;
/** Runs looked up at once, where they have to be read again. */
const WINDOW_RUNS = 4096;

/** The clusters [from, to) of an image: runs in ascending order, no cluster in two of them. */
export interface RunWindow {
  readonly from: number;
  readonly to: number;
  readonly index: RunIndex;
}

/**
 * Where the clusters of an image lie, in bounded memory: all runs of most images; of those with more of them, entries that stand
 * for several runs, which are read again when they are asked for. Where clusters are not in order besides, it knows a part of the
 * volume at a time, and follows all commands anew for another.
 */
export class ImageIndex {
  private readonly file: Source;
  private readonly header: ImageHeader;
  private readonly most: number | undefined;
  private readonly index: RunIndex;
  private readonly unordered: boolean;
  /** Byte behind the last command. */
  private readonly end: number;
  private last: RunWindow;

  private constructor(
    file: Source,
    header: ImageHeader,
    most: number | undefined,
    index: RunIndex,
    walk: Walk,
  ) {
    this.file = file;
    this.header = header;
    this.most = most;
    this.unordered = walk.wentBack;
    this.end = walk.end;
    const whole = !index.folded;
    this.index = index;
    this.last = {
      from: 0,
      to: whole ? header.clusters + 1 : 0,
      index: whole && walk.wentBack ? index.resolved(header.clusters + 1) : index,
    };
    if (whole) this.index = this.last.index;
  }

  /**
   * Follows all commands once. `most`: entries that are kept. Throws CommandError where the commands make no sense or the image
   * ends early.
   */
  static async build(file: Source, header: ImageHeader, most?: number): Promise<ImageIndex> {
    const index = new RunIndex(header.clusterSize + 1, most);
    const walk = await follow(file, header, { offset: header.dataOffset, position: 0 }, (lcn, at, clusters) =>
      index.push(lcn, at, clusters),
    );
    return new ImageIndex(file, header, most, index, walk);
  }

  /** What lies around cluster `lcn`. */
  at(lcn: number): RunWindow | Promise<RunWindow> {
    const { last } = this;
    if (lcn >= last.from && lcn < last.to) return last;
    const next = this.unordered ? this.gather(lcn) : this.unfold(lcn);
    return next.then((w) => {
      this.last = w;
      return w;
    });
  }

  /** Entries from that of cluster `lcn` on, until there are some thousand runs. */
  private async unfold(lcn: number): Promise<RunWindow> {
    const { index, header } = this;
    const limit = header.clusters + 1;
    const runs = new RunIndex(header.clusterSize + 1, Number.POSITIVE_INFINITY);
    let i = index.findStart(lcn);
    if (i < 0) return { from: 0, to: index.count > 0 ? index.lcn[0] : limit, index: runs };
    const from = index.lcn[i];
    for (; i < index.count && runs.count < WINDOW_RUNS; i++) {
      if (index.clusters[i] !== FOLDED) {
        runs.push(index.lcn[i], index.at[i], index.clusters[i]);
        continue;
      }
      const start = { offset: index.at[i], position: index.lcn[i] };
      const until = i + 1 < index.count ? index.at[i + 1] : this.end;
      await follow(
        this.file,
        header,
        start,
        (lcn, at, clusters) => {
          if (at < until) runs.push(lcn, at, clusters);
        },
        until,
      );
    }
    return { from, to: i < index.count ? index.lcn[i] : limit, index: runs };
  }

  /** As many runs as there is room for, of clusters from `lcn` on. */
  private async gather(lcn: number): Promise<RunWindow> {
    const { header } = this;
    let to = header.clusters + 1;
    const runs = new RunIndex(header.clusterSize + 1, this.most);
    const stride = header.clusterSize + 1;
    await follow(this.file, header, { offset: header.dataOffset, position: 0 }, (first, at, clusters) => {
      const from = Math.max(first, lcn);
      if (runs.full && from < to) to = Math.min(to, runs.halve());
      const count = Math.min(first + clusters, to) - from;
      if (count > 0) runs.push(from, at + (from - first) * stride, count);
    });
    return { from: lcn, to, index: runs.resolved(to) };
  }
}

interface Walk {
  readonly wentBack: boolean;
  /** Byte behind the last command. */
  readonly end: number;
}

/**
 * Hands over the runs of an image from a command on, in the image's order, up to its end or the first that begins at or behind
 * byte `until`. Throws CommandError.
 */
async function follow(
  file: Source,
  header: ImageHeader,
  start: { readonly offset: number; readonly position: number },
  use: (lcn: number, at: number, clusters: number) => void,
  until: number = Number.POSITIVE_INFINITY,
): Promise<Walk> {
  const kernel = Kernel.get();
  const slot = kernel.take(header.clusterSize >= LARGE_CLUSTER ? HOP_BYTES : SCAN_BYTES);
  const reader = new CommandReader(header, start);
  const pace = new Pace(() => {});
  try {
    while (!reader.ended && reader.offset < until) {
      const at = reader.offset;
      // Before 10.1 nothing was written of the backup boot sector.
      if (at === file.size && reader.position === header.clusters) break;
      const room = Math.min(slot.bytes.length, Math.min(file.size, until) - at);
      if (room <= 0) throw reader.truncated(file.size);
      const r = file.read(slot.bytes.subarray(0, room), at);
      const n = r instanceof Promise ? await r : r;
      const count = reader.read(slot.at, n, false);
      const { runs } = reader;
      for (let i = 0; i < 3 * count; i += 3) use(runs[i], at + runs[i + 1], runs[i + 2]);
      if (reader.failure !== null) throw reader.failure;
      if (reader.offset === at) {
        // A gap that reaches beyond what is asked for.
        if (until < file.size) break;
        throw reader.truncated(file.size);
      }
      const wait = pace.step();
      if (wait !== undefined) await wait;
    }
    if (reader.offset > file.size) throw reader.truncated(file.size);
    return { wentBack: reader.wentBack, end: reader.offset };
  } finally {
    reader.dispose();
    kernel.give(slot);
  }
}
