import test from "ava";
import { type MoveGeometry, MovePlan } from "../../../src/engine/move/plan.ts";
import { Random } from "../../support/random.ts";

function geometry(random: Random): MoveGeometry {
  const blockSize = [1024, 4096, 65_536][random.below(3)];
  const blocks = 1 + random.below(300);
  const span = blocks * blockSize;
  const distance = [
    0,
    1,
    random.below(blockSize),
    blockSize * random.below(12),
    random.below(2 * span),
    span,
  ][random.below(6)];
  const base = random.below(10_000);
  const [source, destination] = random.below(2) === 0 ? [base, base + distance] : [base + distance, base];
  return { source, destination, blockSize, blocks, chunk: 1 + random.below(40 * blockSize) };
}

/** Native's order: pieces as long as the distance from the end down, or all of it ascending. */
function nativeOrder(g: MoveGeometry): number[] | null {
  const apart = Math.floor((g.destination - g.source) / g.blockSize);
  if (g.destination > g.source && apart === 0) return null;
  const piece = g.destination <= g.source || apart >= g.blocks ? g.blocks : apart;
  const out: number[] = [];
  for (let end = g.blocks; end > 0; end -= piece)
    for (let b = Math.max(0, end - piece); b < end; b++) out.push(b);
  return out;
}

test("every block once, in native's order, in steps of bounded size", (t) => {
  const random = new Random(21);
  for (let round = 0; round < 3000; round++) {
    const g = geometry(random);
    const plan = new MovePlan(g);
    const order: number[] = [];
    for (let i = 0; i < plan.steps; i++) {
      const { first, last } = plan.range(i);
      const parts = plan.parts(i);
      const blocks = parts.reduce((n, p) => n + p.last - p.first, 0);
      if (last <= first || blocks !== last - first || last - first > plan.unitBlocks)
        t.fail(`step ${i} of ${JSON.stringify(g)}`);
      for (const p of parts) for (let b = p.first; b < p.last; b++) order.push(b);
    }
    const native = nativeOrder(g);
    const wanted = native ?? [...order].sort((a, b) => a - b);
    const got = native === null ? [...order].sort((a, b) => a - b) : order;
    if (got.length !== g.blocks || got.some((b, i) => b !== wanted[i])) t.fail(JSON.stringify(g));
    if (plan.unitBlocks * g.blockSize > Math.max(g.chunk, g.blockSize))
      t.fail(`chunk of ${JSON.stringify(g)}`);
  }
  t.pass();
});

test("what a step overwrites is no later step's source, and `spares` knows whose it is", (t) => {
  const random = new Random(22);
  for (let round = 0; round < 400; round++) {
    const g = geometry(random);
    const plan = new MovePlan(g);
    const source = (i: number): [number, number] => {
      const { first, last } = plan.range(i);
      return [g.source + first * g.blockSize, g.source + last * g.blockSize];
    };
    const shift = g.destination - g.source;
    const hits = (i: number, k: number): boolean => {
      const [a, b] = source(i);
      const [c, d] = source(k);
      return a + shift < d && c < b + shift;
    };
    for (let i = 0; i < plan.steps; i++) {
      let first = plan.steps;
      for (let k = plan.steps - 1; k >= 0; k--) if (hits(i, k)) first = Math.min(first, k);
      for (let k = i; k < plan.steps; k++)
        if (hits(i, k) && (k > i || !plan.keepsData)) t.fail(`${i} destroys ${k}: ${JSON.stringify(g)}`);
      if (plan.overlaps(i) !== first < plan.steps) t.fail(`overlaps ${i}: ${JSON.stringify(g)}`);
      if (plan.keepsData) continue;
      for (let from = 0; from <= i; from++) {
        let spared = true;
        for (let k = from; k < plan.steps; k++) if (hits(i, k)) spared = false;
        // It may be more careful than it has to be, but never less, and never where the step itself comes next.
        if (plan.spares(from, i) && !spared) t.fail(`spares ${from}, ${i}: ${JSON.stringify(g)}`);
        if (from === i && !plan.spares(from, i)) t.fail(`stuck at ${i}: ${JSON.stringify(g)}`);
      }
    }
  }
  t.pass();
});
