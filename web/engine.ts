import type { Progress } from "../src/engine/api.ts";
import type { GateRequest } from "../src/io/gate.ts";
import type { Call, Calls, FromWorker, PlainError, ToWorker } from "./protocol.ts";

/** An error of the engine, or of the worker it runs in. */
export class EngineError extends Error {
  readonly code: string;
  readonly kind: string;
  constructor(error: PlainError) {
    super(error.message);
    this.code = error.code;
    this.kind = error.name;
  }
}

/** The code of a call that `stop` ended. */
export const STOPPED = "ESTOPPED";

export interface EngineEvents {
  progress?(progress: Progress): void;
  /** An image names another file: answer with it, or null to refuse. */
  gate(request: GateRequest): Promise<File | null>;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** The engine in a worker of its own. `stop` ends it whatever it is doing. */
export class Engine {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), {
    type: "module",
    name: "imprint-engine",
  });
  private readonly events: EngineEvents;
  private readonly waiting = new Map<number, Waiting>();
  private next = 1;
  private ended = false;

  constructor(events: EngineEvents) {
    this.events = events;
    this.worker.onmessage = (e: MessageEvent<FromWorker>) => this.receive(e.data);
    this.worker.onerror = (e) => {
      e.preventDefault();
      this.end({ name: "Error", code: "EWORKER", message: e.message || "the engine could not be started" });
    };
  }

  call<K extends keyof Calls>(op: K, args: Calls[K]["args"]): Promise<Calls[K]["answer"]> {
    if (this.ended) return Promise.reject(new EngineError(stopped));
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.post({ type: "call", id, call: { op, ...args } as Call });
    });
  }

  /** Ends the worker at once; calls under way are rejected with the code STOPPED. */
  stop(): void {
    this.end(stopped);
  }

  private receive(message: FromWorker): void {
    if (this.ended) return;
    if (message.type === "progress") this.events.progress?.(message.progress);
    else if (message.type === "gate") void this.ask(message.id, message.request);
    else {
      const waiting = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.type === "answer") waiting?.resolve(message.value);
      else waiting?.reject(new EngineError(message.error));
    }
  }

  private async ask(id: number, request: GateRequest): Promise<void> {
    const file = await this.events.gate(request).catch(() => null);
    if (!this.ended) this.post({ type: "gate", id, file });
  }

  private post(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private end(error: PlainError): void {
    if (this.ended) return;
    this.ended = true;
    this.worker.terminate();
    for (const waiting of this.waiting.values()) waiting.reject(new EngineError(error));
    this.waiting.clear();
  }
}

const stopped: PlainError = { name: "AbortError", code: STOPPED, message: "stopped" };
