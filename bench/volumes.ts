// The volumes that the bench works on, built once and kept in the machine's temporary folder.
import { execFileSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MIB = 1024 * 1024;

/** Where volumes and outputs live. */
export const workspace: string = join(process.env["IMPRINT_BENCH_DIR"] ?? tmpdir(), "imprint-bench");

const asRoot = process.getuid?.() === 0;

export function sh(program: string, args: readonly string[]): string {
  return execFileSync(program, args, {
    encoding: "latin1",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 1e9,
  });
}

/** Copies files of the machine below `to` until `wanted` bytes are there; starts over when they run out. */
function gather(to: string, wanted: number): void {
  let left = wanted;
  const walk = (from: string, into: string): void => {
    mkdirSync(into, { recursive: true });
    for (const e of readdirSync(from, { withFileTypes: true })) {
      if (left <= 0) return;
      const [source, copy] = [join(from, e.name), join(into, e.name)];
      try {
        if (e.isDirectory()) walk(source, copy);
        else if (e.isSymbolicLink()) symlinkSync(readlinkSync(source), copy);
        else if (e.isFile()) {
          copyFileSync(source, copy);
          left -= statSync(copy).size;
        }
      } catch (error) {
        // What this user may not read is no part of the bench.
        if (!["EACCES", "EPERM", "ENOENT"].includes((error as { code?: string }).code ?? "")) throw error;
      }
    }
  };
  for (let round = 0; left > 0; round++) {
    const before = left;
    for (const from of ["/usr/share", "/usr/lib", "node_modules", "/usr/bin"])
      if (existsSync(from)) walk(from, join(to, `round-${round}`, from));
    if (left === before) throw new Error("this machine has no files to fill a volume with");
  }
}

/** Builds into a name of its own and renames, so that an interrupted build is never used. */
function kept(name: string, build: (path: string) => void): string {
  const path = join(workspace, name);
  if (existsSync(path)) return path;
  mkdirSync(workspace, { recursive: true });
  console.log(`building ${path}`);
  build(`${path}.part`);
  renameSync(`${path}.part`, path);
  return path;
}

/** An ext4 volume of 4 KiB blocks with at least `used` MiB of files in it, twice as large as that. */
export function populated(used: number): string {
  return kept(`populated-${used}.img`, (path) => {
    const stage = join(workspace, "stage");
    rmSync(stage, { recursive: true, force: true });
    gather(stage, used * MIB);
    rmSync(path, { force: true });
    closeSync(openSync(path, "w"));
    truncateSync(path, used * 2 * MIB);
    sh("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", "-i", "16384", "-N", "400000", "-d", stage, path]);
    rmSync(stage, { recursive: true, force: true });
  });
}

/** An ext4 volume with `count` inodes, nearly all of them in use, one in twenty with a block of data. */
export function manyInodes(count: number): string {
  return kept(`inodes-${count}.img`, (path) => {
    const fill = (at: string): void => {
      const block = Buffer.alloc(4000, 7);
      const folders = Math.floor(count / 1000);
      for (let d = 0; d < folders; d++) {
        const folder = join(at, `folder-${d}`);
        mkdirSync(folder);
        const files = d === 0 ? 900 : 990;
        for (let i = 0; i < files; i++)
          if (i % 20) closeSync(openSync(join(folder, `an empty file, number ${i}`), "w"));
          else writeFileSync(join(folder, `a small file, number ${i}`), block);
      }
    };
    rmSync(path, { force: true });
    closeSync(openSync(path, "w"));
    truncateSync(path, 2048 * MIB);
    const args = ["-q", "-F", "-t", "ext4", "-b", "4096", "-N", `${count}`];
    if (asRoot) {
      sh("mke2fs", [...args, path]);
      mounted(path, fill);
    } else {
      const stage = join(workspace, "stage");
      rmSync(stage, { recursive: true, force: true });
      mkdirSync(stage, { recursive: true });
      fill(stage);
      sh("mke2fs", [...args, "-d", stage, path]);
      rmSync(stage, { recursive: true, force: true });
    }
  });
}

function mounted(image: string, job: (at: string) => void): void {
  const at = join(workspace, "mnt");
  mkdirSync(at, { recursive: true });
  sh("mount", ["-o", "loop", image, at]);
  try {
    job(at);
  } finally {
    sh("umount", [at]);
  }
}

/** Runs `job` in a fresh filesystem of its own (btrfs, xfs), mounted through a loop device. Needs root. */
export async function inFilesystem(
  kind: string,
  size: number,
  job: (at: string) => Promise<void>,
): Promise<boolean> {
  if (!asRoot) return false;
  const image = join(workspace, `${kind}.img`);
  const at = join(workspace, `mnt-${kind}`);
  rmSync(image, { force: true });
  mkdirSync(at, { recursive: true });
  closeSync(openSync(image, "w"));
  truncateSync(image, size * MIB);
  try {
    sh(`mkfs.${kind}`, ["-q", "-f", image]);
    sh("mount", ["-o", "loop", image, at]);
  } catch (e) {
    console.log(`no ${kind} here: ${(e as Error).message.split("\n")[0]}`);
    rmSync(image, { force: true });
    return false;
  }
  try {
    await job(at);
  } finally {
    sh("umount", [at]);
    rmSync(image, { force: true });
  }
  return true;
}
