import { ImprintError } from "../../../src/errors.ts";
import type { ImageEditor } from "../../../src/image/qcow2/edit/editor.ts";
import { print, printError } from "../../ui/out.ts";
import { editImage, numbered, worded } from "./edit.ts";
import { QemuError, QemuUsageError } from "./errors.ts";
import { cannotOpen } from "./names.ts";
import { openEditable, openImage, rawWarning } from "./open.ts";
import { OPTION, parseCommand } from "./options.ts";
import { snapshotTable } from "./snapshot-list.ts";

type Action = "list" | "create" | "apply" | "delete";

interface SnapshotArguments {
  readonly file: string;
  readonly action: Action | null;
  readonly name: string;
  readonly imageOpts: boolean;
  readonly share: boolean;
}

/** Bytes of a name; the rest is cut off. */
const LONGEST_NAME = 255;

/** qemu-img snapshot. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  const o = parseArguments(args);
  if (o.action === "list") {
    await list(o);
    return 0;
  }
  if (o.share) throw cannotOpen(o.file, "force-share=on can only be used with read-only images");
  const image = await openEditable(o.file, { imageOpts: o.imageOpts });
  try {
    const editor = image.header === null ? null : await editImage(image);
    try {
      // Native opens a raw image again before it gives up, and warns again.
      if (o.action === "apply" && editor === null && image.probed) printError(rawWarning(image.name));
      await change(o, editor);
    } finally {
      editor?.close();
    }
  } finally {
    await image.close();
  }
  return 0;
}

function parseArguments(args: readonly string[]): SnapshotArguments {
  let action: Action | null = null;
  let name = "";
  let imageOpts = false;
  let share = false;
  const specs = [
    { key: "list", short: "l" },
    { key: "apply", short: "a", arg: "snapshot" },
    { key: "create", short: "c", arg: "snapshot" },
    { key: "delete", short: "d", arg: "snapshot" },
    OPTION.quiet,
    OPTION.object,
    OPTION.imageOpts,
    OPTION.share,
  ];
  const operands = parseCommand("snapshot", args, specs, (key, value) => {
    switch (key) {
      case "list":
      case "create":
      case "apply":
      case "delete":
        if (action !== null) throw new QemuUsageError("Cannot mix '-l', '-a', '-c', '-d'");
        action = key;
        name = value;
        break;
      case "image-opts":
        imageOpts = true;
        break;
      case "share":
        share = true;
    }
  });
  if (operands.length !== 1) throw new QemuUsageError("Expecting one image file name");
  return { file: operands[0], action, name, imageOpts, share };
}

async function list(o: SnapshotArguments): Promise<void> {
  const image = await openImage(o.file, { imageOpts: o.imageOpts, share: o.share, data: false });
  try {
    print(snapshotTable(image.image?.snapshots ?? []));
  } finally {
    await image.close();
  }
}

async function change(o: SnapshotArguments, editor: ImageEditor | null): Promise<void> {
  const { name } = o;
  const engine = editor === null ? null : await import("../../../src/image/qcow2/edit/snapshots.ts");
  const snapshots = engine === null || editor!.header.external ? [] : engine.listSnapshots(editor!);
  const text = engine?.textOf ?? (() => "");
  switch (o.action) {
    case "create":
      attempt(
        () => {
          if (engine === null) throw new ImprintError("ENOTSUP", "raw images have no snapshots");
          const now = Date.now();
          const time = {
            seconds: Math.floor(now / 1000),
            nanoseconds: (now % 1000) * 1_000_000 + (process.hrtime()[1] % 1_000_000),
          };
          engine.createSnapshot(editor!, new TextEncoder().encode(name).subarray(0, LONGEST_NAME), time);
        },
        (error) => `Could not create snapshot '${name}': ${numbered(error)}`,
      );
      return;
    case "apply": {
      const failed = (text: string) => new QemuError(`Could not apply snapshot '${name}': ${text}`);
      if (engine === null) throw failed("Block driver does not support snapshots");
      const { header } = editor!;
      if (header.bitmaps !== null && header.bitmapsValid) throw failed("Device has active dirty bitmaps");
      if (header.external) throw failed("Failed to load snapshot: Operation not supported");
      let index = snapshots.findIndex((s) => text(s.id) === name);
      if (index < 0) index = snapshots.findIndex((s) => text(s.name) === name);
      if (index < 0) throw failed("Failed to load snapshot: No such file or directory");
      attempt(
        () => engine.applySnapshot(editor!, index),
        (error) => `Could not apply snapshot '${name}': Failed to load snapshot: ${worded(error)}`,
      );
      return;
    }
    case "delete": {
      // The name alone counts, not the id.
      const index = snapshots.findIndex((s) => text(s.name) === name);
      if (index < 0) throw new QemuError(`Could not delete snapshot '${name}': snapshot not found`);
      attempt(
        () => engine!.deleteSnapshot(editor!, index),
        (error) => `Could not delete snapshot '${name}': ${worded(error)}`,
      );
    }
  }
}

function attempt(job: () => void, words: (error: ImprintError) => string): void {
  try {
    job();
  } catch (error) {
    if (error instanceof ImprintError && error.code !== "EABORT") throw new QemuError(words(error));
    throw error;
  }
}
