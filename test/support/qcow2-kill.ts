// Kills a job that changes a QCOW2 image at the n-th write, cut, growth or flush, with what was not flushed lost or
// not, and looks at what is left.
import { writeFileSync } from "node:fs";
import { checkImage } from "../../src/image/qcow2/check/check.ts";
import type { DurableFile } from "../../src/io/durable.ts";
import { CrashFile, Power, PowerCut } from "./crash-disk.ts";
import type { Random } from "./random.ts";

export interface KillJob {
  /** The image before. */
  readonly image: Uint8Array;
  /** Changes the image in `file`. */
  run(file: DurableFile): void | Promise<void>;
}

export interface KillOutcome {
  /** The image as the kill left it. */
  readonly image: Uint8Array;
  /** Operation that did not happen any more; one past the last where the job ended. */
  readonly at: number;
  readonly ended: boolean;
}

/** Number of writes, cuts and flushes that a job does. */
export async function countOperations(job: KillJob): Promise<number> {
  const power = new Power();
  await job.run(new CrashFile("image", job.image, () => power));
  return power.operations;
}

/**
 * Runs a job until operation `at`. `lost`: the machine died, so that each sector that was not flushed is old or new;
 * else the process alone died, and what it wrote is there.
 */
export async function killAt(job: KillJob, at: number, lost: boolean, random: Random): Promise<KillOutcome> {
  const power = new Power(at);
  const file = new CrashFile("image", job.image, () => power);
  let ended = true;
  try {
    await job.run(file);
  } catch (error) {
    if (!(error instanceof PowerCut)) throw error;
    ended = false;
  }
  if (lost && !ended) file.crash(random);
  return { image: new Uint8Array(file.bytes), at, ended };
}

/**
 * Kills a job at `points` of its operations, spread evenly, every other one with lost sectors, and gives what is left
 * to `look`. Returns how many were tried.
 */
export async function killEverywhere(
  job: KillJob,
  points: number,
  random: Random,
  look: (outcome: KillOutcome) => void | Promise<void>,
): Promise<number> {
  const operations = await countOperations(job);
  const step = Math.max(1, operations / points);
  let tried = 0;
  for (let at = 0; Math.floor(at) < operations; at += step)
    for (const lost of [false, true]) {
      await look(await killAt(job, Math.floor(at), lost, random));
      tried++;
    }
  return tried;
}

/** What a check of our own finds: null where the image is sound, leaks allowed or not. */
export function soundness(image: Uint8Array, leaksAllowed: boolean): string | null {
  const file = { label: "image", size: () => image.length, read: readFrom(image) };
  const lines: string[] = [];
  const { result, failure } = checkImage(file, { report: (l) => lines.push(l) });
  if (failure !== null || result.errors > 0 || result.corruptions > 0 || (!leaksAllowed && result.leaks > 0))
    return `${failure ?? "found"}: ${JSON.stringify(result)}\n${lines.slice(0, 10).join("\n")}`;
  return null;
}

function readFrom(image: Uint8Array) {
  return (into: Uint8Array, at: number): number => {
    const n = Math.max(0, Math.min(into.length, image.length - at));
    into.set(image.subarray(at, at + n));
    return n;
  };
}

/** Writes an image where qemu-img can look at it. */
export function put(path: string, image: Uint8Array): string {
  writeFileSync(path, image);
  return path;
}
