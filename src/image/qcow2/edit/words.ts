import { turnWords } from "../../../bytes/turn-words.ts";

/** Big-endian words of `bytes`, in place: the array is turned around and used on. */
export function wordsOfBytes(bytes: Uint8Array): Uint32Array {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  turnWords(words);
  return words;
}

/** `words` as big-endian bytes, in a new array. */
export function bytesOfWords(words: Uint32Array): Uint8Array {
  const turned = new Uint32Array(words);
  turnWords(turned);
  return new Uint8Array(turned.buffer);
}
