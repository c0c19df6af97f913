import { readFileSync } from "node:fs";
import { print } from "../../ui/out.ts";
import { Finished, QemuError } from "./errors.ts";
import { hostText } from "./host-text.ts";
import type { JsonObject } from "./json.ts";
import { JsonTextError, readJson } from "./json-text.ts";
import { splitPairs } from "./keyval.ts";

const PROPERTIES = ["data", "file", "format", "iv", "keyid"];

/**
 * Takes an --object definition, `secret,id=ID,data=TEXT` or JSON, and keeps it in `secrets` (id to data). Help is
 * printed. Throws QemuError with native's text, Finished after help.
 */
export function addObject(text: string, secrets: Map<string, string>): void {
  const values = text.startsWith("{") ? jsonValues(text) : listedValues(text);
  const type = values.get("qom-type");
  if (type === undefined) throw new QemuError("Parameter 'qom-type' is missing");
  if (type !== "secret") throw new QemuError(`Parameter 'qom-type' does not accept value '${type}'`);
  const id = values.get("id");
  if (id === undefined) throw new QemuError("Parameter 'id' is missing");
  for (const key of values.keys())
    if (key !== "qom-type" && key !== "id" && !PROPERTIES.includes(key))
      throw new QemuError(
        key.includes(".")
          ? `Parameters '${key.slice(0, key.indexOf("."))}.*' are unexpected`
          : `Parameter '${key}' is unexpected`,
      );
  const format = values.get("format");
  if (format !== undefined && format !== "raw" && format !== "base64")
    throw new QemuError(`Parameter 'format' does not accept value '${format}'`);
  if (!/^[a-zA-Z][-._a-zA-Z0-9]*$/.test(id))
    throw new QemuError(
      "Parameter 'id' expects an identifier\n" +
        "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    );
  if (secrets.has(id))
    throw new QemuError(`attempt to add duplicate property '${id}' to object (type 'container')`);
  secrets.set(id, secretOf(values, secrets));
}

function listedValues(text: string): Map<string, string> {
  const values = new Map<string, string>();
  const pairs = splitPairs(text, "qom-type");
  if (
    pairs.some(
      (p) =>
        (p.bare && p.value === "on" && (p.name === "help" || p.name === "?")) ||
        (p.name === "qom-type" && isHelp(p.value)),
    )
  )
    showObjectHelp(pairs.find((p) => p.name === "qom-type" && !isHelp(p.value))?.value);
  for (const { name, value, bare } of pairs) {
    if (name === "" && value !== "off") throw new QemuError("Invalid parameter ''");
    if (bare) throw new QemuError(`Expected '=' after parameter '${value === "off" ? "no" : ""}${name}'`);
    values.set(name, value);
  }
  return values;
}

const isHelp = (word: string): boolean => word === "help" || word === "?";

function showObjectHelp(type: string | undefined): never {
  if (type === undefined) print("List of user creatable objects:\n  secret\n");
  else if (type !== "secret") throw new QemuError(`Parameter 'qom-type' does not accept value '${type}'`);
  else
    print(
      "secret options:\n  data=<string>\n  file=<string>\n  format=<QCryptoSecretFormat>\n  iv=<string>\n  keyid=<string>\n",
    );
  throw new Finished(0);
}

function jsonValues(text: string): Map<string, string> {
  let parsed: JsonObject;
  try {
    parsed = readJson(text) as JsonObject;
  } catch (error) {
    throw error instanceof JsonTextError ? new QemuError(error.message) : error;
  }
  return new Map(
    Object.entries(parsed).map(([key, value]): [string, string] => {
      if (typeof value !== "string" && (key === "id" || key === "qom-type" || PROPERTIES.includes(key)))
        throw new QemuError(`Invalid parameter type for '${key}', expected: string`);
      return [key, String(value)];
    }),
  );
}

function secretOf(values: ReadonlyMap<string, string>, secrets: ReadonlyMap<string, string>): string {
  const data = values.get("data");
  const file = values.get("file");
  if (data === undefined && file === undefined)
    throw new QemuError("Either 'file' or 'data' must be provided");
  if (data !== undefined && file !== undefined)
    throw new QemuError("'file' and 'data' are mutually exclusive");
  const key = values.get("keyid");
  if (key !== undefined && !secrets.has(key)) throw new QemuError(`No secret with id '${key}'`);
  if (data !== undefined) return data;
  try {
    return readFileSync(file!, "latin1");
  } catch (error) {
    const why = hostText((error as NodeJS.ErrnoException).code ?? "") ?? String(error);
    throw new QemuError(`Unable to read ${file}: Failed to open file “${file}”: ${why}`);
  }
}
