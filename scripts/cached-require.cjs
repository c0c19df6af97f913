// Put in front of dist/cli/main.js by the build. Node 20 compiles every file anew at each start (Node 22 keeps a cache
// of its own): the build keeps the compiled code of the commands beside them. It is used only by the very V8 that wrote
// it, and V8 itself refuses it where the file has changed.
// biome-ignore lint/suspicious/noGlobalAssign: require is a parameter of the CommonJS module this is put into
require = ((plain) =>
  function cached(name) {
    if (!name.startsWith("./command-") || !process.version.startsWith("v20.")) return plain(name);
    const fs = process.getBuiltinModule("node:fs");
    const { Script } = process.getBuiltinModule("node:vm");
    const file = __dirname + name.slice(1);
    const cache = `${file}.${process.versions.v8}-${process.arch}.cache`;
    let cachedData;
    try {
      cachedData = fs.readFileSync(cache);
    } catch {
      if (process.env.IMPRINT_CODE_CACHE !== "write") return plain(name);
    }
    const source = `(function (exports, require, module, __filename, __dirname) {${fs.readFileSync(file, "latin1")}\n})`;
    const script = new Script(source, { filename: file, cachedData });
    if (process.env.IMPRINT_CODE_CACHE === "write")
      process.on("exit", () => fs.writeFileSync(cache, script.createCachedData()));
    const module = { exports: {} };
    script.runInThisContext()(module.exports, cached, module, file, __dirname);
    return module.exports;
  })(require);
