#!/usr/bin/env node
import module from "node:module";

(module as { enableCompileCache?: () => void }).enableCompileCache?.();
const { dispatch } = await import("./dispatch.ts");
process.exitCode = await dispatch(process.argv.slice(2));
