// Writes that another thread does.
import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import { BehindTarget } from "../../../../src/io/node/behind-target.ts";
import { writeLater } from "../../../../src/io/node/file-io.ts";
import { createFileTarget } from "../../../../src/io/node/file-target.ts";
import { noise } from "../../../support/ext-tree.ts";
import { scratch } from "../../../support/host.ts";

test("every byte is in its place when the promises have settled", async (t) => {
  const path = join(scratch(t), "out");
  const target = new BehindTarget(createFileTarget(path));
  // Some longer than what one system call writes.
  const bytes = noise(5, 3_000_000);
  const cuts = [0, 1, 4096, 700_000, 2_000_001, bytes.length];
  await Promise.all(cuts.slice(1).map((end, i) => target.write(bytes.subarray(cuts[i], end), cuts[i])));
  const back = new Uint8Array(1000);
  t.is(target.read(back, 1_999_500), 1000);
  t.true(Buffer.from(back).equals(bytes.subarray(1_999_500, 2_000_500)));
  target.commit(bytes.length);
  t.true(fs.readFileSync(path).equals(bytes));
});

test("a failure rejects and names the byte", async (t) => {
  const path = join(scratch(t), "f");
  fs.writeFileSync(path, "");
  const fd = fs.openSync(path, "r");
  try {
    await t.throwsAsync(writeLater(fd, new Uint8Array(10), 77, "it"), {
      code: "EBADF",
      message: /^it: write error at byte 77: /,
    });
  } finally {
    fs.closeSync(fd);
  }
});

test("aborting waits for what is being written and leaves nothing", async (t) => {
  const dir = scratch(t);
  const target = new BehindTarget(createFileTarget(join(dir, "out")));
  let settled = false;
  const write = target.write(new Uint8Array(2_000_000), 0).then(() => {
    settled = true;
  });
  await target.abort();
  t.true(settled);
  await write;
  t.deepEqual(fs.readdirSync(dir), []);
});
