// Debian's Chromium with the page open in it, and a record of everything it asked for and complained about.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { BrowserContext, Download, Page } from "playwright-core";
import { chromium } from "playwright-core";
import type { Site } from "./site.ts";

const CHROMIUM = "/usr/bin/chromium";
const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  "--disable-quic",
];

/** One page, and what went on in it. */
export interface Visit {
  readonly page: Page;
  /** Requests that left the page's origin. */
  readonly strangers: string[];
  /** Console errors (policy violations are among them) and uncaught exceptions. */
  readonly complaints: string[];
  close(): Promise<void>;
}

export interface VisitOptions {
  /** "private": no private file system that works, as in a private window. */
  readonly profile: "persistent" | "private";
  /** Scratch folder for the profile. */
  readonly dir: string;
  /** Script run before the page's own. */
  readonly before?: () => void;
}

/** Opens the page. */
export async function visit(site: Site, options: VisitOptions): Promise<Visit> {
  if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing: install Debian's chromium package`);
  const launch = { executablePath: CHROMIUM, args: ARGS, headless: true };
  const settings = { viewport: { width: 1280, height: 900 }, acceptDownloads: true };
  let context: BrowserContext;
  let close: () => Promise<void>;
  if (options.profile === "persistent") {
    context = await chromium.launchPersistentContext(join(options.dir, "profile"), {
      ...launch,
      ...settings,
    });
    close = () => context.close();
  } else {
    const browser = await chromium.launch(launch);
    context = await browser.newContext(settings);
    close = () => browser.close();
  }
  const strangers: string[] = [];
  const complaints: string[] = [];
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(site.url) && !url.startsWith("blob:")) strangers.push(url);
  });
  context.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(String(error)));
  if (options.before !== undefined) await page.addInitScript(options.before);
  await page.goto(site.url);
  return { page, strangers, complaints, close };
}

/** Chooses a file and waits until its summary is shown. */
export async function openFile(page: Page, file: string): Promise<void> {
  await page.setInputFiles("#open", file);
  await page.waitForSelector("#container");
}

export interface SaveChoice {
  readonly what: "metadata" | "used" | "all" | "convert";
  readonly format: "raw" | "qcow2";
  readonly layout?: "" | "v2" | "e2image";
  readonly verify?: boolean;
}

/** Fills the panel in. */
export async function choose(page: Page, choice: SaveChoice): Promise<void> {
  await page.check(`#what-${choice.what}`);
  await page.check(`#format-${choice.format}`);
  if (choice.format === "qcow2") await page.selectOption("#layout", choice.layout ?? "");
  await page.setChecked("#verify", choice.verify ?? false);
}

/** Saves to the browser's downloads and keeps the bytes as `to`; answers with the name the page gave. */
export async function saveDownload(page: Page, choice: SaveChoice, to: string): Promise<string> {
  await choose(page, choice);
  if ((await page.locator("#place").count()) > 0) await page.selectOption("#place", "download");
  const waiting = page.waitForEvent("download", { timeout: 120_000 });
  waiting.catch(() => {});
  await page.click("#save");
  const first: Download | string = await Promise.race([
    waiting,
    page.waitForSelector("#save-status .error").then(async (e) => (await e.textContent()) ?? ""),
  ]);
  if (typeof first === "string") throw new Error(`the page said: ${first}`);
  await first.saveAs(to);
  return first.suggestedFilename();
}
