// e2image against the native one.
import { type Bench, imprint, MIB, output, same } from "./suite.ts";
import { manyInodes, sh } from "./volumes.ts";

/** e2image in one mode on one volume, outputs proved equal. */
export async function e2image(
  bench: Bench,
  section: string,
  volume: string,
  mode: string,
  goal: number,
  dir?: string,
): Promise<void> {
  const [a, b] = [output("ours", dir), output("native", dir)];
  await bench.measure({
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

/** Captures of a populated volume; `all` and `disk` hold its used blocks, raw and as QCOW2. */
export async function captures(bench: Bench, volume: string, all: string, disk: string): Promise<void> {
  const section = "Capture of the populated volume";
  for (const [mode, goal] of [
    ["-ra", 2.2],
    ["-Qa", 2.2],
    ["-r", 1.1],
    ["-Q", 1.1],
  ] as const)
    await e2image(bench, section, volume, mode, goal);
  const [a, b] = [output("a"), output("b")];
  for (const mode of ["-ra", "-Qa"])
    await bench.measure({
      section,
      job: `e2image ${mode} against cp --sparse=always of the same bytes`,
      goal: 1,
      contenders: [
        { name: "imprint", command: imprint("e2image", mode, volume, a), outputs: [a] },
        { name: "cp", command: ["cp", "--sparse=always", all, b], outputs: [b] },
      ],
    });
  for (const mode of ["-ra", "-Qa"])
    await bench.measure({
      section,
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

  const inodes = bench.quick ? 100_000 : 1_000_000;
  const many = `Capture of a volume with ${inodes} inodes`;
  if (!bench.wants(many, "e2image -r e2image -Q")) return;
  const inodeVolume = manyInodes(inodes);
  sh("bash", ["-c", `cat ${inodeVolume} > /dev/null`]);
  for (const mode of ["-r", "-Q"]) await e2image(bench, many, inodeVolume, mode, 2);
}
