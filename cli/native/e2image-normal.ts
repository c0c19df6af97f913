import { type BigIntStats, fstatSync, statSync } from "node:fs";
import { hostname } from "node:os";
import type { JobOptions } from "../../src/engine/api.ts";
import { IoError } from "../../src/errors.ts";
import { ExtError } from "../../src/fs/ext/errors.ts";
import type { ExtVolume } from "../../src/fs/ext/volume.ts";
import type { Origin } from "../../src/image/e2image/header.ts";
import type { Source } from "../../src/io/source.ts";
import type { Target } from "../../src/io/target.ts";
import { printError } from "../ui/out.ts";
import type { E2imageOptions } from "./e2image-options.ts";
import { nativeText } from "./native-errors.ts";

const STDOUT = 1;

/**
 * The normal image of e2image (neither -r nor -Q) onto an open target, committed at the end. Returns how many blocks
 * could not be read (with --ignore-read-errors; without, the first one ends the job). Errors of the volume carry what
 * was being done in their `doing`.
 */
export async function writeNormal(
  o: E2imageOptions,
  target: Target,
  source: Source,
  volume: ExtVolume,
  job: JobOptions,
): Promise<{ readonly unchanged: number; readonly lost: number }> {
  const { writeE2image } = await import("../../src/image/e2image/writer.ts");
  let lost = 0;
  let readable = source;
  if (o.ignoreReadErrors) {
    const { TolerantSource } = await import("../../src/engine/tolerant-source.ts");
    readable = new TolerantSource(source, volume.size, volume.blockSize, (at, error) => {
      lost++;
      printError(`e2image: ${nativeText(error)} error reading block ${Math.floor(at / volume.blockSize)}\n`);
    });
  }
  let doing = "";
  const options = {
    origin: originOf(o, target),
    signal: job.signal,
    onStep: (step: string) => {
      doing = step;
    },
  };
  try {
    const size = await writeE2image(readable, volume.superblock, target, options);
    if (o.verify) {
      const { comparingTarget } = await import("../../src/image/e2image/verify.ts");
      await writeE2image(readable, volume.superblock, comparingTarget(target), options);
    }
    await target.commit(size);
  } catch (error) {
    if (error instanceof ExtError) throw error.during(doing);
    throw error instanceof IoError ? Object.assign(error, { doing }) : error;
  }
  return { unchanged: 0, lost };
}

/** Where the image comes from, as native e2image fills it in. */
function originOf(o: E2imageOptions, target: Target): Origin {
  const image = statOr(() => {
    if (target.host !== undefined) return fstatSync(target.host.fd, { bigint: true });
    return o.target === "-"
      ? fstatSync(STDOUT, { bigint: true })
      : statSync(target.label, { bigint: true, throwIfNoEntry: false });
  });
  const device = statOr(() => statSync(o.source, { bigint: true, throwIfNoEntry: false }));
  return {
    hostname: hostname(),
    deviceName: o.source,
    fsDevice: low32(device?.rdev),
    imageDevice: low32(image?.dev),
    imageInode: low32(image?.ino),
    time: Math.floor(Date.now() / 1000),
  };
}

function statOr(stat: () => BigIntStats | undefined): BigIntStats | undefined {
  try {
    return stat();
  } catch {
    return undefined;
  }
}

function low32(value: bigint | undefined): number {
  return Number(BigInt.asUintN(32, value ?? 0n));
}
