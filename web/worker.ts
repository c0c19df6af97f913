import { useCodecs } from "../src/codec/default.ts";
import type { OutputOptions, Progress } from "../src/engine/api.ts";
import { FormatError, ImprintError, IoError, RefusedError, UnsupportedError } from "../src/errors.ts";
import type { Gate, GateRequest } from "../src/io/gate.ts";
import type { Source } from "../src/io/source.ts";
import {
  allocationPicture,
  BlobSource,
  BlobTarget,
  cached,
  capture,
  convert,
  FileHandleTarget,
  inspect,
  type Opened,
  openImage,
  PrivateFileTarget,
} from "../src/web.ts";
import { DOWNLOAD_FOLDER } from "./downloads.ts";
import type {
  Call,
  Calls,
  FromWorker,
  JobOutcome,
  JobRequest,
  OpenedView,
  PlainError,
  Sink,
  ToWorker,
} from "./protocol.ts";
import { pageCodecs } from "./zstd.ts";

useCodecs(pageCodecs);

/** Backing files below one image. */
const DEEPEST = 32;
/** Milliseconds between two progress messages. */
const PACE = 100;

const port = self as unknown as {
  postMessage(message: FromWorker): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
};
const questions = new Map<number, (file: File | null) => void>();
let asked = 0;
let opened: Opened | null = null;

port.onmessage = ({ data }) => {
  if (data.type === "gate") {
    questions.get(data.id)?.(data.file);
    questions.delete(data.id);
  } else void answer(data.id, data.call);
};

async function answer(id: number, call: Call): Promise<void> {
  try {
    port.postMessage({ type: "answer", id, value: await perform(call) });
  } catch (e) {
    port.postMessage({ type: "error", id, error: plain(e) });
  }
}

function perform(call: Call): Promise<Calls[keyof Calls]["answer"]> {
  if (call.op === "open") return open(call);
  if (call.op === "picture") return allocationPicture(current(), call.cells);
  return run(call);
}

function current(): Opened {
  if (opened === null) throw new ImprintError("EINTERNAL", "no image is open");
  return opened;
}

/** Every read of a File costs about a millisecond, so pages are large. */
const PAGES = { page: 1024 * 1024, pages: 24, ahead: 8 };

function sourceOf(file: File): Source {
  return cached(new BlobSource(file), PAGES);
}

async function open({ file, format, partition }: Calls["open"]["args"]): Promise<OpenedView> {
  await opened?.close();
  opened = null;
  opened = await openImage(sourceOf(file), { gate, format, partition: partition ?? undefined });
  return {
    inspection: await inspect(opened),
    partition: opened.partition?.number ?? null,
    volume: opened.volume?.kind ?? null,
    sourceSize: opened.source.size,
    damage: opened.damage === null ? null : plain(opened.damage),
  };
}

/** Asks the person for a file that an image names. */
const gate: Gate = async (request: GateRequest) => {
  if (request.depth > DEEPEST)
    throw new RefusedError("EDEPTH", `${request.from}: more than ${DEEPEST} ${request.purpose}s below it`);
  const id = ++asked;
  const file = await new Promise<File | null>((resolve) => {
    questions.set(id, resolve);
    port.postMessage({ type: "gate", id, request });
  });
  if (file === null)
    throw new RefusedError("EGATE", `${request.from} needs its ${request.purpose} “${request.name}”`);
  return sourceOf(file);
};

async function run({ job, sink }: Calls["run"]["args"]): Promise<JobOutcome> {
  const target = await targetFor(job, sink);
  try {
    return await runInto(job, target);
  } catch (e) {
    // Less room than was promised (a small quota, a private window): once more, in memory.
    if (!(target instanceof PrivateFileTarget && e instanceof IoError && e.code === "ENOSPC")) throw e;
    return runInto(job, new BlobTarget(job.name));
  }
}

async function runInto(job: JobRequest, target: PageTarget): Promise<JobOutcome> {
  const started = performance.now();
  const { format, qcow2, verify } = job;
  const options: OutputOptions = { format, qcow2, verify, onProgress: paced() };
  try {
    const result =
      job.what === "convert"
        ? await convert(current().disk, target, options)
        : await capture(current(), target, {
            ...options,
            scope: job.what,
            nativeSelection: qcow2?.layout === "e2image",
          });
    const milliseconds = performance.now() - started;
    return { result, output: await outputOf(target), milliseconds };
  } catch (e) {
    await target.abort();
    throw e;
  }
}

type PageTarget = FileHandleTarget | PrivateFileTarget | BlobTarget;

async function targetFor({ name, what, format }: JobRequest, sink: Sink): Promise<PageTarget> {
  const { disk, source } = current();
  const size = format === "qcow2" ? 0 : what === "convert" ? disk.size : source.size;
  if (sink.kind === "file") return FileHandleTarget.open(sink.handle, size);
  if (sink.id === null) return new BlobTarget(name);
  const root = await navigator.storage?.getDirectory?.().catch(() => null);
  const folder = await root?.getDirectoryHandle(DOWNLOAD_FOLDER, { create: true }).catch(() => null);
  const file = folder ? await PrivateFileTarget.open(name, folder, sink.id, size) : null;
  return file ?? new BlobTarget(name);
}

async function outputOf(target: PageTarget): Promise<Blob | null> {
  if (target instanceof PrivateFileTarget) return target.file();
  return target instanceof BlobTarget ? target.blob() : null;
}

function paced(): (progress: Progress) => void {
  let last = Number.NEGATIVE_INFINITY;
  let phase = "";
  return (progress) => {
    const now = performance.now();
    if (now - last < PACE && progress.phase === phase) return;
    last = now;
    phase = progress.phase;
    port.postMessage({ type: "progress", progress });
  };
}

/** Class names as the page knows them, whatever a minifier makes of them. */
function nameOf(e: ImprintError): string {
  if (e instanceof FormatError) return "FormatError";
  if (e instanceof UnsupportedError) return "UnsupportedError";
  if (e instanceof RefusedError) return "RefusedError";
  return e instanceof IoError ? "IoError" : "ImprintError";
}

function plain(e: unknown): PlainError {
  if (e instanceof ImprintError) return { name: nameOf(e), code: e.code, message: e.message };
  if (e instanceof Error) return { name: e.name, code: "EINTERNAL", message: e.message || e.name };
  return { name: "Error", code: "EINTERNAL", message: String(e) };
}
