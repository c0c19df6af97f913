import * as fs from "node:fs";

/**
 * Temporary outputs of this process. Whatever ends it (a signal, process.exit, an uncaught error) removes them; only
 * SIGKILL and a power cut leave them behind.
 */

const live = new Set<string>();
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
export type EndSignal = (typeof SIGNALS)[number];
let installed = false;
let handler: ((signal: EndSignal) => void) | null = null;
let asked = false;

/** Notes a temporary file; the first call installs the handlers. */
export function trackLive(path: string): void {
  live.add(path);
  install();
}

/** Forgets a temporary file: it was published or removed. */
export function untrackLive(path: string): void {
  live.delete(path);
}

/** Temporary files that exist now. */
export function liveFiles(): readonly string[] {
  return [...live];
}

/** Removes every temporary file; returns how many there were. Their targets can only be aborted afterwards. */
export function cleanupLive(): number {
  const n = live.size;
  for (const path of live) {
    try {
      fs.unlinkSync(path);
    } catch {
      // Gone already, or its folder is: nothing is left behind either way.
    }
  }
  live.clear();
  return n;
}

/**
 * What to do on SIGINT, SIGTERM and SIGHUP once the temporary files are gone (a message, an exit code). Without one the
 * process dies of the signal, as it would have. null takes the handler away.
 */
export function onSignals(handle: ((signal: EndSignal) => void) | null): void {
  handler = handle;
  asked = false;
  if (handle !== null) install();
}

/** Whether a handler of `onSignals` was called by a signal: what waits for another process has to give up. */
export function endAsked(): boolean {
  return asked;
}

function install(): void {
  if (installed) return;
  installed = true;
  process.on("exit", () => cleanupLive());
  for (const signal of SIGNALS) process.on(signal, received);
}

function received(signal: NodeJS.Signals): void {
  // A program that has its own handler decides itself; if it exits, the files go then.
  if (handler === null && process.listenerCount(signal) > 1) return;
  cleanupLive();
  if (handler !== null) {
    asked = true;
    handler(signal as EndSignal);
    return;
  }
  for (const s of SIGNALS) process.removeListener(s, received);
  installed = false;
  process.kill(process.pid, signal);
}
