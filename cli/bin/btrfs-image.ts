#!/usr/bin/env node
import { start } from "../start.ts";

start((dispatch) => dispatch.runTool("btrfs-image", "imprint-btrfs-image", process.argv.slice(2)));
