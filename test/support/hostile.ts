// Broken volumes: our command line must end by itself, soon, in bounded memory, with an answer and without debris.
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import type { Shape } from "./ext-shapes.ts";
import { fileDifference, imprint, limiter, type Outcome, run } from "./native.ts";

const MEMORY = 300 * 1024 * 1024;
/** Far more than any of them takes, as machines may be slow and busy. */
const SECONDS = 60;

/** Signs of a fault of ours rather than of the volume. */
const CRASH =
  /\n\s+at |TypeError|RangeError|ReferenceError|SyntaxError|RuntimeError|unreachable|out of memory|heap limit|unhandled|a bug in/i;

/** At most two broken volumes are worked on at once. */
export const turn = limiter(2);

export interface Expectation {
  /** Why ours may refuse what the native tool images; without it native success means the same bytes from us. */
  readonly differs?: string;
  /** Words that our error must contain when it ends with exit 1. */
  readonly says?: RegExp;
  /** Ours must refuse. */
  readonly refused?: boolean;
  readonly args?: readonly string[];
  readonly native?: readonly string[];
}

/** What a shape needs for our selection to be the native one. */
export function forShape(s: Shape): Expectation {
  return s.nativeSelection ? { args: ["--native-selection"] } : {};
}

/** Checks one finished run of ours on a hostile volume. */
export function endsWell(t: ExecutionContext, what: string, r: Outcome, folder: string): void {
  const said = `${what}: exit ${r.code ?? r.signal}, ${JSON.stringify(r.stderr.slice(0, 600))}`;
  t.false(r.timedOut, `${said}: no end within ${SECONDS} s`);
  t.true(r.code === 0 || r.code === 1, said);
  t.true(r.peak < MEMORY, `${what}: ${(r.peak / 1048576).toFixed(0)} MiB of memory`);
  t.notRegex(r.stderr, CRASH, said);
  if (r.code === 1) {
    t.true(
      r.stderr.trim().split("\n").length > 0 && r.stderr.trim() !== "",
      `${said}: failed without a word`,
    );
    const lost = /error reading block \d+\n[\s\S]*could not be read and (is|are) zeros in/.test(r.stderr);
    if (!lost) t.deepEqual(readdirSync(folder), [], `${said}: left files behind`);
  }
}

/** Images `volume` with native e2image and with ours in one mode and compares what the contract allows. */
export async function facesHostile(
  t: ExecutionContext,
  dir: string,
  what: string,
  volume: string,
  mode: string,
  expect: Expectation = {},
): Promise<void> {
  const ours = join(dir, "ours");
  const native = join(dir, "native");
  for (const d of [ours, native]) {
    rmSync(d, { recursive: true, force: true });
    mkdirSync(d);
  }
  const r = await imprint(["e2image", ...(expect.args ?? []), mode, volume, join(ours, "out")], {
    timeoutMs: SECONDS * 1000,
    watchMemory: true,
  });
  const label = `${what} ${mode}`;
  endsWell(t, label, r, ours);
  if (r.code === 1 && expect.says) t.regex(r.stderr, expect.says, label);
  if (expect.refused) t.is(r.code, 1, `${label}: must be refused`);
  const n = await run(
    "bash",
    [
      "-c",
      'ulimit -v 4000000; exec e2image "$@"',
      "e2image",
      ...(expect.native ?? []),
      mode,
      volume,
      join(native, "out"),
    ],
    { timeoutMs: 5000 },
  );
  if (n.code !== 0 || !existsSync(join(native, "out"))) return;
  if (r.code !== 0) {
    t.truthy(expect.differs, `${label}: the native tool makes an image, ours says ${r.stderr.slice(0, 400)}`);
    return;
  }
  t.is(fileDifference(join(native, "out"), join(ours, "out")), null, `${label}: not the native bytes`);
}

/** Lets the commands that read more than e2image does (bitmaps, trees, every block in use) face a volume. */
export async function facesCommands(
  t: ExecutionContext,
  dir: string,
  what: string,
  volume: string,
): Promise<void> {
  const ours = join(dir, "ours");
  for (const words of [
    ["info", volume],
    ["capture", "--used", "--format", "raw", volume, join(ours, "out")],
  ]) {
    rmSync(ours, { recursive: true, force: true });
    mkdirSync(ours);
    const r = await imprint(words, { timeoutMs: SECONDS * 1000, watchMemory: true });
    endsWell(t, `${what}, imprint ${words[0]}`, r, ours);
  }
}

/** Writes a mutated volume. */
export function writeVolume(dir: string, bytes: Uint8Array): string {
  const path = join(dir, "volume.img");
  writeFileSync(path, bytes);
  return path;
}
