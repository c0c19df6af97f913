import { withJob } from "../../commands/job.ts";
import { helpWithOptions, newImage } from "./convert-create.ts";
import { checkCombination, convertSettings } from "./convert-options.ts";
import { openInput } from "./convert-source.ts";
import { QemuProgress } from "./progress.ts";

/** qemu-img convert. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  const settings = convertSettings(args);
  helpWithOptions(settings);
  checkCombination(settings);
  const progress = new QemuProgress(settings.progress && !settings.quiet);
  try {
    const input = await openInput(settings);
    try {
      if (settings.noCreate) {
        const { convertIntoExisting } = await import("./convert-existing.ts");
        await withJob((job) => convertIntoExisting(settings, input, progress, job), { line: false });
      } else {
        const image = newImage(settings, input.sectors * 512);
        const { convertIntoNew } = await import("./convert-new.ts");
        await withJob((job) => convertIntoNew(settings, input, image, progress, job), { line: false });
      }
      progress.complete();
    } finally {
      await input.close();
    }
  } finally {
    progress.end();
  }
  return 0;
}
