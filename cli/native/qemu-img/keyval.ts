import { QemuError } from "./errors.ts";
import { readSize } from "./sizes.ts";

/** One `name=value` of an option list, as written. */
export interface Pair {
  readonly name: string;
  readonly value: string;
}

/** An option that `-o` knows. */
export interface OptionDef {
  readonly name: string;
  readonly type: "string" | "bool" | "number" | "size";
  readonly help: string;
}

/**
 * The text of all -o options put together. Throws QemuError for one that is empty or starts or ends with a comma
 * (a doubled comma stands for one, and may end a list).
 */
export function joinOptions(before: string | null, more: string): string {
  const trailing = /,*$/.exec(more)![0].length;
  if (more === "" || more.startsWith(",") || trailing % 2 === 1)
    throw new QemuError(`Invalid option list: ${more}`);
  return before === null ? more : `${before},${more}`;
}

/** True where an option list asks for help: `help` or `?` as a word of its own. */
export function wantsHelp(text: string): boolean {
  return splitPairs(text).some((p) => (p.name === "help" || p.name === "?") && p.bare && p.value === "on");
}

/**
 * Cuts `a=b,c=d` at its commas; `,,` in a value is one comma. A name alone stands for on, `noNAME` for NAME off;
 * `first` gives the first word without `=` that name.
 */
export function splitPairs(text: string, first?: string): (Pair & { readonly bare: boolean })[] {
  const out: (Pair & { bare: boolean })[] = [];
  for (let at = 0; at < text.length; ) {
    const stop = /[=,]/.exec(text.slice(at));
    const end = stop === null ? text.length : at + stop.index;
    let name = text.slice(at, end);
    if (stop?.[0] === "=") {
      let value = "";
      at = end + 1;
      for (; at < text.length; at++) {
        if (text[at] === ",") {
          if (text[at + 1] !== ",") break;
          at++;
        }
        value += text[at];
      }
      at++;
      out.push({ name, value, bare: false });
      continue;
    }
    at = end + 1;
    if (first !== undefined && out.length === 0) {
      out.push({ name: first, value: name, bare: false });
      continue;
    }
    let value = "on";
    if (name.startsWith("no")) {
      name = name.slice(2);
      value = "off";
    }
    out.push({ name, value, bare: true });
  }
  return out;
}

/** A checked value: what it says, and the text as it was written. */
export type OptionValue =
  | { readonly type: "string"; readonly value: string; readonly text: string }
  | { readonly type: "bool"; readonly value: boolean; readonly text: string }
  | { readonly type: "number" | "size"; readonly value: bigint; readonly text: string };

/**
 * Reads an option list against the options that are known; later ones win, as the map's order is that of first mention.
 * Throws QemuError with native's text, after `prefix` ("FILE: " where native names the file).
 */
export function parseOptionList(
  text: string,
  defs: readonly OptionDef[],
  prefix = "",
): Map<string, OptionValue> {
  const byName = new Map(defs.map((d) => [d.name, d]));
  const values = new Map<string, OptionValue>();
  for (const pair of splitPairs(text)) {
    const def = byName.get(pair.name);
    if (def === undefined) throw new QemuError(`${prefix}Invalid parameter '${pair.name}'`);
    values.set(def.name, checkedValue(def, pair.value, prefix));
  }
  return values;
}

function checkedValue(def: OptionDef, text: string, prefix: string): OptionValue {
  const { name, type } = def;
  switch (type) {
    case "string":
      return { type, value: text, text };
    case "bool": {
      const on = ["on", "yes", "true", "y"].includes(text);
      if (!on && !["off", "no", "false", "n"].includes(text))
        throw new QemuError(`${prefix}Parameter '${name}' expects 'on' or 'off'`);
      return { type, value: on, text };
    }
    case "number": {
      const m = /^[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)$/.exec(text);
      if (m === null) throw new QemuError(`${prefix}Parameter '${name}' expects a number`);
      const digits = /^0[0-7]+$/.test(m[2]) ? `0o${m[2].slice(1)}` : m[2];
      let value: bigint;
      try {
        value = BigInt(digits);
      } catch {
        throw new QemuError(`${prefix}Parameter '${name}' expects a number`);
      }
      if (value >= 1n << 64n)
        throw new QemuError(`${prefix}Value '${text}' is too large for parameter '${name}'`);
      // A sign counts as in C: the number wraps around.
      return { type, value: m[1] === "-" ? BigInt.asUintN(64, -value) : value, text };
    }
    case "size": {
      const size = readSize(text);
      if (size === "range")
        throw new QemuError(`${prefix}Value '${text}' is out of range for parameter '${name}'`);
      if (size === "invalid")
        throw new QemuError(
          `${prefix}Parameter '${name}' expects a non-negative number below 2^64\n` +
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.",
        );
      return { type, value: size, text };
    }
  }
}

const TYPE_TEXT = { string: "<str>", bool: "<bool (on/off)>", number: "<num>", size: "<size>" } as const;

/** The table that `-o help` prints under `title`, sorted by name. */
export function optionsHelp(title: string, defs: readonly OptionDef[]): string {
  const rows = [...defs]
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    .map((d) => `${`  ${d.name}=${TYPE_TEXT[d.type]}`.padEnd(24)} - ${d.help}\n`);
  return `${title}\n${rows.join("")}`;
}
