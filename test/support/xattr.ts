// Extended attributes, which Node cannot set: through koffi.
import { createRequire } from "node:module";

type SetXattr = (path: string, name: string, value: Uint8Array, length: number, flags: number) => number;

let call: { set: SetXattr; errno: () => number } | null = null;

/** Sets an extended attribute; throws with the errno where the filesystem refuses. */
export function setXattr(path: string, name: string, value: Uint8Array): void {
  if (call === null) {
    const koffi = createRequire(import.meta.url)("koffi") as {
      load(path: null): { func(prototype: string): unknown };
      errno(): number;
    };
    const set = koffi
      .load(null)
      .func("int setxattr(const char *, const char *, const uint8_t *, size_t, int)") as SetXattr;
    call = { set, errno: () => koffi.errno() };
  }
  if (call.set(path, name, value, value.length, 0) !== 0)
    throw new Error(`setxattr ${name} of ${path}: errno ${call.errno()}`);
}
