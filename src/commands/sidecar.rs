//! `sidecar`: jobs for programs that embed this one, as JSON lines over stdin and stdout.
//!
//! Each query is an ordinary job whose id follows from the session's, so it goes on when the sidecar
//! is gone, and another one attaches to it where the first one was.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::seen::{Seen, look};
use super::start::{self, start};
use super::watch::{Notice, Watch};
use super::{answer, kill, resume, send};
use crate::claude::Surroundings;
use crate::error::Error;
use crate::job::{Exit, JobId, Outcome, Reason, Spec, SpecChange, Status};
use crate::launch::Wish;
use crate::process;
use crate::store::{JobDir, META, OUTPUT, STDERR, Store};
use crate::text::{one_line, signal_name};

/// Bytes of one event that are given on; a longer one is only told of.
const EVENT_MOST: u64 = 16 << 20;
/// How long a kept-alive job may take from the result of a turn until its record says that it is
/// idle.
const IDLE_TAKES: Duration = Duration::from_secs(1);
/// Label of a job whose id is not its session's: the session id.
const SESSION_LABEL: &str = "session";
/// Bytes of a label's value, as `--label` limits them.
const LABEL_MOST: usize = 256;

/// What a program asks for.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum Ask {
    Ping,
    Query(Box<Query>),
    Attach {
        session_id: String,
        #[serde(default)]
        since_offset: u64,
        since_log_offset: Option<u64>,
    },
    Stop {
        session_id: String,
    },
    Message {
        session_id: String,
        text: String,
    },
    Answer(Box<Reply>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Query {
    session_id: String,
    prompt: String,
    cwd: Option<String>,
    max_turns: Option<u32>,
    max_budget_usd: Option<f64>,
    resume_session_id: Option<String>,
    permission_mode: Option<String>,
    #[serde(default)]
    ask: bool,
    #[serde(default)]
    keep_alive: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reply {
    session_id: String,
    request_id: Option<String>,
    choices: Vec<String>,
    text: Option<String>,
    allow: bool,
    deny: bool,
    message: Option<String>,
    release: bool,
}

/// A line for the embedding program.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Told {
    /// The sidecar reads its input.
    Ready {
        /// The version of this program.
        version: &'static str,
    },
    /// The answer to a ping.
    Pong,
    /// A query's job runs, or one was attached to.
    AgentStarted {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// The id of the session's job, for the other verbs.
        job_id: JobId,
        /// The worker's process id.
        pid: Option<i32>,
    },
    /// An event of claude's stream, as it is.
    AgentEvent {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// The event; null if it is too long.
        #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
        event: Option<Box<RawValue>>,
        /// Offset behind it in the stream, for `sinceOffset` of `attach`.
        offset: u64,
    },
    /// A line of stderr, or one of stdout that is not an event.
    AgentLog {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// `stderr` or `stdout`.
        stream: &'static str,
        /// The line.
        line: String,
        /// Offset behind it in that stream, for `sinceLogOffset` of `attach`.
        offset: u64,
    },
    /// The job has ended.
    AgentStopped {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// Claude's exit code; null if it has none.
        exit_code: Option<i32>,
        /// The name of the signal that ended claude, such as `SIGKILL`; null if none did.
        signal: Option<String>,
        /// The job's status.
        status: Status,
        /// Why it failed.
        reason: Option<Reason>,
        /// The same as a sentence.
        error: Option<String>,
    },
    /// A query's job could not be started or resumed.
    AgentError {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// Why.
        error: String,
        /// The stable word for it.
        code: &'static str,
    },
    /// A line of the input was invalid or could not be carried out.
    Error {
        /// The session that the line named.
        session_id: Option<String>,
        /// Why.
        error: String,
        /// The stable word for it.
        code: &'static str,
    },
}

/// Tells; false: nobody listens any more.
pub type Tell = Arc<dyn Fn(&Told) -> bool + Send + Sync>;

struct Sidecar {
    store: Store,
    around: Surroundings,
    /// What a job is asked that a query says nothing about.
    usual: Spec,
    tell: Tell,
    /// The input has ended: no session gets a message or an answer any more.
    input_ended: Arc<AtomicBool>,
    /// Who reports the sessions, by their ids.
    followers: HashMap<String, Follower>,
    /// Threads that stop sessions.
    stops: Vec<JoinHandle<()>>,
}

/// A thread that reports a session.
struct Follower {
    thread: JoinHandle<()>,
    /// Makes it look at its job anew.
    wake: Sender<Notice>,
}

/// Serves until stdin has ended and the sessions are reported to their end, or until nobody reads
/// stdout any more. The jobs go on. `usual` is what a job is asked of which a query says nothing.
pub fn serve(store: &Store, around: Surroundings, usual: Spec, tell: Tell) {
    process::stay();
    tell(&Told::Ready { version: env!("CARGO_PKG_VERSION") });
    let mut sidecar = Sidecar {
        store: store.clone(),
        around,
        usual,
        tell,
        input_ended: Arc::default(),
        followers: HashMap::new(),
        stops: Vec::new(),
    };
    let mut input = BufReader::new(process::RawStdin);
    let mut line = Vec::new();
    while read_line(&mut input, &mut line) {
        if !line.trim_ascii().is_empty() {
            sidecar.hear(&line);
        }
    }
    sidecar.finish();
}

/// Reads the next line; false if there is none any more, or if nobody reads stdout any more. What
/// can be read comes first: a caller that ends may have stopped its sessions just before.
fn read_line(input: &mut BufReader<process::RawStdin>, line: &mut Vec<u8>) -> bool {
    line.clear();
    loop {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let is_empty = input.buffer().is_empty();
        if is_empty && process::loses_reader(stdout.as_fd(), Some(stdin.as_fd())) {
            return false;
        }
        let (length, is_whole) = match input.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) | Ok([]) => return !line.is_empty(),
            Ok(bytes) => {
                let end = memchr::memchr(b'\n', bytes);
                let length = end.map_or(bytes.len(), |at| at + 1);
                line.extend_from_slice(&bytes[..length]);
                (length, end.is_some())
            }
        };
        input.consume(length);
        if is_whole {
            return true;
        }
    }
}

impl Sidecar {
    fn hear(&mut self, line: &[u8]) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct About {
            #[serde(rename = "type")]
            kind: Option<String>,
            session_id: Option<String>,
        }
        let ask: Ask = match serde_json::from_slice(line) {
            Ok(ask) => ask,
            Err(error) => {
                let about: Option<About> = serde_json::from_slice(line).ok();
                let known = ["ping", "query", "attach", "stop", "message", "answer"];
                let kind = about.as_ref().and_then(|about| about.kind.as_deref());
                let code = match (&about, kind) {
                    (None, _) => "invalid_json",
                    (_, Some(kind)) if known.contains(&kind) => "invalid_message",
                    _ => "unknown_type",
                };
                let session_id = about.and_then(|about| about.session_id);
                let error = one_line(&error.to_string(), 300);
                (self.tell)(&Told::Error { session_id, error, code });
                return;
            }
        };
        match ask {
            Ask::Ping => {
                (self.tell)(&Told::Pong);
            }
            Ask::Query(query) => {
                let session_id = query.session_id.clone();
                match self.query(*query) {
                    Ok(()) => {}
                    Err(error @ (Error::Launch { .. } | Error::NoSpace(_) | Error::Store(_))) => {
                        let (error, code) = (error.to_string(), error.code());
                        (self.tell)(&Told::AgentError { session_id, error, code });
                    }
                    Err(error) => tell_error(&self.tell, session_id, &error),
                }
            }
            Ask::Attach { session_id, since_offset, since_log_offset } => {
                if let Err(error) = self.attach(&session_id, since_offset, since_log_offset) {
                    tell_error(&self.tell, session_id, &error);
                }
            }
            Ask::Stop { session_id } => self.stop(session_id),
            Ask::Message { session_id, text } => {
                let sent = job_of(&session_id).and_then(|id| {
                    let message = text.into_bytes();
                    send::send(&self.store, send::Request { id, message, wait: None })
                });
                if let Err(error) = sent {
                    tell_error(&self.tell, session_id, &error);
                }
            }
            Ask::Answer(mut reply) => {
                let session_id = std::mem::take(&mut reply.session_id);
                let request = answer::Request {
                    request_id: reply.request_id,
                    choices: reply.choices,
                    text: reply.text,
                    allow: reply.allow,
                    deny: reply.deny,
                    message: reply.message,
                    release: reply.release,
                };
                let answered =
                    job_of(&session_id).and_then(|id| answer::answer(&self.store, &id, &request));
                if let Err(error) = answered {
                    tell_error(&self.tell, session_id, &error);
                }
            }
        }
    }

    /// Gives the prompt to the session's job: a new one, one that waits for a message, or one that
    /// has ended and is resumed.
    fn query(&mut self, query: Query) -> Result<(), Error> {
        let id = job_of(&query.session_id)?;
        if query.prompt.trim().is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let session_id = query.session_id.clone();
        let seen = self.look_between_turns(&id);
        // What the job wrote before is not reported again.
        let dir = self.store.job(&id);
        let (output, errors) = (dir.length(OUTPUT), dir.length(STDERR));
        let pid = match seen {
            Err(Error::NotFound(_)) => self.start(id.clone(), query)?,
            Err(error) => return Err(error),
            Ok(seen) => {
                check_at_rest(&seen, query.resume_session_id.as_deref())?;
                if seen.live {
                    // First, because it comes before the events of the turn.
                    self.report(session_id, id.clone(), seen.record.pid, output, errors);
                    let message = query.prompt.into_bytes();
                    send::send(&self.store, send::Request { id, message, wait: None })?;
                    return Ok(());
                }
                // The end of the last attempt comes before the next one.
                self.await_follower(&session_id);
                Some(self.resume(id.clone(), query)?)
            }
        };
        self.report(session_id, id, pid, output, errors);
        Ok(())
    }

    /// Looks at a session's job. Of one that is kept alive a caller knows the result of a turn
    /// before the record says that the job is idle.
    fn look_between_turns(&self, id: &JobId) -> Result<Seen, Error> {
        let mut watch = Watch::of_files(&self.store.job(id), &[META]);
        let until = Instant::now() + IDLE_TAKES;
        loop {
            let seen = look(&self.store, id)?;
            let record = &seen.record;
            let works = seen.live && record.spec.keep_alive && record.status == Status::Running;
            let left = until.saturating_duration_since(Instant::now());
            if !works || left.is_zero() {
                return Ok(seen);
            }
            watch.next_until(Some(until));
        }
    }

    fn resume(&self, id: JobId, query: Query) -> Result<i32, Error> {
        let change = SpecChange {
            permission_mode: query.permission_mode,
            max_turns: query.max_turns,
            max_budget_usd: query.max_budget_usd,
            ..SpecChange::default()
        };
        let message = Some(query.prompt.into_bytes());
        let request = resume::Request { id, message, change, detach: Wish::Auto };
        Ok(resume::resume(&self.store, request, &self.around)?.pid)
    }

    fn start(&self, id: JobId, query: Query) -> Result<Option<i32>, Error> {
        let mut labels = self.usual.labels.clone();
        if id.as_str() != query.session_id {
            labels.insert(SESSION_LABEL.to_owned(), label_value(&query.session_id).to_owned());
        }
        let here = || std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
        let spec = Spec {
            cwd: query.cwd.unwrap_or_else(here),
            claude: std::env::var("CLAUDE_SKILL_CLAUDE").unwrap_or_default(),
            permission_mode: query.permission_mode.unwrap_or("bypassPermissions".to_owned()),
            max_turns: query.max_turns,
            max_budget_usd: query.max_budget_usd,
            resume: query.resume_session_id,
            ask: query.ask,
            keep_alive: query.keep_alive,
            idle_timeout_ms: 3_600_000,
            restart: true,
            max_restarts: 5,
            labels,
            ..self.usual.clone()
        };
        let request = start::Request {
            id: Some(id),
            prompt: query.prompt.into_bytes(),
            spec,
            if_absent: false,
            detach: Wish::Auto,
            resume_job: None,
            budget: None,
        };
        Ok(start(&self.store, request, &self.around)?.pid)
    }

    fn attach(
        &mut self,
        session_id: &str,
        since: u64,
        since_log: Option<u64>,
    ) -> Result<(), Error> {
        let id = job_of(session_id)?;
        let seen = look(&self.store, &id)?;
        let length = seen.dir.length(OUTPUT);
        if since > length {
            return Err(Error::BadOffset { offset: since, length });
        }
        if !seen.live {
            self.await_follower(session_id);
        }
        // Of a job that is attached to later on, what it said on stderr before is past.
        let past = if since > 0 { seen.dir.length(STDERR) } else { 0 };
        let (name, pid) = (session_id.to_owned(), seen.record.pid);
        self.report(name, id, pid, since, since_log.unwrap_or(past));
        Ok(())
    }

    /// Stops a session, in a thread of its own: it takes as long as claude takes to end, and
    /// meanwhile others are heard.
    fn stop(&mut self, session_id: String) {
        self.stops.retain(|stop| !stop.is_finished());
        let (store, tell) = (self.store.clone(), self.tell.clone());
        self.stops.push(std::thread::spawn(move || {
            if let Err(error) = job_of(&session_id).and_then(|id| kill::kill(&store, &id)) {
                tell_error(&tell, session_id, &error);
            }
        }));
    }

    /// Tells that the session's job runs, and reports it from these offsets on, from a thread of its
    /// own: one thread, however often that is asked for.
    fn report(
        &mut self,
        session_id: String,
        id: JobId,
        pid: Option<i32>,
        output: u64,
        errors: u64,
    ) {
        let (name, job_id) = (session_id.clone(), id.clone());
        (self.tell)(&Told::AgentStarted { session_id: name, job_id, pid });
        self.followers.retain(|_, follower| !follower.thread.is_finished());
        if self.followers.contains_key(&session_id) {
            return;
        }
        let watch = Watch::new();
        let wake = watch.waker();
        let mut stream = Stream {
            session_id: session_id.clone(),
            dir: self.store.job(&id),
            id,
            tell: self.tell.clone(),
            input_ended: self.input_ended.clone(),
            output,
            errors,
        };
        let store = self.store.clone();
        let thread = std::thread::spawn(move || stream.run(&store, watch));
        self.followers.insert(session_id, Follower { thread, wake });
    }

    /// Waits until the end of a job that has ended is reported.
    fn await_follower(&mut self, session_id: &str) {
        if let Some(follower) = self.followers.remove(session_id) {
            let _ = follower.thread.join();
        }
    }

    /// Completes what was asked when the input has ended: stops sessions, and reports the others
    /// until each has ended or waits for its caller, as long as somebody reads that.
    fn finish(self) {
        for stop in self.stops {
            let _ = stop.join();
        }
        self.input_ended.store(true, Ordering::SeqCst);
        let (done, is_over) = channel();
        let is_unread = done.clone();
        std::thread::spawn(move || {
            if process::loses_reader(std::io::stdout().as_fd(), None) {
                let _ = is_unread.send(());
            }
        });
        let followers = self.followers;
        std::thread::spawn(move || {
            for follower in followers.values() {
                let _ = follower.wake.send(Notice::Changed(0));
            }
            for follower in followers.into_values() {
                let _ = follower.thread.join();
            }
            let _ = done.send(());
        });
        let _ = is_over.recv();
    }
}

fn tell_error(tell: &Tell, session_id: String, error: &Error) {
    let (error, code) = (error.to_string(), error.code());
    tell(&Told::Error { session_id: Some(session_id), error, code });
}

/// Returns the id of a session's job.
fn job_of(session_id: &str) -> Result<JobId, Error> {
    JobId::for_session(session_id).map_err(|_| Error::EmptySessionId)
}

/// Refuses a query for a job that works, or that has another conversation than the caller means.
fn check_at_rest(seen: &Seen, conversation: Option<&str>) -> Result<(), Error> {
    let record = &seen.record;
    let id = record.job_id.to_string();
    if seen.live && record.status != Status::Idle {
        return Err(Error::SessionWorks(id, record.status));
    }
    match conversation {
        Some(meant) if record.session_id.as_deref() != Some(meant) => {
            Err(Error::SessionMismatch(id, meant.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Returns as much of the text as a label holds.
fn label_value(text: &str) -> &str {
    let mut end = text.len().min(LABEL_MOST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a job writes, on its way to the program.
struct Stream {
    session_id: String,
    id: JobId,
    dir: JobDir,
    tell: Tell,
    input_ended: Arc<AtomicBool>,
    output: u64,
    errors: u64,
}

impl Stream {
    fn run(&mut self, store: &Store, mut watch: Watch) {
        watch.add_files(0, &self.dir, &[OUTPUT, STDERR, META]);
        loop {
            // Asked before the job is looked at: it is not taken for idle while it has a message
            // from before the end of the input.
            let input_ended = self.input_ended.load(Ordering::SeqCst);
            // Asked before it is read: what is read then is all, if it does not live.
            let Ok(seen) = look(store, &self.id) else { return };
            if !self.read_output(!seen.live) || !self.read_errors() {
                return;
            }
            if !seen.live {
                let record = seen.record;
                let is_of_attempt = |outcome: &Outcome| outcome.attempt == record.attempt;
                let outcome = || self.dir.outcome().filter(is_of_attempt);
                let exit = record.exit.or_else(|| outcome()?.exit);
                let exit = exit.unwrap_or(Exit { code: None, signal: None });
                (self.tell)(&Told::AgentStopped {
                    session_id: self.session_id.clone(),
                    exit_code: exit.code,
                    signal: exit.signal.map(signal_name),
                    status: record.status,
                    reason: record.reason,
                    error: record.error,
                });
                return;
            }
            if input_ended && matches!(seen.record.status, Status::Idle | Status::Blocked) {
                return;
            }
            watch.add_end(0, &self.dir);
            watch.next();
        }
    }

    /// Gives the events that are new, in whole lines; at the end of the job also a torn one.
    fn read_output(&mut self, ended: bool) -> bool {
        let Ok(Some(mut file)) = self.dir.open(OUTPUT) else { return true };
        if file.seek(SeekFrom::Start(self.output)).is_err() {
            return true;
        }
        let (mut file, mut line) = (BufReader::with_capacity(64 << 10, file), Vec::new());
        loop {
            line.clear();
            let read = file.by_ref().take(EVENT_MOST).read_until(b'\n', &mut line);
            let mut length = read.unwrap_or_default() as u64;
            let mut too_long = false;
            while length > 0 && !line.ends_with(b"\n") {
                // Longer than is given on, or not yet whole.
                too_long = length >= EVENT_MOST;
                let mut rest = Vec::new();
                match file.by_ref().take(EVENT_MOST).read_until(b'\n', &mut rest) {
                    Ok(more) if more > 0 => {
                        length += more as u64;
                        // It may have grown since the part before was read.
                        if too_long { line = rest } else { line.extend(rest) }
                    }
                    _ => break,
                }
            }
            if length == 0 || (!line.ends_with(b"\n") && !ended) {
                return true;
            }
            self.output += length;
            if !self.give(&line, too_long) {
                return false;
            }
        }
    }

    fn give(&self, line: &[u8], too_long: bool) -> bool {
        let session_id = self.session_id.clone();
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let offset = self.output;
        if too_long {
            return (self.tell)(&Told::AgentEvent { session_id, event: None, offset });
        }
        match RawValue::from_string(text) {
            Ok(event) => (self.tell)(&Told::AgentEvent { session_id, event: Some(event), offset }),
            Err(_) => {
                let line = String::from_utf8_lossy(line).trim_end().to_owned();
                (self.tell)(&Told::AgentLog { session_id, stream: "stdout", line, offset })
            }
        }
    }

    fn read_errors(&mut self) -> bool {
        let Ok(Some(mut file)) = self.dir.open(STDERR) else { return true };
        if file.seek(SeekFrom::Start(self.errors)).is_err() {
            return true;
        }
        let mut file = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            let read = file.by_ref().take(EVENT_MOST).read_until(b'\n', &mut line);
            match read {
                Ok(length) if length > 0 => self.errors += length as u64,
                _ => return true,
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let session_id = self.session_id.clone();
            let offset = self.errors;
            if !(self.tell)(&Told::AgentLog { session_id, stream: "stderr", line, offset }) {
                return false;
            }
        }
    }
}
