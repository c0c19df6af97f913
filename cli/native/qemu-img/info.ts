import { fstatSync } from "node:fs";
import type { Qcow2Header } from "../../../src/image/qcow2/header.ts";
import { COMPRESSION, CRYPT } from "../../../src/image/qcow2/layout.ts";
import type { Snapshot } from "../../../src/image/qcow2/snapshots.ts";
import type { FileSource } from "../../../src/io/node/file-source.ts";
import { print } from "../../ui/out.ts";
import { QemuError, QemuUsageError, warn } from "./errors.ts";
import { type Json, type JsonObject, qemuJson, qemuOrder } from "./json.ts";
import { type OpenedChain, openError, openImage } from "./open.ts";
import { OPTION, outputKind, parseCommand, settings } from "./options.ts";
import { humanSize } from "./sizes.ts";

/** What `info` knows of one image. Sizes in bytes. */
interface ImageInfo {
  readonly filename: string;
  readonly format: string;
  readonly virtualSize: number;
  readonly diskSize: number;
  readonly encrypted: boolean;
  readonly clusterSize: number | null;
  readonly dirty: boolean;
  readonly backing: {
    readonly name: string;
    /** The name as qemu would open it, or null where that cannot be said. */
    readonly full: string | null;
    readonly format: string | null;
  } | null;
  readonly snapshots: readonly Snapshot[];
  readonly specific: JsonObject | null;
}

/** qemu-img info. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  let format: string | null = null;
  let output = "human";
  let imageOpts = false;
  let share = false;
  let chain = false;
  const specs = [
    OPTION.format,
    OPTION.output,
    OPTION.object,
    OPTION.imageOpts,
    OPTION.share,
    { key: "backing-chain", long: "backing-chain" },
  ];
  const operands = parseCommand("info", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "output") output = value;
    else if (key === "image-opts") imageOpts = true;
    else if (key === "share") share = true;
    else if (key === "backing-chain") chain = true;
  });
  if (operands.length !== 1) throw new QemuUsageError("Expecting one image file name");
  const kind = outputKind(output);
  const list = await collect(operands[0], { format, imageOpts, share }, chain);
  if (kind === "human") {
    print((await Promise.all(list.map(infoText))).join("\n"));
  } else {
    const images = await Promise.all(list.map(infoJson));
    print(`${qemuJson(chain ? images : images[0])}\n`);
  }
  return 0;
}

interface Wanted {
  readonly format: string | null;
  readonly imageOpts: boolean;
  readonly share: boolean;
}

/** Looks at an image, and with `chain` at all that lie below it. Throws QemuError. */
async function collect(name: string, wanted: Wanted, chain: boolean): Promise<ImageInfo[]> {
  const list: ImageInfo[] = [];
  const seen = new Set<string>();
  for (let next: { name: string; wanted: Wanted } | null = { name, wanted }; next !== null; ) {
    const opened = await openImage(next.name, { ...next.wanted, backing: "none", data: false });
    try {
      const { dev, ino, rdev } = opened.file.stat;
      const id = opened.file.blockDevice ? `device ${rdev}` : `${dev}:${ino}`;
      if (seen.has(id)) throw new QemuError(`Backing file '${next.name}' creates an infinite loop.`);
      seen.add(id);
      list.push(await lookAt(opened));
    } finally {
      await opened.close();
    }
    const { backing } = list[list.length - 1];
    next = null;
    if (chain && backing !== null) {
      if (settings.untrusted) {
        warn(`the backing file '${backing.name}' is not looked at (--untrusted)`);
        break;
      }
      if (backing.full === null)
        throw new QemuError(`Could not determine absolute path of backing file '${backing.name}'`);
      next = {
        name: backing.full,
        wanted: { format: backing.format, imageOpts: false, share: wanted.share },
      };
    }
  }
  return list;
}

async function lookAt(opened: OpenedChain): Promise<ImageInfo> {
  const { header: h, file } = opened;
  const st = fstatSync(file.fd);
  const base = {
    filename: opened.name,
    format: opened.format,
    virtualSize: opened.disk.size,
    // POSIX: st_blocks counts 512 bytes.
    diskSize: st.blocks * 512,
  };
  if (h === null || opened.image === null)
    return {
      ...base,
      encrypted: false,
      clusterSize: null,
      dirty: false,
      backing: null,
      snapshots: [],
      specific: null,
    };
  if (opened.image.snapshotTrouble !== null) throw openError(opened.name, opened.image.snapshotTrouble);
  let backing: ImageInfo["backing"] = null;
  if (h.backingFile !== null && h.backingFile !== "")
    backing = { name: h.backingFile, full: fullName(opened.name, h.backingFile), format: h.backingFormat };
  let specific: JsonObject;
  try {
    specific = await specificOf(h, file);
  } catch (error) {
    throw openError(opened.name, error);
  }
  return {
    ...base,
    encrypted: h.cryptMethod !== CRYPT.none,
    clusterSize: h.clusterSize,
    dirty: h.dirty,
    backing,
    // An image with a data file cannot have any that mean something.
    snapshots: h.external ? [] : opened.image.snapshots,
    specific,
  };
}

/** `name` as the image called `from` means it: its text put after the image's folder. Null where it has none. */
function fullName(from: string, name: string): string | null {
  if (name.startsWith("/") || /^[^/]*:/.test(name)) return name;
  if (from.startsWith("json:")) return null;
  return from.slice(0, from.lastIndexOf("/") + 1) + name;
}

/** What only QCOW2 has. */
async function specificOf(h: Qcow2Header, file: FileSource): Promise<JsonObject> {
  const bitmaps: Json[] = [];
  if (h.bitmaps !== null) {
    const { BITMAP_FLAGS, readBitmaps } = await import("../../../src/image/qcow2/bitmaps.ts");
    for (const b of await readBitmaps(file, h))
      bitmaps.push({
        flags: [
          ...(b.flags & BITMAP_FLAGS.inUse ? ["in-use"] : []),
          ...(b.flags & BITMAP_FLAGS.auto ? ["auto"] : []),
        ],
        name: b.name,
        granularity: 2 ** b.granularityBits,
      });
  }
  const v3 = h.version >= 3;
  return {
    compat: v3 ? "1.1" : "0.10",
    "compression-type": h.compressionType === COMPRESSION.zstd ? "zstd" : "zlib",
    "lazy-refcounts": v3 ? h.lazyRefcounts : undefined,
    bitmaps: v3 && bitmaps.length > 0 ? bitmaps : undefined,
    "refcount-bits": 2 ** h.refcountOrder,
    "data-file": v3 ? (h.dataFile ?? undefined) : undefined,
    "data-file-raw": v3 && h.external ? h.rawDataFile : undefined,
    corrupt: v3 ? h.corrupt : undefined,
    "extended-l2": v3 ? h.extendedL2 : undefined,
    encrypt: await encryptionOf(h, file),
  };
}

async function encryptionOf(h: Qcow2Header, file: FileSource): Promise<JsonObject | undefined> {
  if (h.cryptMethod === CRYPT.none) return undefined;
  if (h.cryptMethod === CRYPT.aes) return { format: "aes" };
  const { LUKS_HEADER_BYTES, parseLuksHeader } = await import("../../../src/image/qcow2/luks.ts");
  const bytes = new Uint8Array(LUKS_HEADER_BYTES);
  const { offset } = h.crypto!;
  const luks = parseLuksHeader(bytes.subarray(0, file.read(bytes, offset)), offset);
  return {
    format: "luks",
    "cipher-alg": `${luks.cipher}-${luks.keyBits}`,
    "cipher-mode": luks.mode,
    "ivgen-alg": luks.ivGenerator,
    "ivgen-hash-alg": luks.ivHash ?? undefined,
    "hash-alg": luks.hash,
    "payload-offset": luks.payloadOffset,
    "master-key-iters": luks.masterIterations,
    uuid: luks.uuid,
    slots: luks.slots.map((s) =>
      s.active
        ? { active: true, iters: s.iterations, stripes: s.stripes, "key-offset": s.keyOffset }
        : { active: false, "key-offset": s.keyOffset },
    ),
  };
}

/** The human form of one image. */
async function infoText(i: ImageInfo): Promise<string> {
  let text = `image: ${i.filename}\nfile format: ${i.format}\n`;
  text += `virtual size: ${humanSize(i.virtualSize)} (${i.virtualSize} bytes)\n`;
  text += `disk size: ${humanSize(i.diskSize)}\n`;
  if (i.encrypted) text += "encrypted: yes\n";
  if (i.clusterSize !== null) text += `cluster_size: ${i.clusterSize}\n`;
  if (i.dirty) text += "cleanly shut down: no\n";
  if (i.backing !== null) {
    const { name, full, format } = i.backing;
    text += `backing file: ${name}`;
    if (full === null) text += " (cannot determine actual path)";
    else if (full !== name) text += ` (actual path: ${full})`;
    text += "\n";
    if (format !== null) text += `backing file format: ${format}\n`;
  }
  if (i.snapshots.length > 0) {
    const { snapshotTable } = await import("./snapshot-list.ts");
    text += snapshotTable(i.snapshots);
  }
  if (i.specific !== null) text += `Format specific information:\n${objectText(i.specific, 1)}`;
  return text;
}

/** A value's lines in the human form, `level` steps of four spaces to the right. */
function objectText(object: JsonObject, level: number): string {
  return qemuOrder(Object.keys(object).filter((key) => object[key] !== undefined))
    .map((key) => itemText(key.replaceAll("-", " "), object[key]!, level))
    .join("");
}

function itemText(name: string, value: Json, level: number): string {
  const head = `${"    ".repeat(level)}${name}:`;
  if (typeof value !== "object" || value === null) return `${head} ${value}\n`;
  if (Array.isArray(value))
    return `${head}\n${value.map((v, n) => itemText(`[${n}]`, v, level + 1)).join("")}`;
  return `${head}\n${objectText(value as JsonObject, level + 1)}`;
}

async function infoJson(i: ImageInfo): Promise<JsonObject> {
  const snapshots =
    i.snapshots.length > 0 ? i.snapshots.map((await import("./snapshot-list.ts")).snapshotJson) : undefined;
  return {
    filename: i.filename,
    format: i.format,
    "dirty-flag": i.dirty,
    "actual-size": i.diskSize,
    "virtual-size": i.virtualSize,
    "cluster-size": i.clusterSize ?? undefined,
    encrypted: i.encrypted ? true : undefined,
    "backing-filename": i.backing?.name,
    "full-backing-filename": i.backing?.full ?? undefined,
    "backing-filename-format": i.backing?.format ?? undefined,
    snapshots,
    "format-specific": i.specific === null ? undefined : { type: i.format, data: i.specific },
  };
}
