// The command line of ntfsclone: options, refusals in their order, texts, streams and exit codes.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import test from "ava";
import { cli, fileDifference, imprint, inScratch, limiter, must, run } from "../support/native.ts";
import { find, patchNtfs } from "../support/ntfs-patch.ts";
import { ntfsShapeImage, ntfsShapeNamed } from "../support/ntfs-shapes.ts";
import { both, OUT } from "../support/ntfsclone.ts";

const volume = (): Promise<string> => ntfsShapeImage(ntfsShapeNamed("smallest"));

/** Command lines that both refuse before anything is opened, and those that fail later. */
const REFUSED: readonly string[] = [
  "",
  "VOLUME",
  `-o ${OUT}`,
  `-o ${OUT} -`,
  `-m -r -o ${OUT} IMAGE`,
  "-m -o - VOLUME",
  `--ignore-fs-check -o ${OUT} VOLUME`,
  `-s -r -o ${OUT} VOLUME`,
  `-n -o ${OUT} VOLUME`,
  `-r -n -o ${OUT} IMAGE`,
  "-n VOLUME",
  "-nm VOLUME",
  "-o - -m -s -r VOLUME",
  "-o /nonexistent/x VOLUME",
  "-o IMAGE VOLUME",
  "-o IMAGE/x VOLUME",
  `-o ${OUT} nothing`,
  `-r -o ${OUT} nothing`,
  `-r -o ${OUT} VOLUME`,
  "-O . VOLUME",
  "-s -O . VOLUME",
  "-r -O . IMAGE",
  "-o . VOLUME",
  `-o ${OUT} .`,
  `-r -o ${OUT} .`,
  `-o ${OUT} VOLUME VOLUME`,
  `-o ${OUT} -O ${OUT} VOLUME`,
  "-o",
  "--out",
  "--quiet=3 VOLUME",
  "--n",
  "--f",
  "--r",
  "--o",
  "--new",
  "--unknown",
  "-z",
  "-zh",
  "-q -O /dev/null VOLUME",
  "-q -O /dev/full VOLUME",
  `-o ${OUT} SHORT`,
  `-o ${OUT} DIRTY`,
  `-q -o ${OUT} VERSION`,
  "-n -m -o - VOLUME",
  "-nr -m -O - VOLUME",
  ...["EMPTY", "ONE", "SECTOR"].map((name) => `-q -o ${OUT} ${name}`),
  `-q -o ${OUT} IMAGE`,
];

test("refusals: first in order, same words, same stream, exit 1, and no file", (t) =>
  inScratch("ntfsclone-cli", async (dir) => {
    const names = await inputs(dir);
    const turn = limiter(3);
    await Promise.all(
      REFUSED.map((line, i) =>
        turn(async () => {
          const args = line
            .split(" ")
            .filter((w) => w !== "")
            .map((w) =>
              names.get(w.split("/")[0]) ? w.replace(w.split("/")[0], names.get(w.split("/")[0])!) : w,
            );
          const at = join(dir, `${i}`);
          mkdirSync(at);
          const r = await both(at, args);
          t.is(r.native.code, 1, line);
          t.is(r.ours.code, r.native.code, line);
          t.is(r.ours.messages, r.native.messages, line);
          t.is(r.ours.stderr, r.native.stderr, line);
          t.deepEqual(readdirSync(join(at, "ours")), [], line);
        }),
      ),
    );
  }));

async function inputs(dir: string): Promise<Map<string, string>> {
  const image = join(dir, "image");
  const v = await volume();
  await must("ntfsclone", ["-q", "-s", "-o", image, v]);
  const short = join(dir, "short");
  copyFileSync(v, short);
  await must("truncate", ["-s", `${statSync(v).size - 65536}`, short]);
  const version = join(dir, "version");
  copyFileSync(v, version);
  patchNtfs(version, (p) =>
    p.change(3, (r) => {
      const { at } = find(r, 0x70);
      r[at + r.readUInt16LE(at + 20) + 8] = 9;
    }),
  );
  const starts = ["empty", "one", "sector"].map((name) => join(dir, name));
  const bytes = readFileSync(v);
  for (const [i, length] of [0, 1, 512].entries()) writeFileSync(starts[i], bytes.subarray(0, length));
  return new Map([
    ["EMPTY", starts[0]],
    ["ONE", starts[1]],
    ["SECTOR", starts[2]],
    ["VOLUME", v],
    ["IMAGE", image],
    ["SHORT", short],
    ["VERSION", version],
    ["DIRTY", await ntfsShapeImage(ntfsShapeNamed("dirty"))],
  ]);
}

test("options: combined, attached, abbreviated, in any place", (t) =>
  inScratch("ntfsclone-options", async (dir) => {
    const v = await volume();
    await must("ntfsclone", ["-q", "-s", "-o", join(dir, "image"), v]);
    await must("ntfsclone", ["-q", "-o", join(dir, "clone"), v]);
    let i = 0;
    for (const [args, expected] of [
      [["-qso", OUT, v], "image"],
      [["--sav", "--quie", `--overw=${OUT}`, v], "image"],
      [[v, "-q", "-s", "--output", OUT], "image"],
      [["-dqqs", `-o${OUT}`, v], "image"],
      [["-fqo", OUT, v], "clone"],
      [["-qt", "--full-logfile", "-o", OUT, v], "clone"],
      [["-q", "--rescue", "-o", OUT, v], "clone"],
      [["-rqo", OUT, join(dir, "image")], "clone"],
    ] as const) {
      const at = join(dir, `${i++}`);
      mkdirSync(at);
      const r = await both(at, args);
      t.is(r.ours.code, 0, r.ours.messages + r.ours.stderr);
      t.is(r.ours.messages, r.native.messages);
      t.is(fileDifference(r.ours.output, r.native.output), null);
      t.is(fileDifference(r.ours.output, join(dir, expected)), null);
    }
    const n = await both(dir, ["-rn", join(dir, "image")]);
    t.is(n.ours.messages, n.native.messages);
    t.is(n.ours.code, 0);
    for (const flag of ["-h", "-V", "--help", "--version"]) {
      const r = await imprint(["ntfsclone", flag, "-o"]);
      t.is(r.code, 0);
      t.is(r.stdout.length, 0, "goes to standard error");
      t.true(r.stderr.startsWith("ntfsclone v2022.10.3 (imprint "));
    }
    t.regex((await imprint(["ntfsclone", "-h"])).stderr, /--save-image[\s\S]*--fs-check/);
    // Operands behind "--" are lost in native; here they are not.
    const dashes = await imprint(["ntfsclone", "-q", "-o", join(dir, "dashes"), "--", v]);
    t.is(dashes.code, 0, dashes.stderr);
  }));

test("our own options are refused where they mean nothing", async (t) => {
  const v = await volume();
  for (const args of [
    ["--mapfile", "m", "-o", "x", v],
    ["--retries", "1", "-o", "x", v],
    ["--rescue", "--resume", "-o", "x", v],
    ["--rescue", "--retries", "many", "-o", "x", v],
    ["--fs-check=maybe", "-o", "x", v],
    ["--rescue", "--mapfile", "m", "--resume", "-s", "-o", "x", v],
    ["--rescue", "--mapfile", "m", "--resume", "-r", "-o", "x", v],
    ["--rescue", "--mapfile", "m", "-r", "-o", "x", "-"],
    ["--rescue", "--patience", "long", "-o", "x", v],
    ["--patience", "1", "-o", "x", v],
  ]) {
    const r = await imprint(["ntfsclone", ...args]);
    t.is(r.code, 1);
    t.regex(r.stderr, /ERROR: --/, `${args}`);
  }
  t.false(existsSync("x"));
});

test("the manual's pipelines run as written", (t) =>
  inScratch("ntfsclone-manual", async (dir) => {
    const v = await volume();
    await must("ntfsclone", ["-q", "-o", join(dir, "clone"), v]);
    // `ntfsclone` as a command of that name.
    const bin = join(dir, "bin");
    mkdirSync(bin);
    writeFileSync(join(bin, "ntfsclone"), `#!/bin/sh\nexec ${process.execPath} ${cli} ntfsclone "$@"\n`, {
      mode: 0o755,
    });
    const env = { PATH: `${bin}:${process.env["PATH"]}` };
    for (const [line, output] of [
      [`ntfsclone --output ntfs-clone.img ${v}`, "ntfs-clone.img"],
      [
        `ntfsclone --save-image -o - ${v} | gzip -c > backup.img.gz && gunzip -c backup.img.gz | ntfsclone --restore-image --overwrite back1 -`,
        "back1",
      ],
      [
        `ntfsclone --save-image --output backup.img ${v} && ntfsclone --restore-image --overwrite back2 backup.img`,
        "back2",
      ],
      [
        `ntfsclone --save-image --output - ${v} | gzip -c | cat | gunzip -c | ntfsclone --restore-image --overwrite back3 -`,
        "back3",
      ],
      [`ntfsclone -r -n backup.img && ntfsclone -r -o - backup.img > back4`, "back4"],
      [
        `ntfsclone --metadata -s -o meta.img ${v} && ntfsclone -r -O back5 meta.img && ntfsclone -q --metadata --output meta2 ${v} && cp meta2 clone`,
        "",
      ],
    ]) {
      const r = await run("bash", ["-o", "pipefail", "-c", line], { cwd: dir, env });
      t.is(r.code, 0, `${line}\n${r.stderr}`);
      if (output !== "") t.is(fileDifference(join(dir, output), join(dir, "clone")), null, line);
    }
    t.is(fileDifference(join(dir, "back5"), join(dir, "meta2")), null);
  }));

test("a run that fails in the middle leaves no file, and what was there stays", (t) =>
  inScratch("ntfsclone-fails", async (dir) => {
    const v = await volume();
    const image = join(dir, "image");
    await must("ntfsclone", ["-q", "-s", "-o", image, v]);
    await must("truncate", ["-s", "100000", image]);
    const old = join(dir, "old");
    writeFileSync(old, "what was there");
    const r = await imprint(["ntfsclone", "-q", "-r", "-O", old, image]);
    t.is(r.code, 1);
    t.regex(r.stdout.toString(), /ERROR: Short image file: the image ends at byte 100000/);
    t.is(statSync(old).size, 14);
    t.deepEqual(readdirSync(dir).sort(), ["image", "old"]);
    // The volume itself is no target.
    const copy = join(dir, "volume");
    copyFileSync(v, copy);
    const self = await imprint(["ntfsclone", "-q", "-O", copy, copy]);
    t.is(self.code, 1);
    t.is(fileDifference(copy, v), null);
    // A full disk.
    const s = await imprint(["ntfsclone", "-q", "-s", "-O", "/dev/full", v]);
    t.is(s.code, 1);
    t.regex(s.stdout.toString(), /ERROR\(28\): .*: No space left on device\n$/);
  }));

test("mounted volumes: read-write is refused, read-only is taken", (t) =>
  inScratch("ntfsclone-mounted", async (dir) => {
    const copy = join(dir, "volume");
    copyFileSync(await volume(), copy);
    const at = join(dir, "mnt");
    mkdirSync(at);
    for (const mode of ["rw", "ro"]) {
      await must("ntfs-3g", ["-o", mode, copy, at]);
      try {
        const r = await both(dir, ["-q", "-O", OUT, copy]);
        t.is(r.ours.code, mode === "rw" ? 1 : 0, r.ours.messages);
        t.is(r.ours.messages, r.native.messages);
      } finally {
        await must("umount", [at]);
        await run("bash", [
          "-c",
          `for i in 1 2 3 4 5 6 7 8 9; do fuser -s ${copy} || exit 0; sleep 0.1; done`,
        ]);
      }
    }
  }));
