import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import test from "ava";
import { imprintProcess, inScratch, must } from "../support/native.ts";
import { nativeSaid, ourSaid } from "../support/qemu-differential.ts";

/** A qemu-io that holds `args` open until it is told to quit. */
async function holding(cwd: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn("qemu-io", args, { cwd, stdio: ["pipe", "pipe", "ignore"] });
  child.stdin!.write("length\n");
  // The image is open, and locked, before its length is told.
  await once(child.stdout!, "data");
  return child;
}

async function released(child: ChildProcess): Promise<void> {
  const end = once(child, "close");
  child.stdin!.end("quit\n");
  await end;
}

const COMMANDS: readonly (readonly string[])[] = [
  ["info", "IMG"],
  ["info", "-U", "IMG"],
  ["map", "--output=json", "IMG"],
  ["check", "IMG"],
  ["snapshot", "-l", "IMG"],
  ["snapshot", "-d", "none", "IMG"],
  ["resize", "IMG", "1M"],
  ["compare", "IMG", "raw"],
  ["measure", "-O", "qcow2", "IMG"],
  ["rebase", "-u", "-b", "", "IMG"],
];

test("an image that a running qemu has open", async (t) => {
  await inScratch("lock", async (dir) => {
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "a", "1M"], { cwd: dir });
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "top", "1M"], {
      cwd: dir,
    });
    await must("qemu-img", ["create", "-q", "-f", "raw", "raw", "1M"], { cwd: dir });
    let refused = 0;
    for (const [image, format, ...mode] of [
      ["a", "qcow2"],
      ["a", "qcow2", "-r"],
      ["top", "qcow2"],
      ["raw", "raw"],
      ["raw", "raw", "-r"],
    ]) {
      const holder = await holding(dir, "-f", format, ...mode, image);
      try {
        for (const command of COMMANDS) {
          // Of the chain: what is locked is also met as a backing file.
          for (const name of image === "raw" ? ["raw"] : ["a", "top"]) {
            const args = command.map((word) => (word === "IMG" ? name : word));
            const [theirs, ours] = [await nativeSaid(args, dir), await ourSaid(args, dir)];
            if (theirs.stderr.includes("Is another process using the image")) refused++;
            const what = `${args.join(" ")}, while ${image} is open ${mode.join(" ")}`;
            const plain = (text: string): string => text.replaceAll(/("?actual-size|disk size).*/g, "");
            t.deepEqual([ours.code, ours.stderr], [theirs.code, theirs.stderr], what);
            t.is(plain(ours.stdout), plain(theirs.stdout), what);
          }
        }
        const args = ["qemu-img", "info", image];
        const [loaded, without] = await Promise.all([
          imprintProcess(args, { cwd: dir }),
          imprintProcess(args, { cwd: dir, env: { IMPRINT_NO_KOFFI: "1" } }),
        ]);
        t.deepEqual(
          [without.code, without.stderr],
          [loaded.code, loaded.stderr],
          `info ${image}, without koffi`,
        );
      } finally {
        await released(holder);
      }
    }
    t.true(refused > 10);
  });
});
