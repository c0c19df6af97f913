/** Big-endian words of `bytes`, in place: the array is turned around and used on. */
export function wordsOfBytes(bytes: Uint8Array): Uint32Array {
  const w = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  for (let i = 0; i < w.length; i++) {
    const v = w[i];
    if (v !== 0) w[i] = (v >>> 24) | ((v >>> 8) & 0xff00) | ((v << 8) & 0xff0000) | (v << 24);
  }
  return w;
}

/** `words` as big-endian bytes, in a new array. */
export function bytesOfWords(words: Uint32Array): Uint8Array {
  const w = new Uint32Array(words);
  return turned(w);
}

function turned(w: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(w.buffer);
  wordsOfBytes(bytes);
  return bytes;
}
