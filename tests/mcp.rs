//! The MCP server, driven as a client does: recorded exchanges, bad input, waits, forms and tasks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

mod mcp {
    mod ends;
    mod exchanges;
    mod forms;
    mod input;
    mod sdk;
    mod tasks;
    mod waits;
}

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};
use support::Sandbox;

/// A question and a permission request of the fake.
const QUESTION: &str = r#"json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]},"tool_use_id":"t1"}}"#;
const PERMISSION: &str = r#"json {"type":"control_request","request_id":"p1","request":{"subtype":"can_use_tool","tool_name":"Write","input":{"file_path":"/etc/x","content":"hello"},"tool_use_id":"t2"}}"#;

/// A client of the server.
struct McpClient {
    child: Child,
    stdin: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    /// Schemas of the answers of the tools.
    schemas: BTreeMap<String, jsonschema::Validator>,
    /// What each request has in `_meta`, of a client of the newest version.
    meta: Option<Value>,
    last_id: u64,
    /// Notifications that came before answers.
    notices: Vec<Value>,
}

impl McpClient {
    /// Starts a server, and speaks the version with `initialize`.
    #[track_caller]
    fn legacy(sandbox: &Sandbox, capabilities: &Value) -> Self {
        let mut client = Self::start(sandbox, None);
        let params = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": capabilities,
            "clientInfo": { "name": "test", "version": "1" },
        });
        let result = client.request("initialize", params);
        assert_eq!(result["protocolVersion"], "2025-06-18", "{result}");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client.learn_schemas();
        client
    }

    /// Starts a server, and speaks the version without `initialize`.
    #[track_caller]
    fn modern(sandbox: &Sandbox, capabilities: &Value) -> Self {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        let mut client = Self::start(sandbox, Some(meta));
        client.learn_schemas();
        client
    }

    fn start(sandbox: &Sandbox, meta: Option<Value>) -> Self {
        let mut command = sandbox.command(["mcp"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let (schemas, notices) = (BTreeMap::new(), Vec::new());
        Self { child, stdin, output, schemas, meta, last_id: 0, notices }
    }

    fn learn_schemas(&mut self) {
        let listed = self.request("tools/list", json!({}));
        for tool in listed["tools"].as_array().unwrap() {
            let schema = jsonschema::validator_for(&tool["outputSchema"]).unwrap();
            self.schemas.insert(tool["name"].as_str().unwrap().to_owned(), schema);
        }
    }

    fn send(&mut self, message: &Value) {
        self.send_line(message.to_string().as_bytes());
    }

    fn send_line(&mut self, line: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line).unwrap();
        stdin.write_all(b"\n").unwrap();
    }

    /// Returns the next line of the server.
    #[track_caller]
    fn read(&mut self) -> Value {
        let line = self.output.next().expect("the server has ended").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    /// Sends a request, and returns its id.
    fn begin(&mut self, method: &str, mut params: Value) -> u64 {
        self.last_id += 1;
        if let Some(meta) = &self.meta {
            params["_meta"] = meta.clone();
        }
        let id = self.last_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// Begins a call of a tool with a token for its progress, and returns its id.
    fn begin_tool(&mut self, name: &str, arguments: Value) -> u64 {
        let id = self.last_id + 1;
        let mut params = json!({ "name": name, "_meta": { "progressToken": id } });
        params["arguments"] = arguments;
        self.begin("tools/call", params)
    }

    /// Returns the answer to a request, whose notifications are kept.
    #[track_caller]
    fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.read();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
            assert!(message.get("id").is_none(), "unexpected: {message}");
            self.notices.push(message);
        }
    }

    /// Returns the result of a request.
    #[track_caller]
    fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        let mut answer = self.answer(id);
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].take()
    }

    /// Returns the result of a tool call, checked against the schema of the tool.
    #[track_caller]
    fn call(&mut self, name: &str, arguments: Value) -> Value {
        let mut params = json!({ "name": name });
        params["arguments"] = arguments;
        let result = self.request("tools/call", params);
        self.check(name, &result);
        result
    }

    #[track_caller]
    fn check(&self, name: &str, result: &Value) {
        if result.get("content").is_none() || result["isError"] == true {
            return;
        }
        let data = &result["structuredContent"];
        let text: Value =
            serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(&text, data);
        let errors: Vec<String> =
            self.schemas[name].iter_errors(data).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?} in {data:#}");
    }

    /// Returns the data of a tool call that succeeds.
    #[track_caller]
    fn data(&mut self, name: &str, arguments: Value) -> Value {
        let mut result = self.call(name, arguments);
        assert_ne!(result["isError"], true, "{result}");
        result["structuredContent"].take()
    }

    /// Closes the input, and asserts that the server ends without another line.
    #[track_caller]
    fn finish(mut self) {
        self.stdin = None;
        assert_eq!(self.output.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [""; 0]);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
