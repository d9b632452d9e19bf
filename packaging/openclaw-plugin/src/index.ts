// Entry of the plugin: OpenClaw calls `register`.

import type { Gateway } from "./host.js";
import { type Config, globalOptions, program } from "./program.js";
import { recoverJobs } from "./recover.js";
import { makeTool, TOOL_NAMES } from "./tools.js";

export default {
  id: "claudejob",
  name: "claudejob",
  description: "Runs coding tasks with Claude Code as detached jobs that outlive the turn and the gateway",
  register(api: Gateway): void {
    // OpenClaw has checked it against the schema of the manifest.
    const config = (api.pluginConfig ?? {}) as Config;
    for (const name of TOOL_NAMES) {
      api.registerTool((context) => makeTool(name, config, context), { name });
    }
    // Not awaited, so that the gateway's start does not wait for the jobs.
    api.on("gateway_start", () => void recover(api, config));
  },
};

/** Continues interrupted jobs and delivers what nobody was told while the gateway was down. */
async function recover(api: Gateway, config: Config): Promise<void> {
  const binary = await program(config);
  if (binary === undefined) {
    api.logger.warn("claudejob was not found: npm install --global claudejob");
    return;
  }
  api.logger.info(await recoverJobs(binary, globalOptions(config)));
}
