import type { Packer } from "../../image/packer.ts";
import type { StatusSource } from "../../image/qcow2/block-status.ts";
import { Concatenated } from "../../io/concatenated.ts";
import type { Source } from "../../io/source.ts";
import { ExactPlanner, ITERATION_BYTES } from "./exact-planner.ts";
import { type IterationRules, Iterations, type Part, SECTOR } from "./iterations.ts";
import { Planner } from "./window.ts";

/** A source as the parts that qemu-img would be given. */
export function partsOf(source: Source): Part[] {
  const all = source instanceof Concatenated ? source.parts : [source];
  return all.map((part) => ({
    source: part,
    alignment: Math.max(1, ((part as Partial<StatusSource>).statusAlignment ?? SECTOR) / SECTOR),
  }));
}

/** How qemu-img walks a plain, uncompressed conversion without a backing file. */
export const PLAIN: IterationRules = {
  buffer: ITERATION_BYTES / SECTOR,
  cluster: 0,
  backed: false,
  backingSectors: -1,
  zerosToo: false,
};

/** Cuts a source into chunks as the packer wants them; `unit` and `chunkBytes` in bytes. */
export function plannerOf(
  source: Source,
  packer: Packer,
  unit: number,
  chunkBytes: number,
): Planner | ExactPlanner {
  if (packer.exact === undefined) return new Planner(source, unit, chunkBytes, packer.chunkUnit);
  const parts = partsOf(source);
  return new ExactPlanner(new Iterations(parts, PLAIN), parts);
}
