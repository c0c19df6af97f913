import test from "ava";
import { comparingWriter } from "../../../cli/native/e2image-blocks.ts";
import { parseE2image } from "../../../cli/native/e2image-options.ts";
import { BlockProgress } from "../../../cli/native/e2image-progress.ts";
import { hasDetail, nativeText } from "../../../cli/native/native-errors.ts";
import { IoError, RefusedError } from "../../../src/errors.ts";
import { ExtError } from "../../../src/fs/ext/errors.ts";
import type { Target } from "../../../src/io/target.ts";

test("a cluster of flags with an attached offset", (t) => {
  const r = parseE2image(["-arcO0x1000", "src", "-pno", "010", "dst"], false);
  if (r.kind !== "options") return t.fail(r.kind);
  t.like(r.options, {
    type: "raw",
    all: true,
    compare: true,
    targetOffset: 4096,
    sourceOffset: 8,
    progress: true,
    list: true,
    source: "src",
    target: "dst",
  });
});

test("one operand is a move only with an offset", (t) => {
  t.is(parseE2image(["-ra", "x"], false).kind, "usage");
  const move = parseE2image(["-ra", "-O", "512", "x"], false);
  t.is(move.kind === "options" ? move.options.target : "", null);
});

test("progress in the words of e2image", (t) => {
  let clock = 0;
  let out = "";
  const p = new BlockProgress(
    (text) => {
      out += text;
    },
    () => clock,
  );
  const take = (): string => {
    const s = out;
    out = "";
    return s;
  };
  p.scan();
  t.is(take(), "Scanning inodes...\n");
  p.begin(10_000, 4096);
  t.is(take(), "Copying 0 / 10000 blocks (0%)");
  const at = (seconds: number, blocks: number): void => {
    clock = seconds * 1000;
    p.update({ phase: "copy", done: blocks * 4096, total: 0 });
  };
  at(0.5, 900);
  t.is(take(), "");
  at(1, 1000);
  t.is(take(), "\b".repeat(21) + "1000 / 10000 blocks (10%)");
  at(8, 8000);
  t.is(take(), "\b".repeat(25) + "8000 / 10000 blocks (80%) 00:00:02 remaining at 3.91 MB/s");
  at(9, 9990);
  t.is(take(), "\b".repeat(57) + "9990 / 10000 blocks (100%) 00:00:00 remaining at 4.34 MB/s");
  at(9.9, 9995);
  p.end();
  t.is(take(), "\rCopied 9995 / 10000 blocks (100%) in 00:00:09 at 4.34 MB/s       \n");
});

test("only blocks that differ are written, in runs", async (t) => {
  const bs = 4;
  const held = Buffer.from("aaaabbbbccccdd");
  const target = {
    read(into: Uint8Array, at: number): number {
      const part = held.subarray(at, at + into.length);
      into.set(part);
      return part.length;
    },
  } as unknown as Target;
  const written: [number, string][] = [];
  const w = comparingWriter(target, bs, (bytes, at) => {
    written.push([at, Buffer.from(bytes).toString()]);
  });
  await w.write(Buffer.from("aaaaXbbbcccXddddeeee"), 0);
  t.deepEqual(written, [[4, "XbbbcccXddddeeee"]]);
  await w.write(Buffer.from("XXXXccccYYYY"), 4);
  t.deepEqual(written.slice(1), [
    [4, "XXXX"],
    [12, "YYYY"],
  ]);
  await w.write(Buffer.from("aaaabbbb"), 0);
  t.is(written.length, 3);
  t.is(w.unchanged(), 4);
});

test("blocks past the end of the target differ", async (t) => {
  const target = { read: () => 0 } as unknown as Target;
  let bytes = 0;
  const w = comparingWriter(target, 4, (b) => {
    bytes += b.length;
  });
  await w.write(new Uint8Array(16), 0);
  t.is(bytes, 16);
  t.is(w.unchanged(), 0);
});

test("errors in the words of com_err", (t) => {
  t.is(nativeText(new IoError("ENOENT", "x: cannot open: no such file")), "No such file or directory");
  t.is(nativeText(new RefusedError("EISDIR", "x: is a directory")), "Is a directory");
  t.is(nativeText(new RefusedError("EMOUNTED", "x: is mounted on /y")), "x: is mounted on /y");
  const bad = new ExtError("EXT_BAD_MAGIC", "ext superblock", 1024, "magic 0x0");
  t.is(nativeText(bad), "Bad magic number in super-block");
  t.false(hasDetail(bad));
  const corrupt = new ExtError("EXT_CORRUPT_SB", "ext superblock", 1024, "inode size 3");
  t.is(nativeText(corrupt), "The ext2 superblock is corrupt");
  t.true(hasDetail(corrupt));
  t.false(hasDetail(new IoError("ENOENT", "x")));
});
