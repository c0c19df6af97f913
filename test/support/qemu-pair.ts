// One command line given to qemu-img and to ours, each on its own copy of a folder of images.
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { runHere, type Said } from "./in-process.ts";
import { fileDifference, type Outcome, run } from "./native.ts";

/** Two folders with the same images. */
export class QemuPair {
  readonly native: string;
  readonly ours: string;

  /** `dir`: an empty scratch folder. */
  constructor(dir: string) {
    this.native = join(dir, "native");
    this.ours = join(dir, "ours");
    mkdirSync(this.native);
    mkdirSync(this.ours);
  }

  /** Makes an image with qemu-img or qemu-io in the native folder. */
  async make(program: string, ...args: string[]): Promise<void> {
    const r = await run(program, args, { cwd: this.native });
    if (r.code !== 0) throw new Error(`${program} ${args.join(" ")}: ${r.stdout}${r.stderr}`);
  }

  /** Copies what was made to our folder. */
  copy(...names: string[]): void {
    for (const name of names) cpSync(join(this.native, name), join(this.ours, name));
  }

  /** Runs both. */
  async both(...args: string[]): Promise<[Outcome, Said]> {
    return Promise.all([
      run("qemu-img", args, { cwd: this.native }),
      runHere(["qemu-img", ...args], this.ours),
    ]);
  }

  /** Both must print the same to each stream and end with the same code; returns the code. */
  async same(t: ExecutionContext, ...args: string[]): Promise<number | null> {
    const [a, b] = await this.both(...args);
    const words = { code: a.code, out: a.stdout.toString("latin1"), err: a.stderr };
    t.deepEqual({ code: b.code, out: b.stdout, err: b.stderr }, words, args.join(" "));
    return a.code;
  }

  /** The two images must hold the same disk and the same snapshots, say the same of themselves, and ours be sound. */
  async sameImage(t: ExecutionContext, name: string, after: string): Promise<void> {
    const look = async (cwd: string) => {
      const info = await run("qemu-img", ["info", name], { cwd });
      return info.stdout
        .toString("latin1")
        .replace(/^disk size.*$/m, "")
        .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, "DATE");
    };
    const [check, a, b] = await Promise.all([
      run("qemu-img", ["check", "-q", name], { cwd: this.ours }),
      look(this.native),
      look(this.ours),
    ]);
    t.is(check.code, 0, `${after}: ${check.stdout}${check.stderr}`);
    t.is(b, a, after);
    const views = [
      [],
      ...[...b.matchAll(/^(\d+) +\S+ +[\d.]+ \w+ +DATE/gm)].map((m) => ["-l", `snapshot.id=${m[1]}`]),
    ];
    for (const view of views) {
      const raw = (cwd: string) =>
        run("qemu-img", ["convert", ...view, "-O", "raw", name, "view.raw"], { cwd });
      const outcomes = await Promise.all([raw(this.native), raw(this.ours)]);
      t.deepEqual(
        outcomes.map((r) => r.code),
        [0, 0],
        after,
      );
      t.is(
        fileDifference(join(this.ours, "view.raw"), join(this.native, "view.raw")),
        null,
        `${after} ${view.join(" ")}`,
      );
    }
  }
}
