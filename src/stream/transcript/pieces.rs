//! Questions and requests for permission: what is to be read of a line depends on others.

use std::collections::{HashMap, HashSet};

use super::{Speaker, TranscriptLine, WAITS};

/// A part of a line of the stream. What is to be read of it can depend on other lines: a question
/// stands in the tool call, in the CLI's request for an answer, and in the tool's result. So lines
/// are taken apart in any order, and [`resolve`] puts their pieces together.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What is to be read of it where nothing else is known.
    pub(super) passage: Option<TranscriptLine>,
    pub(super) link: Option<Link>,
}

/// What connects a piece with others.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// A tool call.
    Call { id: String, question: bool },
    /// The CLI's request to decide on a tool call, and that call.
    Request { id: String, request_id: String, question: bool, call: String },
    /// The answer to a request, which newer CLIs repeat: whether the tool may run, or why not.
    Response { request_id: String, decision: Result<(), String> },
    /// The request waits no more.
    Cancelled { request_id: String },
    /// What a tool gave back: whether it failed, and how.
    Outcome { id: String, failed: Option<String> },
    /// The tool calls that were denied in the turn that has ended.
    Denied { ids: Vec<String> },
}

impl Piece {
    pub(super) fn said(speaker: Speaker, text: impl Into<String>) -> Self {
        Self { passage: Some(TranscriptLine::new(speaker, text)), link: None }
    }

    pub(super) fn linked(link: Link) -> Self {
        Self { passage: None, link: Some(link) }
    }

    /// What is to be read of it where nothing else is known.
    pub fn passage(&self) -> Option<&TranscriptLine> {
        self.passage.as_ref()
    }

    /// The same, to be shortened.
    pub fn passage_mut(&mut self) -> Option<&mut TranscriptLine> {
        self.passage.as_mut()
    }

    /// Whether other pieces may change what is to be read of it.
    pub fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// Whether it is a request of the CLI to decide on a tool call.
    pub fn is_request(&self) -> bool {
        matches!(self.link, Some(Link::Request { .. }))
    }

    /// Whether it needs an earlier piece that is not among `pieces` to be understood.
    pub fn lacks_context(&self, pieces: &[Self]) -> bool {
        let links = || pieces.iter().filter_map(|piece| piece.link.as_ref());
        match &self.link {
            Some(Link::Request { id, .. }) => {
                !links().any(|link| matches!(link, Link::Call { id: other, .. } if other == id))
            }
            Some(Link::Outcome { id, .. }) => {
                !links().any(|link| matches!(link, Link::Call { id: other, .. } if other == id))
            }
            Some(Link::Response { request_id, .. } | Link::Cancelled { request_id }) => !links()
                .any(|link| matches!(link, Link::Request { request_id: r, .. } if r == request_id)),
            Some(Link::Call { .. } | Link::Denied { .. }) | None => false,
        }
    }
}
/// What was decided on a tool call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decided {
    Allowed,
    Denied,
}

/// What is known of the tool calls of some pieces.
#[derive(Default)]
struct Known<'a> {
    /// Whether each call that is shown is a question.
    calls: HashMap<&'a str, bool>,
    /// The calls that the CLI asked about, by the request: their ids, and as they are shown.
    requests: HashMap<&'a str, (&'a str, &'a str)>,
    /// The requests about permissions, by their calls.
    permissions: HashMap<&'a str, &'a str>,
    /// The calls that have a result, or whose request waits no more.
    closed: HashSet<&'a str>,
    /// What was decided, as far as the stream says it.
    decided: HashMap<&'a str, Decided>,
    /// The calls of which a response has told that.
    told: HashSet<&'a str>,
}

impl<'a> Known<'a> {
    fn of(context: &'a [Piece], pieces: &'a [Piece]) -> Self {
        let mut known = Self::default();
        // In the order of the stream: a response comes after its request.
        for link in context.iter().chain(pieces).filter_map(|piece| piece.link.as_ref()) {
            match link {
                Link::Call { id, question } => {
                    known.calls.insert(id, *question);
                }
                Link::Request { id, request_id, question, call } => {
                    known.requests.insert(request_id, (id, call));
                    if !question {
                        known.permissions.insert(id, call);
                    }
                }
                Link::Response { request_id, decision } => {
                    if let Some((id, _)) = known.requests.get(request_id.as_str()) {
                        let allowed = decision.is_ok();
                        let decided = if allowed { Decided::Allowed } else { Decided::Denied };
                        known.closed.insert(id);
                        known.decided.insert(id, decided);
                        known.told.insert(id);
                    }
                }
                Link::Cancelled { request_id } => {
                    known.closed.extend(known.requests.get(request_id.as_str()).map(|(id, _)| id));
                }
                Link::Outcome { id, failed } => {
                    known.closed.insert(id);
                    if failed.is_none() {
                        known.decided.entry(id).or_insert(Decided::Allowed);
                    }
                }
                Link::Denied { ids } => {
                    for id in ids {
                        known.decided.entry(id).or_insert(Decided::Denied);
                    }
                }
            }
        }
        known
    }

    /// The call as it is named where it was decided on: not at all right behind it.
    fn named(&self, id: &str, last_call: Option<&str>) -> String {
        match self.permissions.get(id) {
            Some(_) if last_call == Some(id) => String::new(),
            // It is shown further above.
            Some(call) if self.calls.contains_key(id) => {
                format!(" {}", call.split(':').next().unwrap_or(call))
            }
            Some(call) => format!(" {call}"),
            None => String::new(),
        }
    }
}

/// What is to be read of these pieces, in the order of the stream, and of which piece: each
/// question once, with its answer, and each request for a permission for as long as it waits, and
/// then what was decided. `context` holds pieces from before them, of which nothing is read.
pub fn resolve(context: &[Piece], pieces: &[Piece]) -> Vec<(usize, TranscriptLine)> {
    let linked =
        |piece: &Piece| matches!(piece.link, Some(Link::Request { .. } | Link::Response { .. }));
    let asks = context.iter().chain(pieces).any(linked);
    let mut resolved = Vec::new();
    if !asks {
        for (at, piece) in pieces.iter().enumerate() {
            resolved.extend(piece.passage.clone().map(|passage| (at, passage)));
        }
        return resolved;
    }
    let known = Known::of(context, pieces);
    let mut last_call = None;
    for piece in context {
        if let Some(Link::Call { id, .. }) = &piece.link {
            last_call = Some(id.as_str());
        }
    }
    for (at, piece) in pieces.iter().enumerate() {
        if let Some(Link::Call { id, .. }) = &piece.link {
            last_call = Some(id.as_str());
        }
        let shown = piece.resolved(&known, last_call);
        resolved.extend(shown.into_iter().map(|passage| (at, passage)));
    }
    resolved
}

impl Piece {
    fn resolved(&self, known: &Known<'_>, last_call: Option<&str>) -> Vec<TranscriptLine> {
        let as_it_is = || self.passage.iter().cloned().collect::<Vec<_>>();
        let allowed = |id: &str| {
            TranscriptLine::new(Speaker::User, format!("allowed{}", known.named(id, last_call)))
        };
        let denied = |id: &str, why: &str| {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            let text = format!("denied{}{why}", known.named(id, last_call));
            TranscriptLine::new(Speaker::User, text)
        };
        match &self.link {
            Some(Link::Request { id, question: true, .. }) => {
                if known.calls.contains_key(id.as_str()) { Vec::new() } else { as_it_is() }
            }
            Some(Link::Request { id, .. }) if known.closed.contains(id.as_str()) => Vec::new(),
            Some(Link::Request { id, .. }) if last_call == Some(id.as_str()) => {
                vec![TranscriptLine::new(Speaker::Note, WAITS)]
            }
            Some(Link::Request { id, .. }) if known.calls.contains_key(id.as_str()) => {
                let text = format!("{WAITS}:{}", known.named(id, last_call));
                vec![TranscriptLine::new(Speaker::Note, text)]
            }
            Some(Link::Response { request_id, decision }) => {
                match (known.requests.get(request_id.as_str()), decision) {
                    (Some((id, _)), Ok(())) if known.permissions.contains_key(id) => {
                        vec![allowed(id)]
                    }
                    (Some((id, _)), Err(why)) if known.permissions.contains_key(id) => {
                        vec![denied(id, why)]
                    }
                    _ => Vec::new(),
                }
            }
            Some(Link::Outcome { id, failed }) => {
                let id = id.as_str();
                let decided = known.decided.get(id);
                let question = known.calls.get(id) == Some(&true);
                match failed {
                    Some(why) if question => {
                        vec![TranscriptLine::new(Speaker::User, format!("not answered: {why}"))]
                    }
                    _ if !known.permissions.contains_key(id) => as_it_is(),
                    Some(_) if known.told.contains(id) && decided == Some(&Decided::Denied) => {
                        Vec::new()
                    }
                    _ if known.told.contains(id) => as_it_is(),
                    None => vec![allowed(id)],
                    Some(why) if decided == Some(&Decided::Denied) => vec![denied(id, why)],
                    // Whether it was denied or ran and failed is said at the end of the turn.
                    Some(_) => as_it_is(),
                }
            }
            _ => as_it_is(),
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

    fn taken_apart(lines: &[&str]) -> Vec<Piece> {
        let lines =
            lines.iter().map(|text| Line { bytes: text.as_bytes(), length: text.len() as u64 });
        lines.flat_map(pieces_of).collect()
    }

    fn read(context: &[&str], lines: &[&str]) -> Vec<String> {
        let (context, pieces) = (taken_apart(context), taken_apart(lines));
        resolve(&context, &pieces).into_iter().map(|(_, passage)| passage.to_string()).collect()
    }

    #[test]
    fn a_permission_reads_by_what_is_known_of_it() {
        let (call, ends) = ("→ Bash: rm x", "= done · 0 turns · 0.0 s");
        for (context, lines, expected) in [
            (&[][..], &[CALL, ASKS][..], &[call, "· waits for permission"][..]),
            (&[], &[ASKS], &["· waits for permission: Bash: rm x"]),
            (&[], &[CALL, OTHER, ASKS], &[call, "→ Read: /y", "· waits for permission: Bash"]),
            (&[], &[CALL, ASKS, INTERRUPTS], &[call, "· waits for permission"]),
            (&[], &[CALL, ASKS, CANCELS], &[call]),
            // The answer is repeated by newer versions of the CLI.
            (&[], &[CALL, ASKS, ALLOWS], &[call, "> allowed"]),
            (&[], &[CALL, ASKS, ALLOWS, FINE], &[call, "> allowed"]),
            (&[], &[CALL, ASKS, ALLOWS, FAILS], &[call, "> allowed", "✗ no"]),
            (&[], &[CALL, ASKS, DENIES, FAILS], &[call, "> denied: no"]),
            // With older ones the tool's result tells it, or the end of the turn.
            (&[], &[CALL, ASKS, FINE], &[call, "> allowed"]),
            (&[], &[CALL, OTHER, ASKS, FINE], &[call, "→ Read: /y", "> allowed Bash"]),
            (&[], &[CALL, ASKS, FAILS], &[call, "✗ no"]),
            (&[], &[CALL, ASKS, FAILS, DENIED], &[call, "> denied: no", ends]),
            (&[], &[CALL, ASKS, FAILS, DONE], &[call, "✗ no", ends]),
            // Nobody was asked.
            (&[], &[CALL, FINE], &[call]),
            (&[], &[CALL, FAILS, DENIED], &[call, "✗ no", ends]),
            // A part of the log.
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
    fn several_questions_are_a_line_each_and_their_answers_one() {
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
