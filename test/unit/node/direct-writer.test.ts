// Long writes take the cheaper of two ways: through the page cache or past it.
import * as fs from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { openDirect } from "../../../src/io/node/direct.ts";
import { Kernel } from "../../../src/kernel/kernel.ts";
import { DirectWriter } from "../../../src/node/direct-writer.ts";
import { noise } from "../../support/ext-tree.ts";
import { mount, scratch, sh, sparse } from "../../support/host.ts";
import { Random } from "../../support/random.ts";

const MIB = 1024 * 1024;
const GRAIN = 64 * 1024;
const PIECE = 256 * 1024;

/** A writer whose one way leads nowhere, the other one to a file, and a clock that each moves by its price. */
function twoWays(t: ExecutionContext, flushed: boolean) {
  const path = join(scratch(t), "direct");
  const cached = fs.openSync("/dev/null", "w");
  const direct = fs.openSync(path, "w+");
  const slot = Kernel.get().take(PIECE, 4096);
  t.teardown(() => {
    fs.closeSync(cached);
    fs.closeSync(direct);
    Kernel.get().give(slot);
  });
  const price = { cached: 1, direct: 1 };
  let clock = 0;
  let pieces = 0;
  /** Whether the piece at hand went past the page cache. */
  const wentPast = (): boolean => {
    const head = Buffer.alloc(4);
    return fs.readSync(direct, head, 0, 4, 0) === 4 && head.readUInt32LE() === pieces;
  };
  // Looked at before and after each write.
  const now = () => {
    clock += wentPast() ? price.direct : price.cached;
    return clock;
  };
  const writer = new DirectWriter({ fd: cached, direct, flushed }, "it", now);
  /** Writes `count` pieces; how many went past the page cache. */
  const write = (count: number): number => {
    let past = 0;
    for (let i = 0; i < count; i++) {
      new DataView(slot.bytes.buffer, slot.at).setUint32(0, ++pieces, true);
      writer.write(slot.bytes, 0, PIECE, 0);
      if (wentPast()) past++;
    }
    return past;
  };
  return { write, price };
}

test.serial("both ways are tried, then the cheaper one is kept", (t) => {
  const { write, price } = twoWays(t, false);
  price.cached = 10;
  t.is(write(4), 0);
  t.is(write(4), 4);
  t.is(write(100), 100);
});

test.serial("at the same price the page cache is kept", (t) => {
  const { write } = twoWays(t, false);
  write(8);
  t.is(write(100), 0);
});

test.serial("a way that becomes dear is given up", (t) => {
  const { write, price } = twoWays(t, false);
  write(8);
  t.is(write(64), 0);
  price.cached = 10;
  write(64 + 64 + 4);
  t.is(write(50), 50);
});

test.serial("the other way is tried again after a while, less and less often", (t) => {
  const { write } = twoWays(t, false);
  write(8);
  t.is(write(4 * 64), 0);
  t.is(write(4), 4);
  t.is(write(16 * 64), 0);
  t.is(write(4), 4);
});

test.serial("what is flushed anyway goes past the page cache", (t) => {
  const { write } = twoWays(t, true);
  t.is(write(50), 50);
});

test.serial("only whole grains of long runs go past it", (t) => {
  const dir = scratch(t);
  const cached = fs.openSync(join(dir, "cached"), "w+");
  const direct = fs.openSync(join(dir, "direct"), "w+");
  const writer = new DirectWriter({ fd: cached, direct, flushed: true }, "it");
  const slot = Kernel.get().take(MIB, 4096);
  slot.bytes.set(noise(1, MIB));
  const start = 3 * GRAIN - 4096;
  writer.write(slot.bytes, 0, 700_000, start);
  writer.write(slot.bytes, 0, 200_000, 2 * MIB);
  const from = 3 * GRAIN;
  const to = Math.floor((start + 700_000) / GRAIN) * GRAIN;
  const past = fs.readFileSync(join(dir, "direct"));
  t.is(past.length, to);
  t.true(past.subarray(from).equals(slot.bytes.subarray(4096, 4096 + to - from)));
  const rest = fs.readFileSync(join(dir, "cached"));
  t.true(rest.subarray(start, from).equals(slot.bytes.subarray(0, 4096)));
  t.true(rest.subarray(to, start + 700_000).equals(slot.bytes.subarray(to - start, 700_000)));
  t.true(rest.subarray(2 * MIB).equals(slot.bytes.subarray(0, 200_000)));
  Kernel.get().give(slot);
  fs.closeSync(cached);
  fs.closeSync(direct);
});

test.serial("a disk that fails is an error that names the byte, and nothing is tried again", (t) => {
  const path = join(scratch(t), "cached");
  const fd = fs.openSync(path, "w+");
  // Nothing is mapped at the lowest addresses of a process.
  const direct = fs.openSync("/proc/self/mem", "r+");
  const slot = Kernel.get().take(PIECE, 4096);
  const writer = new DirectWriter({ fd, direct, flushed: true }, "it");
  t.throws(() => writer.write(slot.bytes, 0, PIECE, 0), {
    code: "EIO",
    message: /^it: write error at byte 0: input\/output error/,
  });
  t.is(fs.fstatSync(fd).size, 0);
  Kernel.get().give(slot);
  fs.closeSync(fd);
  fs.closeSync(direct);
});

test.serial("one file takes both ways; a descriptor that cannot be used is done without", (t) => {
  const dir = scratch(t);
  const image = sparse(join(dir, "image"), 64 * MIB);
  sh("mkfs.ext4", "-q", "-F", image);
  const at = mount(t, join(dir, "m"), "-o", "loop", image);
  const slot = Kernel.get().take(2 * MIB, 4096);
  for (const kind of ["direct", "read only"]) {
    const path = join(at, kind);
    const fd = fs.openSync(path, "w+");
    const direct = kind === "direct" ? openDirect(fd) : fs.openSync(path, "r");
    t.true(direct >= 0);
    const writer = new DirectWriter({ fd, direct, flushed: true }, "it");
    const want = Buffer.alloc(16 * MIB);
    const random = new Random(5);
    let end = 0;
    for (let i = 0; i < 30; i++) {
      const length = 512 * (1 + random.below((2 * MIB) / 512));
      const from = 512 * random.below((2 * MIB - length) / 512 + 1);
      const to = 512 * random.below((want.length - length) / 512);
      slot.bytes.set(noise(i, length), from);
      writer.write(slot.bytes, from, length, to);
      want.set(slot.bytes.subarray(from, from + length), to);
      end = Math.max(end, to + length);
    }
    fs.closeSync(fd);
    fs.closeSync(direct);
    t.true(fs.readFileSync(path).equals(want.subarray(0, end)), kind);
  }
  Kernel.get().give(slot);
});
