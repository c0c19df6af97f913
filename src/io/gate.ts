import type { Source } from "./source.ts";

/** What an image asks for when it names another file. */
export interface GateRequest {
  /** The name exactly as the image holds it. */
  readonly name: string;
  readonly purpose: "backing file" | "data file";
  /** Format the image claims for it ("raw", "qcow2"), or null where it does not say. */
  readonly format: string | null;
  /** Label of the image that names it. */
  readonly from: string;
  /** Layers opened so far: 1 for the first backing file. */
  readonly depth: number;
}

/**
 * The only way a file named by an image is opened. A gate answers with the source, or throws RefusedError.
 * Loops and depth are the gate's to bound.
 */
export type Gate = (request: GateRequest) => Promise<Source>;
