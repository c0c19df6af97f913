#!/usr/bin/env node
import { start } from "../start.ts";

start((dispatch) => dispatch.runTool("qemu-img", "imprint-qemu-img", process.argv.slice(2)));
