import { compare } from "../../../src/engine/compare.ts";
import { firstStatusDifference } from "../../../src/engine/strict-compare.ts";
import { ImprintError } from "../../../src/errors.ts";
import type { Source } from "../../../src/io/source.ts";
import { nodeComparer } from "../../../src/node/bulk-compare.ts";
import { print } from "../../ui/out.ts";
import { errorText, QemuError, QemuUsageError } from "./errors.ts";
import { mapLayers } from "./layers.ts";
import { type OpenedChain, openImage } from "./open.ts";
import { checkCache, OPTION, parseCommand } from "./options.ts";
import { QemuProgress } from "./progress.ts";

/** Exit codes of compare. */
const DIFFERENT = 1;
const CANNOT_OPEN = 2;
const CANNOT_ASK = 3;
const CANNOT_READ = 4;
const SECTOR = 512;

interface Options {
  formats: [string | null, string | null];
  strict: boolean;
  quiet: boolean;
  progress: boolean;
}

/** qemu-img compare. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  const o: Options = { formats: [null, null], strict: false, quiet: false, progress: false };
  let cache = "writeback";
  let imageOpts = false;
  let share = false;
  const specs = [
    OPTION.format,
    { key: "format2", short: "F", arg: "fmt" },
    OPTION.sourceCache,
    OPTION.progress,
    OPTION.quiet,
    { key: "strict", short: "s" },
    OPTION.object,
    OPTION.imageOpts,
    OPTION.share,
  ];
  const take = (key: string, value: string): void => {
    if (key === "format") o.formats[0] = value;
    else if (key === "format2") o.formats[1] = value;
    else if (key === "source-cache") cache = value;
    else if (key === "progress") o.progress = true;
    else if (key === "quiet") o.quiet = true;
    else if (key === "strict") o.strict = true;
    else if (key === "image-opts") imageOpts = true;
    else if (key === "share") share = true;
  };
  let names: string[];
  try {
    names = parseCommand("compare", args, specs, take);
  } catch (error) {
    // An --object that is none.
    if (!(error instanceof QemuError) || error instanceof QemuUsageError) throw error;
    throw new QemuError(error.message, CANNOT_OPEN);
  }
  if (names.length !== 2) throw new QemuUsageError("Expecting two image file names");
  const opened: OpenedChain[] = [];
  try {
    try {
      checkCache(cache, "source");
      for (const [i, name] of names.entries())
        opened.push(await openImage(name, { format: o.formats[i], imageOpts, share, encrypted: "refuse" }));
    } catch (error) {
      // The line of progress that was not begun is ended, as natively.
      if (o.progress && !o.quiet) print("\n");
      throw error instanceof QemuError ? new QemuError(error.message, CANNOT_OPEN) : error;
    }
    return await compareDisks(names, opened, o);
  } finally {
    for (const image of opened) await image.close();
  }
}

async function compareDisks(
  names: readonly string[],
  images: readonly OpenedChain[],
  o: Options,
): Promise<number> {
  // What is said with -q: nothing but errors.
  const say = (text: string): void => {
    if (!o.quiet) print(`${text}\n`);
  };
  const [a, b] = images.map((image) => image.disk);
  const progress = new QemuProgress(o.progress && !o.quiet, 2);
  const comparer = nodeComparer();
  try {
    if (o.strict && a.size !== b.size) {
      say("Strict mode: Image size mismatch!");
      return DIFFERENT;
    }
    const status = o.strict
      ? await firstStatusDifference(
          await mapLayers(images[0].layers),
          await mapLayers(images[1].layers),
          (which, error) => {
            throw cannotAsk(names[which], error);
          },
        )
      : -1;
    const total = Math.max(a.size, b.size);
    const shorter = Math.min(a.size, b.size);
    let warned = a.size === b.size;
    const warnOnce = (): void => {
      if (!warned) say("Warning: Image size mismatch!");
      warned = true;
    };
    const { offset } = await compare(told(a, names[0]), told(b, names[1]), {
      comparer,
      length: status < 0 ? total : status,
      onProgress: (p) => {
        if (p.done > shorter) warnOnce();
        progress.update(p.done, total);
      },
    });
    if (offset >= shorter || offset < 0) if (status < 0) warnOnce();
    if (offset >= 0) {
      const from = Math.max(await stretchOf(images[0], offset), await stretchOf(images[1], offset));
      say(`Content mismatch at offset ${from}!`);
      return DIFFERENT;
    }
    if (status >= 0) {
      say(`Strict mode: Offset ${status} block status mismatch!`);
      return DIFFERENT;
    }
    if (total > 0) progress.update(total, total);
    say("Images are identical.");
    return 0;
  } finally {
    await comparer.close();
    progress.end();
  }
}

/** Where the sectors that native counts begin: at the difference's own, or where a raw file ends within it. */
async function stretchOf({ image, disk }: OpenedChain, offset: number): Promise<number> {
  const sector = offset - (offset % SECTOR);
  if (image !== null || offset >= disk.size) return sector;
  const runs = await disk.map(sector, sector + SECTOR);
  let from = sector;
  for (let k = 0; k < runs.count && runs.at[k] <= offset; k++) from = runs.at[k];
  return from;
}

function cannotAsk(name: string, error: unknown): unknown {
  if (!(error instanceof ImprintError)) return error;
  return new QemuError(`Sector allocation test failed for ${name}: ${errorText(error)}`, CANNOT_ASK);
}

/** A source whose errors say, as native's, which image failed and how. */
function told(source: Source, name: string): Source {
  const step = <T>(work: () => T | Promise<T>, failed: (error: unknown) => unknown): T | Promise<T> => {
    const rethrow = (error: unknown): never => {
      throw failed(error);
    };
    try {
      const r = work();
      return r instanceof Promise ? r.catch(rethrow) : r;
    } catch (error) {
      return rethrow(error);
    }
  };
  return {
    size: source.size,
    label: source.label,
    read: (into, at) =>
      step(
        () => source.read(into, at),
        (error) =>
          error instanceof ImprintError
            ? new QemuError(`Error while reading offset ${at} of ${name}: ${errorText(error)}`, CANNOT_READ)
            : error,
      ),
    map: (from, to) =>
      step(
        () => source.map(from, to),
        (error) => cannotAsk(name, error),
      ),
    close() {},
  };
}
