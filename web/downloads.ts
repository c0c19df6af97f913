/** Folder of the browser's private file system where outputs wait for their download. */
export const DOWNLOAD_FOLDER = "imprint-downloads";

/** Milliseconds after which an output that is still there has been fetched or forgotten. */
const KEEP = 24 * 60 * 60 * 1000;

/** The folder's async iterator, which the type library leaves out. */
interface Listing {
  entries(): AsyncIterable<[string, FileSystemHandle]>;
}

/** Whether the browser has a private file system at all. */
export function hasPrivateFiles(): boolean {
  return navigator.storage?.getDirectory !== undefined;
}

async function folder(): Promise<FileSystemDirectoryHandle | null> {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(DOWNLOAD_FOLDER);
  } catch {
    return null;
  }
}

/** Removes what earlier visits left. */
export async function clearOldDownloads(now = Date.now()): Promise<void> {
  const at = await folder();
  if (at === null) return;
  for await (const [name, handle] of (at as unknown as Listing).entries()) {
    if (handle.kind !== "file") continue;
    const file = await (handle as FileSystemFileHandle).getFile().catch(() => null);
    if (file !== null && now - file.lastModified > KEEP) await at.removeEntry(name).catch(() => {});
  }
}

/** Removes the half-made output of a job whose worker was ended; the browser lets go of the file a little later. */
export async function dropDownload(id: string): Promise<void> {
  const at = await folder();
  for (let tries = 0; at !== null && tries < 20; tries++) {
    try {
      return await at.removeEntry(id);
    } catch (e) {
      if (e instanceof DOMException && e.name === "NotFoundError") return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/**
 * Removes the empty file that choosing a place made, after a job that wrote nothing; one with content is left alone.
 */
export async function dropEmpty(handle: FileSystemFileHandle): Promise<void> {
  const file = await handle.getFile().catch(() => null);
  if (file?.size === 0) await (handle as { remove?(): Promise<void> }).remove?.().catch(() => {});
}

/** Hands a finished output to the browser's downloads; answers with a link that does it again. */
export function offerDownload(output: Blob, name: string): HTMLAnchorElement {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(output);
  link.download = name;
  link.textContent = "Download again";
  link.click();
  return link;
}
