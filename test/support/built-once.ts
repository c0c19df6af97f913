// Volumes that take long to build and that many test files use: built once on this machine, and kept between runs.
import { createHash } from "node:crypto";
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { limiter, must, run } from "./run.ts";

const here = dirname(fileURLToPath(import.meta.url));
const turn = limiter(2);

/** The volumes of one corpus, in a folder of their own; changed recipes get a new folder. */
export class VolumeCache {
  readonly folder: string;
  private readonly largest: number;
  private readonly asked = new Map<string, Promise<string>>();

  /** `recipes`: the compiled modules beside this one that decide what is built. `largest`: bytes a volume may have. */
  constructor(corpus: string, recipes: readonly string[], largest: number) {
    const hash = createHash("sha256");
    for (const name of recipes) hash.update(readFileSync(join(here, name)));
    this.folder = join(tmpdir(), `imprint-${corpus}-${hash.digest("hex").slice(0, 16)}`);
    this.largest = largest;
  }

  /**
   * Path of the volume of that name. `build` makes it in the folder it gets, which may hold a mount at `mnt`, and
   * answers with its path. Read only: copy it before changing it.
   */
  volume(name: string, build: (dir: string) => Promise<string>): Promise<string> {
    let path = this.asked.get(name);
    if (path === undefined) {
      path = turn(() => this.fetch(name, build));
      this.asked.set(name, path);
    }
    return path;
  }

  private async fetch(name: string, build: (dir: string) => Promise<string>): Promise<string> {
    const path = join(this.folder, `${name}.img`);
    if (existsSync(path)) return path;
    mkdirSync(this.folder, { recursive: true });
    const unlock = await lock(join(this.folder, `.${name}.lock`));
    try {
      if (!existsSync(path)) await this.build(name, path, build);
      return path;
    } finally {
      unlock();
    }
  }

  private async build(name: string, path: string, build: (dir: string) => Promise<string>): Promise<void> {
    const dir = mkdtempSync(join(this.folder, `.${name}-`));
    try {
      const image = await build(dir);
      if (statSync(image).size > this.largest) throw new Error("it is larger than the corpus allows");
      await must("cp", ["--sparse=always", image, `${image}.sparse`]);
      renameSync(`${image}.sparse`, path);
    } catch (e) {
      throw new Error(`volume ${name} could not be built: ${(e as Error).message}`, { cause: e });
    } finally {
      await run("umount", [join(dir, "mnt")]);
      rmSync(dir, { recursive: true, force: true });
    }
  }
}

/**
 * Waits until no other process builds the same, so that it is not built twice at once. The lock only saves work: who
 * builds does so apart and renames, so that nothing breaks should two of them take over the lock of a dead process.
 */
async function lock(path: string): Promise<() => void> {
  const own = `${path}.${process.pid}`;
  writeFileSync(own, `${process.pid}`);
  try {
    for (;;) {
      try {
        linkSync(own, path);
        return () => rmSync(path, { force: true });
      } catch (e) {
        if ((e as NodeJS.ErrnoException).code !== "EEXIST") throw e;
      }
      if (!alive(path)) rmSync(path, { force: true });
      else await new Promise((done) => setTimeout(done, 20));
    }
  } finally {
    unlinkSync(own);
  }
}

/** Whether the process that a lock names runs; a lock that went away just now is as good as one. */
function alive(path: string): boolean {
  try {
    process.kill(Number(readFileSync(path, "latin1")), 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
