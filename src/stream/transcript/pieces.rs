//! Questions and permission requests: the transcript of one line depends on other lines.

use std::collections::{HashMap, HashSet};

use super::{Speaker, TranscriptLine, WAITS_FOR_PERMISSION};

/// Part of a line of the stream. Its transcript can depend on other lines: a question is in the
/// tool call, in the request of the CLI, and in the tool result. So lines are parsed in any order,
/// and [`resolve`] combines their pieces.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Its transcript if nothing else is known.
    pub(super) line: Option<TranscriptLine>,
    pub(super) link: Option<Link>,
}

/// Connection of a piece to others.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// A tool call.
    Call { id: String, question: bool },
    /// A request of the CLI to decide on a tool call, and that call.
    Request { id: String, request_id: String, question: bool, call: String },
    /// The answer to a request, which newer CLIs repeat: `Ok` if the tool may run, else the reason.
    Response { request_id: String, decision: Result<(), String> },
    /// The request was withdrawn.
    Cancelled { request_id: String },
    /// A tool result, with its error if it failed.
    Outcome { id: String, failed: Option<String> },
    /// The tool calls that were denied in the turn that has ended.
    Denied { ids: Vec<String> },
}

impl Piece {
    pub(super) fn said(speaker: Speaker, text: impl Into<String>) -> Self {
        Self { line: Some(TranscriptLine::new(speaker, text)), link: None }
    }

    pub(super) fn linked(link: Link) -> Self {
        Self { line: None, link: Some(link) }
    }

    /// Its transcript if nothing else is known.
    pub(crate) fn line(&self) -> Option<&TranscriptLine> {
        self.line.as_ref()
    }

    /// Returns the same line for shortening.
    pub(crate) fn line_mut(&mut self) -> Option<&mut TranscriptLine> {
        self.line.as_mut()
    }

    /// Whether other pieces may change its transcript.
    pub(crate) fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// Whether it is a request to decide on a tool call.
    pub(crate) fn is_request(&self) -> bool {
        matches!(self.link, Some(Link::Request { .. }))
    }

    /// Whether it depends on an earlier piece that is not among `pieces`.
    pub(crate) fn lacks_context(&self, pieces: &[Self]) -> bool {
        let Some(link) = &self.link else { return false };
        match link {
            Link::Request { .. }
            | Link::Outcome { .. }
            | Link::Response { .. }
            | Link::Cancelled { .. } => !pieces.iter().any(|piece| piece.precedes(link)),
            Link::Call { .. } | Link::Denied { .. } => false,
        }
    }

    /// Whether `later` is about the tool call or the request of this piece.
    fn precedes(&self, later: &Link) -> bool {
        match (&self.link, later) {
            (
                Some(Link::Call { id, .. }),
                Link::Request { id: later, .. } | Link::Outcome { id: later, .. },
            ) => id == later,
            (
                Some(Link::Request { request_id, .. }),
                Link::Response { request_id: later, .. } | Link::Cancelled { request_id: later },
            ) => request_id == later,
            _ => false,
        }
    }
}

/// Decision on a tool call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallDecision {
    Allowed,
    Denied,
}

/// Facts about the tool calls of some pieces.
#[derive(Default)]
struct CallTable<'a> {
    /// Whether each shown call is a question.
    questions: HashMap<&'a str, bool>,
    /// Calls that the CLI asked about, by request: id and text.
    requests: HashMap<&'a str, (&'a str, &'a str)>,
    /// Permission requests, by call.
    permissions: HashMap<&'a str, &'a str>,
    /// Calls that have a result, or whose request was withdrawn.
    closed: HashSet<&'a str>,
    /// Decisions in the stream.
    decided: HashMap<&'a str, CallDecision>,
    /// Calls whose decision is in a response.
    responded: HashSet<&'a str>,
}

impl<'a> CallTable<'a> {
    fn from_pieces(context: &'a [Piece], pieces: &'a [Piece]) -> Self {
        let mut calls = Self::default();
        // In stream order: a response follows its request.
        for piece in context.iter().chain(pieces) {
            let Some(link) = &piece.link else { continue };
            match link {
                Link::Call { id, question } => {
                    calls.questions.insert(id, *question);
                }
                Link::Request { id, request_id, question, call } => {
                    calls.requests.insert(request_id, (id, call));
                    if !question {
                        calls.permissions.insert(id, call);
                    }
                }
                Link::Response { request_id, decision } => {
                    if let Some((id, _)) = calls.requests.get(request_id.as_str()) {
                        let decided = match decision {
                            Ok(()) => CallDecision::Allowed,
                            Err(_) => CallDecision::Denied,
                        };
                        calls.closed.insert(id);
                        calls.decided.insert(id, decided);
                        calls.responded.insert(id);
                    }
                }
                Link::Cancelled { request_id } => {
                    if let Some((id, _)) = calls.requests.get(request_id.as_str()) {
                        calls.closed.insert(id);
                    }
                }
                Link::Outcome { id, failed } => {
                    calls.closed.insert(id);
                    if failed.is_none() {
                        calls.decided.entry(id).or_insert(CallDecision::Allowed);
                    }
                }
                Link::Denied { ids } => {
                    for id in ids {
                        calls.decided.entry(id).or_insert(CallDecision::Denied);
                    }
                }
            }
        }
        calls
    }

    /// Returns the text that names a call next to a decision; empty directly after the call.
    fn call_name(&self, id: &str, last_call: Option<&str>) -> String {
        match self.permissions.get(id) {
            Some(_) if last_call == Some(id) => String::new(),
            // The call is shown further above.
            Some(call) if self.questions.contains_key(id) => {
                format!(" {}", call.split(':').next().unwrap_or(call))
            }
            Some(call) => format!(" {call}"),
            None => String::new(),
        }
    }

    fn allowed(&self, id: &str, last_call: Option<&str>) -> TranscriptLine {
        TranscriptLine::new(Speaker::User, format!("allowed{}", self.call_name(id, last_call)))
    }

    fn denied(&self, id: &str, last_call: Option<&str>, why: &str) -> TranscriptLine {
        let mut text = format!("denied{}", self.call_name(id, last_call));
        if !why.is_empty() {
            text += &format!(": {why}");
        }
        TranscriptLine::new(Speaker::User, text)
    }
}

/// Returns the transcript of the pieces in stream order, each line with the index of its piece:
/// each question once, with its answer, and each permission request while it waits and then the
/// decision. `context` holds earlier pieces, which are not shown.
pub(crate) fn resolve(context: &[Piece], pieces: &[Piece]) -> Vec<(usize, TranscriptLine)> {
    let mut resolved = Vec::new();
    if !context.iter().chain(pieces).any(Piece::is_decision) {
        for (at, piece) in pieces.iter().enumerate() {
            if let Some(line) = &piece.line {
                resolved.push((at, line.clone()));
            }
        }
        return resolved;
    }
    let calls = CallTable::from_pieces(context, pieces);
    let mut last_call = None;
    for piece in context {
        last_call = piece.call_id().or(last_call);
    }
    for (at, piece) in pieces.iter().enumerate() {
        last_call = piece.call_id().or(last_call);
        if let Some(line) = piece.resolved_line(&calls, last_call) {
            resolved.push((at, line));
        }
    }
    resolved
}

impl Piece {
    fn call_id(&self) -> Option<&str> {
        match &self.link {
            Some(Link::Call { id, .. }) => Some(id),
            _ => None,
        }
    }

    /// Whether it is a request to decide on a tool call, or the decision.
    fn is_decision(&self) -> bool {
        matches!(self.link, Some(Link::Request { .. } | Link::Response { .. }))
    }

    /// Returns its line beside the other pieces, whose facts are in `calls`.
    fn resolved_line(
        &self,
        calls: &CallTable<'_>,
        last_call: Option<&str>,
    ) -> Option<TranscriptLine> {
        match &self.link {
            Some(Link::Request { id, question: true, .. }) => {
                if calls.questions.contains_key(id.as_str()) { None } else { self.line.clone() }
            }
            Some(Link::Request { id, .. }) if calls.closed.contains(id.as_str()) => None,
            Some(Link::Request { id, .. }) if last_call == Some(id.as_str()) => {
                Some(TranscriptLine::new(Speaker::Note, WAITS_FOR_PERMISSION))
            }
            Some(Link::Request { id, .. }) if calls.questions.contains_key(id.as_str()) => {
                let text = format!("{WAITS_FOR_PERMISSION}:{}", calls.call_name(id, last_call));
                Some(TranscriptLine::new(Speaker::Note, text))
            }
            Some(Link::Response { request_id, decision }) => {
                let (id, _) = calls.requests.get(request_id.as_str())?;
                calls.permissions.get(id)?;
                Some(match decision {
                    Ok(()) => calls.allowed(id, last_call),
                    Err(why) => calls.denied(id, last_call, why),
                })
            }
            Some(Link::Outcome { id, failed }) => {
                self.resolved_outcome(id, failed.as_deref(), calls, last_call)
            }
            _ => self.line.clone(),
        }
    }

    /// Returns the line of a tool result: for a call that needed a permission, whether it was
    /// allowed, unless the response to the request says so.
    fn resolved_outcome(
        &self,
        id: &str,
        failed: Option<&str>,
        calls: &CallTable<'_>,
        last_call: Option<&str>,
    ) -> Option<TranscriptLine> {
        if let Some(why) = failed
            && calls.questions.get(id) == Some(&true)
        {
            return Some(TranscriptLine::new(Speaker::User, format!("not answered: {why}")));
        }
        if !calls.permissions.contains_key(id) {
            return self.line.clone();
        }
        let is_denied = calls.decided.get(id) == Some(&CallDecision::Denied);
        match (failed, calls.responded.contains(id)) {
            (Some(_), true) if is_denied => None,
            (Some(why), false) if is_denied => Some(calls.denied(id, last_call, why)),
            (None, false) => Some(calls.allowed(id, last_call)),
            // The end of the turn says whether it was denied or failed.
            _ => self.line.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pieces as pieces_of;
    use super::*;
    use crate::stream::Line;

    const CALL: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"rm x"}}]}}"#;
    const OTHER: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t2","name":"Read","input":{"file_path":"/y"}}]}}"#;
    const ASKS: &str = r#"{"type":"control_request","request_id":"r1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"rm x"},"tool_use_id":"t1"}}"#;
    const ALLOWS: &str = r#"{"response":{"request_id":"r1","response":{"behavior":"allow","updatedInput":{}},"subtype":"success"},"type":"control_response"}"#;
    const DENIES: &str = r#"{"response":{"request_id":"r1","response":{"behavior":"deny","message":"no"},"subtype":"success"},"type":"control_response"}"#;
    const INTERRUPTS: &str =
        r#"{"type":"control_response","response":{"subtype":"success","request_id":"r1"}}"#;
    const CANCELS: &str = r#"{"type":"control_cancel_request","request_id":"r1"}"#;
    const FINE: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"fine"}]}}"#;
    const FAILS: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"no","is_error":true}]}}"#;
    const DENIED: &str = r#"{"type":"result","subtype":"success","is_error":false,"permission_denials":[{"tool_use_id":"t1"}]}"#;
    const DONE: &str = r#"{"type":"result","subtype":"success","is_error":false}"#;

    fn all_pieces(lines: &[&str]) -> Vec<Piece> {
        let lines =
            lines.iter().map(|text| Line { bytes: text.as_bytes(), length: text.len() as u64 });
        lines.flat_map(pieces_of).collect()
    }

    fn read(context: &[&str], lines: &[&str]) -> Vec<String> {
        let (context, pieces) = (all_pieces(context), all_pieces(lines));
        resolve(&context, &pieces).into_iter().map(|(_, line)| line.to_string()).collect()
    }

    #[test]
    fn shows_permissions_by_what_is_known() {
        let (call, ends) = ("→ Bash: rm x", "= done · 0 turns · 0.0s");
        for (context, lines, expected) in [
            (&[][..], &[CALL, ASKS][..], &[call, "· waits for permission"][..]),
            (&[], &[ASKS], &["· waits for permission: Bash: rm x"]),
            (&[], &[CALL, OTHER, ASKS], &[call, "→ Read: /y", "· waits for permission: Bash"]),
            (&[], &[CALL, ASKS, INTERRUPTS], &[call, "· waits for permission"]),
            (&[], &[CALL, ASKS, CANCELS], &[call]),
            // Newer versions of the CLI repeat the answer.
            (&[], &[CALL, ASKS, ALLOWS], &[call, "> allowed"]),
            (&[], &[CALL, ASKS, ALLOWS, FINE], &[call, "> allowed"]),
            (&[], &[CALL, ASKS, ALLOWS, FAILS], &[call, "> allowed", "✗ no"]),
            (&[], &[CALL, ASKS, DENIES, FAILS], &[call, "> denied: no"]),
            // With older ones the tool result or the end of the turn shows it.
            (&[], &[CALL, ASKS, FINE], &[call, "> allowed"]),
            (&[], &[CALL, OTHER, ASKS, FINE], &[call, "→ Read: /y", "> allowed Bash"]),
            (&[], &[CALL, ASKS, FAILS], &[call, "✗ no"]),
            (&[], &[CALL, ASKS, FAILS, DENIED], &[call, "> denied: no", ends]),
            (&[], &[CALL, ASKS, FAILS, DONE], &[call, "✗ no", ends]),
            // No request.
            (&[], &[CALL, FINE], &[call]),
            (&[], &[CALL, FAILS, DENIED], &[call, "✗ no", ends]),
            // Part of the log.
            (&[], &[FINE], &[]),
            (&[], &[ASKS, FINE], &["> allowed Bash: rm x"]),
            (&[CALL], &[ASKS], &["· waits for permission"]),
            (&[CALL, ASKS], &[FINE], &["> allowed"]),
            (&[CALL, ASKS], &[DENIES], &["> denied: no"]),
            (&[CALL, ASKS, DENIES], &[FAILS], &[]),
            (&[CALL, ASKS, ALLOWS], &[FINE], &[]),
        ] {
            assert_eq!(read(context, lines), expected, "{context:?} {lines:?}");
        }
    }

    #[test]
    fn shows_a_line_per_question_and_one_for_answers() {
        let questions = r#"[{"question":"Which?","header":"DB","options":[{"label":"A"},{"label":"B"}]},{"question":"Why?","header":""}]"#;
        let input = format!(r#"{{"questions":{questions}}}"#);
        let call = format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"q","name":"AskUserQuestion","input":{input}}}]}}}}"#
        );
        let asks = format!(
            r#"{{"type":"control_request","request_id":"r","request":{{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{input},"tool_use_id":"q"}}}}"#
        );
        let gave = |result: &str, is_error: bool| {
            format!(
                r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"q","is_error":{is_error},"content":"no"}}]}},"tool_use_result":{result}}}"#
            )
        };
        let answers = r#"{"Why?":"B is\nfast","Which?":"B"}"#;
        let given = gave(&format!(r#"{{"questions":{questions},"answers":{answers}}}"#), false);
        let refused = gave(r#""Error: no""#, true);
        let shown = ["→ asks: Which? (A, B)", "→ asks: Why?"];
        assert_eq!(read(&[], &[&call, &asks]), shown);
        assert_eq!(read(&[], &[&call]), shown);
        assert_eq!(read(&[], &[&asks]), shown);
        let answered = "> answered: DB: B; Why?: B is fast";
        assert_eq!(read(&[], &[&call, &asks, &given])[2..], [answered]);
        assert_eq!(read(&[], &[&given]), [answered]);
        assert_eq!(read(&[], &[&call, &asks, &refused])[2..], ["> not answered: no"]);
        assert_eq!(read(&[&call, &asks], &[&refused]), ["> not answered: no"]);
    }
}
