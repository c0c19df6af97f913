// Outputs written past the page cache, on an ext4 made for it.
import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import { pastPageCache } from "../../../../src/io/node/direct-target.ts";
import { createFileTarget } from "../../../../src/io/node/file-target.ts";
import { Kernel } from "../../../../src/kernel/kernel.ts";
import { noise } from "../../../support/ext-tree.ts";
import { mount, scratch, sh, sparse } from "../../../support/host.ts";
import { Random } from "../../../support/random.ts";

const MIB = 1024 * 1024;

/** A fresh ext4 of `size` bytes. */
function ext4(t: Parameters<typeof scratch>[0], size: number): string {
  const dir = scratch(t);
  const image = sparse(join(dir, "image"), size);
  sh("mkfs.ext4", "-q", "-F", "-m", "0", image);
  return mount(t, join(dir, "m"), "-o", "loop", image);
}

test("on ext4 it is a target of its own, on tmpfs the file's", (t) => {
  const there = createFileTarget(join(ext4(t, 16 * MIB), "out"));
  const direct = pastPageCache(there);
  t.not(direct, there);
  const tmpfs = mount(t, join(scratch(t), "m"), "-t", "tmpfs", "-o", "size=1m", "none");
  const here = createFileTarget(join(tmpfs, "out"));
  t.is(pastPageCache(here), here);
  here.abort();
  return direct.abort();
});

test("runs of any length at any offset come back as they were written", async (t) => {
  const dir = ext4(t, 96 * MIB);
  for (let seed = 0; seed < 3; seed++) {
    const random = new Random(seed);
    const path = join(dir, `out-${seed}`);
    const want = Buffer.alloc(16 * MIB);
    const target = pastPageCache(createFileTarget(path, { sync: true }));
    let at = 0;
    let size = 0;
    for (let i = 0; i < 60; i++) {
      const long = random.below(3) === 0;
      const length = 1 + random.below(long ? 3 * MIB : 200_000);
      const next = random.below(10);
      // Mostly right behind the last one, sometimes further on, sometimes over what was written just now.
      if (next === 8) at += random.below(300_000);
      if (next === 9) at = Math.max(0, at - random.below(2 * MIB));
      if (at + length > want.length) break;
      const bytes = noise(seed * 1000 + i, length);
      want.set(bytes, at);
      await target.write(bytes, at);
      // What is handed over may change at once.
      bytes.fill(0xee);
      at += length;
      size = Math.max(size, at);
      if (i % 20 === 13) {
        const back = new Uint8Array(70_000);
        const from = Math.max(0, at - 60_000);
        const n = await target.read!(back, from);
        t.true(want.subarray(from, from + n).equals(back.subarray(0, n)));
      }
      if (i % 20 === 17) {
        const from = Math.max(0, at - 500_000);
        await target.zero(from, 400_000);
        want.fill(0, from, Math.min(from + 400_000, size));
      }
    }
    await target.commit(size + 5000);
    t.true(fs.readFileSync(path).equals(want.subarray(0, size + 5000)), `seed ${seed}`);
  }
});

test("its memory is given back, also when it is aborted, which leaves nothing", async (t) => {
  const dir = ext4(t, 64 * MIB);
  for (let i = 0; i < 20; i++) {
    const target = pastPageCache(createFileTarget(join(dir, "out")));
    await target.write(new Uint8Array(3 * MIB), 0);
    await target.abort();
    await target.abort();
  }
  t.deepEqual(
    fs.readdirSync(dir).filter((name) => name !== "lost+found"),
    [],
  );
});

test("without memory for it, the file's own target is used", (t) => {
  const kernel = Kernel.get();
  const held = [];
  for (let n = 64 * MIB; n >= 64 * 1024; )
    try {
      held.push(kernel.take(n));
    } catch {
      n /= 2;
    }
  const target = createFileTarget(join(ext4(t, 16 * MIB), "out"));
  t.is(pastPageCache(target), target);
  for (const slot of held) kernel.give(slot);
  target.abort();
});

test("a disk that becomes full says at which byte, and leaves nothing", async (t) => {
  const dir = ext4(t, 16 * MIB);
  const target = pastPageCache(createFileTarget(join(dir, "out"), { sync: true }));
  const error = await t.throwsAsync(async () => {
    for (let at = 0; at < 64 * MIB; at += MIB) await target.write(new Uint8Array(MIB).fill(at >> 20), at);
    await target.commit(64 * MIB);
  });
  t.regex(error!.message, /out: write error at byte \d+: no space left on device/);
  const at = Number(/byte (\d+)/.exec(error!.message)![1]);
  t.true(at > 4 * MIB && at < 16 * MIB, `${at}`);
  await target.abort();
  t.deepEqual(
    fs.readdirSync(dir).filter((name) => name !== "lost+found"),
    [],
  );
});
