//! How the scripted API writes its responses.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tiny_http::{Method, Request};

use super::Shared;

pub(super) type Headers = [(String, String)];

pub(super) fn refuse(
    request: Request,
    status: u16,
    kind: &str,
    message: &str,
    headers: &Headers,
) -> io::Result<()> {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}});
    reply(request, status, &body, headers)
}

/// Written by hand: the server's own response cannot close the connection. A burst of requests,
/// such as those that count tokens, can otherwise hang, because the server lets new connections
/// wait for threads that idle ones hold.
pub(super) fn reply(
    request: Request,
    status: u16,
    body: &Value,
    headers: &Headers,
) -> io::Result<()> {
    let body = body.to_string();
    let mut answer = format!(
        "HTTP/1.1 {status} scripted\r\ncontent-type: application/json\r\nrequest-id: {}\r\n\
         connection: close\r\ncontent-length: {}\r\n",
        unique("req"),
        body.len()
    );
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    if *request.method() != Method::Head {
        answer.push_str(&body);
    }
    let mut writer = request.into_writer();
    writer.write_all(answer.as_bytes())?;
    writer.flush()
}

pub(super) fn limits(status: &str, seconds: u64) -> Vec<(String, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let reset = (now + seconds).to_string();
    [
        ("status", status),
        ("reset", &reset),
        ("representative-claim", "five_hour"),
        ("fallback-percentage", "0.5"),
        ("5h-status", status),
        ("5h-reset", &reset),
        ("5h-utilization", "0.93"),
    ]
    .iter()
    .map(|(name, value)| (format!("anthropic-ratelimit-unified-{name}"), (*value).to_owned()))
    .collect()
}

/// An answer in server-sent events. It is written by hand in chunks, each sent at once, because the
/// server's own response would collect them until a buffer is full.
pub(super) struct Stream(Box<dyn Write + Send>);

const USAGE: &str = concat!(
    r#"{"input_tokens":1200,"output_tokens":1,"cache_creation_input_tokens":0,"#,
    r#""cache_read_input_tokens":0}"#
);

impl Stream {
    pub(super) fn open(request: Request, model: &str, headers: &Headers) -> io::Result<Self> {
        let mut stream = Self(request.into_writer());
        write!(
            stream.0,
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: {}\r\n\
             transfer-encoding: chunked\r\n",
            unique("req")
        )?;
        for (name, value) in headers {
            write!(stream.0, "{name}: {value}\r\n")?;
        }
        stream.0.write_all(b"\r\n")?;
        // Written as text: the CLI passes these fields on in the order of their arrival.
        stream.event(
            "message_start",
            &format!(
                concat!(
                    r#""message":{{"id":"{}","type":"message","role":"assistant","model":{},"#,
                    r#""content":[],"stop_reason":null,"stop_sequence":null,"usage":{}}}"#
                ),
                unique("msg"),
                json!(model),
                USAGE,
            ),
        )?;
        Ok(stream)
    }

    /// An answer of one block.
    pub(super) fn block(mut self, block: &str, delta: &Value) -> io::Result<()> {
        self.begin(block)?;
        self.delta(delta)?;
        self.end("end_turn")
    }

    pub(super) fn text(mut self, text: &str) -> io::Result<()> {
        self.begin(r#"{"type":"text","text":""}"#)?;
        self.delta(&json!({"type": "text_delta", "text": text}))?;
        self.end("end_turn")
    }

    pub(super) fn slowly(mut self, time: Duration, shared: &Shared) -> io::Result<()> {
        const PARTS: u32 = 20;
        let start = Instant::now();
        self.begin(r#"{"type":"text","text":""}"#)?;
        for part in 0..PARTS {
            self.delta(&json!({"type": "text_delta", "text": format!("part{part} ")}))?;
            let due = time * (part + 1) / PARTS;
            drop(shared.wait_while(due.saturating_sub(start.elapsed()), |_| true));
        }
        self.end("end_turn")
    }

    pub(super) fn tool(mut self, name: &str, input: &Value) -> io::Result<()> {
        let id = unique("toolu");
        self.begin(&format!(r#"{{"type":"tool_use","id":"{id}","name":"{name}","input":{{}}}}"#))?;
        self.delta(&json!({"type": "input_json_delta", "partial_json": input.to_string()}))?;
        self.end("tool_use")
    }

    fn begin(&mut self, block: &str) -> io::Result<()> {
        self.event("content_block_start", &format!(r#""index":0,"content_block":{block}"#))
    }

    fn delta(&mut self, delta: &Value) -> io::Result<()> {
        self.event("content_block_delta", &format!(r#""index":0,"delta":{delta}"#))
    }

    fn end(mut self, stop_reason: &str) -> io::Result<()> {
        self.event("content_block_stop", r#""index":0"#)?;
        self.finish(stop_reason)
    }

    pub(super) fn finish(mut self, stop_reason: &str) -> io::Result<()> {
        self.event(
            "message_delta",
            &format!(
                concat!(
                    r#""delta":{{"stop_reason":"{}","stop_sequence":null}},"#,
                    r#""usage":{{"output_tokens":50}}"#
                ),
                stop_reason
            ),
        )?;
        self.send("message_stop", r#"{"type":"message_stop"}"#)?;
        self.close()
    }

    /// Sends an event of this kind with these fields.
    fn event(&mut self, kind: &str, fields: &str) -> io::Result<()> {
        self.send(kind, &format!(r#"{{"type":"{kind}",{fields}}}"#))
    }

    fn send(&mut self, kind: &str, event: &str) -> io::Result<()> {
        let text = format!("event: {kind}\ndata: {event}\n\n");
        write!(self.0, "{:x}\r\n{text}\r\n", text.len())?;
        self.0.flush()
    }

    pub(super) fn close(mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")?;
        self.0.flush()
    }
}

fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", &uuid::Uuid::new_v4().simple().to_string()[..24])
}
