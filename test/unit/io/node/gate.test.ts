import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import type { GateRequest } from "../../../../src/io/gate.ts";
import { fileGate } from "../../../../src/io/node/gate.ts";
import { attach, scratch, sh, sparse } from "../../../support/host.ts";

const ask = (from: string, name: string, depth = 1): GateRequest => ({
  name,
  purpose: "backing file",
  format: null,
  from,
  depth,
});

test("names are relative to the folder of the image that holds them", async (t) => {
  const dir = scratch(t);
  fs.mkdirSync(join(dir, "sub"));
  fs.writeFileSync(join(dir, "top"), "1");
  fs.writeFileSync(join(dir, "sub", "middle"), "22");
  fs.writeFileSync(join(dir, "sub", "bottom"), "333");
  const gate = fileGate();
  const middle = await gate(ask(join(dir, "top"), "sub/middle"));
  t.is(middle.size, 2);
  const bottom = await gate(ask(middle.label, "bottom", 2));
  t.is(bottom.size, 3);
  const absolute = await gate(
    ask(bottom.label, `file:${join(dir, "sub", "bottom")}`.replace("bottom", "x"), 3),
  ).catch((e) => e.code);
  t.is(absolute, "ENOENT");
  for (const s of [middle, bottom]) await s.close();
});

test("a link is where its destination is", async (t) => {
  const dir = scratch(t);
  fs.mkdirSync(join(dir, "sub"));
  fs.writeFileSync(join(dir, "sub", "top"), "1");
  fs.writeFileSync(join(dir, "sub", "base"), "22");
  fs.symlinkSync("sub/top", join(dir, "link"));
  const s = await fileGate()(ask(join(dir, "link"), "base"));
  t.is(s.size, 2);
  await s.close();
});

test("a chain that comes back to itself is refused, under whatever name", async (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "a"), "1");
  fs.writeFileSync(join(dir, "b"), "2");
  fs.linkSync(join(dir, "a"), join(dir, "a2"));
  fs.symlinkSync("b", join(dir, "b2"));
  const gate = fileGate();
  await t.throwsAsync(gate(ask(join(dir, "a"), "a")), { code: "ELOOP" });
  await t.throwsAsync(gate(ask(join(dir, "a"), "a2")), { code: "ELOOP" });
  const b = await gate(ask(join(dir, "a"), "b"));
  await t.throwsAsync(gate(ask(b.label, "a2", 2)), { code: "ELOOP" });
  await t.throwsAsync(gate(ask(b.label, "b2", 2)), { code: "ELOOP" });
  const again = await gate(ask(join(dir, "a"), "b"));
  await again.close();
  await b.close();
});

test("chains are bounded", async (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "a"), "1");
  fs.writeFileSync(join(dir, "b"), "2");
  await t.throwsAsync(fileGate({ maxDepth: 3 })(ask(join(dir, "a"), "b", 4)), { code: "EDEPTH" });
  await t.throwsAsync(fileGate()(ask(join(dir, "a"), "b", 65)), { code: "EDEPTH" });
});

test("only files are opened", async (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "a"), "1");
  fs.mkdirSync(join(dir, "sub"));
  sh("mkfifo", join(dir, "fifo"));
  const gate = fileGate();
  for (const name of ["nbd:localhost:10809", "http://x/y", "json:{}", "fat:/", "", "a\0b"])
    await t.throwsAsync(gate(ask(join(dir, "a"), name)), { code: "EPROTOCOL" }, name);
  await t.throwsAsync(gate(ask(join(dir, "a"), "sub")), { code: "EISDIR" });
  await t.throwsAsync(gate(ask(join(dir, "a"), "fifo")), { code: "ENOTSEEKABLE" });
  await t.throwsAsync(gate(ask(join(dir, "a"), "/dev/zero")), { code: "ENOTSEEKABLE" });
  await t.throwsAsync(gate(ask(join(dir, "a"), "none")), { code: "ENOENT" });
  fs.writeFileSync(join(dir, "with:colon"), "55555");
  const s = await gate(ask(join(dir, "a"), "./with:colon"));
  t.is(s.size, 5);
  await s.close();
});

test("names that were read one character a byte are found", async (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "a"), "1");
  fs.writeFileSync(join(dir, "b\u00e4se"), "22");
  const s = await fileGate()(ask(join(dir, "a"), Buffer.from("b\u00e4se").toString("latin1")));
  t.is(s.size, 2);
  await s.close();
});

test("block devices only when allowed", async (t) => {
  const dir = scratch(t);
  const device = attach(t, sparse(join(dir, "f"), 1 << 20));
  fs.writeFileSync(join(dir, "a"), "1");
  await t.throwsAsync(fileGate()(ask(join(dir, "a"), device)), { code: "EDEVICE" });
  const s = await fileGate({ devices: true })(ask(join(dir, "a"), device));
  t.is(s.size, 1 << 20);
  await s.close();
});
