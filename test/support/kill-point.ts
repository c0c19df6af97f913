// A program killed for real at its n-th change of a file, wherever that comes in time.
import { readFileSync } from "node:fs";
import { preloadLibrary } from "./preload.ts";

/**
 * Counts what changes files or makes changes last; the process kills itself instead of doing the one numbered KILL_AT.
 */
const SOURCE = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long point, done;
static int count = -1;
__attribute__((constructor)) static void init(void) {
  const char *at = getenv("KILL_AT"), *file = getenv("KILL_COUNT");
  if (at) point = atol(at);
  if (file) count = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}
static void step(void) {
  char text[32];
  long n = __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
  if (n == point)
    for (;;) kill(getpid(), SIGKILL);
  if (count >= 0) syscall(SYS_pwrite64, count, text, snprintf(text, sizeof text, "%ld", n), 0);
}
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); step()
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { REAL(pwrite); return real(fd, b, n, at); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { REAL(pwrite64); return real(fd, b, n, at); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) { REAL(pwritev); return real(fd, v, n, at); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at) { REAL(pwritev64); return real(fd, v, n, at); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); return real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); return real(fd, n); }
int fallocate(int fd, int m, off_t a, off_t n) { REAL(fallocate); return real(fd, m, a, n); }
int fallocate64(int fd, int m, off64_t a, off64_t n) { REAL(fallocate64); return real(fd, m, a, n); }
int fsync(int fd) { REAL(fsync); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return real(fd); }
int rename(const char *a, const char *b) { REAL(rename); return real(a, b); }
int link(const char *a, const char *b) { REAL(link); return real(a, b); }
int symlink(const char *a, const char *b) { REAL(symlink); return real(a, b); }
int unlink(const char *a) { REAL(unlink); return real(a); }
`;

async function library(): Promise<string> {
  const path = await preloadLibrary("kill-point", SOURCE);
  if (path === null) throw new Error("there is no C compiler: install what scripts/install-native.sh lists");
  return path;
}

/** Environment of a program that is to be killed instead of its change `at`, counted from 1. */
export async function killedAt(at: number): Promise<Record<string, string>> {
  return { LD_PRELOAD: await library(), KILL_AT: `${at}` };
}

/** Runs `job` with the environment of a program that counts its changes in `file`; answers with their number. */
export async function countChanges(
  file: string,
  job: (env: Record<string, string>) => Promise<unknown>,
): Promise<number> {
  await job({ LD_PRELOAD: await library(), KILL_COUNT: file });
  return Number(readFileSync(file, "latin1"));
}
