//! Claude's stdin: the prompt as a stream-json user message, and then silence until it is closed.

use std::collections::VecDeque;
use std::fs::File;
use std::future::pending;
use std::io::{self, Read};

use serde_json::{Value, json};
use tokio::net::unix::pipe;

/// What stands before and after the prompt's text in its message.
const HEAD: &[u8] = br#"{"type":"user","message":{"role":"user","content":""#;
const TAIL: &[u8] = b"\"},\"parent_tool_use_id\":null,\"session_id\":null}\n";
/// Bytes of the prompt that are read at once: it is never held whole.
const PIECE: usize = 32 << 10;

/// The writing end, and what is still to be written.
#[derive(Default)]
pub(super) struct ClaudeInput {
    pipe: Option<pipe::Sender>,
    prompt: Option<File>,
    /// The start of a character whose rest was not read yet.
    cut: Vec<u8>,
    queued: Vec<u8>,
    written: usize,
    /// Further lines, to be written whole and in this order.
    lines: VecDeque<Vec<u8>>,
    closing: bool,
}

impl ClaudeInput {
    /// Claude's stdin, with a message to be written: this text, and then the prompt. Where both
    /// are missing there is none.
    pub(super) fn new(pipe: pipe::Sender, text: &str, prompt: Option<File>) -> Self {
        if text.is_empty() && prompt.is_none() {
            return Self { pipe: Some(pipe), ..Self::default() };
        }
        let mut queued = HEAD.to_vec();
        quote(text, &mut queued);
        if prompt.is_none() {
            queued.extend_from_slice(TAIL);
        }
        Self { pipe: Some(pipe), prompt, queued, ..Self::default() }
    }

    /// Writes a message when what is queued before it was written.
    pub(super) fn send_message(&mut self, uuid: &str, text: &str) {
        self.push(&json!({
            "type": "user",
            "message": {"role": "user", "content": text},
            "parent_tool_use_id": null,
            "session_id": null,
            "uuid": uuid,
        }));
    }

    /// Answers a control request likewise.
    pub(super) fn respond(&mut self, id: &str, response: &Value) {
        let response = json!({"subtype": "success", "request_id": id, "response": response});
        self.push(&json!({"type": "control_response", "response": response}));
    }

    /// Writes a control request likewise.
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

    /// Closes it, as soon as what is queued was written.
    pub(super) fn close(&mut self) {
        self.closing = true;
        if self.is_written() {
            self.pipe = None;
        }
    }

    /// Writes the next piece. Never done while there is nothing to write.
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
            // Claude has closed it or ended, which shows elsewhere.
            Err(_) => self.pipe = None,
        }
        if self.closing && self.is_written() {
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
            // The buffer is given back where nothing follows.
            self.queued = self.lines.pop_front().unwrap_or_default();
            return;
        };
        let mut piece = std::mem::take(&mut self.cut);
        let read = prompt.take(PIECE as u64).read_to_end(&mut piece);
        if matches!(read, Ok(0) | Err(_)) {
            self.prompt = None;
            self.queued.extend_from_slice(TAIL);
            return;
        }
        let whole = match std::str::from_utf8(&piece) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8_lossy(&piece[..whole]);
        quote(&text, &mut self.queued);
        self.cut = piece.split_off(whole);
        if self.queued.is_empty() {
            // Not one whole character was in the piece: it goes on at once.
            self.queue_next();
        }
    }
}

/// Appends `text` as it stands within a JSON string.
fn quote(text: &str, to: &mut Vec<u8>) {
    if let Ok(quoted) = serde_json::to_string(text) {
        to.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
    }
}
