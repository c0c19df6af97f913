import { nativeLibrary } from "./native.ts";

/**
 * Ends this process at once by _exit(2), without a word to V8: `process.exit` joins V8's threads, and one of them that
 * is compiling may wait for a garbage collection that only the joining thread could do (nodejs/node issue 54918: about
 * one run in a hundred of a busy command never ended). Nothing buffered is flushed, no "exit" listener is called.
 * Returns where no native call can be made.
 */
export function exitNow(code: number): void {
  const c = nativeLibrary();
  if (c === null) return;
  try {
    c.func("void _exit(int)")(code);
  } catch {
    // The caller has the portable way.
  }
}
