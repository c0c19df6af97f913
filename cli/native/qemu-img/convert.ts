import { withJob } from "../../commands/job.ts";
import { newImage } from "./convert-create.ts";
import { runConversion } from "./convert-job.ts";
import { checkCombination, convertSettings } from "./convert-options.ts";
import { openInput } from "./convert-source.ts";
import { QemuProgress } from "./progress.ts";

/** qemu-img convert. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  const settings = convertSettings(args);
  checkCombination(settings);
  const progress = new QemuProgress(settings.progress && !settings.quiet);
  try {
    const input = await openInput(settings);
    try {
      const image = settings.noCreate ? null : newImage(settings, input.sectors * 512);
      await withJob((options) => runConversion(settings, input, image, progress, options), { line: false });
      progress.update(1, 1);
    } finally {
      await input.close();
    }
  } finally {
    progress.end();
  }
  return 0;
}
