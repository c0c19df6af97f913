import { useCodecs } from "../codec/default.ts";
import { nodeCodecs } from "../codec/node/codecs.ts";

// Importing this module makes node:zlib the decompressor of compressed images.
useCodecs(nodeCodecs);
