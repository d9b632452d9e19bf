//! The tools: their descriptions, and how a call of one becomes a call of the program.

use serde_json::{Map, Value, json};

use super::wire::Params;
use crate::text::clip;

/// Maximum number of characters of an answer: what a client shows to its model unshortened.
pub(super) const MAX_CHARS: usize = 7_500;
/// The same if the whole answer is requested.
pub(super) const MAX_FULL_CHARS: usize = 60_000;

/// A tool.
pub(super) struct ToolDefinition {
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    /// The verb that does the work.
    pub verb: &'static str,
    parameters: &'static [ToolParameter],
    effect: ToolEffect,
    /// Properties of the answer: name, JSON type and description. The first ones, as given by
    /// `required`, are always there.
    output: &'static [(&'static str, &'static str, &'static str)],
    required: usize,
}

/// An argument of a tool.
struct ToolParameter {
    name: &'static str,
    kind: ParameterKind,
    /// The option of the verb; empty if the server itself uses the value.
    option: &'static str,
    is_required: bool,
    description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParameterKind {
    Text,
    /// Several texts; one is accepted, too.
    Texts,
    Flag,
    /// A flag that can have a text.
    FlagOrText,
    Integer,
    Number,
}

/// What a tool does to its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToolEffect {
    /// It changes nothing.
    Reads,
    /// It makes an agent work, which can do anything.
    Works,
    /// It ends jobs.
    Ends,
}

const fn required(
    name: &'static str,
    option: &'static str,
    description: &'static str,
) -> ToolParameter {
    ToolParameter { name, kind: Text, option, is_required: true, description }
}

const fn optional(
    name: &'static str,
    kind: ParameterKind,
    option: &'static str,
    description: &'static str,
) -> ToolParameter {
    ToolParameter { name, kind, option, is_required: false, description }
}

use ParameterKind::{Flag, FlagOrText, Integer, Number, Text, Texts};

const JOB_ID: ToolParameter = required("jobId", "--job-id", "The job's id.");
const STATUS: (&str, &str, &str) =
    ("status", "string", "queued, starting, running, blocked, idle, completed, failed or killed.");
const HINT: (&str, &str, &str) = ("hint", "string?", "What to do next, as a shell command.");
const ID: (&str, &str, &str) = ("jobId", "string", "The job's id.");
const JOBS: (&str, &str, &str) =
    ("jobs", "array?", "The jobs: results of those that have ended, states of the others.");
const STILL_RUNNING: (&str, &str, &str) =
    ("stillRunning", "boolean?", "Some of the jobs have not ended and wait for no answer.");

/// All tools.
pub(super) const TOOLS: [ToolDefinition; 10] = [
    ToolDefinition {
        name: "start_coding_job",
        title: "Start a coding job",
        description: "Start a coding task as a detached job of Claude Code and return its id at \
            once. The job works in its own process and session, sees only the prompt and the \
            directory, and continues when this conversation ends. Read its answer later with \
            job_result. With wait, wait for its end as wait_for_jobs does.",
        verb: "start",
        parameters: &[
            required("prompt", "--prompt", "The whole task: the job knows nothing else."),
            optional("jobId", Text, "--job-id", "A short speaking name, such as fix-login."),
            optional("cwd", Text, "--cwd", "Working directory [default: that of this server]."),
            optional("model", Text, "--model", "The model."),
            optional(
                "ask",
                Flag,
                "--ask",
                "Let the agent ask questions; the job then waits for \
                answer_job. Otherwise it decides by itself.",
            ),
            optional("after", Texts, "--after", "Ids of jobs that must complete before."),
            optional("label", Texts, "--label", "Labels KEY=VALUE, to select jobs by."),
            optional(
                "worktree",
                FlagOrText,
                "--worktree",
                "Work in a git worktree of its own, \
                with its own branch: true, or the worktree's name.",
            ),
            optional("maxBudgetUsd", Number, "--max-budget-usd", "Cost limit in US dollars."),
            optional("timeout", Text, "--timeout", "Time limit of the job, such as 30m."),
            optional("wait", Flag, "", "Wait for the end of the job."),
        ],
        effect: ToolEffect::Works,
        output: &[ID, STATUS, HINT, JOBS, STILL_RUNNING],
        required: 0,
    },
    ToolDefinition {
        name: "job_status",
        title: "Show a job's status",
        description: "Show what a job is doing: status, activity, cost, and the open question or \
            permission request of a blocked job.",
        verb: "status",
        parameters: &[
            JOB_ID,
            optional("full", Flag, "--full", "Show the whole input of an open request."),
        ],
        effect: ToolEffect::Reads,
        output: &[ID, STATUS, HINT],
        required: 2,
    },
    ToolDefinition {
        name: "job_logs",
        title: "Read a job's log",
        description: "Read what a job's agent said and did: the last entries, or those after an \
            offset.",
        verb: "logs",
        parameters: &[
            JOB_ID,
            optional(
                "sinceOffset",
                Integer,
                "--since-offset",
                "nextOffset of an earlier answer: \
                read what is new since then.",
            ),
        ],
        effect: ToolEffect::Reads,
        output: &[ID, ("nextOffset", "integer?", "Offset of the next entry.")],
        required: 1,
    },
    ToolDefinition {
        name: "job_result",
        title: "Read a job's result",
        description: "Read the verdict and the final answer of a job that has ended; before that \
            its status.",
        verb: "result",
        parameters: &[
            JOB_ID,
            optional("full", Flag, "", "Return up to 60,000 instead of 7,500 characters."),
        ],
        effect: ToolEffect::Reads,
        output: &[ID, STATUS, ("result", "string?", "The agent's answer."), HINT],
        required: 2,
    },
    ToolDefinition {
        name: "list_jobs",
        title: "List jobs",
        description: "List the live and the recently ended jobs, newest first.",
        verb: "list",
        parameters: &[
            optional("label", Texts, "--label", "Only jobs with these labels KEY=VALUE."),
            optional("group", Text, "--group", "Only jobs of this group."),
            optional("status", Texts, "--status", "Only jobs with these statuses."),
            optional("all", Flag, "--all", "All ended jobs, not just the last 20."),
        ],
        effect: ToolEffect::Reads,
        output: &[("jobs", "array", "The jobs.")],
        required: 1,
    },
    ToolDefinition {
        name: "wait_for_jobs",
        title: "Wait for jobs",
        description: "Wait until jobs have ended, or one of them asks something (status \
            blocked). Give ids or labels.",
        verb: "wait",
        parameters: &[
            optional("jobIds", Texts, "--job-id", "Ids of the jobs."),
            optional("label", Texts, "--label", "Every job with these labels KEY=VALUE."),
        ],
        effect: ToolEffect::Reads,
        output: &[("jobs", "array", JOBS.2), ("stillRunning", "boolean", STILL_RUNNING.2)],
        required: 2,
    },
    ToolDefinition {
        name: "answer_job",
        title: "Answer a job's question",
        description: "Answer the open question or permission request of a blocked job. Ask the \
            user first unless the answer is clear from what they said. For a question give choice \
            or text, for a permission request allow or deny.",
        verb: "answer",
        parameters: &[
            JOB_ID,
            optional(
                "choice",
                Texts,
                "--choice",
                "Labels or numbers of the options; of several \
                questions QUESTION=LABEL.",
            ),
            optional("text", Text, "--text", "An answer in free text."),
            optional("allow", Flag, "--allow", "Allow the tool call."),
            optional("deny", Flag, "--deny", "Deny the tool call, or decline the question."),
            optional("message", Text, "--message", "Why it is denied, for the agent."),
            optional("requestId", Text, "--request-id", "One of several open requests."),
        ],
        effect: ToolEffect::Works,
        output: &[ID, STATUS, ("answered", "boolean", "The agent received this answer."), HINT],
        required: 3,
    },
    ToolDefinition {
        name: "send_to_job",
        title: "Send a message to a job",
        description: "Send a message to the agent of a live job, which reads it during its work.",
        verb: "send",
        parameters: &[JOB_ID, required("text", "--message", "The message.")],
        effect: ToolEffect::Works,
        output: &[ID],
        required: 1,
    },
    ToolDefinition {
        name: "resume_job",
        title: "Continue an ended job",
        description: "Continue the conversation of a job that has ended, with a new message.",
        verb: "resume",
        parameters: &[
            JOB_ID,
            optional("message", Text, "--message", "The message [default: go on with the task]."),
        ],
        effect: ToolEffect::Works,
        output: &[ID],
        required: 1,
    },
    ToolDefinition {
        name: "kill_job",
        title: "Kill a job",
        description: "End a live job and all its processes, for good. Its answer and its files \
            so far remain.",
        verb: "kill",
        parameters: &[JOB_ID],
        effect: ToolEffect::Ends,
        output: &[ID, STATUS],
        required: 2,
    },
];

impl ToolDefinition {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.name == name)
    }

    /// Returns the definition as `tools/list` shows it.
    pub(super) fn to_json(&self) -> Value {
        let mut required = Vec::new();
        let mut properties = Map::new();
        for parameter in self.parameters {
            if parameter.is_required {
                required.push(parameter.name);
            }
            properties.insert(parameter.name.to_owned(), parameter.schema());
        }
        let mut outputs = Map::new();
        for (name, kind, description) in self.output {
            let kind = match kind.strip_suffix('?') {
                Some(kind) => json!([kind, "null"]),
                None => json!(kind),
            };
            outputs.insert((*name).to_owned(), json!({ "type": kind, "description": description }));
        }
        let always: Vec<&str> =
            self.output[..self.required].iter().map(|(name, ..)| *name).collect();
        let reads = self.effect == ToolEffect::Reads;
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            },
            "outputSchema": { "type": "object", "properties": outputs, "required": always },
            "annotations": {
                "title": self.title,
                "readOnlyHint": reads,
                "destructiveHint": !reads,
                "idempotentHint": self.effect != ToolEffect::Works,
                "openWorldHint": self.effect == ToolEffect::Works,
            },
        })
    }

    /// Returns the options of the verb for these arguments of the tool, or what is wrong with them.
    pub(super) fn options(&self, given: &Params) -> Result<Vec<String>, String> {
        for name in given.keys() {
            if !self.parameters.iter().any(|parameter| parameter.name == name) {
                return Err(format!("{} has no argument '{name}'", self.name));
            }
        }
        let mut options = vec![format!("--max-chars={}", self.max_chars(given))];
        for parameter in self.parameters {
            match given.get(parameter.name) {
                None | Some(Value::Null) if parameter.is_required => {
                    return Err(format!("{} needs the argument '{}'", self.name, parameter.name));
                }
                None | Some(Value::Null) => {}
                Some(value) => parameter.add_to(&mut options, value)?,
            }
        }
        Ok(options)
    }

    fn max_chars(&self, given: &Params) -> usize {
        if self.verb == "result" && given.get("full") == Some(&Value::Bool(true)) {
            MAX_FULL_CHARS
        } else {
            MAX_CHARS
        }
    }
}

impl ToolParameter {
    fn schema(&self) -> Value {
        let kind = match self.kind {
            Text => json!("string"),
            Texts => json!("array"),
            Flag => json!("boolean"),
            FlagOrText => json!(["boolean", "string"]),
            Integer => json!("integer"),
            Number => json!("number"),
        };
        let mut schema = json!({ "type": kind, "description": self.description });
        if self.kind == Texts {
            schema["items"] = json!({ "type": "string" });
        }
        schema
    }

    /// Adds the option with this value. The value is part of the same argument, so that it is never
    /// taken for an option.
    fn add_to(&self, options: &mut Vec<String>, value: &Value) -> Result<(), String> {
        let option = self.option;
        match (self.kind, value) {
            (Text | Texts | FlagOrText, Value::String(text)) => self.add_text(options, text)?,
            (Texts, Value::Array(texts)) => {
                for text in texts {
                    let Some(text) = text.as_str() else { return Err(self.mismatch(value)) };
                    self.add_text(options, text)?;
                }
            }
            (Flag | FlagOrText, Value::Bool(is_set)) => {
                if *is_set && !option.is_empty() {
                    options.push(option.to_owned());
                }
            }
            (Integer, Value::Number(number)) if number.is_u64() => {
                options.push(format!("{option}={number}"));
            }
            (Number, Value::Number(number)) => options.push(format!("{option}={number}")),
            _ => return Err(self.mismatch(value)),
        }
        Ok(())
    }

    fn add_text(&self, options: &mut Vec<String>, text: &str) -> Result<(), String> {
        // The verbs would read it from stdin, which belongs to the protocol.
        if text == "-" {
            return Err(format!("'-' is no value for the argument '{}'", self.name));
        }
        // No argument of a program can have one.
        if text.contains('\0') {
            return Err(format!("the argument '{}' contains a NUL character", self.name));
        }
        // Some models give each argument.
        if !text.is_empty() || self.is_required {
            options.push(format!("{}={text}", self.option));
        }
        Ok(())
    }

    fn mismatch(&self, value: &Value) -> String {
        let kind = match self.kind {
            Text => "a string",
            Texts => "an array of strings",
            Flag => "true or false",
            FlagOrText => "true, false or a string",
            Integer => "a whole number from 0",
            Number => "a number",
        };
        format!("the argument '{}' is {kind}, not {}", self.name, clip(&value.to_string(), 100))
    }
}
