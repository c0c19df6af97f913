import { fstatSync } from "node:fs";
import { type MapLayer, rawLayer } from "../../../src/engine/layer-map.ts";
import { CRYPT } from "../../../src/image/qcow2/layout.ts";
import { looksPreallocated } from "../../../src/image/qcow2/preallocation.ts";
import type { Layer } from "./open.ts";

/** The layers of an opened chain as a map of their allocation sees them, top first. */
export async function mapLayers(layers: readonly Layer[]): Promise<MapLayer[]> {
  const list: MapLayer[] = [];
  for (const layer of layers) list.push(await mapLayer(layer));
  return list;
}

async function mapLayer(layer: Layer): Promise<MapLayer> {
  const { image, header, file } = layer;
  if (image === null || header === null) return rawLayer(layer.disk, layer.path);
  const data = header.external ? await image.openData() : file;
  const stored = fstatSync(file.fd).blocks * 512;
  const preallocated = await looksPreallocated(file, header, stored);
  return {
    size: image.size,
    file: data.label,
    plain: header.cryptMethod === CRYPT.none,
    holes: preallocated ? data : null,
    unopened: layer.unopened,
    status: (at, end, run) => image.layerStatus(at, end, run),
    emptyUntil: (at, end) => image.emptyUntil(at, end),
  };
}
