// Scratch folders, loop devices and mounts for tests, each undone when its test ends.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";

/** A fresh folder. */
export function scratch(t: ExecutionContext, name = "io"): string {
  const dir = mkdtempSync(join(tmpdir(), `imprint-${name}-`));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Runs a program that must succeed; returns what it printed. */
export function sh(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}

/** A file of `size` bytes, all hole. */
export function sparse(path: string, size: number): string {
  writeFileSync(path, "");
  truncateSync(path, size);
  return path;
}

/** Attaches a file to a loop device and returns the device. */
export function attach(t: ExecutionContext, file: string, ...options: readonly string[]): string {
  const device = sh("losetup", "--find", "--show", ...options, file);
  t.teardown(() => {
    sh("losetup", "--detach", device);
  });
  return device;
}

/** Mounts something on a new folder and returns the folder. */
export function mount(t: ExecutionContext, at: string, ...args: readonly string[]): string {
  mkdirSync(at);
  sh("mount", ...args, at);
  t.teardown(() => {
    sh("umount", at);
  });
  return at;
}
