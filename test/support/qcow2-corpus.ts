// Small QCOW2 (and raw) images of every option combination, made by the installed qemu-img and qemu-io, and by patching
// bytes where those cannot make them.
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { must } from "./native.ts";
import { patchwork, squeezable } from "./qcow2.ts";
import { Random } from "./random.ts";

/**
 * One image of the corpus. Read only: copy an image before changing it (`copyChain` of its folder,
 * where it has layers).
 */
export interface CorpusImage {
  /** Unique; also its file name, without folder. */
  readonly name: string;
  /** Name as the tools get it: relative to `dir`, or absolute where the test of names wants that. */
  readonly file: string;
  /** Folder that is the working folder of the tools. */
  readonly dir: string;
  readonly format: "qcow2" | "raw";
  /**
   * What it is an example of: "compressed", "zstd", "extl2", "backing", "data-file", "snapshots", "bitmaps",
   * "encrypted", "dirty", "corrupt", "v2", "damaged" (errors for check), "leaks", "unreadable" (its data cannot
   * be read), "odd", "huge".
   */
  readonly tags: readonly string[];
}

const KEY = ["--object", "secret,id=s0,data=abc"];

let made: Promise<readonly CorpusImage[]> | null = null;

/** The corpus, made once a process; its folder goes away with the process. */
export function qcow2Corpus(): Promise<readonly CorpusImage[]> {
  made ??= build();
  return made;
}

async function build(): Promise<readonly CorpusImage[]> {
  const dir = mkdtempSync(join(tmpdir(), "imprint-qcow2-corpus-"));
  process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
  const maker = new Maker(dir);
  await maker.sizes();
  await maker.geometry();
  await maker.compressed();
  await maker.extended();
  await maker.zeros();
  await maker.snapshots();
  await maker.chains();
  await maker.dataFiles();
  await maker.bitmaps();
  await maker.preallocated();
  await maker.encrypted();
  await maker.headers();
  await maker.faults();
  maker.raw();
  // Maps depend on what the host has stored, which it decides late.
  await must("sync", ["-f", dir]);
  return maker.images;
}

/** Big-endian fields and bytes of an image file in memory. */
export class Patch {
  readonly bytes: Buffer;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
  get clusterSize(): number {
    return 2 ** this.bytes.readUInt32BE(20);
  }
  u32(at: number): number {
    return this.bytes.readUInt32BE(at);
  }
  setU32(at: number, value: number): void {
    this.bytes.writeUInt32BE(value >>> 0, at);
  }
  u64(at: number): number {
    return Number(this.bytes.readBigUInt64BE(at));
  }
  setU64(at: number, value: number | bigint): void {
    this.bytes.writeBigUInt64BE(BigInt(value), at);
  }
  /** Offset of L1 entry `i`. */
  l1(i: number): number {
    return this.u64(40) + 8 * i;
  }
  /** Offset of entry `i` of the first L2 table that there is. */
  l2(i: number): number {
    for (let n = 0; n < this.u32(36); n++) {
      const table = Number(this.bytes.readBigUInt64BE(this.l1(n)) & 0x00fffffffffffe00n);
      if (table !== 0) return table + 8 * i;
    }
    throw new Error("no L2 table");
  }
  /** Offset of the first refcount block. */
  refcounts(): number {
    return Number(this.bytes.readBigUInt64BE(this.u64(48)));
  }
}

/** Puts a header extension (padded) before the others. */
function insertExtension(p: Patch, extension: Buffer): void {
  const at = p.u32(100);
  const rest = Buffer.from(p.bytes.subarray(at, 4096 - extension.length));
  extension.copy(p.bytes, at);
  rest.copy(p.bytes, at + extension.length);
}

class Maker {
  readonly images: CorpusImage[] = [];
  private readonly dir: string;
  private readonly random = new Random(0x71c0);

  constructor(dir: string) {
    this.dir = dir;
  }

  private add(file: string, tags: readonly string[] = [], format: "qcow2" | "raw" = "qcow2"): void {
    const name = file.slice(file.lastIndexOf("/") + 1);
    if (this.images.some((i) => i.name === name)) throw new Error(`two images are called ${name}`);
    this.images.push({ name, file, dir: this.dir, format, tags });
  }

  private img(...args: string[]): Promise<unknown> {
    return must("qemu-img", args, { cwd: this.dir });
  }

  /** Runs qemu-io's commands on a file. */
  private io(file: string, ...commands: string[]): Promise<unknown> {
    return must("qemu-io", ["-t", "unsafe", "-f", "qcow2", ...commands.flatMap((c) => ["-c", c]), file], {
      cwd: this.dir,
    });
  }

  /** Creates an image with -o `options`, runs `commands` on it and lists it. */
  private async make(
    name: string,
    size: string | number,
    options: string,
    commands: readonly string[] = [],
    tags: readonly string[] = [],
  ): Promise<void> {
    await this.img(
      "create",
      "-q",
      "-f",
      "qcow2",
      ...(options === "" ? [] : ["-o", options]),
      name,
      String(size),
    );
    if (commands.length > 0) await this.io(name, ...commands);
    this.add(name, tags);
  }

  private patch(name: string, change: (p: Patch) => Buffer | undefined): void {
    const path = join(this.dir, name);
    const p = new Patch(readFileSync(path));
    writeFileSync(path, change(p) ?? p.bytes);
  }

  /** A raw file of this folder with bytes in it; not listed. */
  private rawFile(name: string, bytes: Uint8Array): string {
    writeFileSync(join(this.dir, name), bytes);
    return name;
  }

  async sizes(): Promise<void> {
    await this.make("size-0", 0, "");
    await this.make("size-512", 512, "", ["write -P 7 0 512"]);
    await this.make("size-odd", 1000448, "", ["write -P 7 65536 3000", "write -P 8 1000000 448"], ["odd"]);
    await this.make("size-bytes", 1000448, "", ["write -P 7 0 70000"], ["odd"]);
    // The size field may be any number of bytes; whole sectors count.
    this.patch("size-bytes", (p) => void p.setU64(24, 1000000));
    await this.make("fresh", "10M", "");
    await this.make(
      "huge",
      "1T",
      "",
      ["write -P 1 0 64k", "write -P 2 700G 100k", "write -P 3 1023G 1M"],
      ["huge"],
    );
    await this.make("huge-2M", "1P", "cluster_size=2M", ["write -P 2 700T 100k"], ["huge"]);
    await this.make("l2-edge", "1G", "", ["write -P 1 536805376 131072", "write -z 900M 1M"]);
    await this.make("holes", "8M", "", [
      "write -P 1 64k 64k",
      "write -P 2 256k 192k",
      "write -P 3 4M 1k",
      "write -P 4 7M 1M",
    ]);
    // Written from the end: guest order and file order differ.
    await this.make("backwards", "2M", "", [
      "write -P 4 1M 64k",
      "write -P 3 576k 64k",
      "write -P 2 512k 64k",
      "write -P 1 0 64k",
    ]);
  }

  async geometry(): Promise<void> {
    const some = ["write -P 1 0 100k", "write -P 2 300k 5k", "write -z 512k 64k", "write -P 3 900k 100k"];
    for (const bits of [9, 10, 12, 14, 17, 20, 21])
      await this.make(`cluster-${2 ** bits}`, "1M", `cluster_size=${2 ** bits}`, some);
    for (const bits of [1, 2, 4, 8, 32, 64])
      await this.make(`refcount-${bits}`, "1M", `refcount_bits=${bits}`, some);
    await this.make("refcount-1-512", "3M", "refcount_bits=1,cluster_size=512", ["write -P 1 0 2M"]);
    await this.make("refcount-64-512", "1M", "refcount_bits=64,cluster_size=512", some);
    await this.make("v2", "1M", "compat=0.10", some, ["v2"]);
    await this.make("v2-512", "1M", "compat=0.10,cluster_size=512", some, ["v2"]);
    await this.make("v2-2M", "5M", "compat=0.10,cluster_size=2M", some, ["v2"]);
  }

  private async compress(
    name: string,
    bytes: Uint8Array,
    options: string,
    tags: readonly string[],
  ): Promise<void> {
    const raw = this.rawFile(`${name}.src`, bytes);
    await this.img("convert", "-f", "raw", "-O", "qcow2", "-c", "-o", options, raw, name);
    rmSync(join(this.dir, raw));
    this.add(name, ["compressed", ...tags]);
  }

  async compressed(): Promise<void> {
    const bytes = squeezable(this.random, 1 << 20);
    bytes.fill(0, 200_000, 500_000);
    await this.compress("zlib", bytes, "compat=1.1", []);
    await this.compress("zlib-4k", bytes, "cluster_size=4k", []);
    await this.compress("zlib-512", bytes.subarray(0, 200_000 - (200_000 % 512)), "cluster_size=512", []);
    await this.compress("zlib-2M", bytes, "cluster_size=2M", []);
    await this.compress("zlib-v2", bytes, "compat=0.10", ["v2"]);
    await this.compress("zlib-dense", patchwork(this.random, 1 << 20, 4096, 0.5), "cluster_size=16k", []);
    await this.compress("zstd", bytes, "compression_type=zstd", ["zstd"]);
    await this.compress("zstd-4k", bytes, "compression_type=zstd,cluster_size=4k", ["zstd"]);
    await this.compress("zstd-2M", bytes, "compression_type=zstd,cluster_size=2M", ["zstd"]);
    await this.compress("zlib-extl2", bytes, "extended_l2=on", ["extl2"]);
    await this.compress("zlib-tail", bytes.subarray(0, 900_000 - (900_000 % 512)), "cluster_size=64k", [
      "odd",
    ]);
    await this.make("zstd-plain", "1M", "compression_type=zstd", ["write -P 5 0 128k"], ["zstd"]);
    await this.compress("zlib-mixed", bytes, "cluster_size=32k", []);
    await this.io("zlib-mixed", "write -P 9 64k 32k", "write -P 9 100k 3k", "write -z 640k 64k");
  }

  async extended(): Promise<void> {
    const some = [
      "write -P 1 0 3k",
      "write -P 2 20k 2k",
      "write -z 40k 4k",
      "write -P 3 64k 64k",
      "write -P 4 200k 70k",
      "write -z 300k 100k",
      "write -zu 256k 10k",
      "discard 64k 20k",
      "write -P 5 1000k 24k",
    ];
    for (const bits of [14, 16, 17, 21])
      await this.make(`extl2-${2 ** bits}`, "2M", `extended_l2=on,cluster_size=${2 ** bits}`, some, [
        "extl2",
      ]);
    await this.make("extl2-odd", 1_000_448, "extended_l2=on", ["write -P 1 990000 10448"], ["extl2", "odd"]);
    await this.make("extl2-zstd", "1M", "extended_l2=on,compression_type=zstd", some.slice(0, 4), [
      "extl2",
      "zstd",
    ]);
  }

  async zeros(): Promise<void> {
    const clusters = "write -P 1 0 512k";
    await this.make("zero-plain", "1M", "", ["write -z 0 256k", "write -P 1 256k 64k", "write -z 576k 64k"]);
    await this.make("zero-stored", "1M", "", [clusters, "write -z 64k 64k", "write -z 192k 128k"]);
    await this.make("zero-unmap", "1M", "", [clusters, "write -zu 64k 64k", "write -zu 192k 128k"]);
    await this.make("discarded", "1M", "", [clusters, "discard 64k 64k", "discard 256k 256k"]);
    await this.make("v2-discarded", "1M", "compat=0.10", [clusters, "discard 64k 64k"], ["v2"]);
    await this.make("v2-zero", "1M", "compat=0.10", [clusters], ["v2", "unreadable"]);
    this.patch("v2-zero", (p) => void p.setU64(p.l2(2), BigInt(p.u64(p.l2(2))) | 1n));
  }

  async snapshots(): Promise<void> {
    const snap = async (name: string, ...snapshots: string[]): Promise<void> => {
      for (const s of snapshots) await this.img("snapshot", "-c", s, name);
    };
    for (const [name, options, tags] of [
      ["snap", "", []],
      ["snap-v2", "compat=0.10", ["v2"]],
      ["snap-4k-r8", "cluster_size=4k,refcount_bits=8", []],
      ["snap-extl2", "extended_l2=on", ["extl2"]],
    ] as const) {
      await this.make(name, "1M", options, ["write -P 1 0 256k"], ["snapshots", ...tags]);
      await snap(name, "first");
      await this.io(name, "write -P 2 64k 128k", "write -P 3 800k 64k");
      await snap(name, "second", "a name longer than its column", "first");
      await this.io(name, "write -P 4 0 10k");
    }
    await this.make("snap-gone", "1M", "", ["write -P 1 0 256k"], ["snapshots"]);
    await snap("snap-gone", "one", "two", "three");
    await this.img("snapshot", "-d", "two", "snap-gone");
    await this.make("snap-sizes", "1M", "", ["write -P 1 0 256k"], ["snapshots"]);
    await snap("snap-sizes", "small");
    await this.img("resize", "-q", "snap-sizes", "4M");
    await snap("snap-sizes", "large");
    await this.make("snap-zlib", "1M", "", [], ["snapshots", "compressed"]);
    await this.io("snap-zlib", "write -c -P 1 0 64k", "write -c -P 2 64k 64k", "write -P 3 128k 64k");
    await snap("snap-zlib", "with streams");
    await this.io("snap-zlib", "write -P 5 64k 1k");
    // An old entry: 16 bytes of extra data only, a machine state, and a clock.
    await this.make("snap-state", "1M", "", ["write -P 1 0 64k"], ["snapshots"]);
    await snap("snap-state", "state");
    this.patch("snap-state", (p) => {
      const at = p.u64(64);
      p.setU32(at + 16, 86400 * 365);
      p.setU32(at + 20, 999_999_999);
      p.setU64(at + 24, 98_765_432_109_876n);
      p.setU64(at + 56, 0xffffffffffffffffn);
    });
  }

  async chains(): Promise<void> {
    const { dir } = this;
    mkdirSync(join(dir, "sub"));
    const base = patchwork(this.random, 1 << 20, 4096, 0.4);
    this.rawFile("base.raw", base);
    this.rawFile("sub/base.raw", base.subarray(0, 700_000));
    await this.img("create", "-q", "-f", "qcow2", "base.qcow2", "1M");
    await this.io("base.qcow2", "write -P 11 0 200k", "write -z 256k 64k", "write -P 12 640k 64k");
    const over = async (
      name: string,
      options: string,
      backing: string[],
      size: string[],
      ...commands: string[]
    ) => {
      const o = options === "" ? [] : ["-o", options];
      await this.img("create", "-q", "-f", "qcow2", ...o, ...backing, name, ...size);
      if (commands.length > 0) await this.io(name, ...commands);
      this.add(name, [
        "backing",
        ...(options.includes("extended") ? ["extl2"] : []),
        ...(options.includes("0.10") ? ["v2"] : []),
      ]);
    };
    const some = ["write -P 21 64k 70k", "write -z 256k 128k", "write -P 22 900k 10k"];
    await over("over-raw", "", ["-b", "base.raw", "-F", "raw"], [], ...some);
    await over("over-qcow2", "", ["-b", "base.qcow2", "-F", "qcow2"], [], ...some);
    await over("over-v2", "compat=0.10", ["-b", "base.qcow2", "-F", "qcow2"], [], "write -P 21 64k 70k");
    await over(
      "over-extl2",
      "extended_l2=on",
      ["-b", "base.raw", "-F", "raw"],
      [],
      ...some,
      "write -P 1 500k 1k",
    );
    await over("over-short", "", ["-b", "base.qcow2", "-F", "qcow2"], ["3M"], "write -P 21 2M 70k");
    await over("over-long", "", ["-b", "base.qcow2", "-F", "qcow2"], ["333312"], "write -P 21 100k 3k");
    await over("over-absolute", "", ["-b", join(dir, "base.qcow2"), "-F", "qcow2"], []);
    await over("sub/over-relative", "", ["-b", "base.raw", "-F", "raw"], [], "write -P 1 0 4k");
    await over("sub/over-parent", "", ["-b", "../base.qcow2", "-F", "qcow2"], []);
    await over("over-file", "", ["-b", `file:${join(dir, "base.qcow2")}`, "-F", "qcow2"], []);
    await over(
      "over-64k-4k",
      "cluster_size=4k",
      ["-b", "over-qcow2", "-F", "qcow2"],
      [],
      "write -P 31 66k 2k",
    );
    await over("over-3", "", ["-b", "over-64k-4k", "-F", "qcow2"], [], "write -P 41 0 1k");
    // No format stated: header rewritten without the extension by hand.
    for (const [name, backing] of [
      ["over-probed", "base.qcow2"],
      ["over-probed-raw", "base.raw"],
    ]) {
      await this.img("create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "raw", name, "1M");
      this.patch(name, (p) => {
        // The backing format extension comes first; a type that nobody knows takes its place.
        p.setU32(p.u32(100), 0x12345678);
        return undefined;
      });
      this.add(name, ["backing"]);
    }
    await this.img(
      "create",
      "-q",
      "-f",
      "qcow2",
      "-u",
      "-b",
      "not-there.raw",
      "-F",
      "raw",
      "over-missing",
      "1M",
    );
    this.add("over-missing", ["backing", "unreadable"]);
  }

  async dataFiles(): Promise<void> {
    const some = [
      "write -P 1 0 100k",
      "write -z 128k 64k",
      "write -P 2 512k 64k",
      "discard 512k 64k",
      "write -P 3 700k 9k",
    ];
    // Names of data files are relative to the working folder.
    await this.make("data", "1M", "data_file=data.bin", some, ["data-file"]);
    await this.make("data-raw", "1M", "data_file=data-raw.bin,data_file_raw=on", some.slice(0, 3), [
      "data-file",
    ]);
    await this.make(
      "data-extl2",
      "1M",
      "data_file=data-extl2.bin,extended_l2=on",
      [...some, "write -P 4 800k 2k"],
      ["data-file", "extl2"],
    );
    await this.make("data-4k", "1M", `data_file=${join(this.dir, "data-4k.bin")},cluster_size=4k`, some, [
      "data-file",
    ]);
    await this.make("data-metadata", "1M", "data_file=data-m.bin,preallocation=metadata", [], ["data-file"]);
  }

  async bitmaps(): Promise<void> {
    await this.make("bitmaps", "4M", "", ["write -P 1 0 64k"], ["bitmaps"]);
    await this.img("bitmap", "--add", "bitmaps", "b0");
    await this.img("bitmap", "--add", "--disable", "-g", "4096", "bitmaps", "second");
    await this.img("bitmap", "--add", "-g", "2G", "bitmaps", "coarse");
    await this.io("bitmaps", "write -P 2 1M 128k");
    await this.make("bitmaps-512", "2M", "cluster_size=512", [], ["bitmaps"]);
    await this.img("bitmap", "--add", "-g", "512", "bitmaps-512", "fine");
    await this.io("bitmaps-512", "write -P 2 1M 100k", "write -P 3 5k 1k");
    await this.make("bitmaps-in-use", "1M", "", [], ["bitmaps"]);
    await this.img("bitmap", "--add", "bitmaps-in-use", "left open");
    this.patch("bitmaps-in-use", (p) => {
      const directory = p.bytes.indexOf("left open") - 24;
      p.setU32(directory + 12, 1);
      return undefined;
    });
    await this.make("bitmaps-stale", "1M", "", [], ["bitmaps"]);
    await this.img("bitmap", "--add", "bitmaps-stale", "stale");
    this.patch("bitmaps-stale", (p) => void p.setU64(88, 0));
  }

  async preallocated(): Promise<void> {
    for (const mode of ["metadata", "falloc", "full"]) {
      await this.make(`prealloc-${mode}`, "2M", `preallocation=${mode}`);
      await this.make(`prealloc-${mode}-w`, "2M", `preallocation=${mode}`, ["write -P 1 100k 200k"]);
    }
    await this.make(
      "prealloc-extl2",
      "2M",
      "preallocation=metadata,extended_l2=on",
      ["write -P 1 100k 10k"],
      ["extl2"],
    );
    await this.make("prealloc-4k", "2M", "preallocation=metadata,cluster_size=4k", ["write -P 1 100k 10k"]);
  }

  async encrypted(): Promise<void> {
    // Deriving a LUKS key takes qemu seconds: what it writes, without a key.
    await this.luks("luks", { cipher: "aes", mode: "xts-plain64", hash: "sha256", keyBytes: 64, slots: 1 });
    await this.luks("luks-cbc", {
      cipher: "twofish",
      mode: "cbc-essiv:sha256",
      hash: "sha1",
      keyBytes: 16,
      slots: 3,
    });
    const o = "encrypt.format=aes,encrypt.key-secret=s0";
    await this.img("create", "-q", ...KEY, "-f", "qcow2", "-o", o, "aes", "1M");
    this.add("aes", ["encrypted", "unreadable"]);
  }

  /** An image with a LUKS 1 header in a cluster of its own at the end. */
  private async luks(
    name: string,
    l: { cipher: string; mode: string; hash: string; keyBytes: number; slots: number },
  ): Promise<void> {
    await this.make(name, "1M", "", ["write -P 1 0 100k"], ["encrypted", "unreadable"]);
    this.patch(name, (p) => {
      const header = Buffer.alloc(p.clusterSize);
      header.write("LUKS\xba\xbe\0\x01", 0, "latin1");
      header.write(l.cipher, 8);
      header.write(l.mode, 40);
      header.write(l.hash, 72);
      const keySectors = Math.ceil((l.keyBytes * 4000) / 512 / 8) * 8;
      header.writeUInt32BE(8 + 8 * keySectors, 104);
      header.writeUInt32BE(l.keyBytes, 108);
      header.writeUInt32BE(10322, 164);
      header.write("6e1eaca8-a31d-4e13-b796-e9c61ad8976a", 168);
      for (let slot = 0; slot < 8; slot++) {
        const at = 208 + 48 * slot;
        const active = slot < l.slots;
        header.writeUInt32BE(active ? 0x00ac71f3 : 0x0000dead, at);
        header.writeUInt32BE(active ? 42500 + slot : 0, at + 4);
        header.writeUInt32BE(8 + slot * keySectors, at + 40);
        header.writeUInt32BE(4000, at + 44);
      }
      const clusters = p.bytes.length / p.clusterSize;
      p.bytes.writeUInt16BE(1, p.refcounts() + 2 * clusters);
      p.setU32(32, 2);
      const extension = Buffer.alloc(24);
      extension.writeUInt32BE(0x0537be77, 0);
      extension.writeUInt32BE(16, 4);
      extension.writeBigUInt64BE(BigInt(p.bytes.length), 8);
      extension.writeBigUInt64BE(4096n, 16);
      insertExtension(p, extension);
      return Buffer.concat([p.bytes, header]);
    });
  }

  async headers(): Promise<void> {
    const some = ["write -P 1 0 100k"];
    await this.make("dirty", "1M", "lazy_refcounts=on", some, ["dirty"]);
    this.patch("dirty", (p) => void p.setU32(76, p.u32(76) | 1));
    await this.make("lazy", "1M", "lazy_refcounts=on", some);
    await this.make("corrupt", "1M", "", some, ["corrupt"]);
    this.patch("corrupt", (p) => void p.setU32(76, p.u32(76) | 2));
    /** Moves what follows the fixed header so that it starts at `length`. */
    const headerLength = (p: Patch, length: number): void => {
      const old = p.u32(100);
      const rest = Buffer.from(p.bytes.subarray(old, 4096));
      p.bytes.fill(0, Math.min(old, length), 4096);
      rest.copy(p.bytes, length, 0, 4096 - length);
      p.setU32(100, length);
    };
    for (const length of [104, 105, 120, 512]) {
      await this.make(`header-${length}`, "1M", "", some);
      this.patch(`header-${length}`, (p) => void headerLength(p, length));
    }
    await this.make("extensions", "1M", "", some);
    this.patch("extensions", (p) => {
      const extension = Buffer.alloc(24);
      extension.writeUInt32BE(0x0badcafe, 0);
      extension.writeUInt32BE(13, 4);
      extension.write("nobody knows!", 8);
      insertExtension(p, extension);
      // Compatible and autoclear features that nobody knows either.
      p.setU64(80, 1n << 40n);
      p.setU64(88, 1n << 50n);
      return undefined;
    });
    await this.make("slack", "1M", "", some);
    // Bytes after the last cluster that is used.
    this.patch("slack", (p) => Buffer.concat([p.bytes, Buffer.alloc(100_000, 7)]));
  }

  /** Images that `check` complains about. */
  async faults(): Promise<void> {
    const some = ["write -P 1 0 256k"];
    const fault = async (name: string, tags: readonly string[], change: (p: Patch) => Buffer | undefined) => {
      await this.make(name, "1M", "", some, tags);
      this.patch(name, change);
    };
    await fault("leaked", ["leaks"], (p) => {
      p.bytes.writeUInt16BE(1, p.refcounts() + 2 * 9);
      return Buffer.concat([p.bytes, Buffer.alloc(131072)]);
    });
    await fault("refcount-high", ["leaks"], (p) => void p.bytes.writeUInt16BE(3, p.refcounts() + 2 * 6));
    await fault("refcount-zero", ["damaged"], (p) => void p.bytes.writeUInt16BE(0, p.refcounts() + 2 * 6));
    await fault("copied-missing", ["damaged"], (p) => void p.setU32(p.l2(1), p.u32(p.l2(1)) & 0x7fffffff));
    await fault("shared", ["damaged"], (p) => void p.bytes.copy(p.bytes, p.l2(1), p.l2(0), p.l2(0) + 8));
    await fault("l1-copied-missing", ["damaged"], (p) => void p.setU32(p.l1(0), p.u32(p.l1(0)) & 0x7fffffff));
  }

  raw(): void {
    const sparse = (name: string, size: number, ...pieces: [at: number, length: number][]): void => {
      const fd = openSync(join(this.dir, name), "w");
      ftruncateSync(fd, size);
      closeSync(fd);
      if (pieces.length > 0) {
        const f = openSync(join(this.dir, name), "r+");
        for (const [at, length] of pieces) {
          const b = new Uint8Array(length).fill(0x5a);
          writeSync(f, b, 0, length, at);
        }
        closeSync(f);
      }
      this.add(name, [], "raw");
    };
    sparse("raw-empty", 0);
    sparse("raw-hole", 1 << 20);
    sparse("raw-odd", 1_000_001, [0, 5000], [500_000, 100], [999_000, 1001]);
    sparse("raw-holes", 4 << 20, [65536, 4096], [1 << 20, 100_000], [(4 << 20) - 4096, 4096]);
    sparse("raw-full", 300_000, [0, 300_000]);
  }
}
