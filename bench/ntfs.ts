// Rows of the bench for NTFS: ours against ntfsclone, which flushes its output as ours does.
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { type Bench, imprint, type Job, MIB, same } from "./suite.ts";
import { sh, workspace } from "./volumes.ts";

/** An NTFS volume with `used` MiB of files of many sizes, some deleted in between. Built once; needs ntfs-3g and FUSE. */
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
  const files = (job: string, goal: number, ...words: string[]): Job => ({
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
  const pipes = (job: string, goal: number, ...words: string[]): Job => ({
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
  const jobs: Job[] = [
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
      prove: same(a, b),
    },
  ];
  for (const job of jobs) await bench.measure(job);
  rmSync(special);
}
