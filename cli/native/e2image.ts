import { ExtentList } from "../../src/bytes/extents.ts";
import type { JobOptions, Progress } from "../../src/engine/api.ts";
import type { LayoutSpec } from "../../src/engine/copy/spec.ts";
import { AbortError, ImprintError, type IoError, ReadError } from "../../src/errors.ts";
import type { ExtVolume } from "../../src/fs/ext/volume.ts";
import type { Selection, Volume } from "../../src/fs/volume.ts";
import type { Source } from "../../src/io/source.ts";
import type { Target } from "../../src/io/target.ts";
import { withJob } from "../commands/job.ts";
import { describeOptions } from "../getopt.ts";
import { describe, report } from "../ui/errors.ts";
import { printable } from "../ui/format.ts";
import { print, printError } from "../ui/out.ts";
import { version } from "../version.ts";
import { BlockNotes, type BlockWriter, comparingWriter, listingWriter, noTarget } from "./e2image-blocks.ts";
import { type E2imageOptions, OPTIONS, parseE2image, usage } from "./e2image-options.ts";
import { BlockProgress } from "./e2image-progress.ts";
import { hasDetail, nativeText } from "./native-errors.ts";

const FAILURE = 1;
const QCOW2_MAGIC = [0x51, 0x46, 0x49, 0xfb];

/** A failure whose message is complete but for the program's name. */
class Failure extends Error {}

/** The command line of e2image(8). */
export async function run(program: string, args: readonly string[]): Promise<number> {
  const parsed = parseE2image(args, process.env["POSIXLY_CORRECT"] !== undefined);
  if (parsed.kind === "version" || parsed.kind === "help") {
    const help = `${usage(program)}\nOptions:\n${describeOptions(OPTIONS)}`;
    print(parsed.kind === "help" ? help : `e2image (imprint ${version()})\n`);
    return 0;
  }
  printError(`e2image (imprint ${version()})\n`);
  if (parsed.kind === "usage") {
    if (parsed.message !== null) printError(`${program}: ${parsed.message}\n`);
    printError(usage(program));
    return FAILURE;
  }
  if (parsed.kind === "error") {
    printError(`${program}: ${parsed.message}\n`);
    return FAILURE;
  }
  try {
    return await imageOf(program, parsed.options);
  } catch (error) {
    if (error instanceof AbortError) return report(program, error);
    printError(`${program}: ${error instanceof Failure ? error.message : describe(error)}\n`);
    return FAILURE;
  }
}

async function imageOf(program: string, o: E2imageOptions): Promise<number> {
  const m = await import("../../src/node.ts");
  if (o.type !== "normal" && !o.force) {
    const state = m.mountState(o.source);
    if (state.mounted && !state.readOnly) {
      printError(`
Running e2image on a R/W mounted filesystem can result in an
inconsistent image which will not be useful for debugging purposes.
Use -f option if you really want to do that.
`);
      return FAILURE;
    }
  }
  if (o.install && o.type !== "normal") throw new Failure("Raw and qcow2 images cannot be installed");
  if (o.install) {
    const { install } = await import("./e2image-install.ts");
    return install(program, o, o.target ?? "");
  }
  if (o.target === null) {
    const { move } = await import("./e2image-move.ts");
    const missing = (error: unknown) => noFilesystem(program, o, error);
    return move(program, o, { isQcow2, noFilesystem: missing, iterationFailure });
  }

  let file: Source;
  try {
    file = m.openFileSource(o.source);
  } catch (error) {
    return noFilesystem(program, o, error);
  }
  try {
    if (o.type === "raw" && (await isQcow2(file))) return await qcow2ToRaw(o, o.target);
    const { openExt } = await import("../../src/fs/ext/volume.ts");
    let source: Source;
    let volume: ExtVolume;
    try {
      source =
        o.sourceOffset === 0 ? file : m.slice(file, o.sourceOffset, Math.max(0, file.size - o.sourceOffset));
      volume = await openExt(source, { superblock: o.superblock, blockSize: o.blocksize });
    } catch (error) {
      return noFilesystem(program, o, error);
    }
    if (o.sanitize) {
      const { writeSanitized } = await import("./e2image-sanitize.ts");
      return await writeSanitized(o, o.target, volume, openOutput);
    }
    return await writeVolume(program, o, o.target, source, volume);
  } finally {
    await file.close();
  }
}

async function isQcow2(file: Source): Promise<boolean> {
  const head = new Uint8Array(4);
  const r = file.read(head, 0);
  if (r instanceof Promise) await r;
  return QCOW2_MAGIC.every((b, i) => head[i] === b);
}

/** The native words for a source that cannot be opened as a filesystem. */
function noFilesystem(program: string, o: E2imageOptions, error: unknown): number {
  if (!(error instanceof ImprintError)) throw error;
  printError(`${program}: ${nativeText(error)} while trying to open ${o.source}\n`);
  if (hasDetail(error)) printError(`${program}: ${printable(error.message)}\n`);
  (o.target === "-" ? printError : print)("Couldn't find valid filesystem superblock.\n");
  return FAILURE;
}

/** How an output is written: where to, and whether what is there stays. */
interface Output {
  readonly target: Target;
  readonly inPlace: boolean;
  readonly device: boolean;
}

/** Opens the output, or with `-n` its stand-in. Why it cannot be opened is told in native's words. */
async function openOutput(o: E2imageOptions, path: string): Promise<Output> {
  try {
    return await (o.list ? listOutput(o, path) : writtenOutput(o, path));
  } catch (error) {
    const text = nativeText(error);
    // A refusal of ours names the target itself; what the host says does not.
    if (error instanceof ImprintError && text !== error.message)
      throw new Failure(`${text} while trying to open ${path}`);
    throw error;
  }
}

async function writtenOutput(o: E2imageOptions, path: string): Promise<Output> {
  const m = await import("../../src/node.ts");
  const { statSync } = await import("node:fs");
  if (path === "-") return { target: m.openStdoutTarget(), inPlace: false, device: false };
  const { kind } = m.checkTarget(path, { sources: [o.source] });
  if (kind === "stream") return { target: m.openSequentialTarget(path), inPlace: false, device: false };
  const partly = o.type === "raw" && (o.compare || o.targetOffset !== 0);
  if (kind === "device" || (kind === "file" && partly)) {
    const target = m.openInPlaceTarget(path, { shrink: o.targetOffset === 0 });
    return { target, inPlace: true, device: statSync(path).isBlockDevice() };
  }
  return { target: m.createFileTarget(path, { mode: 0o600 }), inPlace: false, device: false };
}

/** Checks that native makes once the output is open; it prints them without its name. */
function lateRefusal(o: E2imageOptions, path: string): string | null {
  if (o.compare && o.type !== "raw") return "The -c option only supported in raw mode";
  if (o.compare && path === "-") return "The -c option not supported when writing to stdout";
  if (o.progress && o.type !== "raw") return "The -p option only supported in raw mode";
  if (o.verify && (o.compare || o.list || path === "-"))
    return "--verify needs an output that is written whole and can be read back: not with -c, -n or -";
  return null;
}

async function writeVolume(
  program: string,
  o: E2imageOptions,
  path: string,
  source: Source,
  volume: ExtVolume,
): Promise<number> {
  const output = await openOutput(o, path);
  const { target } = output;
  const late = lateRefusal(o, path);
  if (late !== null) {
    await target.abort();
    printError(`${late}\n`);
    return FAILURE;
  }
  const progress = o.progress ? new BlockProgress(printError) : null;
  const done = await withJob(
    async (job) => {
      try {
        if (o.type === "normal") {
          const { writeNormal } = await import("./e2image-normal.ts");
          return await writeNormal(o, target, source, volume, job);
        }
        return await copySelected(program, o, path, output, source, volume, progress, job);
      } catch (error) {
        await target.abort();
        if (error instanceof AbortError) throw interruptedText(output);
        throw iterationFailure(error);
      }
    },
    { line: false },
  );
  progress?.end();
  if (o.compare) print(`${done.unchanged} blocks already contained the data to be copied\n`);
  if (done.lost === 0 || o.ignoreReadErrors) return 0;
  const blocks = done.lost === 1 ? "1 block" : `${done.lost} blocks`;
  printError(
    `${program}: ${blocks} could not be read and ${done.lost === 1 ? "is" : "are"} zeros in ${path}\n`,
  );
  return FAILURE;
}

function interruptedText({ target, inPlace }: Output): AbortError {
  const whole = !inPlace && target.seekable;
  return new AbortError(`interrupted, ${whole ? "nothing was written" : `${target.label} is incomplete`}`);
}

/** An error of the walk over the inodes in native words, with what they leave out behind it. */
function iterationFailure(error: unknown): unknown {
  const { doing } = error as { doing?: unknown };
  if (!(error instanceof ImprintError) || typeof doing !== "string" || doing === "") return error;
  return new Failure(`${nativeText(error)} ${doing}\n(${printable(error.message)})`);
}

/** The stand-in for an output that is only listed. Nothing is created. */
async function listOutput(o: E2imageOptions, path: string): Promise<Output> {
  const m = await import("../../src/node.ts");
  const kind = path === "-" ? "stream" : m.checkTarget(path, { sources: [o.source], force: true }).kind;
  const partly = o.type === "raw" && (o.compare || o.targetOffset !== 0);
  if (o.compare && (kind === "file" || kind === "device"))
    return { ...(await writtenOutput(o, path)), inPlace: true };
  // Zeros are left out of a file that is made new, and of a QCOW2 image that is not on a device.
  const fresh = kind === "new" || (kind === "file" && !partly) || (o.type === "qcow2" && kind !== "device");
  return { target: noTarget(path, fresh), inPlace: false, device: kind === "device" };
}

async function copySelected(
  program: string,
  o: E2imageOptions,
  path: string,
  output: Output,
  source: Source,
  volume: Volume,
  progress: BlockProgress | null,
  job: JobOptions,
): Promise<{ readonly unchanged: number; readonly lost: number }> {
  const m = await import("../../src/node.ts");
  if (o.all) job.bulk?.prepare(volume.size, output.target.host);
  const selection = await volume.select({
    scope: o.all ? "data" : "metadata",
    nativeSelection: o.nativeSelection,
    complete: !o.nativeSelection,
    attributeValues: false,
    wholeInodeTables: output.device,
    scramble: o.scramble,
    signal: job.signal,
    onWarnings: printWarnings,
    onProgress: () => progress?.scan(),
  });
  const { blockSize } = volume;
  const notes = new BlockNotes(output.target.seekable ? print : printError);
  const writer = blockWriter(o, output, blockSize, notes);
  progress?.begin(selection.marks, blockSize);
  const onProgress = progress === null ? undefined : (p: Progress) => progress.update(p);
  const named = await namesOf(selection, notes);
  const write = (readable: Source, target: Target) =>
    m.writeImage(new m.SelectedSource(named(readable), selection.blocks, blockSize, volume.size), target, {
      layout: layoutOf(o, volume, selection),
      verify: o.verify,
      signal: job.signal,
      ...(job.bulk === undefined ? {} : { bulk: job.bulk }),
      ...(onProgress === undefined ? {} : { onProgress }),
      keepZero: output.device,
      keepRest: output.device,
      ...(writer === null ? {} : { write: writer.write }),
      listOnly: o.list,
    });
  let lost = 0;
  const lose = (at: number, error: IoError): void => {
    lost++;
    const block = Math.floor(at / blockSize);
    printError(`${programName(program)}: ${nativeText(error)} error reading block ${block}\n`);
  };
  const pulled = output.target.pull !== undefined;
  const tolerant = new m.TolerantSource(source, volume.size, blockSize, lose, pulled);
  // The fast copiers read the file themselves and stop where they cannot: then all of it once more, block by block.
  const fast =
    writer === null && !o.scramble && output.target.host !== undefined && !endsEarly(source, selection);
  try {
    await write(fast ? source : tolerant, output.target);
  } catch (error) {
    if (!fast || !(error instanceof ReadError)) throw error;
    await write(tolerant, (await openOutput(o, path)).target);
  }
  if (o.list && output.inPlace) await output.target.abort();
  writer?.finish();
  notes.finish();
  return { unchanged: writer?.unchanged() ?? 0, lost };
}

/** Prints warnings about a volume. */
function printWarnings(lines: readonly string[]): void {
  printError(lines.map((line) => `${printable(line)}\n`).join(""));
}

/** What `-s` makes of a source. */
async function namesOf(selection: Selection, notes: BlockNotes): Promise<(base: Source) => Source> {
  const { scrambled, blockSize } = selection;
  if (scrambled === undefined) return (base) => base;
  const { ScrambledSource } = await import("../../src/fs/ext/scramble.ts");
  return (base) => new ScrambledSource(base, scrambled, blockSize, (block, line) => notes.add(block, line));
}

function blockWriter(
  o: E2imageOptions,
  output: Output,
  blockSize: number,
  notes: BlockNotes,
): BlockWriter | null {
  const offset = o.type === "raw" ? o.targetOffset : 0;
  const listing = o.list ? listingWriter(blockSize, offset, notes) : null;
  if (!o.compare) return listing;
  const { target } = output;
  const comparing = comparingWriter(
    output.inPlace ? target : null,
    blockSize,
    listing?.write ?? ((bytes, at) => target.write(bytes, at)),
  );
  return { ...comparing, finish: () => listing?.finish() };
}

/** Layout of the output. A list needs the blocks' own order and nothing else. */
function layoutOf(o: E2imageOptions, volume: Volume, selection: Selection): LayoutSpec {
  const clusterSize = volume.blockSize;
  const guestSize = volume.size;
  if (o.type === "raw" || o.list) return { kind: "raw", clusterSize, guestSize, offset: o.targetOffset };
  if (!o.modern) return { kind: "e2image", clusterSize, guestSize, marks: selection.marks };
  return {
    kind: "qemu",
    clusterSize: 65536,
    guestSize,
    version: 3,
    refcountOrder: 4,
    backingFile: null,
    backingFormat: null,
  };
}

/** Whether blocks to be copied lie past the end of the source. */
function endsEarly(source: Source, selection: Selection): boolean {
  const whole = Math.floor(source.size / selection.blockSize);
  const beyond = new ExtentList();
  selection.blocks.runs(whole, selection.blocks.limit, beyond, 1);
  return beyond.count > 0;
}

/** `program` without its directories, as native names itself in the middle of a job. */
function programName(program: string): string {
  return program.slice(program.lastIndexOf("/") + 1);
}

/** QCOW2 to raw: any version, compressed clusters and backing files included. */
async function qcow2ToRaw(o: E2imageOptions, path: string): Promise<number> {
  const m = await import("../../src/node.ts");
  const set: string[] = [];
  if (o.all) set.push("-a");
  if (o.superblock !== 0) set.push("-b");
  if (o.blocksize !== 0) set.push("-B");
  if (o.compare) set.push("-c");
  if (o.list) set.push("-n");
  if (o.scramble) set.push("-s");
  if (o.sourceOffset !== 0) set.push("-o");
  if (o.targetOffset !== 0) set.push("-O");
  // -a is harmless: a conversion takes everything the image holds.
  const meaningless = set.filter((flag) => flag !== "-a");
  if (meaningless.length > 0)
    throw new Failure(
      `${o.source} is a QCOW2 image, which -r turns into a raw one as a whole: not with ${meaningless.join(" ")}`,
    );
  const { inputFiles, keepApart, openDisk } = await import("../commands/input.ts");
  const opened = await openDisk(o.source, { format: "qcow2" });
  try {
    if (path !== "-") {
      m.checkTarget(path, { sources: inputFiles() });
      keepApart(path);
    }
    const output = await openOutput(o, path);
    await withJob(
      async (job) => {
        try {
          await m.convert(opened.source, output.target, { ...job, format: "raw", verify: o.verify });
        } catch (error) {
          throw error instanceof AbortError ? interruptedText(output) : error;
        }
      },
      { line: o.progress },
    );
  } finally {
    await opened.close();
  }
  return 0;
}
