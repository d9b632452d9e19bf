"""The situations in which a version of the claude CLI is recorded: real jobs against the scripted API."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import Callable

PATIENCE = 120
SCHEMA = '{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}'
BLOCKING_HOOK = json.dumps({"hooks": {"UserPromptSubmit": [
    {"hooks": [{"type": "command", "command": "echo not this one >&2; exit 2"}]}]}})
HANGING = "touch $HOME/../up; tail -f /dev/null"


class Job:
    """A job of its own in a temporary directory, with its own home and its own API."""

    def __init__(self, programs, directory, situation):
        self.root = pathlib.Path(directory).resolve()
        for part in ["home", "tmp", "work"]:
            (self.root / part).mkdir()
        self.program = programs.claudejob
        self.api = subprocess.Popen(
            [programs.api, json.dumps(fill(situation.steps, self.root))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.environment = {
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "CLAUDE_CODE_TMPDIR": str(self.root / "tmp"),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "SHELL": "/bin/bash",
            "IS_SANDBOX": "1",
            "ANTHROPIC_API_KEY": "sk-ant-test",
            "ANTHROPIC_BASE_URL": self.api.stdout.readline().strip(),
            # Nothing but the API is to be reached.
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_SKILL_CLAUDE": str(programs.claude),
            "CLAUDE_SKILL_JOBS_DIR": str(self.root / "jobs"),
            "CLAUDE_SKILL_STAGGER": "0",
            "CLAUDE_SKILL_RETRIES": "0",
        }
        for name, value in situation.environment.items():
            if value is None:
                del self.environment[name]
            else:
                self.environment[name] = value

    def run(self, *arguments):
        """Calls claudejob and returns its JSON answer."""
        done = subprocess.run(
            [self.program, *arguments], env=self.environment, cwd=self.root / "work",
            capture_output=True, text=True, timeout=600)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"claudejob {arguments}: {done.stdout}{done.stderr}") from None

    def start(self, options, prompt):
        file = self.root / "prompt"
        file.write_text(prompt)
        self.run("start", "job", "--prompt-file", str(file), *options)

    def wait(self):
        return self.run("wait", "job", "--timeout", "5m")

    def log(self):
        return self.root / "jobs/job/output.log"

    def await_request(self, number):
        self.api.stdin.write(f"wait {number}\n")
        self.api.stdin.flush()
        if self.api.stdout.readline() != "arrived\n":
            raise RuntimeError(f"request {number} did not arrive")

    def await_until(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited too long for {what}")
            time.sleep(0.02)

    def await_file(self, name):
        self.await_until(name, (self.root / name).exists)

    def await_text(self, text):
        self.await_until(text, lambda: self.log().exists() and text in self.log().read_text())

    def close(self):
        with contextlib.suppress(Exception):
            self.run("kill", "job")
        self.api.stdin.close()
        self.api.wait()


def fill(steps, root):
    """Replaces $ROOT in the steps."""
    return json.loads(json.dumps(steps).replace("$ROOT", str(root)))


@dataclass
class Situation:
    steps: list
    options: list = field(default_factory=list)
    prompt: str = "do the task"
    # A variable of the value None is unset.
    environment: dict = field(default_factory=dict)
    # What is done before the start of the job.
    prepare: Callable[[Job], None] = lambda job: None
    # What is done between the start of the job and the wait for its end.
    act: Callable[[Job], None] = lambda job: None


def text(words):
    return {"text": words}


def tool(name, **arguments):
    return {"tool": {"name": name, "input": arguments}}


def answer(*arguments):
    def act(job):
        job.wait()
        job.run("answer", "job", *arguments)
    return act


def store_empty_login(job):
    (job.root / "home/.claude").mkdir()
    (job.root / "home/.claude/.credentials.json").write_text("{}")


def resume(job):
    job.wait()
    job.run("resume", "job", "--message", "and next?")


def interrupt_answer(job):
    job.await_request(1)
    job.await_text('"subtype":"init"')
    job.run("interrupt", "job")


def interrupt_tool(job):
    job.await_file("up")
    job.run("interrupt", "job")


def kill_tool(job):
    job.await_file("up")
    job.run("kill", "job")


def kill_claude(job):
    job.await_request(2)
    os.kill(json.loads((job.root / "jobs/job/meta.json").read_text())["claudePid"], signal.SIGKILL)


def steer(job):
    job.await_file("up")
    job.run("send", "job", "--message", "also do this")
    (job.root / "go").touch()


def keep_alive(job):
    job.await_until("the first answer", lambda: job.run("status", "job")["status"] == "idle")
    job.run("send", "job", "--message", "and then?", "--wait", "1m")
    job.run("finish", "job")


def write_outside():
    return [{"write": {"path": "$ROOT/home/outside.txt", "content": "x\n"}}, text("That was it.")]


ASK = ["--ask", "--permission-mode", "default"]
NO_RETRIES = {"CLAUDE_CODE_MAX_RETRIES": "0"}
SUBSCRIPTION = {"ANTHROPIC_API_KEY": None, "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-test", **NO_RETRIES}

SITUATIONS = {
    "success": Situation([text("All tests pass.")]),
    "tool_use": Situation([
        {"bash": "echo hi && ls"},
        {"write": {"path": "$ROOT/work/notes.txt", "content": "x\n"}},
        text("Wrote the notes.")]),
    "partial_messages": Situation([text("in parts")], ["--", "--include-partial-messages"]),
    "empty_answer": Situation(["empty"]),
    "background": Situation([
        {"background_bash": "sleep 2 && echo 42"}, text("started it"), text("it printed 42")]),
    "background_not_awaited": Situation(
        [{"background_bash": "exec tail -f /dev/null"}, text("started it")],
        ["--background-wait", "0s"]),
    "subagent": Situation([
        tool("Task", description="sub", prompt="do a part", subagent_type="general-purpose"),
        text("done")]),
    "monitor": Situation([
        tool("Monitor", command="sleep 2; echo tick", description="tick"), text("monitoring")]),
    "wakeup": Situation([
        tool("ScheduleWakeup", delaySeconds=60, reason="look again", prompt="look again"),
        text("I will look again"), text("looked again")]),
    "cron": Situation([
        tool("CronCreate", cron="* * * * *", prompt="tick", recurring=False),
        text("scheduled it"), text("it ticked")]),
    "max_turns": Situation([{"bash": "echo 1"}], ["--max-turns", "2"]),
    "max_budget": Situation([{"bash": "echo 1"}], ["--max-budget-usd", "0.01"]),
    "schema": Situation([tool("StructuredOutput", ok=True), text("done")], ["--json-schema", SCHEMA]),
    "schema_missed": Situation([text("not json")], ["--json-schema", SCHEMA]),
    "permission_denied": Situation(write_outside(), ["--permission-mode", "default"]),
    "permission_allowed": Situation(write_outside(), ASK, act=answer("--allow")),
    "permission_refused": Situation(write_outside(), ASK, act=answer("--deny", "--message", "not there")),
    "question": Situation(
        [{"ask": "Which database?"}, text("Noted.")], ["--ask"], act=answer("--choice", "Postgres")),
    "keep_alive": Situation([text("first"), text("second")], ["--keep-alive"], act=keep_alive),
    "message_during_tool": Situation(
        [{"bash": "touch $HOME/../up; while [ ! -e $HOME/../go ]; do sleep 0.05; done"}, text("took it")],
        act=steer),
    "resume": Situation([text("one"), text("two")], act=resume),
    "claude_killed": Situation(
        [{"bash": "echo 1"}, {"held": text("unheard")}, text("after")],
        ["--retries", "1", "--max-backoff", "100ms"], act=kill_claude),
    "interrupt_answer": Situation([{"slow": 60}], act=interrupt_answer),
    "interrupt_tool": Situation([{"bash": HANGING}], act=interrupt_tool),
    "kill_tool": Situation([{"bash": HANGING}], act=kill_tool),
    "rate_limited_then_ok": Situation([
        {"rate_limited": {"retry_after": 1}}, {"rate_limited": {"retry_after": 1}}, text("recovered")]),
    "rate_limited": Situation([{"rate_limited": {"retry_after": 1}}], environment=NO_RETRIES),
    "overloaded": Situation(["overloaded"], environment=NO_RETRIES),
    "server_error_then_ok": Situation(["server_error", text("recovered")]),
    "server_error": Situation(["server_error"], environment=NO_RETRIES),
    "usage_limit_near": Situation([{"unified": "allowed_warning"}], environment=SUBSCRIPTION),
    "usage_limit_reached": Situation([{"unified": "rejected"}], environment=SUBSCRIPTION),
    "bad_key": Situation(["bad_key"]),
    # A stored login that claudejob's own check accepts and the CLI does not.
    "not_logged_in": Situation([text("never asked")], prepare=store_empty_login,
                               environment={"ANTHROPIC_API_KEY": None}),
    "answer_cut_off": Situation(["cut"], environment={"CLAUDE_CODE_MAX_RETRIES": "1"}),
    "prompt_too_long": Situation([text("read it all")], prompt="a line of a long prompt\n" * 170_000),
    "prompt_blocked_by_hook": Situation([text("never asked")], ["--settings", BLOCKING_HOOK]),
    "slash_help": Situation([text("never asked")], prompt="/help"),
    "slash_context": Situation([text("never asked")], prompt="/context"),
    "unknown_session": Situation(
        [text("never asked")], ["--resume", "11111111-1111-4111-8111-111111111111"]),
    "unknown_option": Situation([text("never asked")], ["--", "--no-such-option"]),
}


def record(programs, situation):
    """Runs the situation and returns its stream and claudejob's verdict."""
    with tempfile.TemporaryDirectory(prefix="claudejob-update-", ignore_cleanup_errors=True) as directory:
        job = Job(programs, directory, situation)
        try:
            situation.prepare(job)
            job.start(situation.options, situation.prompt)
            situation.act(job)
            verdict = verdict_of(job.wait(), str(job.root))
            if situation.act is kill_claude:
                # How much of the conversation had reached the disk depends on the moment.
                verdict = {name: verdict[name] for name in ("status", "reason")}
            stream = job.log().read_text() if job.log().exists() else ""
        finally:
            job.close()
        return stream.replace(str(job.root), "/home/dev"), verdict


def verdict_of(result, root):
    fields = ["status", "reason"]
    if result["status"] == "completed":
        # What an interrupted turn cost depends on the moment.
        fields += ["result", "num_turns", "cost_usd", "warnings"]
    verdict = {name: result[name] for name in fields}
    if verdict.get("warnings"):
        verdict["warnings"] = [text.replace(root, "/home/dev") for text in verdict["warnings"]]
    if verdict.get("result"):
        # The answer of a local command goes on with numbers.
        verdict["result"] = verdict["result"].splitlines()[0]
    return verdict
