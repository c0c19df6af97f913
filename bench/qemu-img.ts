// Conversion and the other jobs of qemu-img, against qemu-img.
import { rmSync } from "node:fs";
import { type Bench, equalDisks, imprint, MIB, output } from "./suite.ts";
import { sh, workspace } from "./volumes.ts";

/** Conversion of one image against qemu-img as it comes and with its fastest switches. */
export async function convert(
  bench: Bench,
  section: string,
  source: string,
  from: string,
  to: string,
  goal: number,
  dir?: string,
): Promise<void> {
  const [a, b, c] = [output("ours", dir), output("qemu", dir), output("qemu-w", dir)];
  const qemu = ["qemu-img", "convert", "-f", from, "-O", to];
  await bench.measure({
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

/** The same arguments to both tools, each with outputs of its own; "OUT" in the arguments stands for its output. */
async function both(
  bench: Bench,
  section: string,
  job: string,
  goal: number | null,
  args: readonly string[],
  options: { readonly rounds?: number; readonly writers?: boolean; readonly prove?: boolean } = {},
): Promise<void> {
  const [a, b, c] = [output("ours"), output("qemu"), output("qemu-w")];
  const words = (out: string) => args.map((w) => (w === "OUT" ? out : w));
  const writes = args.includes("OUT");
  await bench.measure({
    section,
    job,
    goal,
    rounds: options.rounds,
    memory: 200 * MIB,
    contenders: [
      { name: "imprint", command: imprint("qemu-img", ...words(a)), outputs: writes ? [a] : [] },
      { name: "qemu-img", command: ["qemu-img", ...words(b)], outputs: writes ? [b] : [] },
      ...(options.writers
        ? [
            {
              name: "qemu-img -m 8 -W",
              command: ["qemu-img", args[0]!, "-m", "8", "-W", ...words(c).slice(1)],
              outputs: [c],
            },
          ]
        : []),
    ],
    prove: options.prove ? equalDisks(a, b) : undefined,
  });
}

/** A command that changes an image, "IMG" in the arguments: `make` makes the image for each run of either tool. */
async function change(
  bench: Bench,
  section: string,
  job: string,
  goal: number | null,
  args: readonly string[],
  make: (image: string) => void,
  extra: (image: string) => readonly string[] = () => [],
): Promise<void> {
  const side = (name: string, tool: readonly string[]) => {
    const image = output(name);
    return {
      name,
      command: [...tool, ...args.map((w) => (w === "IMG" ? image : w))],
      outputs: [image, ...extra(image)],
      prepare: () => make(image),
    };
  };
  const ours = side("imprint", imprint("qemu-img"));
  const native = side("qemu-img", ["qemu-img"]);
  await bench.measure({
    section,
    job,
    goal,
    memory: 200 * MIB,
    contenders: [ours, native],
    prove: () => {
      for (const { outputs } of [ours, native]) sh("qemu-img", ["check", "-q", outputs[0]!]);
      sh("qemu-img", ["compare", ours.outputs[0]!, native.outputs[0]!]);
    },
  });
}

/** Copies an image with its holes. */
const copied = (from: string) => (to: string) => void sh("cp", ["--sparse=always", from, to]);

/** Changes of metadata of `large`, and of the data of an image of a part of `all` above others. */
async function changes(bench: Bench, section: string, large: string, all: string): Promise<void> {
  await change(bench, section, "snapshot -c", 1, ["snapshot", "-c", "now", "IMG"], copied(large));
  await change(bench, section, "resize", null, ["resize", "IMG", "+1G"], copied(large));
  await change(bench, section, "snapshot -d", 1, ["snapshot", "-d", "now", "IMG"], (image) => {
    copied(large)(image);
    sh("qemu-img", ["snapshot", "-c", "now", image]);
  });
  const [part, empty] = [output("part"), output("empty")];
  const mib = bench.quick ? 64 : 512;
  sh("qemu-img", ["dd", "-f", "raw", "-O", "qcow2", "bs=1M", `count=${mib}`, `if=${all}`, `of=${part}`]);
  sh("qemu-img", ["create", "-q", "-f", "qcow2", empty, `${mib}M`]);
  const below = (image: string) => `${image}.below`;
  await change(
    bench,
    section,
    `commit of ${mib} MiB`,
    1,
    ["commit", "-q", "IMG"],
    (image) => {
      copied(empty)(below(image));
      copied(part)(image);
      sh("qemu-img", ["rebase", "-u", "-b", below(image), "-F", "qcow2", image]);
    },
    (image) => [below(image)],
  );
  await change(
    bench,
    section,
    `rebase of ${mib} MiB`,
    1,
    ["rebase", "-b", empty, "-F", "qcow2", "IMG"],
    (image) => void sh("qemu-img", ["create", "-q", "-f", "qcow2", "-b", part, "-F", "qcow2", image]),
  );
  for (const file of [part, empty]) rmSync(file);
}

/** The family on an image of the populated volume: `all` raw, `disk` as QCOW2. */
export async function qemuImg(bench: Bench, all: string, disk: string): Promise<void> {
  const section = "qemu-img";
  if (!bench.wants(section, "convert compare check measure snapshot resize commit rebase info map")) return;
  await both(bench, section, "convert -O qcow2", 1.2, ["convert", "-f", "raw", "-O", "qcow2", all, "OUT"], {
    writers: true,
    prove: true,
  });
  await both(bench, section, "convert -O raw", 1.2, ["convert", "-f", "qcow2", "-O", "raw", disk, "OUT"], {
    writers: true,
    prove: true,
  });
  for (const [type, goal] of [
    ["zlib", 1.2],
    ["zstd", 0.8],
  ] as const)
    await both(
      bench,
      section,
      `convert -c, ${type}`,
      goal,
      ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", `compression_type=${type}`, all, "OUT"],
      { writers: true, prove: true, rounds: 2 },
    );
  await both(bench, section, "compare", 1, ["compare", "-f", "raw", "-F", "qcow2", all, disk]);

  const clusters = bench.quick ? 100_000 : 1_000_000;
  const large = `${workspace}/clusters.qcow2`;
  rmSync(large, { force: true });
  sh("qemu-img", [
    "create",
    "-q",
    "-f",
    "qcow2",
    "-o",
    "cluster_size=4096,preallocation=metadata",
    large,
    `${clusters * 4096}`,
  ]);
  await both(bench, section, `check of ${clusters} clusters`, 1, ["check", large]);
  await both(bench, section, `measure of ${clusters} clusters`, 1, ["measure", "-O", "qcow2", large]);
  await changes(bench, section, large, all);
  rmSync(large);

  const sparse = `${workspace}/sparse.qcow2`;
  rmSync(sparse, { force: true });
  sh("qemu-img", ["create", "-q", "-f", "qcow2", sparse, "1T"]);
  for (const command of ["info", "map"]) {
    const measured = await bench.measure({
      section,
      job: `${command} of a sparse image of 1 TiB, against node -e 0 and qemu-img`,
      goal: null,
      rounds: bench.rounds * 4,
      contenders: [
        { name: "imprint", command: imprint("qemu-img", command, sparse), outputs: [] },
        { name: "node -e 0", command: [process.execPath, "-e", "0"], outputs: [] },
        { name: "qemu-img", command: ["qemu-img", command, sparse], outputs: [] },
      ],
    });
    if (measured !== null) {
      const share = measured[0]!.median - measured[1]!.median;
      bench.note(
        `own share of qemu-img ${command} over node -e 0: ${share.toFixed(1)} ms (goal 10: ${share <= 10 ? "met" : "**missed**"})`,
      );
    }
  }
  rmSync(sparse);
}
