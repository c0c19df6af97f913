// npm run bench [-- --quick] [--only WORD] [--rounds N]: ours against the native tools, into bench/RESULTS.md.
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { captures, e2image } from "./ext.ts";
import { ntfsclone } from "./ntfs.ts";
import { convert, qemuImg } from "./qemu-img.ts";
import { page } from "./report.ts";
import { Bench, imprint, output } from "./suite.ts";
import { inFilesystem, populated, sh, workspace } from "./volumes.ts";

process.env["PATH"] += ":/usr/sbin:/sbin";
const bench = new Bench(process.argv.slice(2));

/** What copying costs here at the least. */
async function limits(all: string, disk: string): Promise<void> {
  const section = "Noise and limits of this machine";
  const [a, b] = [output("a"), output("b")];
  await bench.measure({
    section,
    job: "cp --sparse=always against itself",
    goal: null,
    contenders: [
      { name: "cp", command: ["cp", "--sparse=always", all, a], outputs: [a] },
      { name: "cp", command: ["cp", "--sparse=always", all, b], outputs: [b] },
    ],
  });
  await bench.measure({
    section,
    job: "cat of the QCOW2 into a file against cp --sparse=always of the raw image",
    goal: null,
    contenders: [
      { name: "cat", command: `cat ${disk} > ${a}`, outputs: [a] },
      { name: "cp", command: ["cp", "--sparse=always", all, b], outputs: [b] },
    ],
  });
}

/** File to file where the filesystem shares extents. */
async function sharing(used: number, volume: string, all: string, disk: string): Promise<void> {
  for (const kind of ["btrfs", "xfs"]) {
    const section = `File to file on ${kind}, where extents can be shared`;
    if (!bench.wants(section)) continue;
    const ran = await inFilesystem(kind, used * 8 + 1024, async (at) => {
      for (const [from, to] of [
        [volume, "volume.img"],
        [all, "all.img"],
        [disk, "all.qcow2"],
      ] as const)
        sh("cp", ["--sparse=always", from, `${at}/${to}`]);
      sh("sync", ["-f", at]);
      await e2image(bench, section, `${at}/volume.img`, "-ra", 10, at);
      await convert(bench, section, `${at}/all.img`, "raw", "qcow2", 10, at);
      await convert(bench, section, `${at}/all.qcow2`, "qcow2", "raw", 10, at);
      await convert(bench, section, `${at}/all.img`, "raw", "raw", 10, at);
    });
    if (!ran) bench.note(`${kind}: not measured (needs root, mkfs.${kind} and the kernel's driver)`);
  }
}

async function startUp(): Promise<void> {
  const small = `${workspace}/small.img`;
  copyFileSync("test/fixtures/demo.img.gz", `${small}.gz`);
  sh("gzip", ["-df", `${small}.gz`]);
  const measured = await bench.measure({
    section: "Start-up",
    job: "info of a small ext4 volume, against node -e 0 and qemu-img info",
    goal: null,
    rounds: bench.rounds * 6,
    contenders: [
      { name: "imprint", command: imprint("info", small), outputs: [] },
      { name: "node -e 0", command: [process.execPath, "-e", "0"], outputs: [] },
      { name: "qemu-img", command: ["qemu-img", "info", small], outputs: [] },
    ],
  });
  if (measured !== null) {
    const share = measured[0]!.median - measured[1]!.median;
    bench.note(
      `own share of info over node -e 0: ${share.toFixed(1)} ms (goal 10: ${share <= 10 ? "met" : "**missed**"})`,
    );
  }
  rmSync(small);
}

async function main(): Promise<void> {
  const used = bench.quick ? 256 : 2200;
  const volume = populated(used);
  const facts = sh("dumpe2fs", ["-h", volume]);
  const fact = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(facts)![1]);
  const blocks = fact("Block count") - fact("Free blocks");
  bench.note(
    `populated volume: ${((fact("Block count") * 4096) / 1e9).toFixed(2)} GB ext4, ` +
      `${((blocks * 4096) / 2 ** 30).toFixed(2)} GiB in use, ${fact("Inode count") - fact("Free inodes")} inodes in use`,
  );
  sh("bash", ["-c", `cat ${volume} > /dev/null`]);
  const all = `${workspace}/all.img`;
  const disk = `${workspace}/all.qcow2`;
  for (const f of [all, disk]) rmSync(f, { force: true });
  sh("bash", ["-c", `e2image -ra ${volume} ${all} 2>&1`]);
  sh("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", all, disk]);

  // What the preparations wrote is not to be written back while something is measured.
  sh("sync", []);
  await captures(bench, volume, all, disk);
  await convert(bench, "Conversion", all, "raw", "qcow2", 1.2);
  await convert(bench, "Conversion", disk, "qcow2", "raw", 1.2);
  await qemuImg(bench, all, disk);
  await ntfsclone(bench);
  await limits(all, disk);
  await sharing(used, volume, all, disk);
  await startUp();
  for (const f of [all, disk]) rmSync(f, { force: true });

  // A partial run does not replace the page.
  const path = bench.quick || bench.only.length > 0 ? `${workspace}/RESULTS.md` : "bench/RESULTS.md";
  writeFileSync(path, page(bench.rows, bench.notes, bench.rounds));
  console.log(`wrote ${path}`);
}

await main();
