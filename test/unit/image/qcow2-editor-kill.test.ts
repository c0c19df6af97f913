// Snapshots, sizes and format options: random changes against a plain model, and a process or a machine that dies in
// the middle of each of them.
import { randomFillSync } from "node:crypto";
import { join } from "node:path";
import test from "ava";
import { nodeCodecs } from "../../../src/codec/node/codecs.ts";
import { amendImage } from "../../../src/image/qcow2/edit/amend.ts";
import { type ImageEditor, openEditor } from "../../../src/image/qcow2/edit/editor.ts";
import { resizeImage } from "../../../src/image/qcow2/edit/resize.ts";
import {
  applySnapshot,
  createSnapshot,
  deleteSnapshot,
  listSnapshots,
} from "../../../src/image/qcow2/edit/snapshots.ts";
import { openQcow2 } from "../../../src/image/qcow2/reader.ts";
import type { DurableFile } from "../../../src/io/durable.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import { CrashFile, Power } from "../../support/crash-disk.ts";
import { inScratch, run } from "../../support/native.ts";
import { difference, qemuImg, readAll, readBytes } from "../../support/qcow2.ts";
import { killEverywhere, put, soundness } from "../../support/qcow2-kill.ts";
import { Random } from "../../support/random.ts";

const SHAPES: readonly string[] = [
  "",
  "cluster_size=512",
  "cluster_size=1k,refcount_bits=2",
  "cluster_size=4k,compat=0.10",
  "cluster_size=512,refcount_bits=64",
  "cluster_size=16k,extended_l2=on",
  "cluster_size=2M",
];

const time = { seconds: 1_700_000_000, nanoseconds: 5 };
const text = (s: string) => new TextEncoder().encode(s);

function inMemory(image: Uint8Array): CrashFile {
  const power = new Power();
  return new CrashFile("image", image, () => power);
}

const open = (file: DurableFile): Promise<ImageEditor> => openEditor(file, { codecs: nodeCodecs });

/** Disk and snapshots of an image, by our own reader. */
async function contents(image: Uint8Array): Promise<Map<string, Uint8Array>> {
  const source = new MemorySource(image);
  const gate = () => Promise.reject(new Error("no other file"));
  const disk = await openQcow2(source, gate, { codecs: nodeCodecs });
  const all = new Map([["disk", await readAll(disk)]]);
  for (const s of disk.snapshots) {
    const view = await openQcow2(source, gate, { codecs: nodeCodecs, snapshot: () => s });
    all.set(`${s.id} ${s.name}`, await readAll(view));
  }
  return all;
}

function sameContents(got: Map<string, Uint8Array>, want: Map<string, Uint8Array>): string | null {
  if ([...got.keys()].join() !== [...want.keys()].join())
    return `${[...got.keys()].join()} and not ${[...want.keys()].join()}`;
  for (const [key, bytes] of want) {
    // A snapshot reads with the size that the disk has now.
    const n = key === "disk" ? bytes.length : Math.min(bytes.length, want.get("disk")!.length);
    const d = difference(key === "disk" ? got.get(key)! : got.get(key)!.subarray(0, n), bytes.subarray(0, n));
    if (d !== null) return `${key}: ${d}`;
  }
  return null;
}

async function make(dir: string, options: string, size: number): Promise<Uint8Array> {
  const path = join(dir, "new.qcow2");
  await qemuImg(
    "create",
    "-q",
    "-f",
    "qcow2",
    ...(options === "" ? [] : ["-o", options]),
    path,
    String(size),
  );
  return readBytes(path).slice();
}

for (const options of SHAPES)
  test(`snapshots and sizes against a model: ${options || "default"}`, async (t) => {
    await inScratch("qcow2-snapshots", async (dir) => {
      const start = 300_032;
      const file = inMemory(await make(dir, options, start));
      const random = new Random(options.length + 7);
      const model = new Map<string, Uint8Array>([["disk", new Uint8Array(start)]]);
      const fixedSize = options.includes("0.10");
      const most = options.includes("refcount_bits=2") ? 2 : 5;
      let next = 1;
      for (let step = 0; step < 60; step++) {
        const editor = await open(file);
        let disk = model.get("disk")!;
        const kept = [...model.keys()].slice(1);
        switch (random.below(7)) {
          case 0:
            if (kept.length >= most) break;
            // As native: one above the highest id there is.
            next = kept.reduce((m, k) => Math.max(m, Number.parseInt(k, 10)), 0) + 1;
            createSnapshot(editor, text(`s${step}`), time);
            model.set(`${next} s${step}`, disk.slice());
            break;
          case 1: {
            if (kept.length === 0) break;
            const i = random.below(kept.length);
            deleteSnapshot(editor, i);
            model.delete(kept[i]);
            break;
          }
          case 2: {
            if (kept.length === 0 || kept.length >= most) break;
            const i = random.below(kept.length);
            applySnapshot(editor, i);
            model.set("disk", model.get(kept[i])!.slice());
            break;
          }
          case 3: {
            if (fixedSize && kept.length > 0) break;
            const size = 512 * (1 + random.below(1200));
            await resizeImage(editor, size, {
              preallocation: size > disk.length && random.below(3) === 0 ? "metadata" : undefined,
            });
            const resized = new Uint8Array(size);
            resized.set(disk.subarray(0, size));
            model.set("disk", resized);
            break;
          }
          default:
            for (let k = 0; k < 5; k++) {
              disk = model.get("disk")!;
              const at = random.below(disk.length);
              const n = Math.min(disk.length - at, 1 + random.below(20_000));
              if (random.below(4) === 0) {
                await editor.writeZeros(at, n);
                disk.fill(0, at, at + n);
              } else {
                const bytes = randomFillSync(new Uint8Array(n));
                await editor.write(bytes, at);
                disk.set(bytes, at);
              }
            }
            editor.commit();
        }
        editor.close();
        t.is(soundness(file.bytes, false), null, `step ${step}`);
      }
      t.is(sameContents(await contents(file.bytes), model), null);
      const path = put(join(dir, "end.qcow2"), file.bytes);
      await qemuImg("check", "-q", path);
      for (const key of model.keys()) {
        const raw = join(dir, "out.raw");
        const from = key === "disk" ? [] : ["-l", `snapshot.id=${key.split(" ")[0]}`];
        await qemuImg("convert", ...from, "-O", "raw", path, raw);
        const n = key === "disk" ? undefined : Math.min(model.get(key)!.length, model.get("disk")!.length);
        t.is(
          difference(readBytes(raw).subarray(0, n), model.get(key)!.subarray(0, n)),
          null,
          `${key} by qemu-img`,
        );
      }
    });
  });

/** Jobs that die. `prepare` makes the image that they start from. */
const JOBS: Readonly<Record<string, (editor: ImageEditor) => void | Promise<void>>> = {
  "create a snapshot": (e) => createSnapshot(e, text("new"), time),
  "apply a snapshot": (e) => applySnapshot(e, 0),
  "delete a snapshot": (e) => deleteSnapshot(e, 1),
  grow: (e) => resizeImage(e, 900_096),
  "grow, preallocated": (e) => resizeImage(e, 900_096, { preallocation: "metadata" }),
  shrink: (e) => resizeImage(e, 100_352),
  "wider refcounts": (e) => amendImage(e, { refcountOrder: 6 }),
  "narrower refcounts": (e) => amendImage(e, { refcountOrder: 3 }),
  "version 2": (e) => amendImage(e, { version: 2 }),
  "lazy refcounts": (e) => amendImage(e, { lazyRefcounts: true }),
  "zeros and discards": async (e) => {
    await e.writeZeros(0, 65536);
    await e.discard(65536, 65536);
    e.commit();
  },
};

for (const options of ["cluster_size=512", "cluster_size=4k", ""])
  test.serial(`killed anywhere: ${options || "default"}`, async (t) => {
    await inScratch("qcow2-kill", async (dir) => {
      const file = inMemory(await make(dir, options, 300_032));
      const random = new Random(11);
      for (let i = 0; i < 3; i++) {
        const editor = await open(file);
        for (let k = 0; k < 6; k++)
          await editor.write(randomFillSync(new Uint8Array(9000)), random.below(290_000));
        await editor.writeZeros(random.below(200_000), 50_000);
        editor.commit();
        if (i < 2) createSnapshot(editor, text(`s${i}`), time);
        editor.close();
      }
      const image = new Uint8Array(file.bytes);
      const before = await contents(image);
      let tried = 0;
      for (const [name, work] of Object.entries(JOBS)) {
        const run1 = async (target: DurableFile) => {
          const editor = await open(target);
          await work(editor);
        };
        const done = inMemory(image);
        await run1(done);
        const after = await contents(done.bytes);
        t.is(soundness(done.bytes, false), null, name);
        tried += await killEverywhere({ image, run: run1 }, 10, random, async (left) => {
          const what = `${name}, killed at operation ${left.at}`;
          t.is(soundness(left.image, true), null, what);
          const now = await contents(left.image);
          const old = sameContents(now, before);
          if (old !== null) t.is(sameContents(now, after), null, `${what}: neither old (${old}) nor new`);
          if (left.at % 7 === 3) {
            const check = await run("qemu-img", ["check", "-q", put(join(dir, "left.qcow2"), left.image)]);
            t.true(check.code === 0 || check.code === 3, `${what}: ${check.stdout}${check.stderr}`);
          }
        });
      }
      t.true(tried >= 70, `${tried} points`);
    });
  });

test("the list of snapshots keeps what it does not know", async (t) => {
  await inScratch("qcow2-list", async (dir) => {
    const file = inMemory(await make(dir, "", 65536));
    const editor = await open(file);
    createSnapshot(editor, text("a"), time);
    createSnapshot(editor, text("a"), time);
    t.deepEqual(
      listSnapshots(editor).map((s) => new TextDecoder().decode(s.id)),
      ["1", "2"],
    );
    deleteSnapshot(editor, 0);
    createSnapshot(editor, text("b"), time);
    t.deepEqual(
      listSnapshots(editor).map((s) => new TextDecoder().decode(s.id)),
      ["2", "3"],
    );
  });
});
