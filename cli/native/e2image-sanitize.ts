import { AbortError } from "../../src/errors.ts";
import type { ExtVolume } from "../../src/fs/ext/volume.ts";
import type { Target } from "../../src/io/target.ts";
import { openDisk } from "../commands/input.ts";
import { withJob } from "../commands/job.ts";
import { printable } from "../ui/format.ts";
import { printLeakReport } from "../ui/leak-report.ts";
import { printError } from "../ui/out.ts";
import type { E2imageOptions } from "./e2image-options.ts";

/** `-r` and `-Q` with --sanitize. The report goes to standard error: native success prints nothing else. */
export async function writeSanitized(
  o: E2imageOptions,
  path: string,
  volume: ExtVolume,
  openOutput: (o: E2imageOptions, path: string) => Promise<{ target: Target; device: boolean }>,
): Promise<number> {
  const m = await import("../../src/node.ts");
  const { target, device } = await openOutput(o, path);
  const format = o.type === "raw" ? "raw" : "qcow2";
  const found = { volume, damage: null, file: volume.source, partition: null, partitions: [] };
  const { report, result } = await withJob(
    async (job) => {
      try {
        return await m.captureSanitized(found, target, {
          ...job,
          format,
          ...(o.type === "qcow2" && !o.modern ? { qcow2: { layout: "e2image" as const } } : {}),
          ...(o.modern ? { qcow2: { clusterSize: 65536 } } : {}),
          seed: o.seed ?? m.randomSeed(),
          journal: o.dropJournal ? "drop" : "replay",
          wholeInodeTables: device,
          verify: o.verify,
          reopen: () => (target.seekable ? openDisk(path, { format }) : Promise.resolve(null)),
        });
      } catch (error) {
        if (!(error instanceof AbortError)) throw error;
        const whole = !device && target.seekable;
        throw new AbortError(`interrupted, ${whole ? "nothing was written" : `${path} is incomplete`}`);
      }
    },
    { line: o.progress },
  );
  for (const warning of result.warnings) printError(`${printable(warning)}\n`);
  printLeakReport(report, printError);
  return 0;
}
