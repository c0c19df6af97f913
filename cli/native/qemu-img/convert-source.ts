import { fstatSync } from "node:fs";
import type { BitmapEntry } from "../../../src/image/qcow2/bitmaps.ts";
import type { Snapshot } from "../../../src/image/qcow2/snapshots.ts";
import { Concatenated } from "../../../src/io/concatenated.ts";
import { statOf } from "../../../src/io/node/mounts.ts";
import type { Source } from "../../../src/io/source.ts";
import type { ConvertSettings, SnapshotChoice } from "./convert-options.ts";
import { QemuError } from "./errors.ts";
import { type OpenedChain, openImage } from "./open.ts";

/** What a conversion reads. */
export interface ConvertInput {
  readonly chains: readonly OpenedChain[];
  /** All sources one after the other. */
  readonly disk: Source;
  /** Whole sectors of all of them. */
  readonly sectors: number;
  /** Paths of all files that are read. */
  readonly paths: readonly string[];
  /** The bytes of the host files are the disk's: they can be copied in bulk. */
  readonly bulk: boolean;
  /** The bitmaps that are to be copied, once they have been looked at. */
  readonly bitmaps: BitmapEntry[];
  close(): Promise<void>;
}

/** Opens the sources in order, and the snapshot where one is asked for. Throws QemuError with native's text. */
export async function openInput(s: ConvertSettings): Promise<ConvertInput> {
  const chains: OpenedChain[] = [];
  const extra: { close(): void | Promise<void> }[] = [];
  const close = async (): Promise<void> => {
    for (const e of extra) await e.close();
    for (const c of chains) await c.close();
  };
  try {
    for (const name of s.sources)
      chains.push(
        await openImage(await seekableName(name), {
          format: s.format,
          imageOpts: s.imageOpts,
          share: s.share,
          locked: "steady",
          truncated: s.salvage ? "warn" : "refuse",
          encrypted: "refuse",
        }),
      );
    for (const chain of chains) await askForHoles(chain);
    if (s.bitmaps) checkBitmaps(chains);
    if (s.snapshot !== null && s.snapshot.kind === "word" && chains.length > 1)
      throw new QemuError("No support for concatenating multiple snapshot");
    const disks: Source[] = [];
    for (const [i, chain] of chains.entries()) {
      if (i === 0 && s.snapshot !== null) {
        const view = await openSnapshot(chain, s.snapshot);
        extra.push(view);
        disks.push(view);
      } else disks.push(diskOf(chain));
    }
    const sectors = disks.reduce((sum, d) => sum + Math.ceil(d.size / 512), 0);
    const disk = disks.length === 1 ? disks[0] : new Concatenated(disks);
    const paths = chains.flatMap((c) => c.layers.map((l) => l.path));
    const bulk = chains.every((c, i) => c.image !== null || disks[i] === c.file);
    return { chains, disk, sectors, paths, bulk, bitmaps: [], close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** As native does, images that look allocated ahead of use are asked for the holes in their files. */
export async function askForHoles(chain: OpenedChain): Promise<void> {
  const { looksPreallocated } = await import("../../../src/image/qcow2/preallocation.ts");
  for (const { image, header, file } of chain.layers) {
    if (image === null || header === null || header.cryptMethod !== 0) continue;
    const stored = fstatSync(file.fd).blocks * 512;
    if (await looksPreallocated(file, header, stored)) image.holes = await image.openData();
  }
}

/** "-" and what cannot be read at any offset is kept in a temporary file. */
async function seekableName(name: string): Promise<string> {
  if (name !== "-") {
    const st = statOf(name);
    if (st === undefined || !(st.isFIFO() || (st.isCharacterDevice() && name.startsWith("/dev/std"))))
      return name;
    const { spooledPath } = await import("./convert-spool.ts");
    return spooledPath(name);
  }
  const { standardInput } = await import("../../ui/stdin.ts");
  return standardInput();
}

/** The disk of a chain: a raw file's own bytes where it is taken whole, so that they can be copied in bulk. */
function diskOf(chain: OpenedChain): Source {
  const whole = chain.image === null && Math.ceil(chain.file.size / 512) * 512 === chain.disk.size;
  return whole ? chain.file : chain.disk;
}

function checkBitmaps(chains: readonly OpenedChain[]): void {
  if (chains.length !== 1) throw new QemuError("Copying bitmaps only possible with single source");
  // Version 2 has no place for any.
  if ((chains[0].header?.version ?? 0) < 3) throw new QemuError("Source lacks bitmap support");
}

/** The disk of an image as of one of its snapshots. Throws QemuError with native's text. */
export async function openSnapshot(chain: OpenedChain, choice: SnapshotChoice): Promise<Source> {
  if (chain.image === null)
    throw new QemuError(
      "Failed to load snapshot: Block format 'raw' used by device '' does not support temporarily loading internal snapshots",
    );
  const { openQcow2 } = await import("../../../src/image/qcow2/reader.ts");
  const { refuseGate } = await import("../../../src/engine/open.ts");
  const data = chain.header!.external ? await chain.image.openData() : undefined;
  const view = await openQcow2(chain.file, refuseGate, {
    ...(data === undefined ? {} : { data }),
    backing: chain.backing?.disk ?? null,
    snapshot: (list) => {
      const found = pick(list, choice);
      if (found === undefined) throw new QemuError("Failed to load snapshot: Can't find snapshot");
      return found;
    },
  });
  view.holes = chain.image.holes;
  return view;
}

function pick(list: readonly Snapshot[], choice: SnapshotChoice): Snapshot | undefined {
  if (choice.kind === "word")
    return list.find((x) => x.id === choice.word) ?? list.find((x) => x.name === choice.word);
  const { id, name } = choice;
  if (id === null && name === null) return undefined;
  return list.find((x) => (id === null || x.id === id) && (name === null || x.name === name));
}
