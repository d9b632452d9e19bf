//! Claude's stdin: the prompt as a stream-json user message, then messages and control requests.

use std::collections::VecDeque;
use std::fs::File;
use std::future::pending;
use std::io::{self, Read};

use serde_json::{Value, json};
use tokio::net::unix::pipe;

/// The parts of the message before and after the text of the prompt.
const PROMPT_HEAD: &[u8] = br#"{"type":"user","message":{"role":"user","content":""#;
const PROMPT_TAIL: &[u8] = b"\"},\"parent_tool_use_id\":null,\"session_id\":null}\n";
/// Bytes of the prompt that are read at once, so that it is never in memory as a whole.
const PIECE_BYTES: usize = 32 << 10;

/// The pipe to claude's stdin, and the data that is still to be written.
#[derive(Default)]
pub(super) struct ClaudeInput {
    pipe: Option<pipe::Sender>,
    prompt: Option<File>,
    /// The first bytes of a character of the prompt whose other bytes were not read yet.
    partial_char: Vec<u8>,
    queued: Vec<u8>,
    written: usize,
    /// Complete lines to be written afterwards, in this order.
    lines: VecDeque<Vec<u8>>,
    is_closing: bool,
}

impl ClaudeInput {
    /// Queues a first message: this text, followed by the prompt. If both are missing there is no
    /// first message.
    pub(super) fn new(pipe: pipe::Sender, text: &str, prompt: Option<File>) -> Self {
        if text.is_empty() && prompt.is_none() {
            return Self { pipe: Some(pipe), ..Self::default() };
        }
        let mut queued = PROMPT_HEAD.to_vec();
        quote(text, &mut queued);
        if prompt.is_none() {
            queued.extend_from_slice(PROMPT_TAIL);
        }
        Self { pipe: Some(pipe), prompt, queued, ..Self::default() }
    }

    /// Queues a message.
    pub(super) fn send_message(&mut self, uuid: &str, text: &str) {
        self.push(&json!({
            "type": "user",
            "message": {"role": "user", "content": text},
            "parent_tool_use_id": null,
            "session_id": null,
            "uuid": uuid,
        }));
    }

    /// Queues the response to a control request.
    pub(super) fn respond(&mut self, id: &str, response: &Value) {
        let response = json!({"subtype": "success", "request_id": id, "response": response});
        self.push(&json!({"type": "control_response", "response": response}));
    }

    /// Queues a control request.
    pub(super) fn request(&mut self, id: &str, request: &Value) {
        self.push(&json!({"type": "control_request", "request_id": id, "request": request}));
    }

    fn push(&mut self, line: &Value) {
        let mut line = line.to_string().into_bytes();
        line.push(b'\n');
        self.lines.push_back(line);
        if self.written == self.queued.len() && self.prompt.is_none() {
            self.queue_next();
        }
    }

    /// Closes the pipe as soon as all that is queued was written.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
        if self.is_written() {
            self.pipe = None;
        }
    }

    /// Writes the next piece. Does not return while there is nothing to write.
    pub(super) async fn advance(&mut self) {
        if self.is_written() {
            return pending().await;
        }
        let Some(pipe) = &self.pipe else { return pending().await };
        let written = match pipe.writable().await {
            Ok(()) => pipe.try_write(&self.queued[self.written..]),
            Err(error) => Err(error),
        };
        match written {
            Ok(length) => {
                self.written += length;
                if self.written == self.queued.len() {
                    self.queue_next();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Claude has closed the pipe or ended, which the worker notices by other events.
            Err(_) => self.pipe = None,
        }
        if self.is_closing && self.is_written() {
            self.pipe = None;
        }
    }

    fn is_written(&self) -> bool {
        self.pipe.is_none() || self.written == self.queued.len()
    }

    fn queue_next(&mut self) {
        self.written = 0;
        self.queued.clear();
        let Some(prompt) = &mut self.prompt else {
            // Frees the buffer if nothing follows.
            self.queued = self.lines.pop_front().unwrap_or_default();
            return;
        };
        let mut piece = std::mem::take(&mut self.partial_char);
        let read = prompt.take(PIECE_BYTES as u64).read_to_end(&mut piece);
        if matches!(read, Ok(0) | Err(_)) {
            self.prompt = None;
            self.queued.extend_from_slice(PROMPT_TAIL);
            return;
        }
        let valid = match std::str::from_utf8(&piece) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8_lossy(&piece[..valid]);
        quote(&text, &mut self.queued);
        self.partial_char = piece.split_off(valid);
        if self.queued.is_empty() {
            // The piece had no complete character.
            self.queue_next();
        }
    }
}

/// Appends `text`, escaped for a JSON string.
fn quote(text: &str, to: &mut Vec<u8>) {
    if let Ok(quoted) = serde_json::to_string(text) {
        to.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
    }
}
