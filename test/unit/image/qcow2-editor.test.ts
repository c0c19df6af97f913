// The editor against a plain array of bytes: random changes to images of every shape that qemu-img makes,
// each checked by qemu-img.
import { randomFillSync } from "node:crypto";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import test from "ava";
import { nodeCodecs } from "../../../src/codec/node/codecs.ts";
import { type Editor, openEditor } from "../../../src/image/qcow2/edit/editor.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import { openDurableFile } from "../../../src/io/node/durable-file.ts";
import { inScratch } from "../../support/native.ts";
import { difference, qemuImg, readAll, readBytes, writeBytes } from "../../support/qcow2.ts";
import { Random } from "../../support/random.ts";

interface Shape {
  readonly name: string;
  readonly options: string;
  readonly size: number;
  /** Bytes of a raw backing file. */
  readonly backing?: number;
  readonly dataFile?: boolean;
}

const SHAPES: readonly Shape[] = [
  { name: "default", options: "", size: 40 * 65536 + 1536 },
  { name: "small", options: "cluster_size=512", size: 300_032, backing: 200_192 },
  { name: "small-v2", options: "cluster_size=512,compat=0.10", size: 150_016 },
  { name: "v2-backed", options: "cluster_size=4k,compat=0.10", size: 700_416, backing: 700_416 },
  { name: "narrow", options: "cluster_size=1k,refcount_bits=1", size: 600_064 },
  { name: "two", options: "cluster_size=512,refcount_bits=2", size: 200_192, backing: 1_000_448 },
  { name: "wide", options: "cluster_size=512,refcount_bits=64", size: 200_192 },
  { name: "thirty-two", options: "cluster_size=2k,refcount_bits=32", size: 900_096 },
  { name: "large", options: "cluster_size=2M", size: 9 * 1024 * 1024 + 512, backing: 5 * 1024 * 1024 },
  { name: "extended", options: "extended_l2=on,cluster_size=16k", size: 1_500_160, backing: 1_000_448 },
  { name: "extended-bare", options: "extended_l2=on,cluster_size=64k", size: 2_500_096 },
  { name: "data-file", options: "cluster_size=4k", size: 500_224, dataFile: true },
  { name: "raw-data-file", options: "cluster_size=4k,data_file_raw=on", size: 500_224, dataFile: true },
];

async function make(dir: string, shape: Shape): Promise<{ path: string; below: Uint8Array | null }> {
  const path = join(dir, `${shape.name}.qcow2`);
  const options = [shape.options];
  const args = ["create", "-q", "-f", "qcow2"];
  let below: Uint8Array | null = null;
  if (shape.backing !== undefined) {
    below = randomFillSync(new Uint8Array(shape.backing));
    writeBytes(join(dir, `${shape.name}.base`), below);
    args.push("-b", `${shape.name}.base`, "-F", "raw");
  }
  if (shape.dataFile) options.push(`data_file=${join(dir, shape.name)}.data`);
  const text = options.filter((o) => o !== "").join(",");
  if (text !== "") args.push("-o", text);
  await qemuImg(...args, path, String(shape.size));
  return { path, below };
}

/** One random change to the editor and to the model. */
async function change(editor: Editor, model: Uint8Array, below: Uint8Array, random: Random, plain: boolean) {
  const cs = editor.header.clusterSize;
  const { size } = editor;
  const span = random.below(4) === 0 ? cs * 9 : random.below(2) === 0 ? cs + 1000 : 700;
  let at = random.below(size);
  let length = Math.min(size - at, 1 + random.below(span));
  if (random.below(3) === 0) {
    at -= at % cs;
    length = Math.min(size - at, Math.ceil(length / cs) * cs);
  }
  switch (random.below(plain ? 5 : 6)) {
    case 0:
    case 1:
    case 2: {
      const bytes = randomFillSync(new Uint8Array(length));
      await editor.write(bytes, at);
      model.set(bytes, at);
      break;
    }
    case 3:
      await editor.writeZeros(at, length);
      model.fill(0, at, at + length);
      break;
    case 4: {
      await editor.discard(at, length);
      const from = Math.ceil(at / cs) * cs;
      const to = at + length === size ? size : Math.floor((at + length) / cs) * cs;
      if (from < to) model.set(below.subarray(from, to), from);
      break;
    }
    case 5: {
      at -= at % cs;
      const bytes = new Uint8Array(cs);
      bytes.fill(random.below(256), 0, random.below(cs));
      const tail = Math.min(64, cs);
      randomFillSync(bytes, 0, tail);
      const stream = deflateRawSync(bytes, { level: 6, windowBits: 12 });
      if (stream.length >= cs) break;
      await editor.writeCompressed(stream, at);
      model.set(bytes.subarray(0, Math.min(cs, size - at)), at);
      break;
    }
  }
}

for (const shape of SHAPES)
  test(`random changes: ${shape.name}`, async (t) => {
    await inScratch("qcow2-editor", async (dir) => {
      const { path, below } = await make(dir, shape);
      const under = new Uint8Array(shape.size);
      if (below !== null) under.set(below.subarray(0, shape.size));
      const model = under.slice();
      const random = new Random(shape.size);
      for (let round = 0; round < 3; round++) {
        const file = openDurableFile(path);
        const data = shape.dataFile ? openDurableFile(join(dir, `${shape.name}.data`)) : undefined;
        const editor = await openEditor(file, {
          backing: below === null ? null : new MemorySource(below),
          codecs: nodeCodecs,
          dataFile: data,
        });
        for (let i = 0; i < 120; i++) {
          await change(editor, model, under, random, shape.dataFile === true);
          if (random.below(25) === 0) editor.commit();
        }
        t.is(
          difference(await readAll({ ...source(editor) }), model),
          null,
          `round ${round}: seen by the editor`,
        );
        editor.commit();
        editor.close();
        file.close();
        data?.close();
        await qemuImg("check", "-q", path);
        const raw = join(dir, "out.raw");
        await qemuImg("convert", "-O", "raw", path, raw);
        t.is(difference(readBytes(raw), model), null, `round ${round}: seen by qemu-img`);
        if (shape.options.includes("data_file_raw"))
          t.is(difference(readBytes(join(dir, `${shape.name}.data`)).subarray(0, shape.size), model), null);
      }
    });
  });

function source(editor: Editor) {
  return {
    size: editor.size,
    label: editor.label,
    read: (into: Uint8Array, at: number) => editor.read(into, at),
    map: (from: number, to: number) => editor.map(from, to),
    close: () => {},
  };
}
