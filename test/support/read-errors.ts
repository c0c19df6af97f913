// Read errors on chosen bytes of a file, for any program: a library that is loaded before the C library where there is
// a C compiler, else a file on a btrfs volume whose blocks were damaged (in blocks of 4096 bytes then).
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must } from "./native.ts";
import { preloadLibrary } from "./preload.ts";

const SOURCE = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static dev_t dev;
static ino_t ino;
static int ready;
static long long from[256], to[256];
static int ranges;
static long budget[256];
static int logged = -1;
static long delay;
static int copying;

__attribute__((constructor)) static void init(void) {
  const char *file = getenv("READ_ERRORS_FILE"), *list = getenv("READ_ERRORS");
  struct stat st;
  if (!file || !list || stat(file, &st)) return;
  dev = st.st_dev;
  ino = st.st_ino;
  while (*list && ranges < 256) {
    int n = 0;
    budget[ranges] = -1;
    if (sscanf(list, "%lld-%lld%n", &from[ranges], &to[ranges], &n) != 2) break;
    list += n;
    if (*list == 'x') {
      budget[ranges] = strtol(list + 1, (char **)&list, 10);
    }
    ranges++;
    if (*list == ',') list++;
  }
  if (getenv("READ_LOG")) logged = open(getenv("READ_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (getenv("READ_DELAY")) delay = atol(getenv("READ_DELAY"));
  ready = 1;
}

static int bad(int fd, off_t at, size_t n) {
  struct stat st;
  if (!ready || !n || fstat(fd, &st) || st.st_ino != ino || st.st_dev != dev) return 0;
  if (logged >= 0) dprintf(logged, "%lld %lld\\n", (long long)at, (long long)(at + n));
  if (at == 0 && n > 512) copying = 1;
  if (delay && copying) usleep(delay * 1000);
  for (int i = 0; i < ranges; i++)
    if (at < to[i] && (long long)(at + n) > from[i]) {
      if (budget[i] == 0) continue;
      if (budget[i] > 0) budget[i]--;
      errno = EIO;
      return 1;
    }
  return 0;
}
static size_t total(const struct iovec *v, int n) {
  size_t sum = 0;
  for (int i = 0; i < n; i++) sum += v[i].iov_len;
  return sum;
}
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
ssize_t read(int fd, void *b, size_t n) {
  REAL(read);
  if (ready && bad(fd, lseek(fd, 0, SEEK_CUR), n)) return -1;
  return real(fd, b, n);
}
ssize_t readv(int fd, const struct iovec *v, int n) {
  REAL(readv);
  if (ready && bad(fd, lseek(fd, 0, SEEK_CUR), total(v, n))) return -1;
  return real(fd, v, n);
}
ssize_t pread(int fd, void *b, size_t n, off_t at) { REAL(pread); return bad(fd, at, n) ? -1 : real(fd, b, n, at); }
ssize_t pread64(int fd, void *b, size_t n, off64_t at) { REAL(pread64); return bad(fd, at, n) ? -1 : real(fd, b, n, at); }
ssize_t preadv(int fd, const struct iovec *v, int n, off_t at) { REAL(preadv); return bad(fd, at, total(v, n)) ? -1 : real(fd, v, n, at); }
ssize_t preadv64(int fd, const struct iovec *v, int n, off64_t at) { REAL(preadv64); return bad(fd, at, total(v, n)) ? -1 : real(fd, v, n, at); }
ssize_t copy_file_range(int a, off64_t *x, int b, off64_t *y, size_t n, unsigned f) { REAL(copy_file_range); (void)x; if (ready && bad(a, x ? *x : lseek(a, 0, SEEK_CUR), n)) return -1; return real(a, x, b, y, n, f); }
`;

/** A range of bytes that cannot be read: `times` reads of it fail, all of them by default. */
export interface BadRange {
  readonly from: number;
  readonly to: number;
  readonly times?: number;
}

/** What a program needs to see the errors. */
export interface FailingFile {
  /** The file to open, and what to add to the environment. */
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;
  /** Bytes that fail together. */
  readonly granularity: number;
}

const shim = (): Promise<string | null> => preloadLibrary("read-errors", SOURCE);

/** Whether single bytes can fail, and only for some time; else whole blocks fail for good. */
export async function hasFineErrors(): Promise<boolean> {
  return process.env["IMPRINT_NO_PRELOAD"] !== "1" && (await shim()) !== null;
}

/**
 * What makes any program that is started with it write the byte range of each read of `image` to `log`. From the first
 * read of more than the boot sector on, each takes `delay` ms.
 */
export async function readLog(image: string, log: string, delay = 0): Promise<Record<string, string>> {
  return {
    LD_PRELOAD: (await shim())!,
    READ_ERRORS_FILE: image,
    READ_ERRORS: "",
    READ_LOG: log,
    READ_DELAY: `${delay}`,
  };
}

/** Runs `job` with a file that reads as `image`, but for the given ranges. `dir`: a scratch folder. */
export async function withReadErrors<T>(
  image: string,
  ranges: readonly BadRange[],
  dir: string,
  job: (file: FailingFile) => Promise<T>,
): Promise<T> {
  if (await hasFineErrors()) {
    const list = ranges.map((r) => `${r.from}-${r.to}${r.times === undefined ? "" : `x${r.times}`}`);
    const env = {
      LD_PRELOAD: (await shim())!,
      READ_ERRORS_FILE: image,
      READ_ERRORS: list.join(","),
    };
    return job({ path: image, env, granularity: 1 });
  }
  return onDamagedBtrfs(image, ranges, dir, job);
}

const BLOCK = 4096;

async function onDamagedBtrfs<T>(
  image: string,
  ranges: readonly BadRange[],
  dir: string,
  job: (file: FailingFile) => Promise<T>,
): Promise<T> {
  const { closeSync, openSync, readFileSync, statSync, truncateSync, writeSync } = await import("node:fs");
  const { randomBytes } = await import("node:crypto");
  const disk = join(dir, "btrfs.img");
  const at = join(dir, "btrfs");
  mkdirSync(at, { recursive: true });
  writeFileSync(disk, "");
  truncateSync(disk, statSync(image).size + 200 * 1024 * 1024);
  await must("mkfs.btrfs", ["-q", "-f", "-d", "single", "-m", "single", disk]);
  await must("mount", ["-o", "loop", disk, at]);
  const path = join(at, "image");
  const marks: Buffer[] = [];
  try {
    await must("cp", ["--sparse=never", image, path]);
    const fd = openSync(path, "r+");
    for (const r of ranges)
      for (let b = Math.floor(r.from / BLOCK); b * BLOCK < r.to; b++) {
        const mark = randomBytes(BLOCK);
        const n = Math.min(BLOCK, statSync(path).size - b * BLOCK);
        writeSync(fd, mark, 0, n, b * BLOCK);
        marks.push(mark.subarray(0, Math.min(n, 512)));
      }
    closeSync(fd);
  } finally {
    await must("umount", [at]);
  }
  const bytes = readFileSync(disk);
  const fd = openSync(disk, "r+");
  for (const mark of marks) {
    const found = bytes.indexOf(mark);
    if (found < 0) throw new Error("a block of the file is not on its btrfs volume");
    writeSync(fd, Buffer.alloc(64), 0, 64, found);
  }
  closeSync(fd);
  await must("mount", ["-o", "loop,ro", disk, at]);
  try {
    return await job({ path, env: {}, granularity: BLOCK });
  } finally {
    await must("umount", [at]);
    rmSync(disk);
  }
}
