#!/usr/bin/env node
import { start } from "../start.ts";

start((dispatch) => dispatch.runTool("o2image", "imprint-o2image", process.argv.slice(2)));
