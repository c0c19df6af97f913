import type { InfoField } from "../../src/fs/volume.ts";

/** JSON as Imprint prints it: two spaces, a newline at the end. */
export function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** Fields as one object by key. */
export function fieldsToJson(fields: readonly InfoField[]): Record<string, InfoField["value"]> {
  return Object.fromEntries(fields.map((f) => [f.key, f.value]));
}
