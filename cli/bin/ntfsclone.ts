#!/usr/bin/env node
import { start } from "../start.ts";

start((dispatch) => dispatch.runTool("ntfsclone", "imprint-ntfsclone", process.argv.slice(2)));
