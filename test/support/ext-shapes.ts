// The ext shape corpus: one recipe for every way an ext2/3/4 volume may be laid out, built with the native tools.
// Recipes that need the kernel's own allocator mount a loop device (root); IMPRINT_NO_MOUNT=1 leaves those out.
import {
  appendFileSync,
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { VolumeCache } from "./built-once.ts";
import { fillTree, fixTimes, noise, random, sparseFile, type TreeOptions } from "./ext-tree.ts";
import { must } from "./run.ts";

/** One volume of the corpus. */
export interface Shape {
  readonly name: string;
  /**
   * Our default selection is not the native one here, because the native one takes deleted data (whole bigalloc
   * clusters) or leaves metadata out (orphans, bad-block lists): compare bytes with --native-selection.
   */
  readonly nativeSelection: boolean;
  /** Builds the volume in `dir` and returns the image's path. */
  build(dir: string): Promise<string>;
}

const UUID = "5d2c3b1a-1234-4321-8765-0123456789ab";
const ENV = {
  E2FSPROGS_FAKE_TIME: "1600000000",
  SOURCE_DATE_EPOCH: "1600000000",
  MKE2FS_SYNC: "0",
  MKE2FS_CONFIG: "/dev/null",
  E2FSPROGS_LIBMAGIC_SUPPRESS: "1",
};
const KIB = 1024;
const MIB = 1024 * KIB;

/** The bench a recipe works at: a scratch folder and an image in it. */
class Bench {
  readonly dir: string;
  readonly img: string;
  constructor(dir: string) {
    this.dir = dir;
    this.img = join(dir, "volume.img");
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  file(name: string, bytes: string | Uint8Array): string {
    writeFileSync(this.path(name), bytes);
    return this.path(name);
  }

  tree(options?: TreeOptions): string {
    return fillTree(this.path("tree"), options);
  }

  /** mke2fs with a fixed UUID and hash seed on a sparse file of `size` bytes. */
  async mke2fs(size: number, ...args: string[]): Promise<void> {
    closeSync(openSync(this.img, "w"));
    truncateSync(this.img, size);
    const at = args.indexOf("-E");
    const seed = `hash_seed=${UUID}`;
    const extended = at < 0 ? seed : `${seed},${args[at + 1]}`;
    const rest = at < 0 ? args : [...args.slice(0, at), ...args.slice(at + 2)];
    await must("mke2fs", ["-q", "-F", "-U", UUID, "-E", extended, ...rest, this.img], { env: ENV });
  }

  /** debugfs in write mode, one command a line. */
  async debugfs(...commands: string[]): Promise<string> {
    const r = await must("debugfs", ["-w", "-f", "-", this.img], {
      env: ENV,
      input: `${commands.join("\n")}\n`,
      cwd: this.dir,
    });
    const complaint = r.stderr.split("\n").slice(1).join("\n").trim();
    if (complaint !== "") throw new Error(`debugfs: ${complaint}`);
    return r.stdout.toString("latin1");
  }

  async e2fsck(...args: string[]): Promise<void> {
    await must("e2fsck", ["-f", "-y", ...args, this.img], { env: ENV, codes: [0, 1] });
  }

  async tune2fs(...args: string[]): Promise<void> {
    await must("tune2fs", [...args, this.img], { env: ENV });
  }

  async resize(size: string): Promise<void> {
    await must("e2fsck", ["-f", "-y", this.img], { env: ENV, codes: [0, 1] });
    await must("resize2fs", ["-f", this.img, size], { env: ENV });
  }

  /** A number from dumpe2fs's header. */
  async header(field: string): Promise<number> {
    const r = await must("dumpe2fs", ["-h", this.img], { env: ENV });
    const m = new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(r.stdout.toString("latin1"));
    if (!m) throw new Error(`dumpe2fs prints no "${field}"`);
    return Number(m[1]);
  }

  /** Mounts the image through a loop device while `job` runs. */
  async mounted(job: (at: string) => Promise<void> | void, ...options: string[]): Promise<void> {
    const at = this.path("mnt");
    mkdirSync(at, { recursive: true });
    await must("mount", ["-o", ["loop", ...options].join(","), this.img, at]);
    try {
      await job(at);
    } finally {
      await must("umount", [at]);
    }
  }

  /** Keeps the image as it is at this moment, mounted or not. */
  async snapshot(name: string, at: string): Promise<void> {
    await must("sync", ["-f", at]);
    await must("cp", ["--sparse=always", this.img, this.path(name)]);
  }
}

type Recipe = (b: Bench) => Promise<void>;

/** What Debian's mke2fs.conf gives ext4; the recipes ignore that file so that a host's own settings don't count. */
const ext4 = (...features: string[]): string[] => [
  "-t",
  "ext4",
  "-I",
  "256",
  "-O",
  [
    "has_journal,extent,64bit,flex_bg,metadata_csum,dir_nlink,extra_isize,huge_file,large_file",
    "dir_index,ext_attr,filetype,resize_inode,sparse_super",
    ...features,
  ].join(","),
];
const ext3 = (...features: string[]): string[] => [
  "-t",
  "ext3",
  "-I",
  "256",
  "-O",
  ["has_journal,dir_index,ext_attr,filetype,resize_inode,sparse_super,large_file", ...features].join(","),
];
const ext2 = (...features: string[]): string[] => [
  "-t",
  "ext2",
  "-I",
  "128",
  "-O",
  ["dir_index,ext_attr,filetype,resize_inode,sparse_super,large_file", ...features].join(","),
];

const recipes: { name: string; recipe: Recipe; mount?: boolean; nativeSelection?: boolean }[] = [];

function shape(
  name: string,
  recipe: Recipe,
  more: { mount?: boolean; nativeSelection?: boolean } = {},
): void {
  recipes.push({ name, recipe, ...more });
}

/** A populated volume straight from mke2fs. */
function plain(name: string, size: number, args: (b: Bench) => string[], options?: TreeOptions): void {
  shape(name, async (b) => b.mke2fs(size, ...args(b), "-d", b.tree(options)));
}

// Block sizes. Above 4 KiB the kernel doesn't mount them here: mke2fs fills them.
plain("ext4-1k", 8 * MIB, () => ["-b", "1024", ...ext4()]);
plain("ext4-2k", 12 * MIB, () => ["-b", "2048", ...ext4()]);
plain("ext4-4k", 32 * MIB, () => ["-b", "4096", ...ext4()]);
plain("ext4-8k", 48 * MIB, () => ["-b", "8192", ...ext4("^resize_inode")]);
plain("ext4-16k", 48 * MIB, () => ["-b", "16384", "-J", "size=16", ...ext4("^resize_inode")]);
plain("ext4-32k", 64 * MIB, () => ["-b", "32768", ...ext4("^has_journal")]);
plain("ext4-64k", 64 * MIB, () => ["-b", "65536", ...ext4("^has_journal", "^resize_inode")], { files: 12 });
plain("ext2-64k", 64 * MIB, () => ["-b", "65536", ...ext2()], { files: 12 });

// Generations.
plain("ext2-1k", 8 * MIB, () => ["-b", "1024", ...ext2()]);
plain("ext2-4k", 16 * MIB, () => ["-b", "4096", ...ext2()]);
plain("ext2-revision-0", 8 * MIB, () => ["-b", "1024", "-t", "ext2", "-r", "0", "-O", "none"]);
plain("ext3-1k", 8 * MIB, () => ["-b", "1024", ...ext3()]);
plain("ext3-4k", 32 * MIB, () => ["-b", "4096", ...ext3()]);
plain("ext4-no-journal", 8 * MIB, () => ["-b", "1024", ...ext4("^has_journal")]);
shape("ext3-to-ext4-mixed-maps", async (b) => {
  await b.mke2fs(12 * MIB, "-b", "1024", ...ext3(), "-d", b.tree());
  await b.tune2fs("-O", "extents,uninit_bg,dir_index");
  await b.e2fsck();
  await b.debugfs("write tree/big extent-mapped", "write tree/holes extent-holes", "mkdir newer");
});

// Layout of groups and descriptors.
plain("meta-bg", 16 * MIB, () => [
  "-b",
  "1024",
  "-g",
  "512",
  ...ext4("meta_bg", "^resize_inode", "^has_journal"),
]);
plain("meta-bg-32-bit-descriptors", 16 * MIB, () => [
  "-b",
  "1024",
  "-g",
  "256",
  ...ext4("meta_bg", "^resize_inode", "^64bit", "^flex_bg", "^has_journal"),
]);
plain("no-64bit", 8 * MIB, () => ["-b", "1024", ...ext4("^64bit")]);
plain("descriptors-128-bytes", 8 * MIB, () => ["-b", "1024", "-E", "desc_size=128", ...ext4()]);
plain("sparse-super2", 40 * MIB, () => [
  "-b",
  "1024",
  "-E",
  "num_backup_sb=2",
  ...ext4("sparse_super2", "^sparse_super", "^resize_inode"),
]);
plain("no-sparse-super", 24 * MIB, () => ["-b", "1024", ...ext3("^sparse_super", "^resize_inode")]);
plain("no-flex-bg", 24 * MIB, () => ["-b", "1024", ...ext4("^flex_bg")]);
plain("flex-bg-4", 40 * MIB, () => ["-b", "1024", "-G", "4", ...ext4()]);
plain("no-resize-inode", 12 * MIB, () => ["-b", "1024", ...ext4("^resize_inode")]);
plain("large-resize-inode", 16 * MIB, () => ["-b", "1024", "-E", "resize=8388608", ...ext4("^64bit")]);
plain("uninit-bg", 40 * MIB, () => ["-b", "1024", ...ext4("^metadata_csum", "uninit_bg", "^flex_bg")]);
plain("metadata-csum-seed", 12 * MIB, () => ["-b", "2048", ...ext4("metadata_csum_seed")]);
plain("partial-last-group", (16384 + 700) * KIB, () => ["-b", "1024", ...ext4("^has_journal")]);
plain("many-groups", 32 * MIB, () => ["-b", "1024", "-g", "256", "-N", "2048", ...ext4("^has_journal")]);
plain("few-inodes", 16 * MIB, () => ["-b", "1024", "-N", "192", ...ext4()]);
plain("many-inodes", 16 * MIB, () => ["-b", "1024", "-N", "32768", ...ext2()]);
plain("inode-128", 8 * MIB, () => ["-b", "1024", ...ext4(), "-I", "128"]);
plain("inode-512", 8 * MIB, () => ["-b", "1024", ...ext4(), "-I", "512"]);
plain("inode-1024", 24 * MIB, () => ["-b", "4096", ...ext4(), "-I", "1024", "-N", "1024"]);

// Bigalloc, with the data of deleted files left in the unused parts of metadata clusters.
for (const [name, block, cluster, more] of [
  ["bigalloc-4k", 4096, 65536, []],
  ["bigalloc-1k", 1024, 16384, ["^has_journal"]],
  ["bigalloc-no-64bit-1k", 1024, 4096, ["^64bit", "^flex_bg"]],
] as const)
  shape(
    name,
    async (b) => {
      await b.mke2fs(
        32 * MIB,
        "-b",
        `${block}`,
        "-C",
        `${cluster}`,
        ...ext4("bigalloc", "^resize_inode", ...more),
        "-d",
        b.tree(),
      );
      b.file("secret", "deleted file data that a metadata image has no business with\n".repeat(40_000));
      b.file("value", noise(8, 900));
      const later = Array.from({ length: 30 }, (_, i) => [
        `mkdir later-${i}`,
        `ea_set -f value later-${i} user.note`,
        `symlink later-${i}/far ${"elsewhere/".repeat(20)}`,
      ]);
      await b.debugfs("write secret secret");
      await b.debugfs("rm secret");
      await b.debugfs(...later.flat());
      await b.e2fsck();
    },
    { nativeSelection: true },
  );

// Contents of inodes and of their maps.
shape("inline-data", async (b) => {
  await b.mke2fs(8 * MIB, "-b", "1024", ...ext4("inline_data"), "-d", b.tree());
  for (const n of [1, 60, 61, 100, 150, 160, 200]) b.file(`small-${n}`, noise(n, n));
  await b.debugfs("mkdir tiny", ...[1, 60, 61, 100, 150, 160, 200].map((n) => `write small-${n} tiny/s${n}`));
});
shape("ea-inode", async (b) => {
  await b.mke2fs(24 * MIB, "-b", "4096", ...ext4("ea_inode"), "-d", b.tree());
  b.file("large", noise(11, 30_000));
  b.file("middle", noise(12, 2000));
  await b.debugfs(
    "ea_set -f large big user.large",
    "ea_set -f middle big user.middle",
    "ea_set -f large a user.on-directory",
    "ea_set -f large link-200 trusted.on-symlink",
  );
  await b.e2fsck();
});
shape("xattr-blocks", async (b) => {
  await b.mke2fs(12 * MIB, "-b", "1024", ...ext4(), "-d", b.tree());
  b.file("value", noise(13, 500));
  await b.debugfs(
    ...["big", "a", "a/b", "text", "link-4", "link-200", "zeros", "holes"].flatMap((f) => [
      `ea_set -f value ${f} user.one`,
      `ea_set ${f} user.two "some text"`,
      `ea_set ${f} security.three "more text"`,
    ]),
    "mknod pipe p",
    "ea_set -f value pipe trusted.pipe",
  );
});
shape("xattr-blocks-inode-128", async (b) => {
  await b.mke2fs(8 * MIB, "-b", "1024", ...ext3(), "-I", "128", "-d", b.tree());
  await b.debugfs(
    ...["big", "a", "link-4", "link-60", "link-200"].map((f) => `ea_set ${f} user.two "some text"`),
  );
});
for (const [levels, block, names] of [
  [1, 1024, 300],
  [2, 1024, 2500],
] as const)
  shape(`htree-${levels}-levels`, async (b) => {
    const wide = b.path("tree/wide");
    mkdirSync(wide, { recursive: true });
    writeFileSync(join(b.path("tree"), "one"), "x");
    for (let i = 0; i < names; i++)
      linkSync(join(b.path("tree"), "one"), join(wide, `${i}-${"n".repeat(140)}`));
    fixTimes(b.path("tree"));
    await b.mke2fs(16 * MIB, "-b", `${block}`, ...ext4("^has_journal"), "-d", b.path("tree"));
    await b.e2fsck("-D");
  });
shape(
  "htree-3-levels",
  async (b) => {
    await b.mke2fs(64 * MIB, "-b", "1024", "-N", "128", ...ext4("large_dir", "^has_journal"));
    await b.mounted((at) => {
      mkdirSync(join(at, "wide"));
      writeFileSync(join(at, "wide/one"), "x");
      for (let i = 0; i < 36_000; i++)
        linkSync(join(at, "wide/one"), join(at, "wide", `${i}-${"n".repeat(248)}`));
    });
  },
  { mount: true },
);
shape("extents-depth-2", async (b) => {
  await b.mke2fs(12 * MIB, "-b", "1024", ...ext4("^has_journal"), "-d", b.tree());
  b.file("comb", noise(21, 1400 * KIB));
  await b.debugfs("write comb comb");
  await b.debugfs(...Array.from({ length: 700 }, (_, i) => `punch comb ${2 * i + 1} ${2 * i + 1}`));
});
shape("extents-depth-3", async (b) => {
  await b.mke2fs(48 * MIB, "-b", "1024", "-N", "256", ...ext4("^has_journal"), "-d", b.tree({ names: 20 }));
  b.file("none", "");
  await b.debugfs(
    "write none deep",
    ...Array.from({ length: 30_000 }, (_, i) => `fallocate deep ${2 * i} ${2 * i}`),
    "sif deep size 61440000",
  );
});
shape("extents-unwritten-and-past-end", async (b) => {
  await b.mke2fs(12 * MIB, "-b", "1024", ...ext4("^has_journal"), "-d", b.tree());
  b.file("body", noise(22, 20 * KIB));
  await b.debugfs(
    "write body kept",
    "fallocate kept 30 900",
    "fallocate kept 2000 2100",
    "write body more",
    "fallocate more 20 40",
  );
});
shape("triple-indirect", async (b) => {
  mkdirSync(b.path("tree"));
  sparseFile(b.path("tree/far"), 300 * MIB, [
    [0, noise(31, 5000)],
    [12 * KIB, noise(32, 3000)],
    [200 * KIB, noise(33, 3000)],
    [268 * KIB, noise(34, 3000)],
    [30 * MIB, noise(35, 100_000)],
    [70 * MIB, noise(36, 50_000)],
    [200 * MIB, noise(37, 3000)],
    [299 * MIB, noise(38, 3000)],
  ]);
  fixTimes(b.path("tree"));
  await b.mke2fs(4 * MIB, "-b", "1024", ...ext2(), "-d", b.path("tree"));
});
shape("indirect-directory", async (b) => {
  mkdirSync(b.path("tree/wide"), { recursive: true });
  writeFileSync(b.path("tree/one"), "x");
  for (let i = 0; i < 2500; i++) linkSync(b.path("tree/one"), b.path(`tree/wide/${i}-${"n".repeat(140)}`));
  fixTimes(b.path("tree"));
  await b.mke2fs(8 * MIB, "-b", "1024", ...ext2("^dir_index"), "-d", b.path("tree"));
});

// Special inodes and features.
plain("quota-project", 16 * MIB, () => [
  "-b",
  "1024",
  "-E",
  "quotatype=usrquota:grpquota:prjquota",
  ...ext4("quota", "project"),
]);
plain("mmp", 12 * MIB, () => ["-b", "1024", ...ext4("mmp")]);
plain("orphan-file", 24 * MIB, () => ["-b", "4096", ...ext4("orphan_file")]);
plain("fast-commit", 24 * MIB, () => ["-b", "1024", "-J", "fast_commit_size=256", ...ext4("fast_commit")]);
plain("stable-inodes", 8 * MIB, () => ["-b", "1024", ...ext4("stable_inodes", "large_dir")]);
plain("encrypt-flag", 8 * MIB, () => ["-b", "1024", ...ext4("encrypt")]);
shape("casefold", async (b) => {
  await b.mke2fs(12 * MIB, "-b", "1024", "-E", "encoding=utf8", ...ext4("casefold"), "-d", b.tree());
  await b.debugfs("mkdir folded", "sif folded flags 0x40080000");
  for (let i = 0; i < 4; i++) b.file(`f${i}`, `${i}`);
  await b.debugfs(...Array.from({ length: 60 }, (_, i) => `write f${i % 4} folded/Straße-${i}`));
  await b.e2fsck("-D");
});
shape("hurd", async (b) => {
  await b.mke2fs(8 * MIB, "-b", "1024", "-o", "hurd", "-t", "ext2", "-I", "128", "-d", b.tree());
  await b.debugfs("sif a/b translator 3000", "sif text translator 3001");
});
shape("external-journal-absent", async (b) => {
  await b.mke2fs(8 * MIB, "-b", "1024", ...ext4("^has_journal"), "-d", b.tree());
  await b.debugfs(
    "feature has_journal",
    "ssv journal_dev 0x801",
    "ssv journal_uuid 00112233-4455-6677-8899-aabbccddeeff",
  );
});
plain("bad-blocks", 12 * MIB, (b) => [
  "-b",
  "1024",
  "-l",
  b.file("bad", "9000\n9001\n9100\n9777\n"),
  ...ext4(),
]);
shape(
  "bad-blocks-many",
  async (b) => {
    const list = Array.from({ length: 400 }, (_, i) => `${9000 + 3 * i}\n`).join("");
    await b.mke2fs(12 * MIB, "-b", "1024", "-l", b.file("bad", list), ...ext2(), "-d", b.tree());
  },
  { nativeSelection: true },
);
shape("special-files", async (b) => {
  await b.mke2fs(8 * MIB, "-b", "1024", ...ext4(), "-d", b.tree());
  await b.debugfs(
    "mknod pipe p",
    "mknod disk b 8 17",
    "mknod old-disk b 3 1",
    "mknod null c 1 3",
    "mknod far c 4000 60000",
    "mknod socket p",
    "sif socket mode 0140755",
    "ea_set disk user.note text",
    `symlink at-limit ${"s".repeat(1023)}`,
  );
  await b.e2fsck();
});
shape("deleted-inodes", async (b) => {
  await b.mke2fs(12 * MIB, "-b", "1024", ...ext3(), "-d", b.tree({ names: 400 }));
  await b.debugfs(
    ...Array.from({ length: 400 }, (_, i) => `rm "wide/a name of some length, number ${i}"`).filter(
      (_, i) => i % 4,
    ),
    "rm holes",
    "rm link-1000",
    "rm a/file-1",
    "rm a/b/file-2",
  );
  await b.e2fsck();
});
shape(
  "orphan-list-offline",
  async (b) => {
    await b.mke2fs(8 * MIB, "-b", "1024", ...ext3(), "-d", b.tree());
    const text = await b.debugfs("stat holes");
    const ino = /Inode: (\d+)/.exec(text)![1]!;
    await b.debugfs("unlink holes", "sif <" + ino + "> links_count 0", `ssv last_orphan ${ino}`);
  },
  { nativeSelection: true },
);
shape("journal-needs-recovery", async (b) => {
  await b.mke2fs(12 * MIB, "-b", "1024", ...ext4(), "-d", b.tree());
  b.file("blocks", noise(51, 20 * KIB));
  await b.debugfs("jo -c", "jw -b 5000-5019 blocks", "jw -r 5003,5004", "jc");
});

// Sizes.
shape("resized-up", async (b) => {
  await b.mke2fs(9 * MIB, "-b", "1024", ...ext4("^has_journal"), "-d", b.tree());
  await b.resize("40M");
});
shape("resized-up-meta-bg", async (b) => {
  await b.mke2fs(
    9 * MIB,
    "-b",
    "1024",
    "-g",
    "512",
    ...ext4("meta_bg", "^resize_inode", "^has_journal"),
    "-d",
    b.tree(),
  );
  await b.resize("30M");
});
shape("resized-down", async (b) => {
  await b.mke2fs(48 * MIB, "-b", "1024", ...ext4("^has_journal"), "-d", b.tree());
  await b.resize("18M");
});
for (const [name, args] of [
  ["full-ext4", ext4("^has_journal")],
  ["full-ext2", ext2()],
] as const)
  shape(name, async (b) => {
    await b.mke2fs(4 * MIB, "-b", "1024", "-m", "0", "-N", "256", ...args);
    b.file("one", noise(61, KIB));
    for (let round = 0; ; round++) {
      const free = await b.header("Free blocks");
      if (free === 0) break;
      if (round > 6) throw new Error(`${free} blocks stay free`);
      const bulk = free > 64 ? free - 40 : 0;
      b.file("bulk", noise(62, bulk * KIB));
      const single = bulk > 0 ? 0 : free;
      await b.debugfs(
        ...(bulk > 0 ? [`write bulk bulk-${round}`] : []),
        ...Array.from({ length: single }, (_, i) => `write one one-${round}-${i}`),
      );
    }
  });
shape("tiny-ext2", (b) => b.mke2fs(64 * KIB, "-b", "1024", ...ext2("^resize_inode"), "-N", "16"));
shape("tiny-ext4", async (b) => {
  await b.mke2fs(60 * KIB, "-b", "1024", ...ext4("^has_journal", "^resize_inode"), "-N", "16");
  await b.debugfs("mkdir d", `symlink d/l ${"t".repeat(100)}`);
});
shape("tiny-4k", (b) =>
  b.mke2fs(256 * KIB, "-b", "4096", ...ext4("^has_journal", "^resize_inode"), "-N", "16"),
);
plain("empty-but-large", 64 * MIB, () => ["-b", "1024", ...ext4()], { files: 0, names: 0 });
shape("trailing-junk", async (b) => {
  await b.mke2fs(8 * MIB, "-b", "2048", ...ext4("^has_journal"), "-d", b.tree());
  appendFileSync(b.img, noise(71, 100_001));
});
for (const block of [1024, 4096])
  shape(`boot-block-junk-${block / 1024}k`, async (b) => {
    await b.mke2fs(8 * MIB, "-b", `${block}`, ...ext4("^has_journal"), "-d", b.tree());
    const fd = openSync(b.img, "r+");
    writeSync(fd, noise(72, 1024), 0, 1024, 0);
    closeSync(fd);
  });

// What only a running kernel leaves behind.
shape(
  "journal-dirty",
  async (b) => {
    await b.mke2fs(24 * MIB, "-b", "1024", ...ext4(), "-d", b.tree());
    await b.mounted(async (at) => {
      for (let i = 0; i < 60; i++) writeFileSync(join(at, `late-${i}`), noise(i + 1, (i * 137) % 9000));
      for (let i = 0; i < 60; i += 3) unlinkSync(join(at, `late-${i}`));
      mkdirSync(join(at, "late-directory"));
      await b.snapshot("dirty.img", at);
    }, "data=journal");
    renameSync(b.path("dirty.img"), b.img);
    const r = await must("dumpe2fs", ["-h", b.img]);
    if (!r.stdout.includes("needs_recovery")) throw new Error("the journal came out clean");
  },
  { mount: true },
);
for (const [name, feature] of [
  ["orphans-held-open", "^orphan_file"],
  ["orphans-in-orphan-file", "orphan_file"],
] as const)
  shape(
    name,
    async (b) => {
      await b.mke2fs(24 * MIB, "-b", "1024", ...ext4(feature), "-d", b.tree());
      await b.mounted(async (at) => {
        const held: number[] = [];
        for (let i = 0; i < 12; i++) {
          const fd = openSync(join(at, `held-${i}`), "w+");
          for (let k = 0; k < 12; k++) writeSync(fd, noise(i + k + 1, KIB), 0, KIB, k * 3 * KIB);
          held.push(fd);
        }
        await must("sync", ["-f", at]);
        for (let i = 0; i < 12; i++) unlinkSync(join(at, `held-${i}`));
        await b.snapshot("orphans.img", at);
        for (const fd of held) closeSync(fd);
      });
      renameSync(b.path("orphans.img"), b.img);
    },
    { mount: true, nativeSelection: true },
  );
for (const [name, args] of [
  ["aged-ext4", ["-b", "1024", ...ext4()]],
  ["aged-ext3", ["-b", "1024", ...ext3()]],
  ["aged-inline-data", ["-b", "1024", ...ext4("inline_data")]],
] as const)
  shape(
    name,
    async (b) => {
      await b.mke2fs(24 * MIB, ...args, "-d", b.tree());
      await b.mounted((at) => {
        const next = random(81);
        for (let i = 0; i < 1500; i++) {
          const path = join(at, ["", "a", "a/b", "wide"][next() % 4]!, `aged-${next() % 150}`);
          if (next() % 3 && !existsSync(path)) writeFileSync(path, noise(i + 1, next() % 60_000));
          else if (existsSync(path)) {
            if (next() % 2) unlinkSync(path);
            else {
              const fd = openSync(path, "r+");
              ftruncateSync(fd, next() % 30_000);
              writeSync(fd, noise(i + 1, 2000), 0, 2000, next() % 200_000);
              closeSync(fd);
            }
          }
        }
      });
    },
    { mount: true },
  );

/** The corpus, in order. */
export const shapes: readonly Shape[] = recipes
  .filter((r) => !(r.mount && process.env["IMPRINT_NO_MOUNT"] === "1"))
  .map((r) => ({
    name: r.name,
    nativeSelection: r.nativeSelection ?? false,
    async build(dir) {
      const b = new Bench(dir);
      await r.recipe(b);
      return b.img;
    },
  }));

/** The shape of that name. */
export function shapeNamed(name: string): Shape {
  const s = shapes.find((x) => x.name === name);
  if (!s) throw new Error(`no shape is named ${name}`);
  return s;
}

const cache = new VolumeCache("shapes", ["ext-shapes.js", "ext-tree.js"], 70 * MIB);

/** Path of a shape's volume, built at most once on this machine. Read only: copy it before changing it. */
export function shapeImage(s: Shape): Promise<string> {
  return cache.volume(s.name, (dir) => s.build(dir));
}
