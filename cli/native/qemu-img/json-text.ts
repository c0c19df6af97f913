import type { Json, JsonObject } from "./json.ts";

/** Text that is not JSON, in the words of the native tool. */
export class JsonTextError extends Error {}

interface Token {
  readonly kind: "mark" | "string" | "word" | "number";
  readonly text: string;
}

const SPACE = /[ \t\r\n]*/y;
const WORD = /[a-z]+/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y;
const ESCAPE = /\\(?:u([0-9a-fA-F]{4})|(.))/gs;
const ESCAPED: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/** Levels of nesting, at most. */
const DEEPEST = 1024;

/**
 * Reads one JSON value as qemu does: strings also in single quotes; numbers above 2^53 as bigint; a key twice in one
 * object is an error. Throws JsonTextError.
 */
export function readJson(text: string): Json {
  const tokens = cut(text);
  let at = 0;
  const fail = (what: string): never => {
    throw new JsonTextError(`JSON parse error, ${what}`);
  };
  const next = (): Token => tokens[at++] ?? fail("premature EOI");
  const isMark = (token: Token, mark: string): boolean => token.kind === "mark" && token.text === mark;
  const value = (depth: number): Json => {
    const token = next();
    if (depth > DEEPEST) fail("nested too deep");
    if (token.kind === "string") return unquoted(token.text);
    if (token.kind === "number") return numberOf(token.text);
    if (token.kind === "word") {
      if (token.text === "true" || token.text === "false") return token.text === "true";
      return token.text === "null" ? null : fail(`invalid keyword '${token.text}'`);
    }
    if (token.text === "{") return objectFrom(depth);
    if (token.text === "[") return listFrom(depth);
    return fail("expecting value");
  };
  const objectFrom = (depth: number): JsonObject => {
    const pairs = new Map<string, Json>();
    const done = (): JsonObject => Object.fromEntries(pairs);
    if (at < tokens.length && isMark(tokens[at], "}")) {
      at++;
      return done();
    }
    for (;;) {
      const key = value(depth + 1);
      if (typeof key !== "string") return fail("key is not a string in object");
      if (!isMark(next(), ":")) fail("missing : in object pair");
      const item = value(depth + 1);
      if (pairs.has(key)) fail("duplicate key");
      pairs.set(key, item);
      const end = next();
      if (isMark(end, "}")) return done();
      if (!isMark(end, ",")) fail("expected separator in dict");
    }
  };
  const listFrom = (depth: number): Json[] => {
    const items: Json[] = [];
    if (at < tokens.length && isMark(tokens[at], "]")) {
      at++;
      return items;
    }
    for (;;) {
      items.push(value(depth + 1));
      const end = next();
      if (isMark(end, "]")) return items;
      if (!isMark(end, ",")) fail("expected separator in list");
    }
  };
  if (tokens.length === 0) throw new JsonTextError("Expecting a JSON value");
  const result = value(0);
  if (at < tokens.length) throw new JsonTextError("Expecting at most one JSON value");
  return result;
}

function cut(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const take = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0] ?? null;
    if (found !== null) at += found.length;
    return found;
  };
  for (take(SPACE); at < text.length; take(SPACE)) {
    if ("{}[]:,".includes(text[at])) {
      tokens.push({ kind: "mark", text: text[at++] });
      continue;
    }
    const string = stringAt(text, at);
    if (string !== null) {
      at += string.length;
      tokens.push({ kind: "string", text: string });
      continue;
    }
    const word = take(WORD);
    if (word !== null) {
      tokens.push({ kind: "word", text: word });
      continue;
    }
    const from = at;
    const number = take(NUMBER);
    if (number === null || /[0-9]/.test(text[at] ?? "")) {
      const quote = text[from] === '"' || text[from] === "'";
      const stray = quote ? text.slice(from) : text.slice(from, Math.max(at, from) + 1);
      throw new JsonTextError(`JSON parse error, stray '${stray}'`);
    }
    tokens.push({ kind: "number", text: number });
  }
  return tokens;
}

/** The string that starts at `from`, with its quotes, or null where none does or it has no end. */
function stringAt(text: string, from: number): string | null {
  const quote = text[from];
  if (quote !== '"' && quote !== "'") return null;
  for (let at = from + 1; at < text.length && text.charCodeAt(at) >= 0x20; at++) {
    if (text[at] === quote) return text.slice(from, at + 1);
    if (text[at] === "\\") at++;
  }
  return null;
}

function unquoted(text: string): string {
  return text.slice(1, -1).replace(ESCAPE, (_, hex: string | undefined, letter: string | undefined) => {
    if (hex !== undefined && hex !== "0000") return String.fromCharCode(Number.parseInt(hex, 16));
    if (letter !== undefined && "\"'\\/".includes(letter)) return letter;
    const plain = letter === undefined ? undefined : ESCAPED[letter];
    if (plain === undefined) throw new JsonTextError("JSON parse error, invalid escape sequence in string");
    return plain;
  });
}

function numberOf(text: string): number | bigint {
  const value = Number(text);
  return /^-?[0-9]+$/.test(text) && !Number.isSafeInteger(value) ? BigInt(text) : value;
}
