/** The engine for browsers: everything portable, and sources and targets over the browser's own files. */
export * from "./index.ts";
export * from "./io/web/blob-target.ts";
export * from "./io/web/file-handle.ts";
export * from "./io/web/private-file.ts";
