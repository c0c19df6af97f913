// Rows of the bench for NTFS: ours against ntfsclone, which flushes its output as ours does.
import { existsSync, mkdirSync, rmSync } from "node:fs";
import type { Contender } from "./measure.ts";
import { sh, workspace } from "./volumes.ts";

const MIB = 1024 * 1024;

/** What the bench measures of one job; see run.ts. */
export interface NtfsJob {
  readonly section: string;
  readonly job: string;
  readonly goal: number | null;
  readonly memory?: number;
  readonly contenders: readonly Contender[];
  readonly prove?: () => void;
}

/** An NTFS volume with `used` MiB of files of many sizes, some deleted in between. Built once; needs ntfs-3g and FUSE. */
export function ntfsVolume(used: number): string {
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

/** Clone, save, restore and metadata of one volume; `imprint` gives our command line. */
export function ntfsJobs(volume: string, imprint: (...words: string[]) => string[]): NtfsJob[] {
  const section = "ntfsclone of a populated NTFS volume, both sides flushing";
  const [a, b] = [`${workspace}/out-ntfs-ours`, `${workspace}/out-ntfs-native`];
  const special = `${workspace}/ntfs-special`;
  rmSync(special, { force: true });
  sh("bash", ["-c", `ntfsclone -q -s -o ${special} ${volume} > /dev/null 2>&1`]);
  sh("bash", ["-c", `cat ${volume} ${special} > /dev/null`]);
  const files = (job: string, goal: number, ...words: string[]): NtfsJob => ({
    section,
    job: `ntfsclone ${job}`,
    goal,
    memory: 200 * MIB,
    contenders: [
      { name: "imprint", command: imprint("ntfsclone", "-q", "-O", a, ...words), outputs: [a] },
      { name: "ntfsclone", command: ["ntfsclone", "-q", "-O", b, ...words], outputs: [b] },
    ],
    prove: () => void sh("cmp", [a, b]),
  });
  const pipes = (job: string, goal: number, ...words: string[]): NtfsJob => ({
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
  return [
    files("-o: clone to a file", 1.6, volume),
    files("-s: image to a file", 2, "-s", volume),
    files("-r: restore to a file", 2, "-r", special),
    files("-m -s: metadata image", 1.5, "-m", "-s", volume),
    files("-m: metadata to a file", 1.5, "-m", volume),
    pipes("-s to a pipe", 2, "-s", volume),
    pipes("-r to a pipe", 2, "-r", special),
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
      prove: () => void sh("cmp", [a, b]),
    },
  ];
}
