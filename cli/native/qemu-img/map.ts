import { type MapEntry, type MapLayer, walkLayers } from "../../../src/engine/layer-map.ts";
import { ImprintError } from "../../../src/errors.ts";
import { print } from "../../ui/out.ts";
import { errorText, QemuError, QemuUsageError } from "./errors.ts";
import { mapLayers } from "./layers.ts";
import { openImage } from "./open.ts";
import { OPTION, outputKind, parseCommand } from "./options.ts";
import { parseSize } from "./sizes.ts";

/** Characters collected before they are printed. */
const FULL = 1 << 16;

/** qemu-img map. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  let format: string | null = null;
  let output = "human";
  let imageOpts = false;
  let share = false;
  let start = 0;
  let most = Number.POSITIVE_INFINITY;
  const specs = [
    OPTION.format,
    OPTION.output,
    OPTION.object,
    OPTION.imageOpts,
    OPTION.share,
    { key: "start", short: "s", long: "start-offset", arg: "offset" },
    { key: "length", short: "l", long: "max-length", arg: "len" },
  ];
  const operands = parseCommand("map", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "output") output = value;
    else if (key === "image-opts") imageOpts = true;
    else if (key === "share") share = true;
    else if (key === "start") start = parseSize(value, "start offset");
    else if (key === "length") most = parseSize(value, "max length");
  });
  if (operands.length !== 1) throw new QemuUsageError("Expecting one image file name");
  const kind = outputKind(output);
  const opened = await openImage(operands[0], { format, imageOpts, share, data: false });
  try {
    const layers = await mapLayers(opened.layers);
    const end = Math.min(opened.disk.size, start + most);
    await printMap(layers, start, end, kind === "json" ? new JsonMap() : new HumanMap());
  } finally {
    await opened.close();
  }
  return 0;
}

interface Format {
  begin(): string;
  entry(e: MapEntry): string;
  end(): string;
  /** What stands where the map breaks off. */
  broken(): string;
}

async function printMap(
  layers: readonly MapLayer[],
  from: number,
  to: number,
  format: Format,
): Promise<void> {
  let text = format.begin();
  const flush = (): void => {
    print(text);
    text = "";
  };
  try {
    await walkLayers(layers, from, to, (entry) => {
      text += format.entry(entry);
      if (text.length >= FULL) flush();
    });
  } catch (error) {
    text += format.broken();
    flush();
    if (error instanceof ImprintError)
      throw new QemuError(`Could not read file metadata: ${errorText(error)}`);
    throw error;
  }
  text += format.end();
  flush();
}

class HumanMap implements Format {
  begin(): string {
    return "Offset          Length          Mapped to       File\n";
  }

  entry(e: MapEntry): string {
    if (!e.data || e.zero) return "";
    const place = e.offset >= 0 ? hex(e.offset) : e.compressed ? "compressed" : "encrypted";
    return `${hex(e.start).padEnd(16)}${hex(e.length).padEnd(16)}${place.padEnd(16)}${e.file}\n`;
  }

  end(): string {
    return "";
  }

  broken(): string {
    return "";
  }
}

/** C's %#x. */
function hex(n: number): string {
  return n === 0 ? "0" : `0x${n.toString(16)}`;
}

class JsonMap implements Format {
  private first = true;

  begin(): string {
    return "[";
  }

  entry(e: MapEntry): string {
    const before = this.first ? "" : ",\n";
    this.first = false;
    const place = e.offset >= 0 ? `, "offset": ${e.offset}` : "";
    return (
      `${before}{ "start": ${e.start}, "length": ${e.length}, "depth": ${e.depth}, "present": ${e.present}, ` +
      `"zero": ${e.zero}, "data": ${e.data}${place}}`
    );
  }

  end(): string {
    return "]\n";
  }

  /** As natively: an entry is ended once the next one is known. */
  broken(): string {
    return this.first ? "" : ",\n";
  }
}
