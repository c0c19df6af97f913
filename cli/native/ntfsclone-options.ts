import { type OptionSpec, parse } from "../getopt.ts";
import { refusal } from "./ntfsclone-text.ts";

/**
 * The command line of ntfsclone 2022.10.3: `-dfhmno:O:qrstV`, long options in the order in which ambiguities list them,
 * and options of our own, which no abbreviation stands for.
 */
export const OPTIONS: readonly OptionSpec[] = [
  { key: "output", short: "o", long: "output", arg: "FILE", help: "write to FILE, which must not exist" },
  {
    key: "overwrite",
    short: "O",
    long: "overwrite",
    arg: "FILE",
    help: "write to FILE, a device or a file that may exist",
  },
  { key: "save", short: "s", long: "save-image", help: "write a special image: only the clusters in use" },
  { key: "restore", short: "r", long: "restore-image", help: "SOURCE is a special image" },
  { key: "rescue", long: "rescue", help: "go on where the source cannot be read" },
  { key: "metadata", short: "m", long: "metadata", help: "take the metadata only, with all data wiped" },
  {
    key: "noAction",
    short: "n",
    long: "no-action",
    help: "with -r: read the image to its end, write nothing",
  },
  {
    key: "ignoreFsCheck",
    long: "ignore-fs-check",
    help: "with -m or --rescue: go on although $Bitmap is wrong",
  },
  { key: "newSerial", long: "new-serial", help: "give the clone a new serial number" },
  { key: "newHalfSerial", long: "new-half-serial", help: "give the clone a half new serial number" },
  { key: "keepTimes", short: "t", long: "preserve-timestamps", help: "with -m: keep the timestamps" },
  { key: "quiet", short: "q", long: "quiet", help: "show no progress" },
  { key: "force", short: "f", long: "force", help: "go on although the volume is marked dirty" },
  { key: "fullLogfile", long: "full-logfile", help: "with -m: take all of $LogFile" },
  { key: "help", short: "h", long: "help", help: "show this help" },
  { key: "version", short: "V", long: "version", help: "show the version" },
  { key: "debug", short: "d" },
  {
    key: "fsCheck",
    long: "fs-check",
    arg: "POLICY",
    exact: true,
    help: "strict: refuse a volume whose $Bitmap is wrong (default); union: save what $Bitmap marks beyond what files own",
  },
  {
    key: "mapfile",
    long: "mapfile",
    arg: "FILE",
    exact: true,
    help: "with --rescue: a map of ddrescue that is read where it exists, and written; with -r of the image",
  },
  {
    key: "retries",
    long: "retries",
    arg: "N",
    exact: true,
    help: "with --rescue: passes over what could not be read (default 0)",
  },
  {
    key: "patience",
    long: "patience",
    arg: "SECONDS",
    exact: true,
    help: "with --rescue: seconds spent on one bad stretch before the rest of it is skipped (default 60 with -m and to pipes, else no limit)",
  },
  {
    key: "resume",
    long: "resume",
    exact: true,
    help: "with --rescue --mapfile: go on with an interrupted clone, or start one",
  },
];

export interface NtfscloneOptions {
  /** SOURCE; "-" is standard input. */
  readonly source: string;
  /** "-" is standard output; null with `noAction`. */
  readonly output: string | null;
  /** -O: an existing output is replaced or written to. */
  readonly overwrite: boolean;
  readonly save: boolean;
  readonly restore: boolean;
  readonly metadata: boolean;
  readonly noAction: boolean;
  readonly rescue: boolean;
  readonly ignoreFsCheck: boolean;
  /** What is done with clusters that $Bitmap marks and nothing owns. */
  readonly fsCheck: "strict" | "union";
  readonly serial: "keep" | "half" | "full";
  readonly keepTimes: boolean;
  readonly fullLogfile: boolean;
  readonly quiet: boolean;
  readonly force: number;
  readonly mapfile: string | null;
  readonly retries: number;
  /** Milliseconds for a bad stretch; null: the default. */
  readonly patience: number | null;
  readonly resume: boolean;
}

export type Parsed =
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  /** `message` is glibc's or null; the usage follows. */
  | { readonly kind: "usage"; readonly message: string | null }
  | { readonly kind: "options"; readonly options: NtfscloneOptions };

/** Refusal of a map of what cannot be read again. */
export const MAPPED_PIPE = "--mapfile needs an image in a file: a pipe cannot be read again";

const REFUSED_WITH_USAGE = {
  output: "ERROR: You must specify an output file.",
  source: "ERROR: You must specify a device file.",
  standardInput: "ERROR: Only special images can be read from standard input",
} as const;

/** Reads the command line and refuses, in native's order, what does not go together. Throws Refusal. */
export function parseNtfsclone(args: readonly string[]): Parsed {
  const count: Record<string, number> = {};
  const values: Record<string, string> = {};
  let output: string | null = null;
  let source: string | null = null;
  for (const item of parse(args, OPTIONS)) {
    if (item.kind === "error") return { kind: "usage", message: `ntfsclone: ${item.message}` };
    if (item.kind === "operand") {
      if (source !== null) return { kind: "usage", message: null };
      source = item.value;
      continue;
    }
    const { key } = item;
    if (key === "help") return { kind: "help" };
    if (key === "version") return { kind: "version" };
    if (key === "output" || key === "overwrite") {
      if (output !== null) return { kind: "usage", message: null };
      output = item.value;
    }
    count[key] = (count[key] ?? 0) + 1;
    if (item.value !== null) values[key] = item.value;
  }
  const has = (key: string): boolean => (count[key] ?? 0) > 0;
  if (!has("noAction") && output === null) return { kind: "usage", message: REFUSED_WITH_USAGE.output };
  if (source === null) return { kind: "usage", message: REFUSED_WITH_USAGE.source };
  if (source === "-" && !has("restore")) return { kind: "usage", message: REFUSED_WITH_USAGE.standardInput };
  if (has("metadata") && has("restore"))
    throw refusal("Restoring only metadata from an image is not supported!");
  if (has("metadata") && output === "-" && !has("save") && !has("noAction"))
    throw refusal("Cloning only metadata to stdout isn't supported!");
  if (has("ignoreFsCheck") && !has("metadata") && !has("rescue"))
    throw refusal("Filesystem check can be ignored only for metadata cloning or rescue situations!");
  if (has("save") && has("restore"))
    throw refusal("Saving and restoring an image at the same time is not supported!");
  if (has("noAction") && !has("restore")) throw refusal("A restoring test requires the restore option!");
  if (has("noAction") && output !== null) throw refusal("A restoring test requires not defining any output!");
  return {
    kind: "options",
    options: {
      source,
      output,
      overwrite: has("overwrite"),
      save: has("save"),
      restore: has("restore"),
      metadata: has("metadata"),
      noAction: has("noAction"),
      rescue: has("rescue"),
      ignoreFsCheck: has("ignoreFsCheck"),
      fsCheck: fsCheckOf(values["fsCheck"]),
      serial: has("newSerial") ? "full" : has("newHalfSerial") ? "half" : "keep",
      keepTimes: has("keepTimes"),
      fullLogfile: has("fullLogfile"),
      quiet: has("quiet"),
      force: count["force"] ?? 0,
      ...rescueOptions(values, has, source),
    },
  };
}

function fsCheckOf(value: string | undefined): "strict" | "union" {
  if (value === undefined || value === "strict") return "strict";
  if (value === "union") return "union";
  throw refusal(`--fs-check=${value}: must be strict or union`);
}

function rescueOptions(
  values: Readonly<Record<string, string>>,
  has: (key: string) => boolean,
  source: string,
): Pick<NtfscloneOptions, "mapfile" | "retries" | "patience" | "resume"> {
  const mapfile = values["mapfile"] ?? null;
  const resume = has("resume");
  for (const name of ["mapfile", "retries", "patience", "resume"])
    if (has(name) && !has("rescue")) throw refusal(`--${name} requires --rescue`);
  if (mapfile !== null && source === "-") throw refusal(MAPPED_PIPE);
  if (resume && mapfile === null)
    throw refusal("--resume requires --mapfile, where the interrupted run left its map");
  if (resume && has("restore"))
    throw refusal(
      "--resume is for clones: a restore starts anew, and leaves alone what its --mapfile says is bad",
    );
  if (resume && (has("save") || has("metadata")))
    throw refusal("--resume is for clones to a file or device, not for images");
  const retries = values["retries"];
  if (retries !== undefined && !/^\d{1,4}$/.test(retries))
    throw refusal(`--retries=${retries}: must be a number from 0 to 9999`);
  const patience = values["patience"];
  if (patience !== undefined && !/^\d{1,6}(\.\d{1,3})?$/.test(patience))
    throw refusal(`--patience=${patience}: must be a number of seconds`);
  return {
    mapfile,
    retries: Number(retries ?? 0),
    patience: patience === undefined ? null : Number(patience) * 1000,
    resume,
  };
}
