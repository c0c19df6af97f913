// npm run bench [-- --quick] [--only WORD] [--rounds N]: ours against the native tools, into bench/RESULTS.md.
import { copyFileSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { alternate, type Contender, type Measured } from "./measure.ts";
import { line, page, type Row } from "./report.ts";
import { inFilesystem, manyInodes, populated, sh, workspace } from "./volumes.ts";

process.env["PATH"] += ":/usr/sbin:/sbin";
const MIB = 1024 * 1024;
const args = process.argv.slice(2);
const quick = args.includes("--quick");
const only = args.flatMap((a, i) => (a === "--only" ? [args[i + 1]!] : []));
const rounds = Number(args[args.indexOf("--rounds") + 1]) || 5;
const MAIN = resolve("dist/cli/main.js");
if (!existsSync(MAIN)) {
  console.error("dist/cli/main.js is missing: npm run build first");
  process.exit(1);
}

const rows: Row[] = [];
const notes: string[] = [];
const imprint = (...words: string[]): string[] => [process.execPath, MAIN, ...words];
const output = (name: string, dir = workspace): string => `${dir}/out-${name}`;

interface Job {
  readonly section: string;
  readonly job: string;
  readonly goal: number | null;
  readonly memory?: number;
  readonly rounds?: number;
  readonly contenders: readonly Contender[];
  /** After the warm-up, with all outputs there: throws when they are not what they must be. */
  readonly prove?: () => void;
}

async function measure(job: Job): Promise<void> {
  if (only.length > 0 && !only.some((w) => `${job.section} ${job.job}`.includes(w))) return;
  const measured: Measured[] = await alternate(job.contenders, job.rounds ?? rounds, async () =>
    job.prove?.(),
  );
  const row: Row = { ...job, measured };
  rows.push(row);
  console.log(line(row));
}

const same = (a: string, b: string) => () => void sh("cmp", [a, b]);
const equalDisks = (a: string, b: string) => () => void sh("qemu-img", ["compare", a, b]);

/** e2image in one mode on one volume, outputs proved equal. */
function e2image(
  section: string,
  volume: string,
  mode: string,
  goal: number,
  dir = workspace,
): Promise<void> {
  const [a, b] = [output("ours", dir), output("native", dir)];
  return measure({
    section,
    job: `e2image ${mode}`,
    goal,
    memory: 200 * MIB,
    contenders: [
      { name: "imprint", command: imprint("e2image", mode, volume, a), outputs: [a] },
      { name: "e2image", command: ["e2image", mode, volume, b], outputs: [b] },
    ],
    prove: same(a, b),
  });
}

/** Conversion of one image against qemu-img as it comes and with its fastest switches. */
function convert(
  section: string,
  source: string,
  from: string,
  to: string,
  goal: number,
  dir = workspace,
): Promise<void> {
  const [a, b, c] = [output("ours", dir), output("qemu", dir), output("qemu-w", dir)];
  const qemu = ["qemu-img", "convert", "-f", from, "-O", to];
  return measure({
    section,
    job: `convert ${from} to ${to}`,
    goal,
    memory: 200 * MIB,
    contenders: [
      { name: "imprint", command: imprint("convert", "--format", to, source, a), outputs: [a] },
      { name: "qemu-img", command: [...qemu, source, b], outputs: [b] },
      { name: "qemu-img -m 8 -W", command: [...qemu, "-m", "8", "-W", source, c], outputs: [c] },
    ],
    prove: equalDisks(a, b),
  });
}

async function main(): Promise<void> {
  const used = quick ? 256 : 2200;
  const inodes = quick ? 100_000 : 1_000_000;
  const volume = populated(used);
  const facts = sh("dumpe2fs", ["-h", volume]);
  const fact = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(facts)![1]);
  const blocks = fact("Block count") - fact("Free blocks");
  notes.push(
    `populated volume: ${((fact("Block count") * 4096) / 1e9).toFixed(2)} GB ext4, ` +
      `${((blocks * 4096) / 2 ** 30).toFixed(2)} GiB in use, ${fact("Inode count") - fact("Free inodes")} inodes in use`,
  );
  sh("bash", ["-c", `cat ${volume} > /dev/null`]);

  const all = `${workspace}/all.img`;
  const disk = `${workspace}/all.qcow2`;
  for (const f of [all, disk]) rmSync(f, { force: true });
  sh("bash", ["-c", `e2image -ra ${volume} ${all} 2>&1`]);
  sh("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", all, disk]);

  const capture = "Capture of the populated volume";
  for (const [mode, goal] of [
    ["-ra", 2.2],
    ["-Qa", 2.2],
    ["-r", 1.1],
    ["-Q", 1.1],
  ] as const)
    await e2image(capture, volume, mode, goal);
  const [a, b] = [output("a"), output("b")];
  await measure({
    section: capture,
    job: "e2image -ra against cp --sparse=always of the same bytes",
    goal: 1,
    contenders: [
      { name: "imprint", command: imprint("e2image", "-ra", volume, a), outputs: [a] },
      { name: "cp", command: ["cp", "--sparse=always", all, b], outputs: [b] },
    ],
  });
  await measure({
    section: capture,
    job: "e2image -Qa against cp --sparse=always of the same bytes",
    goal: 1,
    contenders: [
      { name: "imprint", command: imprint("e2image", "-Qa", volume, a), outputs: [a] },
      { name: "cp", command: ["cp", "--sparse=always", all, b], outputs: [b] },
    ],
  });
  for (const mode of ["-ra", "-Qa"])
    await measure({
      section: capture,
      job: `e2image ${mode} to a pipe, against cat of its output`,
      goal: null,
      memory: 64 * MIB,
      contenders: [
        {
          name: "imprint",
          command: `${imprint("e2image", mode, volume, "-").join(" ")} | cat > /dev/null`,
          outputs: [],
        },
        { name: "cat", command: `cat ${mode === "-ra" ? all : disk} | cat > /dev/null`, outputs: [] },
      ],
    });

  const inodeVolume = manyInodes(inodes);
  sh("bash", ["-c", `cat ${inodeVolume} > /dev/null`]);
  for (const mode of ["-r", "-Q"])
    await e2image(`Capture of a volume with ${inodes} inodes`, inodeVolume, mode, 2);

  const conversion = "Conversion";
  await convert(conversion, all, "raw", "qcow2", 1.2);
  await convert(conversion, disk, "qcow2", "raw", 1.2);

  const noise = "Noise and limits of this machine";
  await measure({
    section: noise,
    job: "cp --sparse=always against itself",
    goal: null,
    contenders: [
      { name: "cp", command: ["cp", "--sparse=always", all, a], outputs: [a] },
      { name: "cp", command: ["cp", "--sparse=always", all, b], outputs: [b] },
    ],
  });
  await measure({
    section: noise,
    job: "cat of the QCOW2 into a file against cp --sparse=always of the raw image",
    goal: null,
    contenders: [
      { name: "cat", command: `cat ${disk} > ${a}`, outputs: [a] },
      { name: "cp", command: ["cp", "--sparse=always", all, b], outputs: [b] },
    ],
  });

  for (const kind of ["btrfs", "xfs"]) {
    const section = `File to file on ${kind}, where extents can be shared`;
    if (only.length > 0 && !only.some((w) => section.includes(w))) continue;
    const ran = await inFilesystem(kind, used * 8 + 1024, async (at) => {
      for (const [from, to] of [
        [volume, "volume.img"],
        [all, "all.img"],
        [disk, "all.qcow2"],
      ] as const)
        sh("cp", ["--sparse=always", from, `${at}/${to}`]);
      sh("sync", ["-f", at]);
      await e2image(section, `${at}/volume.img`, "-ra", 10, at);
      await convert(section, `${at}/all.img`, "raw", "qcow2", 10, at);
      await convert(section, `${at}/all.qcow2`, "qcow2", "raw", 10, at);
      await convert(section, `${at}/all.img`, "raw", "raw", 10, at);
    });
    if (!ran) notes.push(`${kind}: not measured (needs root, mkfs.${kind} and the kernel's driver)`);
  }

  const small = `${workspace}/small.img`;
  copyFileSync("test/fixtures/demo.img.gz", `${small}.gz`);
  sh("gzip", ["-df", `${small}.gz`]);
  await measure({
    section: "Start-up",
    job: "info of a small ext4 volume, against node -e 0 and qemu-img info",
    goal: null,
    rounds: rounds * 6,
    contenders: [
      { name: "imprint", command: imprint("info", small), outputs: [] },
      { name: "node -e 0", command: [process.execPath, "-e", "0"], outputs: [] },
      { name: "qemu-img", command: ["qemu-img", "info", small], outputs: [] },
    ],
  });
  const startup = rows.find((r) => r.section === "Start-up");
  if (startup) {
    const share = startup.measured[0]!.median - startup.measured[1]!.median;
    notes.push(
      `own share of info over node -e 0: ${share.toFixed(1)} ms (goal 10: ${share <= 10 ? "met" : "**missed**"})`,
    );
    console.log(notes.at(-1));
  }
  for (const f of [all, disk, small]) rmSync(f, { force: true });

  if (quick || only.length > 0) return console.log("a partial run: bench/RESULTS.md stays as it is");
  writeFileSync("bench/RESULTS.md", page(rows, notes, rounds));
  console.log("wrote bench/RESULTS.md");
}

await main();
