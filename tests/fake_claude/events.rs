//! The events of the CLI, with every field of the recorded transcripts, in their order. Costs and
//! turns add up as the CLI's do: the cost over the whole process, the turns within one result.

use serde_json::{Value, json};

const COST_OF_A_MESSAGE: f64 = 0.00725;
const MODEL: &str = "claude-opus-4-8";

/// Templates rather than values, because the order of the fields is part of what the CLI writes
/// and a reader of very long lines may depend on it. `@NAME` is replaced by JSON.
const INIT: &str = concat!(
    r#"{"type":"system","subtype":"init","cwd":@CWD,"session_id":@SESSION,"#,
    r#""tools":["Task","Bash","Edit","Read","TaskOutput","TaskStop","WebFetch","Write"],"#,
    r#""mcp_servers":[],"model":@MODEL,"permissionMode":@MODE,"#,
    r#""slash_commands":["clear","compact","review"],"apiKeySource":"ANTHROPIC_API_KEY","#,
    r#""claude_code_version":"2.1.197","output_style":"default","#,
    r#""agents":["claude","Explore","general-purpose","Plan"],"skills":[],"plugins":[],"#,
    r#""analytics_disabled":true,"product_feedback_disabled":true,"uuid":@UUID,"#,
    r#""memory_paths":{"auto":"/home/dev/.claude/projects/-home-dev-project/memory/"},"#,
    r#""fast_mode_state":"off"}"#,
    "\n"
);
const ASSISTANT: &str = concat!(
    r#"{"type":"assistant","message":{"id":@MESSAGE,"type":"message","role":"assistant","#,
    r#""model":@MODEL,"content":[@CONTENT],"stop_reason":null,"stop_sequence":null,"#,
    r#""usage":{"input_tokens":1200,"output_tokens":1,"cache_creation_input_tokens":0,"#,
    r#""cache_read_input_tokens":0},"context_management":null},"parent_tool_use_id":null,"#,
    r#""session_id":@SESSION,"uuid":@UUID,"request_id":@REQUEST}"#,
    "\n"
);
const TEXT: &str = r#"{"type":"text","text":@TEXT}"#;
const TOOL_USE: &str = r#"{"type":"tool_use","id":@TOOL,"name":@NAME,"input":@INPUT}"#;
const TOOL_RESULT: &str = concat!(
    r#"{"type":"user","message":{"role":"user","content":[{"tool_use_id":@TOOL,"#,
    r#""type":"tool_result","content":@TEXT,"is_error":false}]},"parent_tool_use_id":null,"#,
    r#""session_id":@SESSION,"uuid":@UUID,"timestamp":"2026-11-20T19:46:08.828Z","#,
    r#""tool_use_result":{"stdout":@TEXT,"stderr":"","interrupted":false,"isImage":false,"#,
    r#""noOutputExpected":false}}"#,
    "\n"
);
const RESULT: &str = concat!(
    r#"{"type":"result","subtype":"success","is_error":false,"api_error_status":null,"#,
    r#""duration_ms":81,"duration_api_ms":25,"ttft_ms":75,"ttft_stream_ms":75,"#,
    r#""time_to_request_ms":60,"num_turns":@TURNS,"result":@TEXT,"stop_reason":"end_turn","#,
    r#""session_id":@SESSION,"total_cost_usd":@COST,"usage":{"input_tokens":@IN,"#,
    r#""cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":@OUT,"#,
    r#""server_tool_use":{"web_search_requests":0,"web_fetch_requests":0},"#,
    r#""service_tier":"standard","cache_creation":{"ephemeral_1h_input_tokens":0,"#,
    r#""ephemeral_5m_input_tokens":0},"inference_geo":"","iterations":[],"speed":"standard"},"#,
    r#""modelUsage":{@MODEL:{"inputTokens":@ALL_IN,"outputTokens":@ALL_OUT,"#,
    r#""cacheReadInputTokens":0,"cacheCreationInputTokens":0,"webSearchRequests":0,"#,
    r#""costUSD":@COST,"contextWindow":1000000,"maxOutputTokens":64000}},"#,
    r#""permission_denials":[],"terminal_reason":"completed","fast_mode_state":"off","#,
    r#""uuid":@UUID}"#,
    "\n"
);

/// The head and the tail of an `assistant` line whose text is too long to keep in memory.
pub(crate) fn frame_of_a_long_text() -> (String, String) {
    let line = Conversation::new(&[]).say("@HERE");
    let (head, tail) = line.split_once("@HERE").unwrap_or_default();
    (head.to_owned(), tail.to_owned())
}

pub(crate) struct Conversation {
    session: Value,
    model: Value,
    permission_mode: Value,
    events: u64,
    messages: u64,
    turns: u64,
    tool: Value,
    last_text: String,
}

impl Conversation {
    /// Takes the session, the model and the permission mode from the arguments.
    pub(crate) fn new(arguments: &[String]) -> Self {
        let value = |flag: &str, or: &str| {
            Value::String(value_of(arguments, flag).unwrap_or_else(|| or.to_owned()))
        };
        let resumed = value("--resume", "00000000-0000-4000-8000-000000000000");
        Self {
            session: value("--session-id", resumed.as_str().unwrap_or_default()),
            model: value("--model", MODEL),
            permission_mode: value("--permission-mode", "default"),
            events: 0,
            messages: 0,
            turns: 0,
            tool: Value::Null,
            last_text: String::new(),
        }
    }

    pub(crate) fn session_id(&self) -> &str {
        self.session.as_str().unwrap_or_default()
    }

    /// The last text or the argument of the last tool.
    pub(crate) fn last_text(&self) -> &str {
        &self.last_text
    }

    pub(crate) fn init(&mut self) -> String {
        let cwd = std::env::current_dir().unwrap_or_default();
        fill(
            INIT,
            &[
                ("@CWD", json!(cwd.to_string_lossy())),
                ("@SESSION", self.session.clone()),
                ("@MODEL", self.model.clone()),
                ("@MODE", self.permission_mode.clone()),
                ("@UUID", self.uuid()),
            ],
        )
    }

    pub(crate) fn say(&mut self, text: &str) -> String {
        text.clone_into(&mut self.last_text);
        self.assistant(&fill(TEXT, &[("@TEXT", json!(text))]))
    }

    /// A tool that runs until its result.
    pub(crate) fn tool(&mut self, name: &str, text: &str) -> String {
        text.clone_into(&mut self.last_text);
        let input = match name {
            "Bash" => json!({"command": text, "description": "run"}),
            "Write" => json!({"file_path": text, "content": "hello\n"}),
            "Edit" => json!({"file_path": text, "old_string": "a", "new_string": "b"}),
            "Read" => json!({"file_path": text}),
            "Grep" | "Glob" => json!({"pattern": text}),
            "WebFetch" => json!({"url": text, "prompt": "read it"}),
            _ => json!({"description": text, "prompt": text}),
        };
        self.tool = json!(format!("toolu_{:022x}", self.events + 1));
        let content = fill(
            TOOL_USE,
            &[("@TOOL", self.tool.clone()), ("@NAME", json!(name)), ("@INPUT", input)],
        );
        self.assistant(&content)
    }

    pub(crate) fn tool_result(&mut self, text: &str) -> String {
        fill(
            TOOL_RESULT,
            &[
                ("@TOOL", self.tool.take()),
                ("@SESSION", self.session.clone()),
                ("@UUID", self.uuid()),
                ("@TEXT", json!(text)),
            ],
        )
    }

    /// The CLI's confirmation that it has accepted a message.
    pub(crate) fn confirmation(&mut self, message: &Value) -> String {
        let mut event = message.clone();
        event["session_id"] = self.session.clone();
        event["isReplay"] = json!(true);
        format!("{event}\n")
    }

    /// The end of a turn that was interrupted.
    pub(crate) fn interrupted(&mut self, request_id: &Value) -> String {
        let response = json!({"subtype": "success", "request_id": request_id});
        let response = json!({"type": "control_response", "response": response});
        let result = json!({
            "type": "result", "subtype": "error_during_execution", "is_error": true,
            "terminal_reason": "aborted_tools", "num_turns": std::mem::take(&mut self.turns),
            "duration_ms": 10, "session_id": self.session, "total_cost_usd": 0.01,
            "errors": ["[interrupted]"], "uuid": self.uuid(),
        });
        format!("{response}\n{result}\n")
    }

    /// Ends the turn. A script without an earlier message still counts one, as the CLI never gives
    /// a result without one.
    pub(crate) fn result(&mut self, text: &str) -> String {
        if self.turns == 0 {
            self.messages += 1;
            self.turns = 1;
        }
        let turns = std::mem::take(&mut self.turns);
        fill(
            RESULT,
            &[
                ("@TURNS", json!(turns)),
                ("@SESSION", self.session.clone()),
                ("@COST", json!(COST_OF_A_MESSAGE * self.messages as f64)),
                ("@IN", json!(1200 * turns)),
                ("@OUT", json!(50 * turns)),
                ("@MODEL", self.model.clone()),
                ("@ALL_IN", json!(1200 * self.messages)),
                ("@ALL_OUT", json!(50 * self.messages)),
                ("@UUID", self.uuid()),
                ("@TEXT", json!(text)),
            ],
        )
    }

    fn assistant(&mut self, content: &str) -> String {
        self.messages += 1;
        self.turns += 1;
        let line = fill(
            ASSISTANT,
            &[
                ("@MESSAGE", json!(format!("msg_{:024x}", self.messages))),
                ("@MODEL", self.model.clone()),
                ("@SESSION", self.session.clone()),
                ("@UUID", self.uuid()),
                ("@REQUEST", json!(format!("req_{:024x}", self.messages))),
            ],
        );
        line.replacen("@CONTENT", content, 1)
    }

    fn uuid(&mut self) -> Value {
        self.events += 1;
        json!(format!("00000000-0000-4000-8000-{:012x}", self.events))
    }
}

/// The script's text comes last among `values`: it may contain anything, also the name of another
/// value.
fn fill(template: &str, values: &[(&str, Value)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(name, &value.to_string()))
}

fn value_of(arguments: &[String], flag: &str) -> Option<String> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == flag {
            return rest.next().cloned();
        }
        if let Some(value) = argument.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.to_owned());
        }
    }
    None
}
