// Images that a running qemu holds: every command of qemu-img refuses or takes them as the installed one does.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { runHere } from "../support/in-process.ts";
import { inScratch, must, run } from "../support/native.ts";

/** Opens an image with qemu-io, and answers when it is open. */
function hold(dir: string, args: readonly string[]): Promise<ChildProcess> {
  return new Promise((done, fail) => {
    const child = spawn("qemu-io", args, { cwd: dir, stdio: ["pipe", "pipe", "inherit"] });
    child.on("error", fail);
    child.stdout.once("data", () => done(child));
    child.stdin.write("length\n");
  });
}

async function release(child: ChildProcess): Promise<void> {
  const ended = new Promise((done) => child.once("close", done));
  child.stdin!.end("quit\n");
  await ended;
}

const SETUP = [
  "create -q -f qcow2 base 4M",
  "create -q -f qcow2 -b base -F qcow2 middle",
  "create -q -f qcow2 -b middle -F qcow2 top",
  "create -q -f qcow2 other 4M",
  "create -q -f raw raw 4M",
  "create -q -f qcow2 -o data_file=data external 4M",
  "bitmap --add middle dirty",
  "bitmap --add base dirty",
];

/** Commands on an image; FILE is its name, FMT its format. */
const READ =
  "info FILE|info -U FILE|info --backing-chain FILE|map FILE|map -U FILE|compare FILE other|compare other FILE|" +
  "compare -U FILE other|measure -O qcow2 FILE|measure -U -O qcow2 FILE|convert -O raw FILE out|" +
  "convert -U -O raw FILE out|dd if=FILE of=out|dd -U if=FILE of=out|create -q -f qcow2 -b FILE -F FMT out2";
const WRITE =
  "resize FILE 5M|convert -O FMT other FILE|convert -n -O FMT other FILE|dd -O FMT if=other of=FILE|create -f FMT FILE 4M";
const QCOW2 =
  "check FILE|check -U FILE|check -r all FILE|snapshot -l FILE|snapshot -l -U FILE|snapshot -c s FILE|" +
  "snapshot -c s -U FILE|amend -o lazy_refcounts=on FILE|bitmap --add FILE new|rebase -u -b  FILE|" +
  "bitmap --merge dirty -b FILE -F FMT other new|rebase -b FILE -F FMT other|rebase -U -b FILE -F FMT other";
const OVER = "rebase -b  FILE|rebase -U -b  FILE|commit FILE";

async function alike(
  t: ExecutionContext,
  held: readonly string[],
  lines: readonly (readonly [file: string, format: string, lines: string])[],
): Promise<void> {
  await inScratch("lock", async (dir) => {
    const sides = ["native", "ours"].map((name) => join(dir, name));
    for (const side of sides) {
      mkdirSync(side);
      for (const line of SETUP) await must("qemu-img", line.split(" "), { cwd: side });
    }
    const children = await Promise.all(sides.map((side) => hold(side, held)));
    let refused = 0;
    try {
      for (const [file, format, all] of lines)
        for (const line of all.split("|")) {
          const args = line.replaceAll("FILE", file).replaceAll("FMT", format).split(" ");
          const native = await run("qemu-img", args, { cwd: sides[0] });
          const ours = await runHere(["qemu-img", ...args], sides[1]);
          const what = `${held.join(" ")}: ${args.join(" ")}`;
          t.deepEqual([ours.code, ours.stderr], [native.code, native.stderr], what);
          if (/ lock\n/.test(native.stderr)) refused++;
        }
    } finally {
      await Promise.all(children.map(release));
    }
    t.true(refused > 0);
  });
}

test("a base that is written to", (t) =>
  alike(
    t,
    ["-f", "qcow2", "base"],
    [
      ["base", "qcow2", `${READ}|${WRITE}|${QCOW2}`],
      [
        "top",
        "qcow2",
        `info top|info --backing-chain top|map top|map -U top|convert -O raw top out|check top|${OVER}`,
      ],
    ],
  ));

test("the top of a chain that is written to", (t) =>
  alike(
    t,
    ["-f", "qcow2", "top"],
    [
      ["top", "qcow2", `${READ}|${WRITE}|${QCOW2}|${OVER}`],
      ["middle", "qcow2", `${READ}|snapshot -c s FILE|resize FILE 6M|commit FILE`],
    ],
  ));

test("an image that is only read", (t) =>
  alike(t, ["-r", "-f", "qcow2", "middle"], [["middle", "qcow2", `${READ}|${WRITE}|${QCOW2}|${OVER}`]]));

test("raw images and data files", async (t) => {
  await alike(t, ["-f", "raw", "raw"], [["raw", "raw", `${READ}|${WRITE}`]]);
  await alike(
    t,
    ["-f", "qcow2", "external"],
    [["external", "qcow2", `info FILE|map FILE|resize FILE 5M|convert -O raw FILE out`]],
  );
});
