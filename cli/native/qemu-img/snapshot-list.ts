import type { Snapshot } from "../../../src/image/qcow2/snapshots.ts";
import type { JsonObject } from "./json.ts";
import { humanSize } from "./sizes.ts";

const HEADER = "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT\n";

/**
 * The table of snapshots that `info` and `snapshot -l` print, with its title; nothing where there are none. Times are
 * local ones.
 */
export function snapshotTable(snapshots: readonly Snapshot[]): string {
  if (snapshots.length === 0) return "";
  const rows = snapshots.map(
    (s) =>
      `${s.id.padEnd(9)} ${s.name.padEnd(16)} ${humanSize(s.vmStateSize).padStart(8)}` +
      `${localTime(s.seconds).padStart(20)}${clockTime(s.clock).padStart(13)}${String(s.icount ?? "").padStart(11)}\n`,
  );
  return `Snapshot list:\n${HEADER}${rows.join("")}`;
}

/** A snapshot as an element of the JSON form of `info`. */
export function snapshotJson(s: Snapshot): JsonObject {
  return {
    id: s.id,
    name: s.name,
    "vm-state-size": s.vmStateSize,
    "date-sec": s.seconds,
    "date-nsec": s.nanoseconds,
    "vm-clock-sec": s.clock / 1_000_000_000n,
    "vm-clock-nsec": s.clock % 1_000_000_000n,
    icount: s.icount ?? undefined,
  };
}

function localTime(seconds: number): string {
  const d = new Date(seconds * 1000);
  const two = (n: number): string => String(n).padStart(2, "0");
  const date = `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  return `${date} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

function clockTime(nanoseconds: bigint): string {
  const milliseconds = nanoseconds / 1_000_000n;
  const seconds = milliseconds / 1000n;
  const pad = (n: bigint, width: number): string => String(n).padStart(width, "0");
  const clock = `${pad(seconds / 3600n, 2)}:${pad((seconds / 60n) % 60n, 2)}:${pad(seconds % 60n, 2)}`;
  return `${clock}.${pad(milliseconds % 1000n, 3)}`;
}
