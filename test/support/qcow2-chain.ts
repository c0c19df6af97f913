// A backing chain of three images of different sizes, and others to put under it.
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must } from "./native.ts";
import { Random } from "./random.ts";

/** How the QCOW2 images of a chain are made. */
export interface ChainShape {
  /** -o of create. */
  readonly options?: string;
  /** Where data goes. */
  readonly random?: Random;
}

/** Sizes in bytes. */
const SIZES = {
  base: 2 * 1024 * 1024,
  mid: 1500 * 1024,
  top: 2560 * 1024,
  other: 1024 * 1024,
  long: 3 * 1024 * 1024,
};

/**
 * Makes base (raw), mid and top (QCOW2, each over the one before), other (QCOW2) and long (raw), with
 * data and zeros, in `dir`.
 */
export async function makeChain(dir: string, shape: ChainShape = {}): Promise<void> {
  const random = shape.random ?? new Random(5);
  const o = shape.options ? ["-o", shape.options] : [];
  const make = (program: string, ...args: string[]) => must(program, args, { cwd: dir });
  const fill = async (name: keyof typeof SIZES, format: string): Promise<void> => {
    const commands: string[] = [];
    for (let i = 0; i < 8; i++) {
      const at = random.below(SIZES[name] / 512) * 512;
      const length = Math.min(SIZES[name] - at, (1 + random.below(700)) * 512);
      const kind = ["write -P 1", "write -P 2", "write -P 3", "write -P 0", "write -z"][random.below(5)];
      commands.push("-c", `${kind.replace(/[123]$/, String(1 + random.below(250)))} ${at} ${length}`);
    }
    await make("qemu-io", "-f", format, ...commands, name);
  };
  for (const name of ["base", "long"] as const) {
    writeFileSync(join(dir, name), "");
    truncateSync(join(dir, name), SIZES[name]);
    await fill(name, "raw");
  }
  const create = (...args: string[]) => make("qemu-img", "create", "-q", "-f", "qcow2", ...o, ...args);
  await create("-b", "base", "-F", "raw", "mid", String(SIZES.mid));
  await fill("mid", "qcow2");
  await create("-b", "mid", "-F", "qcow2", "top", String(SIZES.top));
  await fill("top", "qcow2");
  await create("other", String(SIZES.other));
  await fill("other", "qcow2");
}
