// Clients of the official SDKs, one of each generation: each starts a job, answers its question in a
// form, waits for its end and reads its result. Run in a directory that has the SDKs.
import assert from "node:assert";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { Client as ModernClient } from "@modelcontextprotocol/client";
import { StdioClientTransport as ModernTransport } from "@modelcontextprotocol/client/stdio";
import { isCreateTaskResultV2, isDetailedTaskV2 } from "@modelcontextprotocol/ext-tasks/core/v2";
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const server = { command: process.argv[2], args: ["mcp"], env: process.env };
const info = { name: "sdk-test", version: "1.0.0" };
const capabilities = { elicitation: { form: {} } };

async function runJob(client, jobId, expectedVersion) {
  assert.strictEqual(client.getServerVersion().name, "claudejob");
  assert.match(client.getInstructions(), /start_coding_job/);
  const { tools } = await client.listTools();
  assert.strictEqual(tools.length, 10);
  const call = async (name, args) => {
    const result = await client.callTool({ name, arguments: args });
    assert.ok(!result.isError, JSON.stringify(result));
    return result.structuredContent;
  };
  const waited = await call("start_coding_job", { prompt: "work", jobId, ask: true, wait: true });
  assert.strictEqual(waited.jobs[0].status, "completed", JSON.stringify(waited));
  for (const name of ["job_status", "job_logs", "job_result", "kill_job", "resume_job"]) {
    assert.strictEqual((await call(name, { jobId })).jobId, jobId);
  }
  const again = await call("wait_for_jobs", { jobIds: [jobId] });
  assert.strictEqual(again.stillRunning, false, JSON.stringify(again));
  assert.ok((await call("list_jobs", {})).jobs.length > 0);
  const unknown = await client.callTool({ name: "job_status", arguments: { jobId: "gone" } });
  assert.strictEqual(unknown.isError, true);
  console.log(`${jobId}: completed`);
  await client.close();
}

const legacy = new LegacyClient(info, { capabilities });
let forms = 0;
const fill = ({ params }) => {
  forms += 1;
  assert.deepStrictEqual(params.requestedSchema.properties.answer1.enum, ["SQLite", "Postgres"]);
  return { action: "accept", content: { answer1: "Postgres" } };
};
legacy.setRequestHandler(ElicitRequestSchema, fill);
await legacy.connect(new LegacyTransport(server));
await runJob(legacy, "legacy");

const modern = new ModernClient(info, { capabilities, versionNegotiation: { mode: "auto" } });
modern.setRequestHandler("elicitation/create", fill);
await modern.connect(new ModernTransport(server));
assert.strictEqual(modern.getNegotiatedProtocolVersion(), "2026-07-28");
await runJob(modern, "modern");
assert.ok(forms >= 2, `${forms} forms`);

// The SDK has no client of tasks yet that needs no host: their messages are checked alone.
const child = spawn(server.command, server.args, { stdio: ["pipe", "pipe", "inherit"] });
const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
let lastId = 0;
async function request(method, params) {
  lastId += 1;
  const meta = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": info,
    "io.modelcontextprotocol/clientCapabilities": {
      ...capabilities,
      extensions: { "io.modelcontextprotocol/tasks": {} },
    },
  };
  const message = { jsonrpc: "2.0", id: lastId, method, params: { ...params, _meta: meta } };
  child.stdin.write(JSON.stringify(message) + "\n");
  const answer = JSON.parse((await lines.next()).value);
  assert.strictEqual(answer.id, lastId);
  assert.ok(!answer.error, JSON.stringify(answer));
  return answer.result;
}
const start = { prompt: "work", jobId: "task", ask: true, wait: true };
const created = await request("tools/call", { name: "start_coding_job", arguments: start });
if (created.resultType === "task") assert.ok(isCreateTaskResultV2(created), JSON.stringify(created));
for (;;) {
  const task = await request("tasks/get", { taskId: "task" });
  assert.ok(isDetailedTaskV2(task), JSON.stringify(task));
  if (task.status === "completed") {
    assert.strictEqual(task.result.structuredContent.jobs[0].status, "completed");
    break;
  }
  if (task.status === "input_required") {
    const [key, form] = Object.entries(task.inputRequests)[0];
    const inputResponses = { [key]: fill(form) };
    await request("tasks/update", { taskId: "task", inputResponses });
  }
  await new Promise((done) => setTimeout(done, 50));
}
console.log("task: completed");
child.stdin.end();
