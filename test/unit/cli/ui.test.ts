import test from "ava";
import { nearest } from "../../../cli/dispatch.ts";
import { strtoull } from "../../../cli/native/strtoull.ts";
import { describe } from "../../../cli/ui/errors.ts";
import { formatDuration, formatField, formatSize, printable, table } from "../../../cli/ui/format.ts";
import { ProgressLine } from "../../../cli/ui/progress.ts";
import { AbortError, FormatError } from "../../../src/errors.ts";

test("sizes have three digits and the right unit", (t) => {
  t.is(formatSize(0), "0 B");
  t.is(formatSize(1023), "1023 B");
  t.is(formatSize(1024), "1 KiB");
  t.is(formatSize(1536), "1.5 KiB");
  t.is(formatSize(100 * 1024), "100 KiB");
  t.is(formatSize(1023 * 1024), "1023 KiB");
  t.is(formatSize(1024 * 1024 - 1), "1 MiB");
  t.is(formatSize(12_345_678_901), "11.5 GiB");
  t.is(formatSize(Number.MAX_SAFE_INTEGER), "8 PiB");
});

test("durations", (t) => {
  t.is(formatDuration(0.2), "0 s");
  t.is(formatDuration(59), "59 s");
  t.is(formatDuration(125), "2:05");
  t.is(formatDuration(3725), "1:02:05");
});

test("fields in their units", (t) => {
  const field = (
    value: string | number | boolean | string[],
    unit?: "bytes" | "time" | "count" | "hex",
  ): string =>
    formatField(unit === undefined ? { key: "k", label: "K", value } : { key: "k", label: "K", value, unit });
  t.is(field(true), "yes");
  t.is(field(4096, "bytes"), "4 KiB (4096 bytes)");
  t.is(field(512, "bytes"), "512 B");
  t.is(field(0x1234, "hex"), "0x1234");
  t.is(field(0, "time"), "never");
  t.is(field(1_700_000_000, "time"), "2023-11-14T22:13:20Z");
  t.is(field([]), "none");
  t.is(field(""), "none");
  t.is(field(["a", "b"]), "a b");
});

test("control characters of an image never reach the terminal", (t) => {
  t.is(printable("a\u001b[2Jb\n\u009b"), "a\\x1b[2Jb\\x0a\\x9b");
});

test("tables are aligned", (t) => {
  t.is(
    table(
      [
        ["a", "bbb", "c"],
        ["aaa", "b", ""],
      ],
      [true],
    ),
    "  a  bbb  c\naaa  b\n",
  );
});

test("progress draws at most ten times a second, with rate and time left", (t) => {
  let clock = 0;
  const drawn: string[] = [];
  const line = new ProgressLine(
    (text) => drawn.push(text),
    () => clock,
  );
  const total = 100 * 1024 * 1024;
  for (clock = 0; clock <= 2000; clock += 10)
    line.update({ phase: "copy", done: (clock / 10) * 256 * 1024, total });
  t.is(drawn.length, 21);
  t.is(drawn[0], "\rCopying   0 %  0 B of 100 MiB\x1b[K");
  t.is(drawn[20], "\rCopying  50 %  50 MiB of 100 MiB, 25 MiB/s, 2 s left\x1b[K");
  line.update({ phase: "verify", done: 0, total });
  t.is(drawn[21], "\rVerifying   0 %  0 B of 100 MiB\x1b[K");
  line.clear();
  line.clear();
  t.is(drawn.length, 23);
  t.is(drawn[22], "\r\x1b[K");
});

test("errors become one line", (t) => {
  t.is(
    describe(new FormatError("ext extent header", 0x4321000, "400 entries, room for 340")),
    "ext extent header at 0x4321000: 400 entries, room for 340",
  );
  t.is(describe(new AbortError()), "interrupted");
  const system = Object.assign(new Error("ENOENT: no such file or directory, open 'x'"), {
    code: "ENOENT",
    errno: -2,
    path: "x",
  });
  t.is(describe(system), "x: no such file or directory");
  t.regex(describe(new TypeError("no")), /^unexpected TypeError: no \(a bug in Imprint/);
});

test("suggestions are near words only", (t) => {
  const words = ["info", "map", "capture", "convert", "compare", "e2image"];
  t.is(nearest("cature", words), "capture");
  t.is(nearest("ifno", words), "info");
  t.is(nearest("comp", words), "compare");
  t.is(nearest("cap", words), "capture");
  t.is(nearest("e2iamge", words), "e2image");
  t.is(nearest("frobnicate", words), null);
});

test("numbers as strtoull reads them", (t) => {
  t.is(strtoull("0x1000"), 4096);
  t.is(strtoull("010"), 8);
  t.is(strtoull(" 42k"), 42);
  t.is(strtoull("xyz"), 0);
  t.is(strtoull("08"), 0);
  t.is(strtoull("0x"), 0);
  t.is(strtoull("+7"), 7);
  t.is(strtoull("-1"), 2 ** 64);
  t.is(strtoull("99999999999999999999999"), 2 ** 64);
});
