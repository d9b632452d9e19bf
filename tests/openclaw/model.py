#!/usr/bin/env python3
"""A model for the gateway, which acts by rules: model.py PORT LOG

It answers the Anthropic Messages API and keeps nothing between two requests. What it does follows from the turn's text:

DO [STEP, ...]   takes the steps one after the other. A step is a command, or an object:
                   {"text": WORDS}                   ends the turn
                   {"tool": NAME, "input": {...}}    calls a tool
                   {"follow": COMMAND ID}            runs the command, then the `hint` of what it printed, and so on
                 $KEY in a step becomes the session's key, as the prompt states it.
System: ... Run: COMMAND
                 an event: runs the command of each line, and says what they printed.
anything else    NO_REPLY

LOG gets a JSON line for each request: session, whether the prompt names the skill, the turn's text, the events in it, the
results of the turn's calls, and what the model does.
"""

import json
import re
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTEXT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
HOPS = 12
lock = threading.Lock()


def text_of(content):
    """Returns the text of a message or of a tool's result."""
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content if isinstance(block, dict))


def turn_of(messages):
    """Returns the text that began the turn, the events that belong to it, and the results of its calls."""
    text, events, results = "", [], []
    for message in messages:
        if message["role"] != "user":
            continue
        content = message["content"]
        tool_results = [it for it in content if it["type"] == "tool_result"] if isinstance(content, list) else []
        if tool_results:
            results += [text_of(it["content"]) for it in tool_results]
        elif text_of(content).startswith(CONTEXT):
            events = events_in(text_of(content))
        else:
            text, results = text_of(content), []
    return text, events, results


def events_in(context):
    """Returns the lines that the gateway tells its agent about."""
    found = []
    for line in context.splitlines():
        if line.startswith('"System: '):
            lines = json.loads(line).splitlines()
            found += [re.sub(r"^System: \[[^]]*\] ", "", it) for it in lines]
    return found


def documents_in(result):
    """Returns the JSON objects in a result; several commands print several, and the gateway adds lines."""
    found, at = [], result.find("{")
    while at >= 0:
        try:
            document, end = json.JSONDecoder().raw_decode(result, at)
            found.append(document)
        except ValueError:
            end = at + 1
        at = result.find("{", end)
    return found


def hint_in(result, command, job):
    """Returns the next command, or what there is to say at the end: also what the last command's comment says."""
    document = (documents_in(result) or [{}])[-1]
    # `recover --all` answers with several jobs.
    document = next((it for it in document.get("recovered", []) if it["jobId"] == job), document)
    if document.get("hint"):
        return document["hint"], None
    words = [str(document[key]) for key in ("status", "reason", "error", "result") if document.get(key)]
    comment = command.partition("  # ")[2]
    return None, f"END {job}: " + " ".join(words or [result.strip()[:200]]) + (" # " + comment if comment else "")


def call(command):
    return {"tool": "exec", "input": {"command": command, "yieldMs": 60000}}


def follow(command, results):
    """Returns the next call of a chain of hints, or its end, and how many of the results belong to it."""
    job = command.split()[-1]
    for used, result in enumerate(results, 1):
        command, end = hint_in(result, command, job)
        if end is not None:
            return {"text": end}, used
        if used == HOPS:
            return {"text": f"END {job}: too many hints, the last was {command}"}, used
    return call(command), len(results) + 1


def step_of(steps, results):
    """Returns the step after these results."""
    ends = []
    while steps:
        step = steps.pop(0)
        if isinstance(step, str):
            step = call(step)
        if "follow" in step:
            done, used = follow(step["follow"], results)
            if "tool" in done:
                return done
            ends.append(done["text"])
            results = results[used:]
        elif "text" in step:
            return step
        elif results:
            results = results[1:]
        else:
            return step
    return {"text": "\n".join(ends) or "done"}


def act(request):
    """Returns what the model does, and the line for the log."""
    system = text_of(request.get("system") or "")
    key = re.search(r"^Runtime: .*\bsession=(\S+)", system, re.M)
    key = key.group(1) if key else None
    text, events, results = turn_of(request["messages"])
    commands = list(dict.fromkeys(re.findall(r"Run: (.*)", "\n".join(events))))
    script = re.search(r"\bDO (\[.*\])", text, re.S)
    if script:
        steps = json.loads(script.group(1).replace("$KEY", key or ""))
        step = step_of(steps, results)
    elif len(results) < len(commands):
        step = call(commands[len(results)])
    elif commands:
        step = {"text": "READ: " + "\n".join(results)}
    else:
        step = {"text": "NO_REPLY"}
    skills = system.partition("<available_skills>")[2].partition("</available_skills>")[0]
    return step, {
        "at": time.time(),
        "session": key,
        "skill": "<name>claudejob</name>" in skills,
        "tools": [tool.get("name") for tool in request["tools"]],
        "text": text,
        "events": events,
        "results": results,
        "step": step,
    }


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        step = {"text": "none"}
        if request.get("tools"):
            step, line = act(request)
            with lock, open(sys.argv[2], "a") as log:
                log.write(json.dumps(line) + "\n")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        self.stream(request.get("model"), step)

    def stream(self, model, step):
        usage = {"input_tokens": 10, "output_tokens": 1}
        message = {"id": "msg_" + uuid.uuid4().hex, "type": "message", "role": "assistant", "model": model}
        self.event("message_start", message={**message, "content": [], "stop_reason": None, "usage": usage})
        if "tool" in step:
            block = {"type": "tool_use", "id": "toolu_" + uuid.uuid4().hex, "name": step["tool"], "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(step["input"])}
        else:
            block = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": step["text"]}
        self.event("content_block_start", index=0, content_block=block)
        self.event("content_block_delta", index=0, delta=delta)
        self.event("content_block_stop", index=0)
        reason = "tool_use" if "tool" in step else "end_turn"
        self.event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 5})
        self.event("message_stop")

    def event(self, kind, **fields):
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())
        self.wfile.flush()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Model).serve_forever()
