import test from "ava";
import { DomainMap, type DomainStatus } from "../../../../src/engine/rescue/domain-map.ts";
import { formatMapfile, parseMapfile } from "../../../../src/engine/rescue/mapfile.ts";
import { random } from "../../../support/ext-tree.ts";

const STATES: readonly DomainStatus[] = ["?", "*", "/", "-", "+"];

test("a domain map keeps what a plain array keeps", (t) => {
  const next = random(5);
  for (let round = 0; round < 40; round++) {
    const size = 1 + (next() % 200);
    const map = new DomainMap(size);
    const plain: DomainStatus[] = new Array(size).fill("?");
    for (let i = 0; i < 60; i++) {
      const from = next() % (size + 20);
      const to = from + (next() % 40);
      const status = STATES[next() % STATES.length];
      map.set(from, to, status);
      plain.fill(status, Math.min(from, size), Math.min(to, size));
    }
    t.is(Array.from({ length: size }, (_, i) => map.statusAt(i)).join(""), plain.join(""));
    let end = 0;
    let last = "";
    for (const r of map.runs()) {
      t.is(r.from, end);
      t.not(r.status, last as DomainStatus, "neighbours of one status are one run");
      end = r.to;
      last = r.status;
    }
    t.is(end, size);
    for (const s of STATES) t.is(map.bytes(s), plain.filter((x) => x === s).length);
    const [from, to] = [next() % size, size];
    t.is(
      [...map.runs(from, to)].map((r) => r.status.repeat(r.to - r.from)).join(""),
      plain.slice(from, to).join(""),
    );
    t.is(
      map.is(from, to, plain[from]),
      plain.slice(from).every((s) => s === plain[from]),
    );
    const again = parseMapfile(formatMapfile(map, "a test"), size);
    t.deepEqual([...again.runs()], [...map.runs()]);
  }
});

test("map files as ddrescue writes them", (t) => {
  const text = `# Mapfile. Created by GNU ddrescue version 1.27
# Command line: ddrescue -d /dev/sdb disk.img disk.map
# Start time:   2026-01-01 00:00:00
# Copying non-tried blocks... Pass 1 (forwards)
# current_pos  current_status  current_pass
0x00A00000     ?               1
#      pos        size  status
0x00000000  0x00100000  +
0x00100000  0x00000200  -
0x00100200  0x0000FE00  /
0x00110000  0x00010000  *

0x00120000  0x00E00000  ?
`;
  const map = parseMapfile(text, 0xf20000);
  t.deepEqual(
    [...map.runs()].map((r) => [r.from, r.to, r.status]),
    [
      [0, 0x100000, "+"],
      [0x100000, 0x100200, "-"],
      [0x100200, 0x110000, "/"],
      [0x110000, 0x120000, "*"],
      [0x120000, 0xf20000, "?"],
    ],
  );
  t.is([...parseMapfile(text, 0x100100).runs()].length, 2, "what lies beyond the source is left out");
  t.deepEqual(
    [...parseMapfile("0 +\n10 010 -\n", 30).runs()].map((r) => [r.from, r.to, r.status]),
    [
      [0, 10, "?"],
      [10, 18, "-"],
      [18, 30, "?"],
    ],
    "gaps, decimal and octal numbers, older status lines",
  );
});

test("map files that make no sense name the line", (t) => {
  for (const [text, line] of [
    ["", "map file"],
    ["# nothing\n", "map file"],
    ["0x0 ?\n0 10\n", "line 2"],
    ["0x0 ?\n0 10 x\n", "line 2"],
    ["0x0 ?\n0 10 +\n5 10 +\n", "line 3"],
    ["0x0 ?\n-5 10 +\n", "line 2"],
    ["0x0 ?\n0 0xfffffffffffffff +\n", "line 2"],
    ["0 10 +\n", "line 1"],
    ["hello\n", "line 1"],
    ["0x0 ?\n0 10 + more\n", "line 2"],
  ] as const)
    t.regex(t.throws(() => parseMapfile(text, 100))!.message, new RegExp(line), JSON.stringify(text));
});
