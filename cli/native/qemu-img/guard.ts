import { print } from "../../ui/out.ts";
import { reportQemu } from "./errors.ts";
import { HelpWanted } from "./options.ts";

/** Runs a command to its exit code: prints the error that ends it, or the help it asks for. */
export async function guarded(work: () => Promise<number> | number): Promise<number> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof HelpWanted)) return reportQemu(error);
    const { helpText } = await import("./help.ts");
    print(helpText());
    return 0;
  }
}
