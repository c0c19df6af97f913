// Rows of the bench for NTFS: ours against ntfsclone, which flushes its output as ours does.
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { type Bench, imprint, type Job, MIB, same } from "./suite.ts";
import { sh, workspace } from "./volumes.ts";

/**
 * An NTFS volume with `used` MiB of files of many sizes, some deleted in between. Built once; needs ntfs-3g and FUSE.
 */
function ntfsVolume(used: number): string {
  const image = `${workspace}/ntfs-${used}.img`;
  if (existsSync(image)) return image;
  const at = `${workspace}/ntfs-mount`;
  mkdirSync(at, { recursive: true });
  const script = `
set -e
truncate -s ${used * 2}M ${image}.new
mkntfs -F -q -Q -T ${image}.new > /dev/null 2>&1
ntfs-3g -o big_writes ${image}.new ${at}
head -c 64M /dev/urandom > ${workspace}/ntfs-noise
n=0; left=${used * 1024}
while [ $left -gt 0 ]; do
  [ $((n % 200)) = 0 ] && mkdir -p ${at}/d$((n / 200))
  case $((n % 7)) in 0) k=3 ;; 1) k=20 ;; 2) k=400 ;; 3) k=1000 ;; 4) k=8000 ;; 5) k=30000 ;; *) k=60000 ;; esac
  head -c \${k}K ${workspace}/ntfs-noise > ${at}/d$((n / 200))/f$n
  if [ $((n % 17)) = 5 ]; then rm ${at}/d$((n / 200))/f$n; else left=$((left - k)); fi
  n=$((n + 1))
done
umount ${at}
rm ${workspace}/ntfs-noise
sync
while fuser -s ${image}.new; do sleep 0.1; done
mv ${image}.new ${image}`;
  sh("bash", ["-c", script]);
  return image;
}

/**
 * An NTFS volume of `count` small files in folders of a thousand: resident ones, a tenth with clusters of their own,
 * long names. Built once; needs ntfs-3g and FUSE.
 */
function ntfsFiles(count: number): string {
  const image = `${workspace}/ntfs-files-${count}.img`;
  if (existsSync(image)) return image;
  const at = `${workspace}/ntfs-mount`;
  mkdirSync(at, { recursive: true });
  rmSync(`${image}.new`, { force: true });
  sh("truncate", ["-s", `${Math.ceil(count / 100)}M`, `${image}.new`]);
  sh("mkntfs", ["-F", "-q", "-Q", "-T", `${image}.new`]);
  sh("ntfs-3g", [`${image}.new`, at]);
  const bytes = Buffer.alloc(5000, "a small file\n");
  for (let i = 0; i < count; i++) {
    const folder = `${at}/folder-${Math.floor(i / 1000)}`;
    if (i % 1000 === 0) mkdirSync(folder);
    const length = i % 10 === 0 ? 5000 : (i * 7) % 300;
    writeFileSync(`${folder}/a small file, number ${i}`, bytes.subarray(0, length));
  }
  sh("umount", [at]);
  sh("bash", ["-c", `sync; while fuser -s ${image}.new; do sleep 0.1; done 2> /dev/null`]);
  renameSync(`${image}.new`, image);
  return image;
}

/** Clone, save, restore and metadata of a populated volume, both sides flushing. */
export async function ntfsclone(bench: Bench): Promise<void> {
  const section = "ntfsclone of a populated NTFS volume, both sides flushing";
  if (!bench.wants(section)) return;
  const volume = ntfsVolume(bench.quick ? 256 : 2200);
  const [a, b] = [`${workspace}/out-ntfs-ours`, `${workspace}/out-ntfs-native`];
  const special = `${workspace}/ntfs-special`;
  rmSync(special, { force: true });
  sh("bash", ["-c", `ntfsclone -q -s -o ${special} ${volume} > /dev/null 2>&1`]);
  sh("bash", ["-c", `cat ${volume} ${special} > /dev/null`]);
  const toFile = (job: string, goal: number, ...words: string[]): Job => ({
    section,
    job: `ntfsclone ${job}`,
    goal,
    memory: 200 * MIB,
    contenders: [
      { name: "imprint", command: imprint("ntfsclone", "-q", "-O", a, ...words), outputs: [a] },
      { name: "ntfsclone", command: ["ntfsclone", "-q", "-O", b, ...words], outputs: [b] },
    ],
    prove: same(a, b),
  });
  /** As `toFile`, where native does not flush: a sync of its file follows, as ours is on the disk when it ends. */
  const toFlushed = (job: string, goal: number, ...words: string[]): Job => {
    const flushed = toFile(job, goal, ...words);
    const [ours, native] = flushed.contenders;
    const command = `ntfsclone -q -O ${b} ${words.join(" ")} && sync -d ${b}`;
    return { ...flushed, contenders: [ours!, { ...native!, name: "ntfsclone, sync", command }] };
  };
  const toPipe = (job: string, goal: number, ...words: string[]): Job => ({
    section,
    job: `ntfsclone ${job}`,
    goal,
    memory: 64 * MIB,
    contenders: [
      {
        name: "imprint",
        command: `${imprint("ntfsclone", "-q", "-o", "-", ...words).join(" ")} | cat > /dev/null`,
        outputs: [],
      },
      {
        name: "ntfsclone",
        command: `ntfsclone -q -o - ${words.join(" ")} | cat > /dev/null`,
        outputs: [],
      },
    ],
  });
  const files = ntfsFiles(bench.quick ? 5000 : 100_000);
  sh("bash", ["-c", `cat ${files} > /dev/null`]);
  const jobs: Job[] = [
    toFile("-o: clone to a file", 1.6, volume),
    toFile("-s: image to a file", 2, "-s", volume),
    toFile("-r: restore to a file", 2, "-r", special),
    toFlushed("-m -s: metadata image, many files", 1.5, "-m", "-s", files),
    toFile("-m: metadata to a file, many files", 1.5, "-m", files),
    toPipe("-s to a pipe", 2, "-s", volume),
    toPipe("-r to a pipe", 2, "-r", special),
    {
      section,
      job: "ntfsclone -r from a pipe",
      goal: 2,
      memory: 64 * MIB,
      contenders: [
        {
          name: "imprint",
          command: `cat ${special} | ${imprint("ntfsclone", "-q", "-r", "-O", a, "-").join(" ")}`,
          outputs: [a],
        },
        { name: "ntfsclone", command: `cat ${special} | ntfsclone -q -r -O ${b} -`, outputs: [b] },
      ],
      prove: same(a, b),
    },
  ];
  for (const job of jobs) await bench.measure(job);
  rmSync(special);
}
