import { type OptionSpec, parse } from "../getopt.ts";
import { strtoull } from "./strtoull.ts";

/** The command line of e2image 1.47.0: `b:B:nrsIQafo:O:pc`, and long options of our own. */
export const OPTIONS: readonly OptionSpec[] = [
  { key: "raw", short: "r", help: "write a raw image: the metadata at its own offsets in a sparse file" },
  { key: "qcow2", short: "Q", help: "write a QCOW2 image" },
  { key: "all", short: "a", help: "with -r or -Q: take the data of the files too" },
  { key: "force", short: "f", help: "go on although the source is mounted read-write" },
  {
    key: "superblock",
    short: "b",
    arg: "SUPERBLOCK",
    help: "read this backup superblock (block number; needs -B)",
  },
  { key: "blocksize", short: "B", arg: "BLOCKSIZE", help: "block size of the filesystem in bytes" },
  {
    key: "compare",
    short: "c",
    help: "with -r: write only the blocks that differ from what the output holds",
  },
  { key: "list", short: "n", help: "write nothing; list the blocks that would be written" },
  { key: "progress", short: "p", help: "with -r: show progress" },
  {
    key: "sourceOffset",
    short: "o",
    arg: "OFFSET",
    help: "with -r: byte in the source where the filesystem starts",
  },
  { key: "targetOffset", short: "O", arg: "OFFSET", help: "with -r: byte in the output where it goes" },
  { key: "install", short: "I", help: "install a normal image on a device (-f: over another volume)" },
  { key: "scramble", short: "s", help: "scramble the names in directories, as native e2image does" },
  {
    key: "sanitize",
    long: "sanitize",
    help: "with -r or -Q: replace every name, target and attribute value; the image still checks clean",
  },
  { key: "seed", long: "seed", arg: "SEED", help: "with --sanitize: the same seed gives the same names" },
  {
    key: "dropJournal",
    long: "drop-journal",
    help: "with --sanitize: throw a dirty journal away instead of replaying it",
  },
  {
    key: "modern",
    long: "modern",
    help: "with -Q: QCOW2 version 3 with 64 KiB clusters, as qemu-img lays it out",
  },
  {
    key: "nativeSelection",
    long: "native-selection",
    help: "take exactly the blocks that native e2image takes, with what it leaks (deleted data of bigalloc clusters) and without what it loses",
  },
  {
    key: "ignoreReadErrors",
    long: "ignore-read-errors",
    help: "exit 0 although blocks could not be read and are zeros in the image",
  },
  {
    key: "journal",
    long: "journal",
    arg: "FILE",
    help: "where a move within one file keeps what it needs to be resumed (default: beside the file)",
  },
  { key: "verify", long: "verify", help: "read the output back and compare it with the source" },
  { key: "help", long: "help", help: "show this help" },
  { key: "version", long: "version", help: "show the version" },
];

export interface E2imageOptions {
  readonly type: "normal" | "raw" | "qcow2";
  readonly all: boolean;
  readonly force: boolean;
  readonly superblock: number;
  readonly blocksize: number;
  readonly compare: boolean;
  readonly list: boolean;
  readonly progress: boolean;
  readonly sourceOffset: number;
  readonly targetOffset: number;
  readonly install: boolean;
  readonly scramble: boolean;
  readonly sanitize: boolean;
  /** Null for a random one. */
  readonly seed: string | null;
  readonly dropJournal: boolean;
  readonly modern: boolean;
  readonly nativeSelection: boolean;
  readonly ignoreReadErrors: boolean;
  readonly verify: boolean;
  /** Where a move keeps its journal; null for the usual place. */
  readonly journal: string | null;
  readonly source: string;
  /** Null in a move within one file. */
  readonly target: string | null;
}

export type ParseResult =
  | { readonly kind: "options"; readonly options: E2imageOptions }
  /** Native usage text, after a line of getopt's where it has one. */
  | { readonly kind: "usage"; readonly message: string | null }
  /** A refused combination. */
  | { readonly kind: "error"; readonly message: string }
  | { readonly kind: "help" }
  | { readonly kind: "version" };

/** Reads the command line and refuses what native e2image refuses, in its order. */
export function parseE2image(args: readonly string[], posix: boolean): ParseResult {
  const flags = new Set<string>();
  const numbers = new Map<string, number>();
  const operands: string[] = [];
  let type: E2imageOptions["type"] = "normal";
  let seed: string | null = null;
  let journal: string | null = null;
  for (const item of parse(args, OPTIONS, { posix })) {
    if (item.kind === "error") return { kind: "usage", message: item.message };
    if (item.kind === "operand") operands.push(item.value);
    else if (item.key === "help" || item.key === "version") return { kind: item.key };
    else if (item.key === "raw" || item.key === "qcow2") {
      if (type !== "normal") return { kind: "usage", message: null };
      type = item.key;
    } else if (item.key === "journal") journal = item.value;
    else if (item.key === "seed") seed = item.value;
    else if (item.value !== null) numbers.set(item.key, strtoull(item.value));
    else flags.add(item.key);
  }
  const number = (key: string): number => numbers.get(key) ?? 0;
  const options: E2imageOptions = {
    type,
    all: flags.has("all"),
    force: flags.has("force"),
    superblock: number("superblock"),
    blocksize: number("blocksize"),
    compare: flags.has("compare"),
    list: flags.has("list"),
    progress: flags.has("progress"),
    sourceOffset: number("sourceOffset"),
    targetOffset: number("targetOffset"),
    install: flags.has("install"),
    scramble: flags.has("scramble"),
    sanitize: flags.has("sanitize"),
    seed,
    dropJournal: flags.has("dropJournal"),
    modern: flags.has("modern"),
    nativeSelection: flags.has("nativeSelection"),
    ignoreReadErrors: flags.has("ignoreReadErrors"),
    verify: flags.has("verify"),
    journal,
    source: operands[0] ?? "",
    target: operands[1] ?? null,
  };
  const offsets = options.sourceOffset !== 0 || options.targetOffset !== 0;
  if (operands.length !== 2 && !(operands.length === 1 && offsets)) return { kind: "usage", message: null };
  const message = refusal(options, offsets);
  return message === null ? { kind: "options", options } : { kind: "error", message };
}

function refusal(o: E2imageOptions, offsets: boolean): string | null {
  if (o.type === "normal") {
    if (o.all) return "-a option can only be used with raw or QCOW2 images.";
    if (o.superblock !== 0) return "-b option can only be used with raw or QCOW2 images.";
  }
  if (offsets && o.type !== "raw") return "Offsets are only allowed with raw images.";
  if (o.target === null && !o.all) return "Move mode requires all data mode.";
  if (o.journal !== null && (o.target !== null || o.type !== "raw"))
    return "--journal is for a move within one file.";
  if (o.sanitize) {
    if (o.type === "normal") return "--sanitize makes raw and QCOW2 images only.";
    if (o.all || o.scramble || o.compare || o.list || o.targetOffset !== 0 || o.nativeSelection)
      return "--sanitize takes metadata only, and replaces all names: not with -a, -s, -c, -n, -O or --native-selection.";
  } else if (o.seed !== null || o.dropJournal) return "--seed and --drop-journal need --sanitize.";
  if (o.modern && o.type !== "qcow2") return "--modern is for QCOW2 images only.";
  for (const value of [o.sourceOffset, o.targetOffset, o.superblock, o.blocksize])
    if (!Number.isSafeInteger(value)) return "A number on the command line is beyond 2^53.";
  return null;
}

/** The three lines of native e2image, under its own name. */
export function usage(program: string): string {
  return `Usage: ${program} [ -r|-Q ] [ -f ] [ -b superblock ] [ -B blocksize ] device image-file
       ${program} -I device image-file
       ${program} -ra [ -cfnp ] [ -o src_offset ] [ -O dest_offset ] src_fs [ dest_fs ]
`;
}
