#!/usr/bin/env node
import { start } from "../start.ts";

start((dispatch) => dispatch.runTool("e2image", "imprint-e2image", process.argv.slice(2)));
