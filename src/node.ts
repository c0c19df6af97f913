/** The engine with Node's files, devices and threads. */
import "./node/codecs.ts";

export * from "./index.ts";
export * from "./io/node/direct-target.ts";
export * from "./io/node/durable-file.ts";
export * from "./io/node/file-source.ts";
export * from "./io/node/file-target.ts";
export * from "./io/node/gate.ts";
export * from "./io/node/in-place-target.ts";
export * from "./io/node/live-files.ts";
export * from "./io/node/safety.ts";
export * from "./io/node/stdin-source.ts";
export * from "./io/node/stdout-target.ts";
export * from "./node/bulk.ts";
export * from "./node/bulk-compare.ts";
export * from "./node/open-file.ts";
