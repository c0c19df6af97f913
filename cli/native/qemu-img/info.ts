import { print } from "../../ui/out.ts";
import { QemuUsageError } from "./errors.ts";
import { openImage } from "./open.ts";
import { OPTION, outputKind, parseCommand } from "./options.ts";
import { humanSize } from "./sizes.ts";

/** qemu-img info. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  let format: string | null = null;
  let imageOpts = false;
  let share = false;
  const specs = [OPTION.format, OPTION.output, OPTION.object, OPTION.imageOpts, OPTION.share];
  const operands = parseCommand("info", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "output") outputKind(value);
    else if (key === "image-opts") imageOpts = true;
    else if (key === "share") share = true;
  });
  if (operands.length !== 1) throw new QemuUsageError("Expecting one image file name");
  const opened = await openImage(operands[0], { format, imageOpts, share, backing: "none", data: false });
  print(
    `image: ${opened.name}\nfile format: ${opened.format}\nvirtual size: ${humanSize(opened.disk.size)} (${opened.disk.size} bytes)\n`,
  );
  await opened.close();
  return 0;
}
