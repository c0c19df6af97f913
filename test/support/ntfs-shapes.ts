// The NTFS shape corpus: one recipe for every way a volume may be laid out, built with mkntfs, ntfs-3g mounts (FUSE)
// and patches for what neither makes. Every file's contents hold MARK, so that a search finds what is left of them.
import {
  appendFileSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { VolumeCache } from "./built-once.ts";
import { noise, random } from "./ext-tree.ts";
import { find, type NtfsPatch, patchNtfs } from "./ntfs-patch.ts";
import { must, run } from "./run.ts";
import { setXattr } from "./xattr.ts";

/** Occurs in every user file's contents, every few bytes, and nowhere else. */
export const MARK = "USER-TEXT";

/** One volume of the corpus. */
export interface NtfsShape {
  readonly name: string;
  /** What the native tool needs before it takes the volume: "" or options, as "-f". */
  readonly needs: string;
  /** `-m -o` of the native tool refuses or does not wipe it: its own mount of the output sees a log or hibernation. */
  readonly mountRefused: boolean;
  /** Its `-m -o` differs from a restored `-m -s`: stale index blocks that only the latter wipes. */
  readonly staleIndex: boolean;
  /** Builds the volume in `dir` and returns the image's path. */
  build(dir: string): Promise<string>;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const SERIAL = 0x4e5446530badcafen;

/** `length` bytes of text full of MARK. */
export function text(seed: number, length: number): Buffer {
  const line = `${MARK} ${seed} of a file `;
  return Buffer.from(line.repeat(Math.ceil(length / line.length) + 1).slice(0, length));
}

class Bench {
  readonly dir: string;
  readonly img: string;
  constructor(dir: string) {
    this.dir = dir;
    this.img = join(dir, "volume.img");
  }

  /** mkntfs on a sparse file of `size` bytes, with a fixed serial number. */
  async mkntfs(size: number, ...args: string[]): Promise<void> {
    closeSync(openSync(this.img, "w"));
    truncateSync(this.img, size);
    await must("mkntfs", ["-F", "-q", "-p", "0", "-H", "0", "-S", "0", ...args, this.img]);
    patchNtfs(this.img, (p) => p.boot((b) => b.writeBigUInt64LE(SERIAL, 72)));
  }

  /** Mounts the image through ntfs-3g while `job` runs. */
  async mounted(job: (at: string) => Promise<void> | void, ...options: string[]): Promise<void> {
    const at = join(this.dir, "mnt");
    mkdirSync(at, { recursive: true });
    const o = ["streams_interface=xattr", "user_xattr", "compression", "noatime", ...options].join(",");
    await must("ntfs-3g", ["-o", o, this.img, at]);
    try {
      await job(at);
    } finally {
      await must("umount", [at]);
      await gone(this.img);
    }
  }

  patch(job: (p: NtfsPatch) => void): void {
    patchNtfs(this.img, job);
  }
}

/** Waits until the ntfs-3g process that had `img` open has written everything: it outlives umount a little. */
async function gone(img: string): Promise<void> {
  for (let i = 0; i < 400; i++) {
    const r = await run("fuser", ["-s", img]).catch(() => null);
    if (r === null) {
      await new Promise((done) => setTimeout(done, 300));
      return;
    }
    if (r.code !== 0) return;
    await new Promise((done) => setTimeout(done, 10));
  }
  throw new Error(`${img} stays open`);
}

interface More {
  readonly needs?: string;
  readonly mountRefused?: boolean;
  readonly staleIndex?: boolean;
}
const recipes: { name: string; recipe: (b: Bench) => Promise<void>; more: More }[] = [];
function shape(name: string, recipe: (b: Bench) => Promise<void>, more: More = {}): void {
  recipes.push({ name, recipe, more });
}

const u32 = (v: number) => Buffer.from(Uint32Array.of(v).buffer);

/** A reparse point's bytes: a junction or a symlink to `target`. */
function reparse(tag: number, target: string): Buffer {
  const substitute = Buffer.from(`\\??\\${target}`, "utf16le");
  const print = Buffer.from(target, "utf16le");
  const flags = tag === 0xa000000c ? u32(0) : Buffer.alloc(0);
  const head = Buffer.from(Uint16Array.of(0, substitute.length, substitute.length + 2, print.length).buffer);
  const body = Buffer.concat([head, flags, substitute, Buffer.alloc(2), print, Buffer.alloc(2)]);
  return Buffer.concat([u32(tag), Buffer.from(Uint16Array.of(body.length, 0).buffer), body]);
}

/** Extended attributes as OS/2 kept them. */
function eas(list: readonly (readonly [string, Uint8Array])[]): Buffer {
  return Buffer.concat(
    list.map(([name, value]) => {
      const body = Buffer.concat([
        Buffer.from([0, name.length]),
        Buffer.from(Uint16Array.of(value.length).buffer),
        Buffer.from(`${name}\0`),
        value,
      ]);
      const length = Math.ceil((4 + body.length) / 4) * 4;
      return Buffer.concat([u32(length), body], length);
    }),
  );
}

interface TreeOptions {
  /** Non-resident files. */
  readonly files?: number;
  /** Largest of them, bytes. */
  readonly most?: number;
  /** Names in one directory. */
  readonly names?: number;
}

/** Files of every kind that NTFS stores differently. */
function fillTree(at: string, cluster: number, options: TreeOptions = {}): void {
  const next = random(42);
  mkdirSync(join(at, "a/b/c"), { recursive: true });
  for (const n of [0, 1, 100, 500, 640, 700, 760, 1000, 3000])
    writeFileSync(join(at, "a", `resident-${n}`), text(n, n));
  for (let i = 0; i < (options.files ?? 20); i++) {
    const size = i < 3 ? Math.min(cluster - 1 + i, 300_000) : 1 + (next() % (options.most ?? 40_000));
    writeFileSync(join(at, ["", "a", "a/b", "a/b/c"][i % 4], `file-${i}`), text(i, size));
  }
  const fd = openSync(join(at, "holes"), "w");
  ftruncateSync(fd, 700_000);
  writeSync(fd, text(51, 3000), 0, 3000, 300_000);
  writeSync(fd, text(52, 100), 0, 100, 600_000);
  closeSync(fd);
  for (let i = 0; i < 12; i++)
    linkSync(join(at, "a/resident-500"), join(at, "a/b", `${i}-${"another name ".repeat(12)}`));
  symlinkSync(`${MARK}/somewhere`, join(at, "link"));
  mkdirSync(join(at, "wide"));
  for (let i = 0; i < (options.names ?? 150); i++)
    writeFileSync(
      join(at, "wide", `a name of some length, number ${i}`),
      i % 3 ? "" : text(i, 20 + (i % 300)),
    );
  for (let i = 0; i < (options.names ?? 150); i += 4)
    unlinkSync(join(at, "wide", `a name of some length, number ${i}`));
  setXattr(join(at, "file-0"), "user.stream", text(60, 200));
  setXattr(join(at, "a"), "user.on directory", text(61, 120));
  setXattr(join(at, "a/resident-100"), "user.large stream", text(62, 20_000));
}

/** Reparse points, object ids, EAs, DOS names, compression: what needs attributes of its own. */
function fillAttributes(at: string): void {
  mkdirSync(join(at, "junction"));
  mkdirSync(join(at, "symlinkd"));
  writeFileSync(join(at, "symlink"), "");
  setXattr(join(at, "junction"), "system.ntfs_reparse_data", reparse(0xa0000003, "C:\\Windows\\Temp"));
  setXattr(join(at, "symlinkd"), "system.ntfs_reparse_data", reparse(0xa000000c, "D:\\some\\where"));
  setXattr(
    join(at, "symlink"),
    "system.ntfs_reparse_data",
    reparse(0xa000000c, `D:\\${"long\\".repeat(700)}`),
  );
  for (let i = 0; i < 40; i++) {
    const path = join(at, `with-ea-${i}`);
    writeFileSync(path, text(i, 90));
    const value = noise(i + 1, i === 7 ? 40_000 : 30 + i * 20);
    setXattr(
      path,
      "system.ntfs_ea",
      eas([
        ["FIRST.EA", noise(i + 50, 10)],
        ["SECOND.EA", value],
      ]),
    );
    setXattr(path, "system.ntfs_object_id", noise(i + 100, 16));
    setXattr(path, "system.ntfs_dos_name", Buffer.from(`WITHEA~${i}`));
  }
}

/** A populated volume. */
function plain(
  name: string,
  size: number,
  args: readonly string[],
  options?: TreeOptions,
  more?: More,
): void {
  shape(
    name,
    async (b) => {
      await b.mkntfs(size, ...args);
      const at = args.indexOf("-c");
      await b.mounted((m) => fillTree(m, at < 0 ? 4096 : Number(args[at + 1]), options));
    },
    more,
  );
}

// Cluster and sector sizes.
plain("c512", 8 * MIB, ["-c", "512"]);
plain("c1k", 8 * MIB + 3 * 512, ["-c", "1024", "-L", "Größe ☂"]);
plain("c2k-odd-size", 12_345_678, ["-c", "2048"]);
plain("c4k", 20 * MIB, ["-c", "4096"]);
plain("c8k", 20 * MIB + 5 * 512, ["-c", "8192"]);
plain("c16k", 24 * MIB, ["-c", "16384"], { files: 12 });
plain("c64k", 40 * MIB, ["-c", "65536"], { files: 12 });
plain("c256k", 48 * MIB, ["-c", "262144"], { files: 8 });
plain("c2m", 120 * MIB, ["-c", "2097152"], { files: 4 });
plain("s4096", 20 * MIB, ["-s", "4096", "-c", "4096"], { names: 400 });
plain("s4096-c64k", 40 * MIB, ["-s", "4096", "-c", "65536"], { files: 8 });
plain("s2048", 16 * MIB + 2048, ["-s", "2048", "-c", "2048"]);
plain("s1024-c8k", 16 * MIB, ["-s", "1024", "-c", "8192"]);
shape("empty", (b) => b.mkntfs(5 * MIB));
shape("smallest", (b) => b.mkntfs(MIB + 512, "-c", "512"));

// Contents.
shape("attributes", async (b) => {
  await b.mkntfs(20 * MIB);
  await b.mounted((at) => fillAttributes(at));
});
shape("attributes-c512", async (b) => {
  await b.mkntfs(8 * MIB, "-c", "512");
  await b.mounted((at) => fillAttributes(at));
});
shape("compressed", async (b) => {
  await b.mkntfs(20 * MIB, "-C");
  await b.mounted((at) => {
    for (let i = 0; i < 12; i++) writeFileSync(join(at, `packed-${i}`), text(i, 20_000 * i + 7));
    for (let i = 0; i < 4; i++) writeFileSync(join(at, `noise-${i}`), noise(i + 1, 70_000 * i + 9));
    setXattr(join(at, "packed-3"), "user.stream", text(99, 60_000));
  });
});
shape("encrypted", async (b) => {
  await b.mkntfs(20 * MIB);
  await b.mounted((at) => {
    for (let i = 0; i < 10; i++) writeFileSync(join(at, `secret-${i}`), text(i, i * 900));
  });
  b.patch((p) => {
    for (let n = 64; n < 74; n++)
      p.change(n, (r) => {
        const standard = find(r, 0x10);
        const flags = standard.at + r.readUInt16LE(standard.at + 20) + 32;
        const data = find(r, 0x80).at;
        if (r[data + 8] === 0) return;
        r.writeUInt32LE(r.readUInt32LE(flags) | 0x4000, flags);
        r.writeUInt16LE(0x4000, data + 12);
      });
  });
});
shape("owners", async (b) => {
  // Many security descriptors: $Secure's indexes leave its record.
  await b.mkntfs(20 * MIB);
  await b.mounted(async (at) => {
    const { chownSync, chmodSync } = await import("node:fs");
    for (let i = 0; i < 300; i++) {
      writeFileSync(join(at, `owned-${i}`), text(i, 50));
      chownSync(join(at, `owned-${i}`), 1000 + i, 2000 + i);
      chmodSync(join(at, `owned-${i}`), 0o400 + i);
    }
  }, "permissions");
});
for (const [name, size, args] of [
  ["big-directory", 24 * MIB, []],
  ["big-directory-c512", 16 * MIB, ["-c", "512"]],
  ["big-directory-s4096", 24 * MIB, ["-s", "4096"]],
] as const)
  shape(
    name,
    async (b) => {
      await b.mkntfs(size, ...args);
      await b.mounted((at) => {
        mkdirSync(join(at, "wide"));
        const name = (i: number) => join(at, "wide", `${(i * 7919) % 3001} is the number of this name`);
        for (let i = 0; i < 3000; i++) writeFileSync(name(i), i % 5 ? "" : text(i, 40));
        for (let i = 0; i < 3000; i++) if ((i * 7919) % 3001 < 600) unlinkSync(name(i));
      });
    },
    { staleIndex: true },
  );
shape("many-records", async (b) => {
  await b.mkntfs(48 * MIB);
  await b.mounted((at) => {
    for (let d = 0; d < 40; d++) {
      mkdirSync(join(at, `d${d}`));
      for (let i = 0; i < 500; i++) writeFileSync(join(at, `d${d}`, `f${i}`), i % 16 ? "" : text(i, 40 + i));
    }
  });
});
shape("deleted", async (b) => {
  await b.mkntfs(20 * MIB);
  await b.mounted((at) => {
    fillTree(at, 4096, { names: 40 });
    for (let i = 0; i < 200; i++) writeFileSync(join(at, `late-${i}`), text(i, 300 + i));
    for (let i = 0; i < 200; i++) if (i % 9) unlinkSync(join(at, `late-${i}`));
    for (let i = 0; i < 40; i++) {
      mkdirSync(join(at, `gone-${i}`));
      writeFileSync(join(at, `gone-${i}`, "inside"), text(i, 400));
      unlinkSync(join(at, `gone-${i}`, "inside"));
      rmSync(join(at, `gone-${i}`), { recursive: true });
    }
  });
});
for (const [name, size, cluster] of [
  ["fragmented-mft", 5 * MIB, 1024],
  ["fragmented-mft-c512", 4 * MIB, 512],
] as const)
  shape(name, async (b) => {
    await b.mkntfs(size, "-c", `${cluster}`);
    await b.mounted((at) => {
      // Single free clusters all over the volume, then more records than there is room for in one piece: $MFT gets more
      // runs than its record has room for. The directories are there before, small enough to stay in their records.
      mkdirSync(join(at, "comb"));
      for (let i = 0; i < 250; i++) mkdirSync(join(at, "late", `${i}`), { recursive: true });
      const made = untilFull((i) => writeFileSync(join(at, "comb", `${i}`), text(i, 1000)));
      for (let i = 0; i < made; i += 2) unlinkSync(join(at, "comb", `${i}`));
      untilFull((i) => writeFileSync(join(at, "late", `${i % 250}`, `${i}`), i % 3 ? "" : text(i, 60)));
    });
    if (cluster === 1024) b.patch((p) => find(p.record(0), 0x20));
  });
shape(
  "fragmented-directory",
  async (b) => {
    await b.mkntfs(24 * MIB, "-c", "512");
    await b.mounted((at) => {
      mkdirSync(join(at, "wide"));
      // Data between the index blocks, so that they never touch.
      const name = (i: number) => join(at, "wide", `${(i * 7919) % 4001}-${"n".repeat(100)}`);
      for (let i = 0; i < 4000; i++) writeFileSync(name(i), i % 4 ? "" : text(i, 1100));
      for (let i = 0; i < 4000; i++) if ((i * 7919) % 4001 < 900) unlinkSync(name(i));
    });
  },
  { staleIndex: true },
);
shape("nearly-full", async (b) => {
  await b.mkntfs(6 * MIB);
  await b.mounted((at) => {
    untilFull((i) => writeFileSync(join(at, `bulk-${i}`), text(i, 200_000)));
    untilFull((i) => writeFileSync(join(at, `one-${i}`), text(i, 3000)));
    untilFull((i) => (i < 200 ? writeFileSync(join(at, `none-${i}`), text(i, 200)) : full()));
  });
});
shape("many-links-and-streams", async (b) => {
  // Attribute lists, resident ones and some that are not.
  await b.mkntfs(20 * MIB);
  await b.mounted((at) => {
    writeFileSync(join(at, "linked"), text(1, 100));
    for (let i = 0; i < 200; i++) linkSync(join(at, "linked"), join(at, `${i}-${"link ".repeat(30)}`));
    writeFileSync(join(at, "streamy"), text(2, 5000));
    for (let i = 0; i < 60; i++)
      setXattr(join(at, "streamy"), `user.stream ${i}`, text(i, i % 2 ? 150 : 1500 + i));
    mkdirSync(join(at, "linked directory"));
    for (let i = 0; i < 30; i++)
      setXattr(join(at, "linked directory"), `user.stream ${i}`, text(i, 60 + i * 9));
    for (let i = 0; i < 80; i++) writeFileSync(join(at, "linked directory", `file ${i}`), text(i, 30));
  });
});

// States.
shape(
  "dirty",
  async (b) => {
    await b.mkntfs(12 * MIB);
    await b.mounted((at) => fillTree(at, 4096, { files: 5 }));
    b.patch((p) => p.change(3, (r) => setVolumeFlags(r, 1)));
  },
  { needs: "-f" },
);
for (const [name, size] of [
  ["hibernated", 8192],
  ["hibernated-short", 100],
] as const)
  shape(
    name,
    async (b) => {
      await b.mkntfs(12 * MIB);
      await b.mounted((at) => {
        fillTree(at, 4096, { files: 5 });
        const image = Buffer.alloc(size);
        image.write("hibr");
        writeFileSync(join(at, "hiberfil.sys"), image);
      });
    },
    { mountRefused: size < 4096 },
  );
shape(
  "garbage-log",
  async (b) => {
    await b.mkntfs(12 * MIB);
    await b.mounted((at) => fillTree(at, 4096, { files: 5 }));
    b.patch((p) => {
      const clusters = p.clustersOf(2, 0x80);
      for (const c of clusters.slice(0, 600)) p.write(c * p.clusterSize, noise(c, p.clusterSize));
    });
  },
  { mountRefused: true },
);
shape("bad-clusters", async (b) => {
  await b.mkntfs(12 * MIB);
  await b.mounted((at) => fillTree(at, 4096, { files: 5 }));
  b.patch((p) => {
    const first = p.free(3);
    const second = p.free(40, first + 100);
    p.bad([
      [first, 3],
      [second, 40],
      [second + 200, 1],
    ]);
  });
});
shape(
  "extra-marks",
  async (b) => {
    await b.mkntfs(12 * MIB);
    await b.mounted((at) => fillTree(at, 4096, { files: 5 }));
    b.patch((p) => {
      const first = p.free(30);
      p.mark(first, 5);
      p.mark(first + 10, 17);
      p.write(first * p.clusterSize, text(7, 20_000));
    });
  },
  { needs: "--ignore-fs-check" },
);
shape("junk-in-free-space", async (b) => {
  await b.mkntfs(12 * MIB);
  await b.mounted((at) => fillTree(at, 4096, { files: 5 }));
  b.patch((p) => p.write(p.free(64) * p.clusterSize, text(7, 64 * p.clusterSize)));
});

// Volume and device of different sizes.
shape("bigger-device", async (b) => {
  await b.mkntfs(8 * MIB);
  await b.mounted((at) => fillTree(at, 4096, { files: 5 }));
  appendFileSync(b.img, noise(71, MIB + 1234));
});
shape("exact-device", async (b) => {
  await b.mkntfs(8 * MIB, "-c", "4096");
  await b.mounted((at) => fillTree(at, 4096, { files: 5 }));
  b.patch((p) => p.boot((s) => s.writeBigInt64LE(BigInt(p.clusters * 8), 40)));
  truncateSync(b.img, Math.floor((8 * MIB) / 4096 - 1) * 4096);
});
shape("odd-clusters", async (b) => {
  await b.mkntfs(1280 * 8192 + 5 * 512, "-c", "8192");
  await b.mounted((at) => fillTree(at, 8192, { files: 5 }));
});

class Full extends Error {}
function full(): never {
  throw new Full();
}

/** Calls `job` with 0, 1, 2 ... until the volume is full; returns how often it went well. */
function untilFull(job: (i: number) => void): number {
  for (let i = 0; ; i++) {
    try {
      job(i);
    } catch (e) {
      if (e instanceof Full || (e as NodeJS.ErrnoException).code === "ENOSPC") return i;
      throw e;
    }
  }
}

function setVolumeFlags(record: Buffer, flags: number): void {
  const a = find(record, 0x70);
  record.writeUInt16LE(flags, a.at + record.readUInt16LE(a.at + 20) + 10);
}

/** The corpus, in order. */
export const ntfsShapes: readonly NtfsShape[] = recipes.map((r) => ({
  name: r.name,
  needs: r.more.needs ?? "",
  mountRefused: r.more.mountRefused ?? false,
  staleIndex: r.more.staleIndex ?? false,
  async build(dir) {
    const b = new Bench(dir);
    await r.recipe(b);
    return b.img;
  },
}));

/** The shape of that name. */
export function ntfsShapeNamed(name: string): NtfsShape {
  const s = ntfsShapes.find((x) => x.name === name);
  if (!s) throw new Error(`no shape is named ${name}`);
  return s;
}

const cache = new VolumeCache("ntfs-shapes", ["ntfs-shapes.js", "ntfs-patch.js", "ext-tree.js"], 200 * MIB);

/** Path of a shape's volume, built at most once on this machine. Read only: copy it before changing it. */
export function ntfsShapeImage(s: NtfsShape): Promise<string> {
  return cache.volume(s.name, (dir) => s.build(dir));
}
