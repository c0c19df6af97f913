// The built page in Debian's Chromium with real images: what it shows, and that what it saves is what the command line
// writes.
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { Page } from "playwright-core";
import { dumpe2fs, extVolume, mbrDisk, patched, UUID } from "../support/ext-volume.ts";
import { fileDifference, imprint, inScratch, limiter, must } from "../support/native.ts";
import {
  choose,
  openFile,
  type SaveChoice,
  saveDownload,
  type Visit,
  type VisitOptions,
  visit,
} from "./browser.ts";
import { type Site, serve } from "./site.ts";

const MiB = 1024 * 1024;
/** One browser at a time. */
const turn = limiter(1);

/** Runs `job` with the page open, then checks that it asked nothing of others and broke no policy. */
async function onPage(
  t: ExecutionContext,
  options: Omit<VisitOptions, "dir"> & { readonly beforeWorker?: string },
  job: (v: Visit & { site: Site }, dir: string) => Promise<void>,
): Promise<void> {
  await turn(() =>
    inScratch("web", async (dir) => {
      const site = await serve(options.beforeWorker);
      const v = await visit(site, { ...options, dir });
      try {
        await job({ ...v, site }, dir);
        t.deepEqual(v.strangers, [], "requests to other origins");
        t.deepEqual(v.complaints, [], "console errors and policy violations");
      } finally {
        await v.close();
        await site.close();
      }
    }),
  );
}

/** Removes the picker, as in browsers that have none: outputs become downloads. */
function withoutPicker(): void {
  Object.defineProperty(window, "showSaveFilePicker", { value: undefined });
}

/** A fact of a card, by its key. */
function fact(page: Page, card: string, key: string): Promise<string | null> {
  return page.textContent(`#${card} [data-key="${key}"] dd`);
}

/** Units of a row of the legend. */
async function units(page: Page, role: string): Promise<number> {
  return Number(await page.getAttribute(`.legend tr[data-role="${role}"]`, "data-units"));
}

/** Outputs in the browser's private file system. */
function downloadsKept(page: Page): Promise<number> {
  return page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("imprint-downloads", { create: true });
    let n = 0;
    for await (const _ of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) n++;
    return n;
  });
}

async function ours(t: ExecutionContext, args: readonly string[]): Promise<void> {
  const r = await imprint(args);
  t.is(r.code, 0, `imprint ${args.join(" ")}: ${r.stderr}`);
}

/** Saves with the page and with the command line, and compares. */
async function sameBytes(
  t: ExecutionContext,
  page: Page,
  dir: string,
  choice: SaveChoice,
  command: readonly string[],
): Promise<string> {
  const label = `${choice.what} ${choice.format} ${choice.layout ?? ""}`;
  const mine = join(dir, `page-${choice.what}-${choice.layout ?? ""}.${choice.format}`);
  const theirs = join(dir, `cli-${choice.what}-${choice.layout ?? ""}.${choice.format}`);
  await saveDownload(page, choice, mine);
  const said = (await page.textContent("#saved")) ?? "";
  t.is(said.includes("Verified: read back and compared with the source"), choice.verify ?? false, said);
  await ours(t, [...command, theirs]);
  t.is(fileDifference(mine, theirs), null, label);
  return mine;
}

test("an ext4 volume: facts, map and legend are those of dumpe2fs", async (t) => {
  await onPage(t, { profile: "private" }, async ({ page }, dir) => {
    const volume = await extVolume(dir, "volume.img", 64 * MiB);
    const native = await dumpe2fs(volume);
    await openFile(page, volume);
    t.is(await page.textContent("#file-name"), "volume.img");
    t.is(await page.textContent("#container-badge"), "Raw");
    t.regex((await page.textContent("#filesystem .headline")) ?? "", /ext4\s*64 MiB/);
    const text = (await page.textContent("#filesystem")) ?? "";
    t.true(text.includes(UUID), text);
    t.true(text.includes("page-test"), text);

    await page.waitForSelector("#map");
    const blocks = Number(native.get("Block count"));
    const free = Number(native.get("Free blocks"));
    t.is(await units(page, "used"), blocks - free);
    t.is(await units(page, "free"), free);
    const inodeTables = Math.ceil(
      (Number(native.get("Inode count")) * Number(native.get("Inode size"))) /
        Number(native.get("Block size")),
    );
    t.is(await units(page, "inode table"), inodeTables);
    t.true((await units(page, "data")) * 4096 > 5 * MiB);
    for (const role of ["superblock", "descriptors", "bitmap", "directory", "journal"])
      t.true((await units(page, role)) > 0, role);

    const colours = await page.evaluate(() => {
      const canvas = document.querySelector<HTMLCanvasElement>("#map")!;
      const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
      const seen = new Map<number, number>();
      for (let i = 0; i < data.length; i += 4) {
        const c = (data[i] << 16) | (data[i + 1] << 8) | data[i + 2];
        seen.set(c, (seen.get(c) ?? 0) + 1);
      }
      return [...seen.values()].filter((n) => n > 8).length;
    });
    t.true(colours >= 5, `${colours} colours in the picture`);

    await page.focus("#map");
    await page.keyboard.press("End");
    t.regex((await page.textContent("#map-detail")) ?? "", /^Blocks? [\d,]+/);
    t.truthy(await page.getByRole("img", { name: /Allocation map.*Free/ }).count());
    for (const input of await page.locator("input:not([type=file]), select").all())
      t.true(
        await input.evaluate((e) => ((e as HTMLInputElement).labels?.length ?? 0) > 0),
        "a control has a label",
      );
  });
});

test("captures of a volume are the command line's bytes, through the browser's private files", async (t) => {
  await onPage(t, { profile: "persistent", before: withoutPicker }, async ({ page }, dir) => {
    const volume = await extVolume(dir, "volume.img", 64 * MiB);
    await openFile(page, volume);
    for (const what of ["metadata", "used", "all"] as const)
      for (const format of ["raw", "qcow2"] as const)
        await sameBytes(t, page, dir, { what, format, verify: what !== "metadata" || format === "raw" }, [
          ...["capture", `--${what}`, "--format", format],
          volume,
        ]);
    const v2 = ["capture", "--compat", "2", "--format", "qcow2", volume];
    await sameBytes(t, page, dir, { what: "used", format: "qcow2", layout: "v2" }, v2);
    const q = await sameBytes(t, page, dir, { what: "metadata", format: "qcow2", layout: "e2image" }, [
      "e2image",
      "-Q",
      volume,
    ]);
    await must("qemu-img", ["check", "-q", q], { codes: [0, 3] });
    t.is(await downloadsKept(page), 8, "every output went through the private file system");
  });
});

test("without a private file system downloads are assembled in memory, with the same bytes", async (t) => {
  await onPage(t, { profile: "private", before: withoutPicker }, async ({ page }, dir) => {
    await page.evaluate(() => {
      Object.defineProperty(StorageManager.prototype, "getDirectory", { value: undefined });
    });
    const volume = await extVolume(dir, "volume.img", 96 * MiB);
    await openFile(page, volume);
    for (const format of ["raw", "qcow2"] as const)
      await sameBytes(t, page, dir, { what: "used", format, verify: true }, [
        ...["capture", "--format", format],
        volume,
      ]);
  });
});

test("where the private file system is too small, the output goes on in memory", async (t) => {
  await onPage(t, { profile: "persistent", before: withoutPicker }, async ({ page, site }, dir) => {
    const client = await page.context().newCDPSession(page);
    await client.send("Storage.overrideQuotaForOrigin", {
      origin: new URL(site.url).origin,
      quotaSize: 4 * MiB,
    });
    const volume = await extVolume(dir, "volume.img", 48 * MiB);
    await openFile(page, volume);
    await sameBytes(t, page, dir, { what: "used", format: "raw" }, ["capture", "--format", "raw", volume]);
    await sameBytes(t, page, dir, { what: "used", format: "qcow2" }, [
      "capture",
      "--format",
      "qcow2",
      volume,
    ]);
    t.is(await downloadsKept(page), 0, "half-made outputs are removed");
  });
});

test("QCOW2 images, plain and compressed, are converted to the bytes inside them", async (t) => {
  await onPage(t, { profile: "private", before: withoutPicker }, async ({ page }, dir) => {
    const volume = await extVolume(dir, "volume.img", 48 * MiB);
    const kinds = [
      ["plain", []],
      ["zlib", ["-c"]],
      ["zstd", ["-c", "-o", "compression_type=zstd"]],
    ] as const;
    for (const [name, options] of kinds) {
      const image = join(dir, `${name}.qcow2`);
      await must("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", ...options, volume, image]);
      await openFile(page, image);
      t.is(await page.textContent("#container-badge"), "QCOW2");
      await page.waitForSelector("#map");
      t.true((await units(page, "data")) * 4096 > 5 * MiB, name);
      const out = join(dir, `${name}.raw`);
      t.is(await saveDownload(page, { what: "convert", format: "raw" }, out), `${name}.img`);
      t.is(fileDifference(out, volume), null, `${name} to raw`);
      const cli = ["convert", "--format", "qcow2", image];
      await sameBytes(t, page, dir, { what: "convert", format: "qcow2" }, [...cli, "--force"]);
    }
  });
});

test("a partitioned disk: the filesystem is found, another partition can be chosen", async (t) => {
  await onPage(t, { profile: "private", before: withoutPicker }, async ({ page }, dir) => {
    const volume = await extVolume(dir, "volume.img", 32 * MiB);
    const disk = mbrDisk(dir, "disk.img", volume);
    await openFile(page, disk);
    t.is(await page.locator("#partitions tbody tr").count(), 2);
    t.true(await page.isChecked("#partition-2"), "the only filesystem is chosen");
    await sameBytes(t, page, dir, { what: "used", format: "qcow2" }, [
      "capture",
      "--partition",
      "2",
      "--format",
      "qcow2",
      disk,
    ]);
    const whole = join(dir, "whole.img");
    await saveDownload(page, { what: "convert", format: "raw" }, whole);
    t.is(fileDifference(whole, disk), null, "convert takes the whole disk");
    await page.check("#partition-1");
    await page.waitForSelector("#partition-1:checked");
    await page.waitForSelector("#map");
    t.is(await page.locator("#what-used").count(), 0, "no filesystem, nothing to select from");
  });
});

/** Stands in for the picker's dialog, which a test cannot press: the chosen file is one of the private file system. */
function pickerStub(): void {
  const pick = async ({ suggestedName }: { suggestedName: string }) => {
    const root = await navigator.storage.getDirectory();
    return root.getFileHandle(`chosen-${suggestedName}`, { create: true });
  };
  Object.defineProperty(window, "showSaveFilePicker", { value: pick });
}

test("where the browser can, the output streams into the chosen file", async (t) => {
  await onPage(t, { profile: "persistent", before: pickerStub }, async ({ page }, dir) => {
    const volume = await extVolume(dir, "volume.img", 48 * MiB);
    await openFile(page, volume);
    for (const format of ["raw", "qcow2"] as const) {
      for (const verify of [false, true]) {
        await choose(page, { what: "used", format, verify });
        await page.click("#save");
        await page.waitForSelector("#saved");
        const said = (await page.textContent("#saved")) ?? "";
        t.is(said.includes("Verified: read back from the file"), verify, said);
        if (!verify) await page.evaluate(() => document.querySelector("#saved")?.remove());
      }
      await page.click("#container-title");
      const name = format === "raw" ? "volume-copy.img" : "volume.qcow2";
      const text = await page.evaluate(async (name) => {
        const root = await navigator.storage.getDirectory();
        const file = await (await root.getFileHandle(`chosen-${name}`)).getFile();
        return new Promise<string>((done) => {
          const reader = new FileReader();
          reader.onload = () => done(String(reader.result).replace(/^[^,]*,/, ""));
          reader.readAsDataURL(file);
        });
      }, name);
      const mine = join(dir, `mine.${format}`);
      const theirs = join(dir, `theirs.${format}`);
      writeFileSync(mine, Buffer.from(text, "base64"));
      await ours(t, ["capture", "--format", format, volume, theirs]);
      t.is(fileDifference(mine, theirs), null, format);
      await page.evaluate(() => document.querySelector("#saved")?.remove());
    }
  });
});

test("a backing file is asked for, and refused politely", async (t) => {
  await onPage(t, { profile: "private", before: withoutPicker }, async ({ page }, dir) => {
    const volume = await extVolume(dir, "base.img", 32 * MiB);
    const overlay = join(dir, "overlay.qcow2");
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "-b", volume, "-F", "raw", overlay]);
    await page.setInputFiles("#open", overlay);
    await page.waitForSelector("#backing[open]");
    t.true(((await page.textContent("#backing-name")) ?? "").endsWith("base.img"));
    await page.getByRole("button", { name: "Cancel" }).last().click();
    await page.waitForSelector("#image .error");
    t.regex((await page.textContent("#image .error")) ?? "", /backing file/);

    await page.setInputFiles("#open", overlay);
    await page.waitForSelector("#backing[open]");
    await page.setInputFiles("#backing-file", volume);
    await page.click("#backing-open");
    await page.waitForSelector("#container");
    const out = join(dir, "flat.img");
    await saveDownload(page, { what: "convert", format: "raw" }, out);
    t.is(fileDifference(out, volume), null);
  });
});

test("damaged and foreign files end in a message, and the page goes on", async (t) => {
  await onPage(t, { profile: "private", before: withoutPicker }, async ({ page }, dir) => {
    const volume = await extVolume(dir, "volume.img", 32 * MiB);
    await page.setInputFiles("#open", patched(volume, join(dir, "damaged.img"), 4096 + 8, 0x7fffffff));
    await page.waitForSelector("#map");
    t.regex((await page.textContent(".map .warnings")) ?? "", /2147483647/);
    await choose(page, { what: "metadata", format: "qcow2" });
    await page.click("#save");
    await page.waitForSelector("#save-status .error");
    t.regex((await page.textContent("#save-status .error")) ?? "", /damaged.*group 0.*inode table/);

    await page.setInputFiles("#open", patched(volume, join(dir, "liar.img"), 1024 + 4, 0xffffffff));
    await page.waitForSelector("#image > .error");
    t.regex((await page.textContent("#image > .error")) ?? "", /damaged.*superblock at 0x400/);

    const lying = join(dir, "lying.qcow2");
    const head = Buffer.alloc(4096);
    head.writeUInt32BE(0x514649fb, 0);
    head.writeUInt32BE(3, 4);
    head.writeUInt32BE(40, 20);
    writeFileSync(lying, head);
    await page.setInputFiles("#open", lying);
    await page.waitForFunction(() =>
      /cluster/i.test(document.querySelector("#image .error")?.textContent ?? ""),
    );

    const empty = join(dir, "empty.img");
    writeFileSync(empty, "");
    await page.setInputFiles("#open", empty);
    await page.waitForFunction(() => document.querySelector("#container, #image .error") !== null);

    await openFile(page, volume);
    await page.waitForSelector("#map");
    t.pass();
  });
});

test("a running job can be cancelled and leaves nothing", async (t) => {
  await onPage(t, { profile: "persistent", before: withoutPicker }, async ({ page }, dir) => {
    const big = join(dir, "big.img");
    writeFileSync(big, "");
    truncateSync(big, 6 * 1024 * MiB);
    await openFile(page, big);
    await choose(page, { what: "convert", format: "raw" });
    await page.click("#save");
    await page.waitForSelector("#cancel");
    await page.click("#cancel");
    await page.waitForFunction(() => !document.querySelector<HTMLButtonElement>("#save")?.disabled);
    t.is(await page.locator("#saved, #save-status .error").count(), 0);
    for (let i = 0; i < 50 && (await downloadsKept(page)) > 0; i++) await page.waitForTimeout(100);
    t.is(await downloadsKept(page), 0, "nothing half-made stays");
    const small = await extVolume(dir, "volume.img", 32 * MiB);
    await openFile(page, small);
    await sameBytes(t, page, dir, { what: "used", format: "qcow2" }, ["capture", "--format", "qcow2", small]);
  });
});

test("a file can be dropped on the page", async (t) => {
  await onPage(t, { profile: "private" }, async ({ page }, dir) => {
    const file = join(dir, "tiny.img");
    await must("mke2fs", ["-q", "-F", "-t", "ext2", "-b", "1024", "-L", "dropped", file, "256K"]);
    const transfer = await page.evaluateHandle((text) => {
      const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], "tiny.img"));
      return data;
    }, readFileSync(file).toString("base64"));
    await page.dispatchEvent("body", "dragenter", { dataTransfer: transfer });
    t.true(await page.isVisible(".drop-hint"));
    await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
    await page.waitForSelector("#filesystem .headline");
    t.regex((await page.textContent("#filesystem")) ?? "", /ext2.*dropped/s);
    const native = await dumpe2fs(file);
    await page.waitForSelector("#map");
    t.is(await units(page, "used"), Number(native.get("Block count")) - Number(native.get("Free blocks")));
  });
});

test("after the first visit the page needs no server", async (t) => {
  await onPage(t, { profile: "persistent", before: withoutPicker }, async ({ page, site }, dir) => {
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
    await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
    await site.close();
    await page.reload();
    const volume = await extVolume(dir, "volume.img", 32 * MiB);
    await openFile(page, volume);
    t.is(await fact(page, "container", "size"), "32 MiB (33,554,432)");
    await page.waitForSelector("#map");
    const command = ["capture", "--metadata", "--format", "qcow2", volume];
    await sameBytes(t, page, dir, { what: "metadata", format: "qcow2" }, command);
  });
});

/** Has one byte go wrong between the engine and what the browser stores, once an output is past its first MiB. */
const FAULTY = `
  const spoil = (data, at) => {
    if (at < 1048576) return data;
    const copy = new Uint8Array(data);
    copy[copy.length >> 1] ^= 1;
    return copy;
  };
  const sync = FileSystemSyncAccessHandle.prototype;
  const { write } = sync;
  sync.write = function (data, options) { return write.call(this, spoil(data, options?.at ?? 0), options); };
  const stream = FileSystemWritableFileStream.prototype;
  const put = stream.write;
  stream.write = function (chunk) { return put.call(this, { ...chunk, data: spoil(chunk.data, chunk.position) }); };
`;

for (const [place, before] of [
  ["downloads", withoutPicker],
  ["a chosen file", pickerStub],
] as const)
  test(`verifying finds a byte that went wrong on its way to ${place}, and leaves nothing`, async (t) => {
    await onPage(t, { profile: "persistent", before, beforeWorker: FAULTY }, async ({ page }, dir) => {
      const volume = await extVolume(dir, "volume.img", 32 * MiB);
      await openFile(page, volume);
      await choose(page, { what: "used", format: "raw", verify: true });
      await page.click("#save");
      await page.waitForSelector("#save-status .error");
      t.regex(
        (await page.textContent("#save-status .error")) ?? "",
        /volume(-copy)?\.img: verification failed, byte \d+ differs from the source/,
      );
      t.is(await page.locator("#saved").count(), 0);
      const left = async () =>
        page.evaluate(async () => {
          const root = await navigator.storage.getDirectory();
          const names: string[] = [];
          for await (const name of (root as unknown as { keys(): AsyncIterable<string> }).keys())
            if (name.startsWith("chosen-")) names.push(name);
          return names.length;
        });
      for (let i = 0; i < 50 && (await left()) + (await downloadsKept(page)) > 0; i++)
        await page.waitForTimeout(100);
      t.is((await left()) + (await downloadsKept(page)), 0);
    });
  });
