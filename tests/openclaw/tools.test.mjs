// Tests of the plugin's tools with a stand-in for the program: node --test tests/openclaw/tools.test.mjs
//
// Needs target/packaging/openclaw-plugin (packaging/build-openclaw-plugin).

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";

const root = new URL("../../target/packaging/openclaw-plugin/", import.meta.url);
const { default: plugin } = await import(new URL("dist/index.js", root));
const manifest = JSON.parse(readFileSync(new URL("openclaw.plugin.json", root), "utf8"));

const folder = mkdtempSync(join(tmpdir(), "claudejob-plugin-"));
after(() => rmSync(folder, { recursive: true }));
const binary = join(folder, "claudejob");
const calls = join(folder, "calls");
const KEY = "agent:main:main";

/** Makes a program that notes its arguments and stdin, and answers by a line of `cases`. */
function standIn(cases = 'echo "{}"') {
  const note = `const text = require("fs").readFileSync(0, "utf8");
    require("fs").appendFileSync(${JSON.stringify(calls)}, JSON.stringify([process.argv.slice(1), text]) + "\\n");`;
  writeFileSync(join(folder, "note.js"), note);
  // node takes the options that come before a script for its own.
  writeFileSync(binary, `#!/bin/sh\n"${process.execPath}" "${folder}/note.js" -- "$@"\n${cases}\n`);
  chmodSync(binary, 0o755);
}

beforeEach(() => {
  rmSync(calls, { force: true });
  standIn();
});

/** Returns the calls so far: arguments without those that every call has, and stdin. */
function called(prefix = ["--json", "--max-chars", "8000"]) {
  if (!existsSync(calls)) {
    return [];
  }
  return readFileSync(calls, "utf8").trim().split("\n").map((line) => {
    const [argv, text] = JSON.parse(line);
    const args = argv.slice(argv.indexOf("--") + 1);
    assert.deepEqual(args.slice(0, prefix.length), prefix);
    return [args.slice(prefix.length), text];
  });
}

/** Registers the plugin; returns its tools for a turn, its handler of the start, and the log. */
function load(config = {}, context = { sessionKey: KEY, workspaceDir: "/work" }) {
  const tools = {};
  const handlers = {};
  const log = [];
  plugin.register({
    pluginConfig: { binary, ...config },
    logger: { info: (line) => log.push(line), warn: (line) => log.push(`warning: ${line}`) },
    on: (event, handler) => (handlers[event] = handler),
    registerTool: (make, { name }) => (tools[name] = make(context)),
  });
  return { tools, handlers, log };
}

/** Calls a tool and returns what the model sees, and the details. */
async function use(name, params, loaded = load(), signal = undefined) {
  const { content, details } = await loaded.tools[`claudejob_${name}`].execute("call", params, signal);
  assert.equal(content.length, 1);
  return [JSON.parse(content[0].text), details];
}

test("each declared tool is registered, with a schema", () => {
  const { tools } = load();
  assert.deepEqual(Object.keys(tools), manifest.contracts.tools);
  for (const [name, tool] of Object.entries(tools)) {
    assert.equal(tool.name, name);
    assert.equal(tool.parameters.additionalProperties, false);
    assert.ok(tool.parameters.required.every((it) => it in tool.parameters.properties));
  }
});

test("a tool becomes one call, with texts in stdin", async () => {
  const text = "Use `x` and \"$HOME\"\n--all\n";
  const start = ["start", "--if-absent", "--job-id=a", "--prompt=-"];
  const wake = `--wake=openclaw:${KEY}`;
  const table = [
    ["start", { jobId: "a", prompt: text, cwd: "/repo" }, [...start, "--cwd=/repo", wake], text],
    ["start", { jobId: "a", prompt: text, cwd: "sub" }, [...start, "--cwd=/work/sub", wake], text],
    ["start", { jobId: "a", prompt: text, cwd: "~/r", wake: false }, [...start, `--cwd=${homedir()}/r`], text],
    [
      "start",
      {
        ...{ jobId: "a", prompt: text, cwd: "/repo", wake: false, ask: true, permissionMode: "plan", group: "g" },
        ...{ allowedTools: ["Read", "Bash(git *)"], model: "--help", timeout: "2h", maxTurns: 3, maxBudgetUsd: 0.5 },
        ...{ after: ["x", "y"], labels: ["k=v"] },
      },
      [
        ...[...start, "--cwd=/repo", "--ask", "--permission-mode=plan", "--allowed-tools=Read"],
        ...["--allowed-tools=Bash(git *)", "--model=--help", "--timeout=2h", "--max-turns=3"],
        ...["--max-budget-usd=0.5", "--after=x", "--after=y", "--group=g", "--label=k=v"],
      ],
      text,
    ],
    ["status", { jobId: "a" }, ["status", "--", "a"], ""],
    ["result", { jobId: "a" }, ["result", "--", "a"], ""],
    ["answer", { jobId: "a", choices: ["--x", "DB=y"] }, ["answer", "--choice=--x", "--choice=DB=y", "--", "a"], ""],
    ["answer", { jobId: "a", text }, ["answer", "--text=-", "--", "a"], text],
    ["answer", { jobId: "a", allow: true, requestId: "p1" }, ["answer", "--request-id=p1", "--allow", "--", "a"], ""],
    ["answer", { jobId: "a", deny: true, message: text }, ["answer", "--deny", "--message=-", "--", "a"], text],
    ["send", { jobId: "a", message: text }, ["send", "--message=-", "--", "a"], text],
    [
      "send",
      { jobId: "a", message: text, permissionMode: "acceptEdits", maxTurns: 40 },
      ["resume", "--message=-", "--permission-mode=acceptEdits", "--max-turns=40", "--", "a"],
      text,
    ],
    ["list", {}, ["list"], ""],
    [
      "list",
      { all: true, undelivered: true, status: ["failed"], group: ["g"], labels: ["k=v"], limit: 2 },
      ["list", "--all", "--undelivered", "--status=failed", "--group=g", "--label=k=v", "--limit=2"],
      "",
    ],
    // An id is never an option, whatever the schema lets through.
    ["kill", { jobId: "--all" }, ["kill", "--", "--all"], ""],
  ];
  for (const [name, params, args, stdin] of table) {
    rmSync(calls, { force: true });
    assert.deepEqual(await use(name, params), [{}, {}]);
    assert.deepEqual(called(), [[args, stdin]], name);
  }
});

test("a sub-agent starts a job that wakes nobody", async () => {
  standIn('echo \'{"jobId":"a","existing":false,"hint":"claudejob wait a"}\'');
  const context = { sessionKey: "agent:main:subagent:0d0f6a1e-7d5c-4a4e-9a3f-5b9a41f1b6c1", workspaceDir: "/work" };
  const [answer] = await use("start", { jobId: "a", prompt: "p", cwd: "/r" }, load({}, context));
  assert.equal(answer.hint, "claudejob wait a");
  assert.deepEqual(called()[0][0], ["start", "--if-absent", "--job-id=a", "--prompt=-", "--cwd=/r"]);
});

test("only who is woken is told to end the turn", async () => {
  standIn('echo \'{"jobId":"a","existing":false,"hint":"claudejob wait a"}\'');
  const params = { jobId: "a", prompt: "p", cwd: "/r" };
  assert.match((await use("start", params))[0].hint, /^End your turn/);
  assert.equal((await use("start", { ...params, wake: false }))[0].hint, "claudejob wait a");
  standIn('echo \'{"jobId":"a","existing":true,"hint":"claudejob wait a"}\'');
  assert.equal((await use("start", params))[0].hint, "claudejob wait a");
});

test("the configuration sets jobs directory and wake", async () => {
  await use("start", { jobId: "a", prompt: "p", cwd: "/r" }, load({ jobsDir: "/jobs", wake: false }));
  const prefix = ["--jobs-dir=/jobs", "--json", "--max-chars", "8000"];
  assert.deepEqual(called(prefix), [[["start", "--if-absent", "--job-id=a", "--prompt=-", "--cwd=/r"], "p"]]);
});

test("a turn without a session is not woken", async () => {
  await use("start", { jobId: "a", prompt: "p", cwd: "/r", wake: true }, load({}, {}));
  assert.ok(!called()[0][0].some((it) => it.startsWith("--wake")));
});

test("a longer result is shown on request", async () => {
  await use("result", { jobId: "a", maxChars: 20_000 });
  assert.deepEqual(called(["--json", "--max-chars", "20000"]), [[["result", "--", "a"], ""]]);
});

test("a sandboxed agent has no tool", () => {
  const { tools } = load({}, { sessionKey: KEY, sandboxed: true });
  assert.ok(Object.values(tools).every((it) => it === null));
});

test("an error is passed on and marks the call as failed", async () => {
  const error = { error: "no job named 'a'", code: "not_found", hint: "claudejob list --all" };
  standIn(`echo '${JSON.stringify({ jobId: "a", status: "not_found", ...error }).replaceAll("'", "'\\''")}'; exit 4`);
  const [answer, details] = await use("status", { jobId: "a" });
  assert.equal(answer.status, "not_found");
  assert.deepEqual(details, error);
});

test("a failed job is no failed call", async () => {
  standIn('echo \'{"status":"failed","reason":"max_turns","error":"too many turns"}\'');
  const [answer, details] = await use("status", { jobId: "a" });
  assert.equal(answer.reason, "max_turns");
  assert.deepEqual(details, {});
});

test("a program that does not answer is an error", async () => {
  for (const [cases, said] of [
    ["echo loading >&2; echo 'no space left' >&2; exit 1", "no space left"],
    ["exit 0", "it printed nothing"],
    ["echo 12", "it printed nothing"],
  ]) {
    standIn(cases);
    const [answer, details] = await use("list", {});
    assert.deepEqual(answer, {
      error: `claudejob gave no answer: ${said}`,
      code: "no_answer",
      hint: `${binary} doctor`,
    });
    assert.equal(details.code, "no_answer");
  }
  const missing = join(folder, "missing");
  const [answer] = await use("list", {}, load({ binary: missing }));
  assert.ok(answer.error.includes(missing) && answer.code === "no_answer", answer.error);
});

test("a program that is nowhere is an error with a way out", async () => {
  const { PATH, HOME } = process.env;
  Object.assign(process.env, { PATH: folder + "/none", HOME: folder });
  try {
    // Another program of this machine may be in one of the usual places.
    const [answer] = await use("list", {}, load({ binary: undefined }));
    assert.ok(Array.isArray(answer) || answer.code === "no_claudejob", JSON.stringify(answer));
  } finally {
    Object.assign(process.env, { PATH, HOME });
  }
});

test("a call ends with its turn", async () => {
  const started = join(folder, "started");
  standIn(`touch ${started}; exec sleep 600`);
  const stop = new AbortController();
  const answer = use("list", {}, load(), stop.signal);
  while (!existsSync(started)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  stop.abort();
  assert.equal((await answer)[0].code, "no_answer");
});

test("a message to a job that has ended continues it", async () => {
  standIn(`case "$*" in
    *" send "*) echo '{"error":"job a has ended","code":"job_ended","hint":null}'; exit 1 ;;
    *) echo '{"jobId":"a","attempt":2}' ;;
  esac`);
  const [answer, details] = await use("send", { jobId: "a", message: "go on" });
  assert.deepEqual([answer.attempt, details], [2, {}]);
  assert.deepEqual(called(), [
    [["send", "--message=-", "--", "a"], "go on"],
    [["resume", "--message=-", "--", "a"], "go on"],
  ]);
});

/** Returns the arguments for `ask_user` in the status of a job with this request. */
async function asked(blocked) {
  standIn(`cat <<'JSON'\n${JSON.stringify({ status: "blocked", blocked })}\nJSON`);
  return (await use("status", { jobId: "a" }))[0].askUser;
}

test("a question becomes arguments for ask_user", async () => {
  const options = ["SQLite", "Postgres"].map((label) => ({ label, description: "" }));
  const question = { question: "Which database?", header: "", options, multiSelect: true };
  const ask = (questions) => asked({ kind: "question", questions });
  const choices = [{ label: "SQLite" }, { label: "Postgres" }];
  const rest = { question: "Which database?", multiSelect: true, options: choices };
  assert.deepEqual(await ask([question, { ...question, header: "DB" }]), {
    questions: [
      { id: "question_1", header: "Question", ...rest },
      { id: "question_2", header: "DB", ...rest },
    ],
  });
  // What ask_user would refuse is left to the agent.
  const two = (label) => ({ ...question, options: [...options.slice(1), { label, description: "" }] });
  for (const refused of [
    [],
    [question, question, question, question],
    [{ ...question, options: options.slice(1) }],
    [{ ...question, question: " " }],
    [two("postgres ")],
    [two(" ")],
    [two("x".repeat(65))],
  ]) {
    assert.equal(await ask(refused), undefined, JSON.stringify(refused));
  }
});

test("a permission request becomes a question", async () => {
  const { questions } = await asked({ kind: "permission", toolName: "Write", input: '{"path":"/x"}', questions: [] });
  assert.equal(questions.length, 1);
  assert.equal(questions[0].question, 'The job wants to use Write: {"path":"/x"}');
  assert.deepEqual(questions[0].options, [{ label: "Allow" }, { label: "Deny" }]);
});

test("the start of the gateway recovers and redelivers once", async () => {
  // It has no text to read, and nobody closes its stdin.
  const script = `#!/bin/sh
    echo "$*" >>"${calls}"
    case "$*" in
      *recover*) echo '{"recovered":[{"jobId":"a"}],"failed":[]}' ;;
      *) echo '{"delivered":2,"failed":[]}' ;;
    esac`;
  writeFileSync(binary, script);
  const { handlers, log } = load({ jobsDir: "/jobs" });
  assert.equal(handlers.gateway_start(), undefined, "the start does not wait");
  while (log.length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const [recover, redeliver, ...more] = readFileSync(calls, "utf8").trim().split("\n");
  assert.match(recover, /^--jobs-dir=\/jobs .*recover --all/);
  assert.match(redeliver, /^--jobs-dir=\/jobs .*redeliver/);
  assert.deepEqual(more, []);
  assert.equal(log.length, 1, log.join());
  assert.match(log[0], /^claudejob: /);
});
