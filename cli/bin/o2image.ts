#!/usr/bin/env node
import module from "node:module";

(module as { enableCompileCache?: () => void }).enableCompileCache?.();
const { runTool } = await import("../dispatch.ts");
process.exitCode = await runTool("o2image", "imprint-o2image", process.argv.slice(2));
