// One job with the engine as it is published, on any runtime: captures the ext image named first to raw and QCOW2, in
// memory and through a stream, converts the compressed QCOW2 images named after it to raw, and prints the SHA-256 of
// each as JSON. Uses nothing of the runtime but its own way to
// read a file, and Web Crypto.
import {
  capture,
  convert,
  inspect,
  MemorySource,
  MemoryTarget,
  openImage,
  StreamTarget,
} from "../../dist/index.js";

const [, , file, ...images] = process.argv;

async function sourceOf(path) {
  const bytes =
    typeof Deno !== "undefined"
      ? await Deno.readFile(path)
      : typeof Bun !== "undefined"
        ? await Bun.file(path).bytes()
        : await (await import("node:fs/promises")).readFile(path);
  return new MemorySource(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length), path);
}

const refuse = (request) => Promise.reject(new Error(`refused ${request.name}`));

async function sha256(b) {
  const d = new Uint8Array(await crypto.subtle.digest("SHA-256", b));
  return Array.from(d, (x) => x.toString(16).padStart(2, "0")).join("");
}

/** Runs `job` into memory and answers with the hash of the output. */
async function hashOf(job) {
  const target = new MemoryTarget();
  await job(target);
  return sha256(target.bytes);
}

/** The same through a target that cannot seek. */
async function hashOfStream(job) {
  const pieces = [];
  const sink = { write: (b) => void pieces.push(b.slice()), close() {}, abort() {} };
  await job(new StreamTarget(sink, "stream"));
  return sha256(new Uint8Array(await new Blob(pieces).arrayBuffer()));
}

const opened = await openImage(await sourceOf(file), { gate: refuse });
const results = {};
for (const format of ["raw", "qcow2"]) {
  for (const scope of ["metadata", "used", "all"])
    results[`${scope} ${format}`] = await hashOf((t) => capture(opened, t, { scope, format }));
  results[`disk ${format}`] = await hashOf((t) => convert(opened.disk, t, { format }));
  results[`stream ${format}`] = await hashOfStream((t) => convert(opened.disk, t, { format }));
}
results["e2image"] = await hashOf((t) =>
  capture(opened, t, {
    scope: "metadata",
    format: "qcow2",
    qcow2: { layout: "e2image" },
    nativeSelection: true,
  }),
);
for (const [i, image] of images.entries()) {
  const { disk } = await openImage(await sourceOf(image), { gate: refuse });
  results[`image ${i}`] = await hashOf((t) => convert(disk, t, { format: "raw" }));
}
const { format, filesystem } = await inspect(opened);
const runtime = typeof Deno !== "undefined" ? "deno" : typeof Bun !== "undefined" ? "bun" : "node";
console.log(JSON.stringify({ runtime, format, kind: filesystem?.kind ?? null, results }));
