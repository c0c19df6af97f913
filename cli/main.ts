#!/usr/bin/env node
import { start } from "./start.ts";

start((dispatch) => dispatch.dispatch(process.argv.slice(2)));
