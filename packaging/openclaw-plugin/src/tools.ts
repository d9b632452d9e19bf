// The tools: what the model sees of them, and the call of claudejob that each one makes.

import { homedir } from "node:os";
import { resolve } from "node:path";
import { withQuestion } from "./ask.js";
import type { AgentTool, ToolContext, ToolResult } from "./host.js";
import { type Answer, type Call, call, type Config, failed } from "./program.js";

type Params = Record<string, unknown>;
type Run = (params: Params, call: (request: Call) => Promise<Answer>, turn: Turn) => Promise<Answer>;

interface Turn {
  context: ToolContext;
  config: Config;
}

interface Tool {
  label: string;
  description: string;
  properties: Record<string, object>;
  required: string[];
  run: Run;
}

const JOB_ID = {
  type: "string",
  pattern: "^[A-Za-z0-9._][A-Za-z0-9._-]*$",
  description: "The job's id: letters, digits, '.', '_' and '-'.",
};
const text = (description: string) => ({ type: "string", minLength: 1, description });
const flag = (description: string) => ({ type: "boolean", description });
const count = (description: string) => ({ type: "integer", minimum: 1, description });
const texts = (description: string) => ({ type: "array", items: { type: "string", minLength: 1 }, description });

// What both a start and the continuation of an ended job can set.
const ATTEMPT = {
  permissionMode: text("default, acceptEdits, plan or bypassPermissions, which is the default."),
  allowedTools: texts("Tools that need no permission, such as 'Bash(git *)'."),
  model: text("The model of Claude Code."),
  timeout: text("Longest duration, such as 30m or 2h."),
  maxTurns: count("Most turns."),
  maxBudgetUsd: { type: "number", exclusiveMinimum: 0, description: "Highest cost in US dollars." },
};

const END_TURN = "End your turn: this session is woken when the job ends or asks.";

const start: Tool = {
  label: "Start a job",
  description:
    "Start a coding task with Claude Code as a detached job, which continues when this turn or the gateway ends. " +
    "Answers at once: end your turn, and this session is woken when the job ends or asks. " +
    "A call with the id of an existing job starts nothing and answers with that job.",
  properties: {
    jobId: JOB_ID,
    prompt: text("The task, with all that the agent must know: it does not see this conversation."),
    cwd: text("Directory to work in: a clean repository or a worktree of its own, never the OpenClaw workspace."),
    ask: flag("Let the agent ask questions and wait for answers. Only if you will answer."),
    ...ATTEMPT,
    after: texts("Ids of jobs that must complete first."),
    group: text("Group of jobs of which one runs at a time."),
    labels: texts("Labels, as key=value."),
    wake: flag("Wake this session when the job ends or asks. The default is the plugin's setting."),
  },
  required: ["jobId", "prompt", "cwd"],
  run: async (params, call, { context, config }) => {
    const args = ["start", "--if-absent", ...option("--job-id", params["jobId"]), "--prompt=-"];
    args.push(...option("--cwd", directory(String(params["cwd"]), context)));
    args.push(...(params["ask"] === true ? ["--ask"] : []));
    args.push(...attempt(params));
    args.push(...option("--after", params["after"]));
    args.push(...option("--group", params["group"]));
    args.push(...option("--label", params["labels"]));
    const key = sessionToWake(context);
    const wakes = (params["wake"] ?? config.wake ?? true) && key !== undefined;
    args.push(...(wakes ? [`--wake=openclaw:${key}`] : []));
    const started = await call({ args, input: String(params["prompt"]) });
    // The command's own hint waits for the end.
    const isNew = !Array.isArray(started) && started["existing"] === false;
    return wakes && isNew ? { ...started, hint: END_TURN } : started;
  },
};

const status: Tool = {
  label: "Job status",
  description:
    "Show the status of a job: queued, starting, running, idle, blocked, completed, failed or killed. " +
    "'hint' is the shell command to run next; use a tool instead if one does the same. " +
    "A blocked job waits for an answer: if you do not know it, call ask_user with 'askUser', then claudejob_answer.",
  properties: { jobId: JOB_ID },
  required: ["jobId"],
  run: async (params, call) => withQuestion(await call({ args: ["status", ...job(params)] })),
};

const result: Tool = {
  label: "Job result",
  description: "Show the answer of a job that has ended, with its cost. Check the work itself before you report it.",
  properties: {
    jobId: JOB_ID,
    maxChars: { ...count("Longest answer in characters. The default is 8000."), minimum: 500, maximum: 100_000 },
  },
  required: ["jobId"],
  run: (params, call) => {
    const maxChars = params["maxChars"];
    return call({ args: ["result", ...job(params)], ...(typeof maxChars === "number" && { maxChars }) });
  },
};

const answer: Tool = {
  label: "Answer a job",
  description:
    "Answer a blocked job. A question: choices or text, or deny. A permission request: allow or deny. " +
    "Ask the user if you do not know the answer.",
  properties: {
    jobId: JOB_ID,
    choices: texts("Labels of the chosen options; QUESTION=LABEL for one of several questions."),
    text: text("An answer of your own instead of an option."),
    allow: flag("Allow the tool call."),
    deny: flag("Deny the tool call, or decline the question."),
    message: text("With deny: the reason for the agent."),
    requestId: text("One of several open requests."),
  },
  required: ["jobId"],
  run: (params, call) => {
    const args = ["answer", ...option("--choice", params["choices"]), ...option("--request-id", params["requestId"])];
    args.push(...(params["allow"] === true ? ["--allow"] : []), ...(params["deny"] === true ? ["--deny"] : []));
    // Both at once are an error of the command.
    args.push(...(params["text"] === undefined ? [] : ["--text=-"]));
    args.push(...(params["message"] === undefined ? [] : ["--message=-"]));
    return call({ args: [...args, ...job(params)], input: String(params["text"] ?? params["message"] ?? "") });
  },
};

const send: Tool = {
  label: "Message a job",
  description:
    "Send a message to a job: it becomes part of a running job's work, and continues the conversation of one that " +
    "has ended, for a next step, a correction, or after a limit. The other parameters are for one that has ended.",
  properties: { jobId: JOB_ID, message: text("The message."), ...ATTEMPT },
  required: ["jobId", "message"],
  run: async (params, call) => {
    const input = String(params["message"]);
    const options = attempt(params);
    if (options.length === 0) {
      const sent = await call({ args: ["send", "--message=-", ...job(params)], input });
      if (!failed(sent) || sent.code !== "job_ended") {
        return sent;
      }
    }
    return call({ args: ["resume", "--message=-", ...options, ...job(params)], input });
  },
};

const list: Tool = {
  label: "List jobs",
  description: "List the live and the recently ended jobs, the latest start first. Use it if you have lost an id.",
  properties: {
    all: flag("Every job, not just the live and the last 20 ended ones."),
    undelivered: flag("Only jobs with notifications that were not delivered."),
    status: texts("Only jobs with one of these statuses."),
    group: texts("Only jobs of one of these groups."),
    labels: texts("Only jobs with these labels, as key=value."),
    limit: count("Most jobs."),
  },
  required: [],
  run: (params, call) => {
    const args = ["list", ...(params["all"] === true ? ["--all"] : [])];
    args.push(...(params["undelivered"] === true ? ["--undelivered"] : []));
    args.push(...option("--status", params["status"]), ...option("--group", params["group"]));
    args.push(...option("--label", params["labels"]), ...option("--limit", params["limit"]));
    return call({ args });
  },
};

const kill: Tool = {
  label: "Kill a job",
  description: "Kill a job and all its processes. Its conversation stays: claudejob_send continues it.",
  properties: { jobId: JOB_ID },
  required: ["jobId"],
  run: (params, call) => call({ args: ["kill", ...job(params)] }),
};

const TOOLS: Record<string, Tool> = {
  claudejob_start: start,
  claudejob_status: status,
  claudejob_result: result,
  claudejob_answer: answer,
  claudejob_send: send,
  claudejob_list: list,
  claudejob_kill: kill,
};

export const TOOL_NAMES = Object.keys(TOOLS);

/** Makes a tool for a turn. A sandboxed agent gets none: its jobs would run outside the sandbox. */
export function makeTool(name: string, config: Config, context: ToolContext): AgentTool | null {
  const tool = TOOLS[name];
  if (tool === undefined || context.sandboxed === true) {
    return null;
  }
  const { label, description, properties, required, run } = tool;
  return {
    name,
    label,
    description,
    parameters: { type: "object", properties, required, additionalProperties: false },
    execute: async (_callId, params, signal) =>
      toolResult(await run(params, (request) => call(config, { ...request, signal }), { context, config })),
  };
}

/**
 * Returns what the model sees. The answer is the text: some runtimes show only that, and some both,
 * so that the details do not repeat it. An error among them marks the call as failed.
 */
function toolResult(answer: Answer): ToolResult {
  const details = failed(answer) ? { error: answer.error, code: answer.code, hint: answer.hint } : {};
  return { content: [{ type: "text", text: JSON.stringify(answer) }], details };
}

/** Returns an option as one argument for each value, so that no value is taken for an option. */
function option(name: string, value: unknown): string[] {
  if (value === undefined) {
    return [];
  }
  return (Array.isArray(value) ? value : [value]).map((it) => `${name}=${it}`);
}

/** Returns the key of the calling session; OpenClaw wakes no session of a sub-agent. */
function sessionToWake({ sessionKey }: ToolContext): string | undefined {
  return sessionKey !== undefined && /(^|:)subagent:/i.test(sessionKey) ? undefined : sessionKey;
}

function attempt(params: Params): string[] {
  return [
    ...option("--permission-mode", params["permissionMode"]),
    ...option("--allowed-tools", params["allowedTools"]),
    ...option("--model", params["model"]),
    ...option("--timeout", params["timeout"]),
    ...option("--max-turns", params["maxTurns"]),
    ...option("--max-budget-usd", params["maxBudgetUsd"]),
  ];
}

function job(params: Params): string[] {
  return ["--", String(params["jobId"])];
}

function directory(path: string, context: ToolContext): string {
  const expanded = path === "~" || path.startsWith("~/") ? homedir() + path.slice(1) : path;
  return resolve(context.workspaceDir ?? homedir(), expanded);
}
