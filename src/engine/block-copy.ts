import { ZERO } from "../bytes/runs.ts";
import type { WriteList } from "../image/packer.ts";
import { type StatusRun, statusOf } from "../image/qcow2/block-status.ts";
import { createPacker } from "../image/qcow2/packer.ts";
import { readFully, type Source } from "../io/source.ts";
import type { Target } from "../io/target.ts";
import { atStep } from "./requests/copy-requests.ts";

/** Most bytes that are read and written at once. */
const PIECE = 2 * 1024 * 1024;
/** Most runs kept before they are copied. */
const MOST_RUNS = 4096;

/** Bytes of a disk that are copied. */
export interface BlockCopy {
  readonly disk: Source;
  /** First byte of the disk, and the one after the last. */
  readonly from: number;
  readonly to: number;
  readonly target: Target;
}

/**
 * Copies a range of a disk to the start of a raw target. What is known to be zero is left out of a fresh target. The
 * caller commits. Throws RequestError for what cannot be read or written.
 */
export async function copyBlocks(copy: BlockCopy): Promise<void> {
  const { disk, target, from, to } = copy;
  const status = statusOf(disk);
  const run: StatusRun = { state: ZERO, length: 0, host: -1, file: null };
  const buffer = new Uint8Array(Math.min(PIECE, Math.max(0, to - from)));
  for (let at = from; at < to; ) {
    const wait = status(at, to, false, run);
    if (wait !== null) await wait;
    const length = Math.min(run.length, to - at);
    if (run.state > ZERO) await copyRun(disk, at, target, at - from, length, buffer);
    else if (!target.fresh) await target.zero(at - from, length);
    at += length;
  }
}

async function copyRun(
  disk: Source,
  at: number,
  target: Target,
  to: number,
  length: number,
  buffer: Uint8Array,
): Promise<void> {
  for (let done = 0; done < length; ) {
    const piece = buffer.subarray(0, Math.min(length - done, buffer.length));
    await atStep("read", () => readFully(disk, piece, at + done), at + done);
    await atStep("write", () => target.write(piece, to + done), at + done);
    done += piece.length;
  }
}

/**
 * Copies a range of a disk into a new QCOW2 image, all of it stored, with the bytes of a tool that writes
 * `block` bytes at a time and qemu's defaults. Returns the size of the image file, in bytes; the caller
 * commits. Throws as `copyBlocks`.
 */
export async function copyBlocksToQcow2(copy: BlockCopy, block: number): Promise<number> {
  const { disk, target, from, to } = copy;
  const packer = createPacker({
    kind: "qemu",
    clusterSize: 65536,
    guestSize: to - from,
    version: 3,
    refcountOrder: 4,
    backingFile: null,
    backingFormat: null,
    exact: { least: 0, alignment: 1 },
  });
  const requests = packer.exact!;
  const buffer = new Uint8Array(PIECE);
  // Runs that follow one another in the disk and the file are one.
  const runs: { guest: number; target: number; length: number }[] = [];
  const out: WriteList = {
    data: (guest, at, length) => {
      const last = runs.at(-1);
      if (last !== undefined && last.guest + last.length === guest && last.target + last.length === at)
        last.length += length;
      else runs.push({ guest, target: at, length });
    },
    meta: (at, bytes) => {
      const w = target.write(bytes.slice(), at);
      if (w instanceof Promise) waits.push(w);
    },
  };
  const waits: Promise<void>[] = [];
  let placed = 0;
  const copyRuns = async (): Promise<void> => {
    await Promise.all(waits.splice(0));
    for (const r of runs) await copyRun(disk, from + r.guest, target, r.target, r.length, buffer);
    runs.length = 0;
    placed = 0;
  };
  for (let at = 0; at < to - from; ) {
    const end = Math.min(at + block, to - from);
    requests.request(at, end, out);
    placed += end - at;
    at = end;
    if (placed >= PIECE || runs.length >= MOST_RUNS) await copyRuns();
  }
  requests.flush(out);
  await copyRuns();
  const size = packer.finish(out);
  await Promise.all(waits);
  return size;
}
