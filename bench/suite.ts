// One bench: its switches, and the rows and notes that it gathers.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { alternate, type Contender, type Measured } from "./measure.ts";
import { line, type Row } from "./report.ts";
import { sh, workspace } from "./volumes.ts";

export const MIB: number = 1024 * 1024;
const MAIN = resolve("dist/cli/main.js");

/** A command line of ours. */
export function imprint(...words: string[]): string[] {
  return [process.execPath, MAIN, ...words];
}

/** Path of a run's output. */
export function output(name: string, dir: string = workspace): string {
  return `${dir}/out-${name}`;
}

export interface Job {
  readonly section: string;
  readonly job: string;
  readonly goal: number | null;
  readonly memory?: number;
  readonly rounds?: number;
  readonly contenders: readonly Contender[];
  /** After the warm-up, with all outputs there: throws when they are not what they must be. */
  readonly prove?: () => void;
}

export class Bench {
  readonly rows: Row[] = [];
  readonly notes: string[] = [];
  /** Small volumes, for a look at the bench itself. */
  readonly quick: boolean;
  /** Words of which a row must contain one; empty: all rows. */
  readonly only: readonly string[];
  readonly rounds: number;

  constructor(args: readonly string[]) {
    this.quick = args.includes("--quick");
    this.only = args.flatMap((a, i) => (a === "--only" ? [args[i + 1]!] : []));
    this.rounds = Number(args[args.indexOf("--rounds") + 1]) || 5;
    if (!existsSync(MAIN)) throw new Error("dist/cli/main.js is missing: npm run build first");
  }

  /** Whether a section, or a row of it, is asked for. */
  wants(...names: string[]): boolean {
    return this.only.length === 0 || this.only.some((w) => names.join(" ").includes(w));
  }

  /** Runs a job's contenders in turn and keeps the row; answers with the figures, null where it is not asked for. */
  async measure(job: Job): Promise<readonly Measured[] | null> {
    if (!this.wants(job.section, job.job)) return null;
    const measured = await alternate(job.contenders, job.rounds ?? this.rounds, async () => job.prove?.());
    const row: Row = { ...job, measured };
    this.rows.push(row);
    console.log(line(row));
    return measured;
  }

  note(text: string): void {
    this.notes.push(text);
    console.log(text);
  }
}

/** Proof that two files hold the same bytes. */
export const same = (a: string, b: string) => () => void sh("cmp", [a, b]);
/** Proof that two images hold the same disk. */
export const equalDisks = (a: string, b: string) => () => void sh("qemu-img", ["compare", a, b]);
