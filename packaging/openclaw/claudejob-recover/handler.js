import { execFile } from "node:child_process";
import { promisify } from "node:util";

export default async function recover() {
  const { stdout } = await promisify(execFile)("claudejob", ["recover", "--all", "--json"]);
  console.log(`claudejob: ${stdout.trim()}`);
}
