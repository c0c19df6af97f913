// The bench's page: what ran, where, how fast, and the goal beside it.
import { cpus, loadavg, release, totalmem } from "node:os";
import type { Measured } from "./measure.ts";
import { sh, workspace } from "./volumes.ts";

/** One comparison of the page: the first contender is ours. */
export interface Row {
  readonly section: string;
  readonly job: string;
  readonly measured: readonly Measured[];
  /** What peer time / our time has to reach; null for a row that only informs. */
  readonly goal: number | null;
  /** Ours must stay below this many bytes of memory. */
  readonly memory?: number;
}

/** The factor that counts: against the fastest of the peers. */
export function ratio(row: Row): number {
  const [ours, ...peers] = row.measured;
  return Math.min(...peers.map((p) => p.median)) / ours!.median;
}

const time = (ms: number): string => (ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(0)} ms`);
const span = (m: Measured): string => `${time(m.median)} (${time(m.min)} - ${time(m.max)})`;
const mib = (bytes: number): string => `${(bytes / 1048576).toFixed(0)}`;
const attempt = (program: string, args: readonly string[]): string => {
  try {
    return sh(program, args).split("\n")[0]!.trim();
  } catch {
    return "absent";
  }
};

function verdict(ok: boolean): string {
  return ok ? "met" : "**missed**";
}

/** One line for the terminal. */
export function line(row: Row): string {
  const goal = row.goal === null ? "" : `, goal ${row.goal}x: ${ratio(row) >= row.goal ? "met" : "MISSED"}`;
  const times = row.measured.map((m) => `${m.name} ${time(m.median)} [${mib(m.peak)} MiB]`).join(" | ");
  return `${row.job}: ${times} -> ${ratio(row).toFixed(2)}x${goal}`;
}

/** The whole page as Markdown. */
export function page(rows: readonly Row[], notes: readonly string[], rounds: number): string {
  const out = [
    "# Bench results",
    "",
    "Written by `npm run bench`. Paired, alternating runs, one warm-up each, then the median of " +
      `${rounds} (start-up rows: more) with the fastest and slowest beside it; inputs read before each run; no NODE_EXTRA_CA_CERTS, which costs each start of Node 33 ms here; outputs ` +
      "fresh files, no flush on either side. A factor above 1 means that ours is faster, against the fastest of the " +
      "peers in its row. Memory is the highest resident size of a process (VmHWM), from the warm-up run.",
    "",
    "## Where",
    "",
    `- ${cpus().length} x ${cpus()[0]?.model ?? "unknown processor"}, ${mib(totalmem())} MiB of memory, Linux ${release()}`,
    `- Node ${process.version}; ${attempt("qemu-img", ["--version"])}; e2fsprogs ${e2fsprogs()}`,
    `- load average at the end ${loadavg()[0]!.toFixed(1)} (the bench alone gives 1 to 2; more means a shared machine)`,
    `- working folder on ${attempt("stat", ["-f", "-c", "%T", workspace])}`,
    ...notes.map((n) => `- ${n}`),
    "",
  ];
  for (const section of new Set(rows.map((r) => r.section))) {
    out.push(
      `## ${section}`,
      "",
      "| job | ours | peers | factor | goal | | memory, MiB: ours / peers |",
      "|---|---|---|---|---|---|---|",
    );
    for (const row of rows.filter((r) => r.section === section)) {
      const [ours, ...peers] = row.measured;
      const memory = `${mib(ours!.peak)} / ${peers.map((p) => mib(p.peak)).join(", ")}`;
      const limit =
        row.memory === undefined ? "" : ` (limit ${mib(row.memory)}: ${verdict(ours!.peak <= row.memory)})`;
      out.push(
        `| ${row.job} | ${span(ours!)} | ${peers.map((p) => `${p.name}: ${span(p)}`).join("<br>")} | ` +
          `${ratio(row).toFixed(2)} | ${row.goal === null ? "" : row.goal} | ` +
          `${row.goal === null ? "" : verdict(ratio(row) >= row.goal)} | ${memory}${limit} |`,
      );
    }
    out.push("");
  }
  return out.join("\n");
}

function e2fsprogs(): string {
  try {
    return /e2image (\S+)/.exec(sh("bash", ["-c", "e2image 2>&1 || true"]))?.[1] ?? "absent";
  } catch {
    return "absent";
  }
}
