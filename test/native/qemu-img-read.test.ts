import { copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { scratch, sh } from "../support/host.ts";
import { must } from "../support/native.ts";
import { type CorpusImage, qcow2Corpus } from "../support/qcow2-corpus.ts";
import { difference, nativeSaid, ourSaid } from "../support/qemu-differential.ts";

// Times are local ones: the same zone for both.
process.env["TZ"] = "America/St_Johns";
process.env["LC_ALL"] = "C";

/** Differences of one command over images. */
async function over(
  images: readonly CorpusImage[],
  command: (image: CorpusImage) => readonly string[],
): Promise<string[]> {
  const wrong: string[] = [];
  for (const image of images) {
    const d = await difference(command(image), image.dir);
    if (d !== null) wrong.push(d);
  }
  return wrong;
}

test.serial("info: every image of the corpus", async (t) => {
  const images = await qcow2Corpus();
  t.true(images.length >= 100);
  t.deepEqual(await over(images, (i) => ["info", i.file]), []);
  t.deepEqual(await over(images, (i) => ["info", "--output=json", "--backing-chain", i.file]), []);
});

/** Needs no key, unlike native; the human form of the map is there where native's is not. */
const ours = (i: CorpusImage): boolean => i.tags.includes("encrypted");

test.serial("map: every image of the corpus", async (t) => {
  const images = (await qcow2Corpus()).filter((i) => !ours(i));
  const whole = images.filter((i) => i.name !== "v2-zero");
  t.deepEqual(await over(whole, (i) => ["map", "--output=json", i.file]), []);
  // Not a multiple of anything.
  t.deepEqual(
    await over(whole, (i) => ["map", "--output=json", "-s", "70001", "--max-length=500001", i.file]),
    [],
  );
  const plain = whole.filter((i) => !i.tags.includes("compressed"));
  t.deepEqual(await over(plain, (i) => ["map", i.file]), []);
});

test.serial("map: damaged tables end it as natively, with the place named", async (t) => {
  const [image] = (await qcow2Corpus()).filter((i) => i.name === "v2-zero");
  for (const form of ["human", "json"]) {
    const args = ["map", `--output=${form}`, image.file];
    const theirs = await nativeSaid(args, image.dir);
    const mine = await ourSaid(args, image.dir);
    t.is(mine.code, theirs.code);
    t.is(mine.stdout, theirs.stdout);
    t.regex(
      mine.stderr,
      /^qemu-img: Could not read file metadata: qcow2 L2 entry at 0x[0-9a-f]+: zero cluster/,
    );
  }
});

test.serial("map: what stands where it breaks off halfway", async (t) => {
  const dir = scratch(t, "halfway");
  await nativeSaid(["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "i.qcow2", "16M"], dir);
  const image = join(dir, "i.qcow2");
  sh("qemu-io", "-c", "write -q 0 8k", "-c", "write -q 4M 8k", "-c", "write -q 10M 8k", image);
  const bytes = readFileSync(image);
  // The last L2 table's place is not aligned.
  bytes[Number(bytes.readBigUInt64BE(40)) + 5 * 8 + 6] |= 2;
  writeFileSync(image, bytes);
  for (const form of ["human", "json"]) {
    const args = ["map", `--output=${form}`, "i.qcow2"];
    const theirs = await nativeSaid(args, dir);
    const mine = await ourSaid(args, dir);
    t.is(theirs.code, 1);
    t.is(mine.code, 1);
    t.is(mine.stdout, theirs.stdout);
    t.regex(mine.stdout, form === "json" ? /true, "offset": \d+\},\n$/ : /i\.qcow2\n$/);
  }
});

test.serial("encrypted images are refused where their data is wanted", async (t) => {
  const dir = scratch(t, "encrypted");
  const secret = ["--object", "secret,id=s,data=x"];
  const options = ["-o", "encrypt.format=aes,encrypt.key-secret=s"];
  await nativeSaid(["create", "-q", "-f", "qcow2", ...secret, ...options, "locked", "1M"], dir);
  await nativeSaid(["create", "-q", "-f", "qcow2", "-u", "-b", "locked", "-F", "qcow2", "over", "1M"], dir);
  await nativeSaid(["create", "-q", "-f", "qcow2", "plain", "1M"], dir);
  const wrong: string[] = [];
  for (const line of [
    "compare plain locked",
    "compare over plain",
    "dd if=locked of=out",
    "convert locked out",
    "convert over out",
    "convert -n -O qcow2 plain locked",
    "convert -O qcow2 -B locked -F qcow2 plain out",
    "commit locked",
    "rebase -b plain -F qcow2 locked",
  ]) {
    const d = await difference(line.split(" "), dir);
    if (d !== null) wrong.push(d);
  }
  t.deepEqual(wrong, []);
});

test.serial("map: compressed and encrypted images have a human map too", async (t) => {
  const images = (await qcow2Corpus()).filter((i) => i.tags.includes("compressed") || ours(i));
  for (const image of images) {
    const human = await ourSaid(["map", image.file], image.dir);
    t.is(human.code, 0, image.name);
    t.is(human.stderr, "");
    const json = await ourSaid(["map", "--output=json", image.file], image.dir);
    const runs = JSON.parse(json.stdout) as { start: number; length: number; data: boolean; zero: boolean }[];
    // Both forms list the same bytes.
    const stored = runs.filter((r) => r.data && !r.zero).map((r) => [r.start, r.length]);
    const rows = human.stdout.trimEnd().split("\n").slice(1);
    t.deepEqual(
      rows.map((row) => row.split(/ +/).slice(0, 2).map(Number)),
      stored,
      image.name,
    );
  }
});

test.serial("map: dense copies, where the host has no holes", async (t) => {
  const images = (await qcow2Corpus()).filter((i) => i.name.startsWith("prealloc") || i.name === "raw-holes");
  for (const image of images) {
    const copy = `${image.name}.dense`;
    await must("cp", ["--sparse=never", image.file, copy], { cwd: image.dir });
    await must("sync", [copy], { cwd: image.dir });
    t.is(await difference(["map", "--output=json", copy], image.dir), null);
  }
});

test.serial("compare: images with each other, also strictly", async (t) => {
  const images = (await qcow2Corpus()).filter(
    (i) => !i.tags.includes("huge") && !ours(i) && i.name !== "v2-zero",
  );
  const wrong: string[] = [];
  const seen = new Set<string>();
  for (const [n, a] of images.entries()) {
    const others = [images[(n + 1) % images.length], images[(n * 7 + 3) % images.length]];
    for (const [which, b] of others.entries()) {
      // One of the two ways for each pair, both over the whole of them.
      const args = (n + which) % 2 === 0 ? ["compare", a.file, b.file] : ["compare", "-s", a.file, b.file];
      const d = await difference(args, a.dir);
      if (d !== null) wrong.push(d);
      seen.add((await nativeSaidOnce(args, a.dir)).replace(/\d+/g, "N"));
    }
  }
  t.deepEqual(wrong, []);
  // The pairs are of every kind.
  for (const text of [
    "Images are identical.",
    "Content mismatch at offset N!",
    "Warning: Image size mismatch!",
  ])
    t.true(
      [...seen].some((s) => s.includes(text)),
      text,
    );
  t.true([...seen].some((s) => s.includes("Strict mode: Image size mismatch!")));
  t.true([...seen].some((s) => s.includes("Strict mode: Offset N block status mismatch!")));
});

const nativeSaidOnce = async (args: readonly string[], cwd: string): Promise<string> =>
  (await ourSaid(args, cwd)).stdout;

test.serial("compare: an image and its conversions are equal, a changed byte is found", async (t) => {
  const images = (await qcow2Corpus()).filter((i) =>
    ["zlib-4k", "extl2-16384", "over-3", "data", "size-odd"].includes(i.name),
  );
  t.is(images.length, 5);
  for (const image of images) {
    const raw = join(image.dir, `${image.name}.raw`);
    await must("qemu-img", ["convert", "-O", "raw", image.file, raw], { cwd: image.dir });
    t.is(await difference(["compare", image.file, raw], image.dir), null);
    t.is((await ourSaid(["compare", image.file, raw], image.dir)).code, 0);
    const last = statSync(raw).size - 1;
    truncateSync(raw, last);
    writeFileSync(raw, Buffer.from([0x99]), { flag: "a" });
    t.is(await difference(["compare", image.file, raw], image.dir), null);
    t.is((await ourSaid(["compare", "-q", image.file, raw], image.dir)).code, 1);
    // A longer one with something in its tail, and one with nothing.
    truncateSync(raw, last);
    truncateSync(raw, last + 1_000_000);
    t.is(await difference(["compare", raw, image.file], image.dir), null);
    writeFileSync(raw, "x", { flag: "a" });
    t.is(await difference(["compare", raw, image.file], image.dir), null);
  }
});

test.serial("compare: raw files whose last sector is not whole", async (t) => {
  const dir = scratch(t, "compare");
  const bytes = Buffer.alloc(5000, 0x21);
  const wrong: string[] = [];
  for (const short of [100, 1000, 4097])
    for (const long of [short + 1, 5000]) {
      writeFileSync(join(dir, "short"), bytes.subarray(0, short));
      writeFileSync(join(dir, "long"), bytes.subarray(0, long));
      for (const changed of [-1, 99, short - 1]) {
        if (changed >= 0)
          writeFileSync(join(dir, "short"), Buffer.from(bytes.subarray(0, short)).fill(1, changed));
        for (const pair of [
          ["short", "long"],
          ["long", "short"],
        ]) {
          const d = await difference(["compare", "-f", "raw", "-F", "raw", ...pair], dir);
          if (d !== null) wrong.push(`${short}, ${long}, ${changed}: ${d}`);
        }
      }
    }
  t.deepEqual(wrong, []);
});

test.serial("usage, unknown words and files that do not open", async (t) => {
  const [first] = await qcow2Corpus();
  const { dir } = first;
  writeFileSync(join(dir, "file with, comma"), "");
  copyFileSync(join(dir, "holes"), join(dir, "holes.copy"));
  const below = 'json:{"driver":"qcow2","file.filename":"holes"}';
  await nativeSaid(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, "over-json"], dir);
  const vmdk = Buffer.alloc(65536);
  const wrong: string[] = [];
  for (const line of [
    "",
    "frobnicate",
    "-z",
    "--foo info",
    "-T",
    "info",
    "info -zq holes",
    "info --foo holes",
    "info --out",
    "info -f",
    "info --output=xml holes",
    "info holes over-raw",
    "info nowhere",
    "info sub",
    "info -f foo holes",
    "info -f qcow2 raw-full",
    "info -f raw holes",
    "info foo:bar",
    "info file:holes",
    "info --image-opts driver=qcow2,file.filename=holes",
    "info --image-opts file.filename=holes",
    "info --image-opts driver=qcow2,file.driver=file,file.filename=holes,read-only=on",
    "info --image-opts driver=raw,offset=512,size=65536,file.filename=holes",
    "info --image-opts driver=qcow2,file.filename=holes,foo=bar",
    "info --image-opts holes",
    "info --image-opts -f raw file.filename=holes",
    "info --object foo holes",
    "info --object secret,id=s0,data=abc holes",
    'info json:{"driver":"qcow2","file":{"driver":"file","filename":"holes"}}',
    'info json:{"file.filename":"holes"}',
    `info json:{'driver':'qcow2','file':{'driver':'raw','file.filename':'holes'}}`,
    'info json:{"driver":"raw","offset":512,"file":{"filename":"holes"}}',
    'info json:{"driver":"raw","size":"1G","file":{"filename":"holes"}}',
    'info json:{"driver":"qcow2","file":{"filename":"holes","foo":1}}',
    'info json:{"driver":"raw","filename":"holes"}',
    'info json:{"driver":"qcow2","file":"holes"}',
    "info json:{}",
    "info json:[1",
    "info json:{foo}",
    'info json:{"a":01}',
    'info json:{"driver":"qcow2",}',
    'info json:{"a":1}}',
    "info --image-opts driver=qcow2,file.filename=holes,foo",
    "info --image-opts driver=qcow2,backing.driver=raw,file.filename=over-raw",
    "map --image-opts driver=qcow2,backing.driver=raw,backing.file.filename=holes,file.filename=over-raw",
    'map --output=json json:{"driver":"qcow2","backing":null,"file":{"filename":"over-raw"}}',
    "map over-json",
    "compare over-json holes",
    "info -f host_device holes",
    "info :foo",
    "info holes/x",
    "info --object foo,id=x holes",
    "info --object id=x holes",
    "info --object secret,id=s1 holes",
    "info --object secret,id=s1,data=x,foo=1 holes",
    'info --object {"qom-type":"secret","id":"s1","data":"x"} holes',
    "info --output=xml",
    "map --output=xml holes holes",
    "map",
    "map -s x holes",
    "map -l -1 holes",
    "map -s 1k --max-length=1.5k holes",
    "map -l 0 --output=json holes",
    "map --output=json -s 3M -l 1M size-odd",
    "map -f raw --output=json raw-odd",
    "map nowhere",
    "map over-missing",
    "map -U -f raw holes.copy",
    "compare holes",
    "compare holes holes holes",
    "compare holes nowhere",
    "compare nowhere holes",
    "compare -f foo holes holes",
    "compare -F qcow2 holes raw-hole",
    "compare -T foo holes holes",
    "compare -z holes holes",
    "compare -q holes fresh",
    "compare -p holes nowhere",
    "compare --object id=x holes fresh",
    'resize json:{"driver":"raw","file":{"filename":"holes"}} -1',
    "bitmap --merge a -b over-raw over-raw a",
    "bitmap --add -g 1 holes",
    "compare -q -s holes fresh",
    "compare --image-opts holes file.filename=fresh",
  ]) {
    const args = line === "" ? [] : line.split(" ");
    const d = await difference(args, dir);
    if (d !== null) wrong.push(d);
  }
  for (const args of [
    ["info", ""],
    ["info", "file with, comma"],
  ]) {
    const d = await difference(args, dir);
    if (d !== null) wrong.push(d);
  }
  t.deepEqual(wrong, []);
  // Formats that are not read here are refused by name, never taken for raw.
  vmdk.write("KDMV");
  writeFileSync(join(dir, "disk.vmdk"), vmdk);
  const refused = await ourSaid(["info", "disk.vmdk"], dir);
  t.is(refused.code, 1);
  t.regex(
    refused.stderr,
    /^qemu-img: Could not open 'disk.vmdk': image format 'vmdk' is not supported by this tool$/m,
  );
  t.is((await ourSaid(["info", "-f", "raw", "disk.vmdk"], dir)).code, 0);
  t.is((await ourSaid(["info", "-f", "vmdk", "disk.vmdk"], dir)).code, 1);
});

test.serial("--help prints the syntax of every command that native has but bench", async (t) => {
  const [first] = await qcow2Corpus();
  const theirs = await nativeSaid(["--help"], first.dir);
  const syntax = (text: string): string[] => {
    const lines = text.split("\n");
    const from = lines.indexOf("Command syntax:") + 1;
    return lines.slice(from, lines.indexOf("", from)).filter((line) => !line.startsWith("  bench "));
  };
  t.true(syntax(theirs.stdout).length > 10);
  for (const args of [["--help"], ["-h"], ["info", "--help"], ["map", "-h"], ["compare", "--he"]]) {
    const mine = await ourSaid(args, first.dir);
    t.is(mine.code, 0);
    t.deepEqual(syntax(mine.stdout), syntax(theirs.stdout));
  }
  const version = await ourSaid(["--version"], first.dir);
  t.regex(version.stdout, /^qemu-img version 7\.2 /);
});
