import { readFileSync } from "node:fs";

/** The package's version. This module sits two levels below package.json, bundled or not. */
export function version(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
