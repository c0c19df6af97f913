// What `capture --sanitize` makes, judged by the installed e2fsck and kernel, and searched for every original word.
import { copyFileSync, linkSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { SanitizeReport } from "../../src/engine/sanitize.ts";
import type { ExtNode, ExtTree } from "../../src/fs/ext/tree.ts";
import { openExt } from "../../src/fs/ext/volume.ts";
import { fileSource } from "../support/ext-select.ts";
import { type Shape, shapeImage, shapeNamed, shapes } from "../support/ext-shapes.ts";
import { imprint, inScratch, limiter, must, run } from "../support/native.ts";

const turn = limiter(2);
/** Shapes the kernel cannot mount here: large blocks, missing journal device, features it was built without. */
const MOST_MOUNTED_BLOCK = 4096;
/** Words of one volume that are looked for one by one. */
const MOST_WORDS = 1200;

interface Json {
  readonly sanitized: SanitizeReport;
}

async function sanitize(image: string, out: string, ...more: string[]): Promise<SanitizeReport> {
  const r = await imprint([
    "capture",
    "--sanitize",
    "--json",
    "--force",
    "--seed",
    "s1",
    ...more,
    image,
    out,
  ]);
  if (r.code !== 0) throw new Error(`capture --sanitize ${image}: ${r.stderr}`);
  return (JSON.parse(r.stdout.toString()) as Json).sanitized;
}

async function fsckCode(image: string): Promise<number | null> {
  return (await run("e2fsck", ["-fn", image])).code;
}

interface Listing {
  /** For every directory: its inode, then inode, name length and type of each entry, sorted. */
  readonly structure: string[];
  readonly words: Set<string>;
}

/** Walks a volume with our reader: what has to stay the same, and what has to go. */
async function listing(image: string): Promise<Listing> {
  const source = fileSource(image);
  try {
    const tree: ExtTree = (await openExt(source)).tree();
    const structure: string[] = [];
    const words = new Set<string>();
    const seen = new Set<number>();
    const word = (bytes: Uint8Array) => {
      const text = Buffer.from(bytes).toString("latin1");
      if (bytes.length >= 4 && !/^(.)\1*$/s.test(text)) words.add(text);
    };
    const visit = async (node: ExtNode, above: string): Promise<void> => {
      const s = tree.stat(node);
      let line = `${node.ino} ${s.type} ${s.mode} ${s.size} ${s.uid} ${s.links} ${s.modified}`;
      if (!seen.has(node.ino)) {
        const xattrs = await tree.xattrs(node);
        line += ` ${[...xattrs].map(([k, v]) => `${k.length}:${v.length}`).sort()}`;
        for (const [name, value] of xattrs) {
          if (name.startsWith("user.")) word(Buffer.from(name.slice(5), "latin1"));
          if (!name.startsWith("system.posix_acl")) word(value.subarray(0, 4096));
        }
        if (s.type === "symlink") {
          const target = await tree.readLink(node);
          line += ` ${target.length} ${target.replace(/[^/]/g, "x")}`;
          word(Buffer.from(target));
        }
      }
      structure.push(`${above} ${line}`);
      if (s.type !== "directory" || seen.has(node.ino)) return;
      seen.add(node.ino);
      for (const e of await tree.list(node)) {
        word(e.rawName);
        await visit(await tree.node(e.ino), `${above}/${node.ino}:${e.rawName.length}`);
      }
    };
    await visit(await tree.node(2), "");
    return { structure: structure.sort(), words };
  } finally {
    source.close();
  }
}

/** The blocks of an image that hold something, one after the other with their neighbours. */
function stored(image: string): Buffer {
  const b = readFileSync(image);
  const unit = 1024;
  const parts: Buffer[] = [];
  for (let at = 0; at < b.length; at += unit) {
    const piece = b.subarray(at, at + unit);
    if (!piece.equals(Buffer.alloc(piece.length))) parts.push(piece);
  }
  return Buffer.concat(parts);
}

function grep(t: ExecutionContext, name: string, image: string, words: Set<string>, r: SanitizeReport): void {
  const bytes = stored(image);
  const step = Math.max(1, Math.floor(words.size / MOST_WORDS));
  let i = 0;
  for (const word of words) {
    if (i++ % step !== 0 || word === "lost+found") continue;
    if (bytes.indexOf(word, 0, "latin1") < 0) continue;
    const start = word.slice(0, 64).replace(/[^\x20-\x7e]|\\/g, "");
    const listed = r.search.found.some((f) => f.text.replace(/\\x[0-9a-f]{2}/g, "") === start);
    t.true(listed, `${name}: ${JSON.stringify(word)} is in the image and not in the report`);
  }
}

/** Mounts a copy of an image; null where the kernel refuses, else what `ls -lR` said on standard error. */
async function walkMounted(dir: string, image: string, name: string): Promise<string | null> {
  const copy = join(dir, `${name}.mounted`);
  const at = join(dir, `${name}.mnt`);
  await must("cp", ["--sparse=always", image, copy]);
  mkdirSync(at);
  if ((await run("mount", ["-o", "loop", copy, at])).code !== 0) return null;
  try {
    return (await run("ls", ["-lRa", at])).stderr.replaceAll(at, "");
  } finally {
    await must("umount", [at]);
  }
}

async function holds(t: ExecutionContext, s: Shape): Promise<void> {
  const image = await shapeImage(s);
  await inScratch("sanitize", async (dir) => {
    const out = join(dir, "out.img");
    const report = await sanitize(image, out);
    const before = await fsckCode(image);
    const after = await fsckCode(out);
    if (before === 0) t.is(after, 0, `${s.name}: e2fsck -fn`);
    const [was, is] = [await listing(image), await listing(out)];
    if (report.journal !== "replayed") t.deepEqual(is.structure, was.structure, s.name);
    grep(t, s.name, out, was.words, report);
    if (process.env["IMPRINT_NO_MOUNT"] === "1" || blockSizeOf(image) > MOST_MOUNTED_BLOCK) return;
    const original = await walkMounted(dir, image, "original");
    if (original === null) return;
    t.is(await walkMounted(dir, out, "sanitized"), original, `${s.name}: ls -lR`);
  });
}

function blockSizeOf(image: string): number {
  return 1024 << readFileSync(image).readUInt32LE(1024 + 24);
}

for (let i = 0; i < shapes.length; i += 8) {
  const some = shapes.slice(i, i + 8);
  test(`checks clean, keeps its structure, holds no word: ${some.map((s) => s.name).join(", ")}`, async (t) => {
    t.timeout(600_000);
    await Promise.all(some.map((s) => turn(() => holds(t, s))));
  });
}

/** A volume with one large directory, names of many lengths, short ones too, indexed with a given hash. */
async function indexed(dir: string, hash: string, sums: boolean, signed: boolean): Promise<string> {
  const tree = join(dir, "tree");
  mkdirSync(join(tree, "wide"), { recursive: true });
  for (let i = 0; i < 26; i++) writeFileSync(join(tree, "wide", String.fromCharCode(97 + i)), "");
  for (let i = 0; i < 90; i++) writeFileSync(join(tree, "wide", `${i + 10}`), "");
  for (let i = 0; i < 1800; i++)
    writeFileSync(join(tree, "wide", `${"Straße-".repeat(i % 5)}entry ${i}`), "");
  const image = join(dir, "volume.img");
  const features = ["-O", sums ? "metadata_csum,dir_index" : "^metadata_csum,dir_index"];
  await must("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "1024", "-N", "4096", ...features, image, "16384"]);
  await must("tune2fs", ["-E", `hash_alg=${hash}`, image]);
  await must("debugfs", ["-w", "-R", `ssv flags ${signed ? 1 : 2}`, image]);
  // The kernel builds the index as it goes.
  const at = join(dir, "mnt");
  mkdirSync(at);
  await must("mount", ["-o", "loop", image, at]);
  try {
    await must("cp", ["-r", join(tree, "wide"), at]);
  } finally {
    await must("umount", [at]);
  }
  await must("e2fsck", ["-fn", image]);
  return image;
}

if (process.env["IMPRINT_NO_MOUNT"] !== "1")
  for (const hash of ["legacy", "half_md4", "tea"])
    for (const sums of [true, false])
      for (const signed of [true, false])
        test(`index of ${hash}, ${signed ? "signed" : "unsigned"}, checksums ${sums}`, async (t) => {
          await turn(() =>
            inScratch("sanitize", async (dir) => {
              const image = await indexed(dir, hash, sums, signed);
              const out = join(dir, "out.img");
              const report = await sanitize(image, out);
              t.is(report.indexedDirectories, 1);
              t.is(report.unindexedDirectories, 0);
              t.is(await fsckCode(out), 0);
              const [was, is] = [await listing(image), await listing(out)];
              t.deepEqual(is.structure, was.structure);
              t.is(is.words.size, was.words.size, "names are not unique any more");
              t.is(await walkMounted(dir, out, "out"), "");
              grep(t, hash, out, was.words, report);
            }),
          );
        });

for (const sums of [true, false])
  test(`short names in an index without any room, checksums ${sums}: the index is given up`, async (t) => {
    await inScratch("sanitize", async (dir) => {
      // Names that fill blocks to the last byte, and one that fits hardly anywhere by its hash.
      const tree = join(dir, "tree");
      const wide = join(tree, "wide");
      mkdirSync(wide, { recursive: true });
      writeFileSync(join(tree, "one"), "");
      const long = sums ? 243 : 248;
      for (let i = 0; i < 5000; i++)
        linkSync(join(tree, "one"), join(wide, `${i}-`.padEnd(long, `${(i * 7919) % 1000}`)));
      linkSync(join(tree, "one"), join(wide, "x"));
      const image = join(dir, "volume.img");
      const config = join(dir, "e2fsck.conf");
      writeFileSync(config, "[options]\nindexed_dir_slack_percentage = 0\n");
      const features = ["-O", sums ? "metadata_csum" : "^metadata_csum"];
      const seed = ["-E", "hash_seed=5d2c3b1a-1234-4321-8765-0123456789ab"];
      const mke2fs = ["-q", "-F", "-t", "ext4", "-b", "1024", "-N", "64", ...seed, ...features, "-d", tree];
      await must("mke2fs", [...mke2fs, image, "16384"]);
      await must("e2fsck", ["-fyD", image], { codes: [0, 1], env: { E2FSCK_CONFIG: config } });
      const out = join(dir, "out.img");
      const report = await sanitize(image, out);
      t.is(report.unindexedDirectories, 1);
      t.is(await fsckCode(out), 0);
      const [was, is] = [await listing(image), await listing(out)];
      t.deepEqual(is.structure, was.structure);
      t.is(is.words.size, was.words.size);
      if (process.env["IMPRINT_NO_MOUNT"] !== "1") t.is(await walkMounted(dir, out, "out"), "");
    });
  });

test("the same seed gives the same bytes, another seed others; raw, QCOW2 and a pipe agree", async (t) => {
  const image = await shapeImage(shapeNamed("htree-2-levels"));
  await inScratch("sanitize", async (dir) => {
    const [a, b, c] = ["a.img", "b.img", "c.img"].map((n) => join(dir, n));
    await sanitize(image, a);
    await sanitize(image, b, "--verify");
    t.true(readFileSync(a).equals(readFileSync(b)));
    await sanitize(image, c, "--seed", "s2");
    t.false(readFileSync(a).equals(readFileSync(c)));
    const q = join(dir, "q.qcow2");
    await sanitize(image, q, "--verify");
    const p = join(dir, "p.qcow2");
    const piped = await imprint(["capture", "--sanitize", "--seed", "s1", "--format", "qcow2", image, "-"], {
      stdoutFile: p,
    });
    t.is(piped.code, 0, piped.stderr);
    t.regex(piped.stderr, /Search of what was written/);
    for (const image of [q, p]) t.is((await run("qemu-img", ["compare", a, image])).code, 0);
    t.is((await run("qemu-img", ["check", p])).code, 0);
    const unseeded = await imprint(["capture", "--sanitize", "--json", "--force", image, c]);
    const { seed } = (JSON.parse(unseeded.stdout.toString()) as Json).sanitized;
    t.regex(seed, /^[0-9a-f]{16}$/);
    await sanitize(image, b, "--seed", seed);
    t.true(readFileSync(b).equals(readFileSync(c)));
  });
});

test("labels, paths, options, host names, boot sector, remains of deleted names", async (t) => {
  await inScratch("sanitize", async (dir) => {
    const image = join(dir, "volume.img");
    copyFileSync(await shapeImage(shapeNamed("mmp")), image);
    writeFileSync(join(dir, "list"), "SECRETS in a file, not names");
    await must("debugfs", ["-w", "-f", "-", image], {
      cwd: dir,
      input: [
        "ssv volume_name SECRETlabel",
        "ssv last_mounted /SECRETmount/point",
        "ssv mount_opts SECRETopts",
        "ssv first_error_func SECRETfunc1",
        "ssv last_error_func SECRETfunc2",
        "smmp nodename SECRETnode",
        "smmp bdevname SECRETdevice",
        "mkdir SECRETdir",
        "write list SECRETdir/SECRETname",
        "write list SECRETdir/SECRETgone",
        "rm SECRETdir/SECRETgone",
        "symlink SECRETlink /SECRETtarget/of/it",
        "symlink SECRETlong /SECRETtarget/" + "SECRETpart/".repeat(12),
        "ea_set SECRETlink user.SECRETattribute SECRETvalue",
        "ea_set SECRETdir security.selinux SECRETcontext",
      ].join("\n"),
    });
    const whole = readFileSync(image);
    whole.write("SECRETboot", 20, "latin1");
    writeFileSync(image, whole);
    t.true(stored(image).includes("SECRET"));
    const out = join(dir, "out.img");
    const report = await sanitize(image, out);
    t.false(stored(out).includes("SECRET"));
    t.false(stored(out).includes("secret"));
    t.is(await fsckCode(out), 0);
    t.is(report.superblockTexts, 7);
    t.deepEqual(report.search.found, []);
    const said = (await must("dumpe2fs", ["-h", out])).stdout.toString("latin1");
    const label = /Filesystem volume name: +(\S+)/.exec(said)![1];
    t.is(label.length, "SECRETlabel".length);
    t.regex(said, /Last mounted on: +\/[b-z]{11}\/[b-z]{5}\n/);
  });
});

test("a dirty journal: replayed as e2fsck does it, or dropped", async (t) => {
  const image = await shapeImage(shapeNamed("journal-dirty"));
  await inScratch("sanitize", async (dir) => {
    const theirs = join(dir, "theirs.img");
    await must("cp", [image, theirs]);
    await must("e2fsck", ["-E", "journal_only", "-y", theirs]);
    const [a, b, c] = ["a.img", "b.img", "c.img"].map((n) => join(dir, n));
    t.is((await sanitize(image, a)).journal, "replayed");
    t.is((await sanitize(theirs, b)).journal, "dropped");
    const [x, y] = [readFileSync(a), readFileSync(b)];
    // The journal's sequence number and the superblock's times and counts of writing differ.
    const head = journalHead(x);
    for (const whole of [x, y]) {
      whole.fill(0, head, head + 1024);
      whole.fill(0, 1024, 2048);
    }
    t.true(x.equals(y));
    t.is(await fsckCode(a), 0);
    t.is(await walkMounted(dir, a, "a"), "");
    const names = (await listing(a)).structure.length;
    t.is(names, (await listing(theirs)).structure.length);
    t.is((await sanitize(image, c, "--journal", "drop")).journal, "dropped unreplayed");
    const said = (await must("dumpe2fs", ["-h", c])).stdout.toString();
    t.notRegex(said, /needs_recovery/);
  });
});

/** Byte offset of the journal's superblock. */
function journalHead(image: Buffer): number {
  for (let at = 0; at + 1024 <= image.length; at += 1024)
    if (image.readUInt32BE(at) === 0xc03b3998 && image.readUInt32BE(at + 4) === 4) return at;
  throw new Error("no journal superblock");
}

test("attributes stay readable: values of their own inodes are zeros with the right hash", async (t) => {
  const image = await shapeImage(shapeNamed("ea-inode"));
  await inScratch("sanitize", async (dir) => {
    const out = join(dir, "out.img");
    await sanitize(image, out);
    const stat = (await must("debugfs", ["-R", "stat big", image])).stdout.toString("latin1");
    const ino = `<${/Inode: (\d+)/.exec(stat)![1]}>`;
    const list = (await must("debugfs", ["-R", `ea_list ${ino}`, out])).stdout.toString("latin1");
    const names = [...list.matchAll(/^ {2}(user\.\w+) \((\d+)\)/gm)].map(
      (m) => [m[1], Number(m[2])] as const,
    );
    t.deepEqual(
      names.map(([, n]) => n).sort((a, b) => a - b),
      [2000, 4096],
    );
    const big = names.find(([, n]) => n === 4096)![0];
    const file = join(dir, "value");
    const r = await run("debugfs", ["-R", `ea_get -f ${file} ${ino} ${big}`, out]);
    t.notRegex(r.stderr.split("\n").slice(1).join("\n"), /\S/);
    t.true(readFileSync(file).equals(Buffer.alloc(4096)));
  });
});

test("names in encrypted directories are kept, and the report says so", async (t) => {
  await inScratch("sanitize", async (dir) => {
    const image = join(dir, "volume.img");
    copyFileSync(await shapeImage(shapeNamed("encrypt-flag")), image);
    writeFileSync(join(dir, "f"), "x");
    const names = ["ciphertext-number-1", "ciphertext-number-2"];
    const commands = ["mkdir locked", ...names.map((n) => `write f locked/${n}`), "sif locked flags 0x80800"];
    await must("debugfs", ["-w", "-f", "-", image], { cwd: dir, input: commands.join("\n") });
    const out = join(dir, "out.img");
    const report = await sanitize(image, out);
    for (const n of names) t.true(stored(out).includes(n));
    const kept = report.kept.find((k) => k.what === "names in encrypted directories");
    t.is(kept?.count, 2);
    t.deepEqual((await listing(out)).structure, (await listing(image)).structure);
  });
});

test("command lines that are refused", async (t) => {
  const image = await shapeImage(shapeNamed("tiny-ext4"));
  await inScratch("sanitize", async (dir) => {
    const out = join(dir, "out.img");
    for (const [words, says] of [
      [["--sanitize", "--used"], /metadata only/],
      [["--sanitize", "--all"], /metadata only/],
      [["--sanitize", "--native-selection"], /no deleted data/],
      [["--seed", "x"], /need --sanitize/],
      [["--journal", "drop"], /need --sanitize/],
      [["--sanitize", "--journal", "keep"], /replay or drop/],
    ] as const) {
      const r = await imprint(["capture", ...words, image, out]);
      t.is(r.code, 2, words.join(" "));
      t.regex(r.stderr, says);
    }
    const r = await imprint(["capture", "--sanitize", "--dry-run", image, out]);
    t.is(r.code, 0);
    t.regex(r.stdout.toString(), /nothing was written/);
  });
});
