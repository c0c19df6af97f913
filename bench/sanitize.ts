// How many names a second are sanitised: planning (names found, noted, placed in their leaves) and rewriting every
// block, on one thread, from the page cache; and what the search for leaks costs. Needs root (loop mount).
// Run: node build/bench/sanitize.js [names ...]
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Sanitized, sanitize } from "../src/engine/sanitize.ts";
import { openExt } from "../src/fs/ext/volume.ts";
import { openFileSource } from "../src/io/node/file-source.ts";

const MIB = 1 << 20;
const LINKS = 60_000;
const ROUNDS = 3;

/** A volume with one indexed directory of `count` names of 12 to 43 bytes, built by the kernel. */
function volume(dir: string, count: number): string {
  const image = join(dir, `${count}.img`);
  const at = join(dir, "mnt");
  writeFileSync(image, "");
  truncateSync(image, (64 + Math.ceil(count / 5000)) * MIB);
  execFileSync("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", "-N", "4096", image]);
  mkdirSync(at, { recursive: true });
  execFileSync("mount", ["-o", "loop", image, at]);
  try {
    const wide = join(at, "wide");
    mkdirSync(wide);
    let base = "";
    for (let i = 0; i < count; i++) {
      if (i % LINKS === 0) {
        base = join(at, `base-${i}`);
        writeFileSync(base, "");
      }
      linkSync(
        base,
        join(
          wide,
          `entry-${String(i).padStart(6, "0")}${"-and-more-of-the-name-to-come-here".slice(0, i % 32)}`,
        ),
      );
    }
  } finally {
    execFileSync("umount", [at]);
  }
  return image;
}

async function readAll(clean: Sanitized): Promise<void> {
  const piece = new Uint8Array(512 * 1024);
  for (let from = 0; from < clean.source.size; ) {
    const runs = await clean.source.map(from, clean.source.size);
    for (let i = 0; i < runs.count; i++) {
      if (runs.state[i] !== 2) continue;
      for (let at = runs.at[i]; at < runs.at[i] + runs.length[i]; at += piece.length) {
        const n = Math.min(piece.length, runs.at[i] + runs.length[i] - at);
        const r = clean.source.read(piece.subarray(0, n), at);
        if (r instanceof Promise) await r;
      }
    }
    from = runs.end;
  }
}

const counts = process.argv.slice(2).map(Number);
const dir = mkdtempSync(join(tmpdir(), "imprint-bench-sanitize-"));
try {
  console.log("    names   plan s  rewrite s  names/s   search s    moved");
  for (const count of counts.length > 0 ? counts : [100_000, 300_000, 1_000_000]) {
    const image = volume(dir, count);
    let best = { plan: Infinity, rewrite: Infinity, search: Infinity, moved: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const source = openFileSource(image);
      const v = await openExt(source);
      const planning = performance.now();
      const clean = await sanitize(v, { seed: "bench", journal: "replay" });
      const plan = (performance.now() - planning) / 1000;
      const rewriting = performance.now();
      await readAll(clean);
      const rewrite = (performance.now() - rewriting) / 1000;
      const searching = performance.now();
      const report = await clean.report(null);
      const search = (performance.now() - searching) / 1000;
      clean.close();
      source.close();
      if (report.names < count || report.search.found.length > 0) throw new Error("names were missed");
      if (plan + rewrite < best.plan + best.rewrite)
        best = { plan, rewrite, search, moved: report.movedNames };
    }
    const rate = count / (best.plan + best.rewrite);
    console.log(
      `${String(count).padStart(9)}${best.plan.toFixed(3).padStart(9)}${best.rewrite.toFixed(3).padStart(11)}` +
        `${Math.round(rate).toLocaleString("en-US").padStart(11)}${best.search.toFixed(3).padStart(9)}` +
        `${String(best.moved).padStart(9)}`,
    );
    rmSync(image);
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
