// Paired, alternating measurements of child processes: wall time and peak memory.
import { execFileSync, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, rmSync, statSync } from "node:fs";

/** One side of a comparison. */
export interface Contender {
  readonly name: string;
  /** Program and arguments; a single string is run by bash. */
  readonly command: readonly string[] | string;
  /** Files to remove before every run, outside of the measured time. */
  readonly outputs: readonly string[];
  /** Makes what a run changes, after its outputs are removed and outside of the measured time. */
  readonly prepare?: () => void;
}

/** What the runs of one contender gave. Milliseconds and bytes. */
export interface Measured {
  readonly name: string;
  readonly times: readonly number[];
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Highest VmHWM of any process of the run, from a run that is not timed. */
  readonly peak: number;
}

interface Once {
  readonly ms: number;
  readonly peak: number;
}

/** Without the file of certificates that Node would read at each start: 33 ms that say nothing about a program. */
const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;

function once(c: Contender, watch: boolean): Promise<Once> {
  for (const f of c.outputs) rmSync(f, { force: true });
  c.prepare?.();
  const [program, ...args] = typeof c.command === "string" ? ["bash", "-c", c.command] : c.command;
  const nothing = openSync("/dev/null", "r+");
  return new Promise((done, fail) => {
    const start = performance.now();
    const child = spawn(program!, args, { stdio: [nothing, nothing, "pipe"], env });
    let peak = 0;
    let said = "";
    const look = (): void => {
      for (const pid of family(child.pid!)) peak = Math.max(peak, residentPeak(pid));
    };
    if (watch) look();
    const timer = watch ? setInterval(look, 5) : undefined;
    child.stderr!.on("data", (b: Buffer) => {
      said += b.toString("latin1");
    });
    child.on("error", fail);
    child.on("exit", (code, signal) => {
      const ms = performance.now() - start;
      clearInterval(timer);
      closeSync(nothing);
      if (code === 0) done({ ms, peak });
      else fail(new Error(`${c.name}: ${c.command} ended with ${code ?? signal}: ${said.slice(0, 500)}`));
    });
  });
}

function residentPeak(pid: number): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** A process and its children. */
function family(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
    return [pid, ...(text === "" ? [] : text.split(" ").map(Number))];
  } catch {
    return [pid];
  }
}

/** The middle value. */
export function median(values: readonly number[]): number {
  const s = [...values].sort((a, b) => a - b);
  const h = s.length >> 1;
  return s.length % 2 ? s[h]! : (s[h - 1]! + s[h]!) / 2;
}

/** Reads the files that a command names, so that they are in the page cache. */
function warmInputs(c: Contender): void {
  const words = typeof c.command === "string" ? c.command.split(/\s+/) : c.command;
  const inputs = words.filter(
    (w) => !c.outputs.includes(w) && statSync(w, { throwIfNoEntry: false })?.isFile(),
  );
  if (inputs.length > 0) execFileSync("cat", inputs, { stdio: ["ignore", "ignore", "inherit"] });
}

/**
 * Runs every contender once to warm up (watching memory), calls `warm`, then `rounds` times all of them in turn, each
 * round beginning with another one, inputs in the page cache. Outputs are fresh in every run and removed at the end;
 * nobody flushes to disk.
 */
export async function alternate(
  contenders: readonly Contender[],
  rounds: number,
  warm: () => Promise<void> = async () => {},
): Promise<Measured[]> {
  const peaks: number[] = [];
  for (const c of contenders) peaks.push((await once(c, true)).peak);
  await warm();
  for (const c of contenders) for (const f of c.outputs) rmSync(f, { force: true });
  const times: number[][] = contenders.map(() => []);
  for (let r = 0; r < rounds; r++)
    for (let k = 0; k < contenders.length; k++) {
      const i = (r + k) % contenders.length;
      const c = contenders[i]!;
      warmInputs(c);
      times[i]!.push((await once(c, false)).ms);
      for (const f of c.outputs) rmSync(f, { force: true });
    }
  return contenders.map((c, i) => {
    const t = times[i]!;
    return {
      name: c.name,
      times: t,
      median: median(t),
      min: Math.min(...t),
      max: Math.max(...t),
      peak: peaks[i]!,
    };
  });
}
