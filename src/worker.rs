//! The worker: the detached process that owns a running job.
//!
//! The only asynchronous code. It reads, writes, waits and sends signals; what to do about what
//! happens is the [supervisor's](crate::supervisor) business. It holds the job's lock from its
//! first moment to its last, and is the only one who writes in the job's directory meanwhile.

mod admission;
mod claude_process;
mod exit_watch;
mod inbox_watch;
mod input;
mod job_files;
mod log_writer;
mod stderr_marks;
mod waker;

use std::collections::BTreeSet;
use std::fs::File;
use std::future::pending;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep_until;

use crate::claude;
use crate::clock;
use crate::fault_point::fault_point;
use crate::job::{Login, WaitReason};
use crate::launch::{BUSY, LAUNCH_FAILED, LAUNCHED, NO_SLOT, QUEUED, spawn_notifier};
use crate::process::{self, Descendants};
use crate::store::{EVENTS, JobDir, Lock, RESULT, STDERR, TURNS, undelivered_messages};
use crate::stream::{Line, LineSplitter};
use crate::supervisor::{Conclusion, Effect, Evidence, Input, Now, STDERR_READ, Supervisor};

use admission::{AdmissionControl, AdmissionStep};
use inbox_watch::InboxWatch;
use input::ClaudeInput;
use log_writer::LogWriter;
use stderr_marks::StderrMarks;

/// How long systemd may take to move a worker into its scope.
const SCOPE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes for what is read at once: twice of what a pipe holds. Memory of this size is mapped by
/// itself, and its pages take room only once something was read into them.
const READ_BUFFER: usize = 128 << 10;
/// How many events of its descriptors a worker takes in at once; it has about ten descriptors.
const IO_EVENTS: usize = 32;

/// Runs the worker of the job in this directory, which must have been started by
/// [`crate::launch`]: it finds the lock and the report pipe among its descriptors.
///
/// `unit` is the systemd scope into which it was put, if it was.
pub fn run(job_dir: PathBuf, unit: Option<&str>) -> io::Result<()> {
    let (lock, report) = process::take_inherited_fds()?;
    let cgroup = unit.and_then(own_scope);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_io_events_per_tick(IO_EVENTS)
        .build()?;
    // On the heap, because each function between here and there would hold it on the stack, where
    // what was once used stays in memory.
    runtime.block_on(Box::pin(async {
        // Never let go of by hand: the kernel does it when this process is gone, so that whoever
        // waited for the lock finds neither claude nor the worker, and before it closes the watches.
        std::mem::forget(Lock::inherited(process::move_to_high_fd(lock)));
        supervise(JobDir::at(job_dir), File::from(report), unit, cgroup).await
    }))
}

/// The control group of the scope of this name, once this process is in it: systemd can answer
/// before it has moved us, or without.
fn own_scope(unit: &str) -> Option<String> {
    let until = Instant::now() + SCOPE_TIMEOUT;
    loop {
        let cgroup = process::cgroup::own()?;
        if cgroup.rsplit('/').next() == Some(unit) {
            return Some(cgroup);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

async fn supervise(
    job: JobDir,
    report: File,
    unit: Option<&str>,
    cgroup: Option<String>,
) -> io::Result<()> {
    // Before claude is started, so that no signal is missed.
    let mut child_ended = signal(SignalKind::child())?;
    let mut kill_asked = signal(SignalKind::user_defined1())?;
    process::accept_kill_requests()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut let_in = signal(SignalKind::user_defined2())?;
    let _ignored = signal(SignalKind::hangup())?;
    process::adopt_orphans()?;
    let limited = process::raise_limits();

    let mut worker = Worker::new(job)?;
    if let Some(warning) = limited {
        worker.supervisor.is_limited(warning);
    }
    worker.record_detachment(unit, cgroup);
    fault_point("worker:began");
    let mut report = Some(report);
    // Whoever started us may be gone; the job goes on without them.
    let mut tell = |word: u8, why: &str| {
        let words = [&[word], why.as_bytes()].concat();
        let _ = report.take().map(|mut report| report.write_all(&words));
    };
    let mut stdout = None;
    let record = worker.supervisor.record();
    let begun = record.released_question().is_none().then(|| worker.admission.begin(record));
    match begun {
        None => {
            worker.take(Input::Held);
            worker.run_effects();
            tell(QUEUED, "");
        }
        Some(AdmissionStep::NoSlot(why)) => {
            tell(NO_SLOT, &why);
            return Ok(());
        }
        Some(AdmissionStep::Busy(why)) => {
            tell(BUSY, &why);
            return Ok(());
        }
        Some(step @ (AdmissionStep::Admitted | AdmissionStep::AdmittedWithout(_))) => {
            if let AdmissionStep::AdmittedWithout(why) = step {
                worker.take(Input::WriteFailed { file: "the queue", error: why });
            }
            stdout = worker.launch();
            fault_point("worker:launched");
            let launched = stdout.is_some();
            worker.run_effects();
            fault_point("worker:recorded");
            tell(if launched { LAUNCHED } else { LAUNCH_FAILED }, "");
        }
        Some(step) => {
            worker.apply_step(step);
            worker.run_effects();
            tell(QUEUED, "");
        }
    }
    // Where this fails a sender relies on the lock of earlier versions.
    let _ = worker.job.open_inbox();
    // Watched before the first look, so that nothing falls between the two.
    let mut mailbox = InboxWatch::of(&worker.job);
    worker.receive_messages();
    worker.run_effects();

    let mut buffer = vec![0; READ_BUFFER];
    while !worker.has_ended {
        let deadline = worker.deadline();
        tokio::select! {
            biased;
            // First: who ends us at a shutdown ends claude at the same time, and it is the
            // shutdown that tells why it ended.
            _ = kill_asked.recv() => worker.take(Input::KillRequested),
            _ = terminate.recv() => worker.take(Input::TerminateRequested),
            _ = interrupt.recv() => worker.take(Input::TerminateRequested),
            _ = child_ended.recv() => worker.reap(),
            ready = readable(stdout.as_ref()) => {
                // Asked first: once it is read, nothing tells when it came.
                worker.stderr_marks.look();
                match ready.and_then(|()| read(stdout.as_ref(), &mut buffer)) {
                    Ok(None) => {}
                    Ok(Some(length)) if length > 0 => worker.handle_output(&buffer[..length]),
                    Ok(_) | Err(_) => {
                        stdout = None;
                        worker.output_closed();
                    }
                }
            }
            () = worker.stdin.advance() => {}
            _ = let_in.recv() => worker.check_queue(true),
            () = worker.admission.changed() => worker.check_queue(false),
            () = mailbox.news() => worker.receive_messages(),
            // Last, so that no flood of it keeps the others from their turn.
            () = worker.stderr_marks.grown() => worker.stderr_marks.has_grown(),
            () = at(deadline) => {}
        }
        // Also where something else happens all the time, such as output without an end.
        if deadline.is_some_and(|at| at <= Instant::now()) {
            worker.tick();
        }
        worker.run_effects();
        if std::mem::take(&mut worker.launch_due) {
            stdout = worker.launch();
            worker.receive_messages();
            worker.run_effects();
        }
    }
    // The end of this process closes what it holds, the lock before its watches.
    std::mem::forget(worker);
    Ok(())
}

async fn readable(stdout: Option<&pipe::Receiver>) -> io::Result<()> {
    match stdout {
        Some(stdout) => stdout.readable().await,
        None => pending().await,
    }
}

/// Reads what is there; `None`: nothing yet.
fn read(stdout: Option<&pipe::Receiver>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(stdout) = stdout else { return Ok(None) };
    match stdout.try_read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        read => read.map(Some),
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// A sweep under way.
struct Sweep {
    descendants: Descendants,
    until: Instant,
    again: Instant,
}

struct Worker {
    job: JobDir,
    supervisor: Supervisor,
    began: Instant,
    effects: Vec<Effect>,
    lines: LineSplitter,
    log: LogWriter,
    events: Option<File>,
    /// What lies in the inbox and the supervisor was told of.
    seen_messages: BTreeSet<u64>,
    stdin: ClaudeInput,
    admission: AdmissionControl,
    claude: Option<Child>,
    sweep: Option<Sweep>,
    /// Files whose failure was told already.
    failed: BTreeSet<&'static str>,
    /// The record on the disk says that some of this attempt is missing in the log.
    gap_told: bool,
    /// Where this attempt's part of stderr.log begins.
    stderr_start: u64,
    /// Where it stands among the output.
    stderr_marks: StderrMarks,
    /// What the machine had ended for lack of memory when claude was launched.
    out_of_memory_kills: Option<u64>,
    /// The login of claude, as it was when claude was launched.
    login: Login,
    /// What identifies the stored login, as it was when claude was launched.
    login_stamp: Option<claude::LoginStamp>,
    /// When room is set aside for the verdict: a job that is over by then has no need of it.
    reserve_at: Option<Instant>,
    /// Others are to be told something.
    notifications_due: bool,
    /// Another attempt is to be launched.
    launch_due: bool,
    has_ended: bool,
}

impl Worker {
    fn new(job: JobDir) -> io::Result<Self> {
        let mut record = job.load().map_err(io::Error::other)?;
        record.pid_start_time = process::ProcessId::own().map(|own| own.start_time);
        let began = Instant::now();
        let now = Now { mono: Duration::ZERO, wall: clock::now() };
        let pid = std::process::id() as i32;
        let mut worker = Self {
            supervisor: Supervisor::new(record, pid, process::boot_id(), now),
            began,
            effects: Vec::new(),
            lines: LineSplitter::default(),
            log: LogWriter::default(),
            events: None,
            seen_messages: BTreeSet::new(),
            stdin: ClaudeInput::default(),
            admission: AdmissionControl::of(&job),
            claude: None,
            sweep: None,
            failed: BTreeSet::new(),
            gap_told: false,
            stderr_start: 0,
            stderr_marks: StderrMarks::default(),
            out_of_memory_kills: None,
            login: Login::default(),
            login_stamp: None,
            reserve_at: None,
            notifications_due: false,
            launch_due: false,
            has_ended: false,
            job,
        };
        if worker.supervisor.record().attempt > 1
            && let Some(before) = worker.job.outcome()
        {
            worker.supervisor.continue_from(before);
        }
        worker.supervisor.has_taken_in(worker.job.aside_numbers());
        worker.open_output();
        match worker.job.open_events() {
            Ok((file, last_seq)) => {
                worker.events = Some(file);
                worker.supervisor.last_logged(last_seq);
            }
            Err(error) => worker.write_failed(EVENTS, error.to_string()),
        }
        Ok(worker)
    }

    /// Says where the worker stands.
    fn record_detachment(&mut self, unit: Option<&str>, cgroup: Option<String>) {
        let wanted = self.supervisor.record().spec.memory_max;
        let limit = cgroup.as_deref().and_then(process::cgroup::memory_max);
        // The kernel counts in pages, and gives less rather than more.
        if wanted.is_some_and(|wanted| limit.is_none_or(|limit| limit > wanted)) {
            self.supervisor.memory_is_not_limited();
        }
        self.supervisor.detached(unit, cgroup);
    }

    fn now(&self) -> Now {
        Now { mono: self.began.elapsed(), wall: clock::now() }
    }

    fn deadline(&self) -> Option<Instant> {
        // What lies beyond the clock's end never comes.
        let supervisor = self.supervisor.deadline().and_then(|mono| self.began.checked_add(mono));
        let sweep = self.sweep.as_ref().map(|sweep| sweep.again);
        let own = [sweep, self.reserve_at];
        supervisor.into_iter().chain(own.into_iter().flatten()).min()
    }

    fn take(&mut self, input: Input<'_>) {
        let now = self.now();
        self.effects.extend(self.supervisor.handle(now, input));
    }

    fn tick(&mut self) {
        if self.reserve_at.is_some_and(|at| Instant::now() >= at) {
            self.reserve_at = None;
            self.reserve();
        }
        if self.sweep.is_some() {
            self.sweep_on();
        }
        self.take(Input::Tick);
    }

    /// First into the log, then looked at: what is in the log is all that claude wrote, whatever
    /// becomes of this process.
    fn handle_output(&mut self, bytes: &[u8]) {
        fault_point("worker:heard");
        self.append_output(bytes);
        fault_point("worker:logged");
        let now = self.now();
        let (supervisor, effects) = (&mut self.supervisor, &mut self.effects);
        self.lines.push(bytes, |line| effects.extend(supervisor.handle(now, Input::Line(line))));
    }

    /// What follows on where the job stands in the queue.
    fn apply_step(&mut self, step: AdmissionStep) {
        match step {
            AdmissionStep::Admitted => self.take(Input::Admitted),
            AdmissionStep::AdmittedWithout(why) => {
                self.take(Input::WriteFailed { file: "the queue", error: why });
                self.take(Input::Admitted);
            }
            AdmissionStep::Waits(obstacle) => self.take(Input::Queued(obstacle)),
            AdmissionStep::DependencyFailed(other) => {
                self.take(Input::Queued(WaitReason::Jobs));
                self.take(Input::DependencyFailed(other));
            }
            // Asked for at the start alone.
            AdmissionStep::NoSlot(_) | AdmissionStep::Busy(_) => {}
        }
    }

    fn check_queue(&mut self, called: bool) {
        if let Some(step) = self.admission.check(self.supervisor.record(), called) {
            self.apply_step(step);
        }
    }

    fn output_closed(&mut self) {
        let now = self.now();
        let (supervisor, effects) = (&mut self.supervisor, &mut self.effects);
        self.lines.finish(|line: Line<'_>| {
            effects.extend(supervisor.handle(now, Input::Torn(line)));
        });
        self.take(Input::OutputClosed);
    }

    /// Carries out what the supervisor asked for, also what it asks for meanwhile.
    fn run_effects(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.run_effect(effect);
            }
        }
        // After the record, which it tells of.
        if std::mem::take(&mut self.notifications_due) {
            fault_point("worker:news");
            spawn_notifier(&self.job);
        }
    }

    fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Save => self.save(),
            Effect::Log(entry) => self.log(&entry),
            Effect::AppendTurn(end) => {
                self.find_session_file();
                if self.supervisor.record().spec.keep_alive {
                    // The last answer can be read while the job waits; and whoever waits for the
                    // line finds the job as it is after the turn.
                    let _ = self.job.save_outcome(&self.supervisor.outcome(), None);
                    self.save();
                }
                self.append_line(TURNS, &end);
                self.receive_messages();
            }
            Effect::SendMessage { uuid, text } => self.stdin.send_message(&uuid, &text),
            Effect::Launch => self.launch_due = true,
            Effect::LeaveQueue => self.admission.leave_queue(),
            Effect::EnterQueue => {
                let step = self.admission.enter_queue(self.supervisor.record());
                self.apply_step(step);
            }
            Effect::Limited(met) => {
                let job = &self.supervisor.record().job_id;
                self.admission.queue().record_limit(job, &self.login, met);
            }
            Effect::Answered(began) => {
                let model = self.supervisor.record().model.as_deref();
                self.admission.queue().lift_limit(&self.login, model, began);
            }
            Effect::RecordNotification(milestone) => {
                let record = self.supervisor.record();
                let at = clock::now();
                match self.job.record_due(&record.spec, milestone, record.attempt, at) {
                    Ok(due) => self.notifications_due |= due,
                    Err(error) => {
                        // It is due by the record, too; and the end makes room on the disk.
                        self.notifications_due = true;
                        self.write_failed("news", error.to_string());
                    }
                }
            }
            Effect::Respond { request_id, response } => {
                self.stdin.respond(&request_id, &response);
            }
            Effect::Interrupt(number) => {
                let request = serde_json::json!({"subtype": "interrupt"});
                self.stdin.request(&format!("interrupt-{number}"), &request);
            }
            Effect::RemoveMessage(number) => {
                // What cannot be removed is told once.
                if self.job.remove_message(number) {
                    self.seen_messages.remove(&number);
                }
            }
            Effect::SetAside(number) => {
                self.job.set_aside(number);
                self.seen_messages.remove(&number);
            }
            Effect::RestoreAside => self.job.restore_aside(),
            Effect::CloseInput => {
                fault_point("worker:closing");
                self.stdin.close();
            }
            Effect::Signal(stop) => self.signal(stop),
            Effect::Sweep(within) => {
                let now = Instant::now();
                let descendants = Descendants::of_worker(self.job.path());
                self.sweep = Some(Sweep { descendants, until: now + within, again: now });
                self.sweep_on();
            }
            Effect::Conclude => self.conclude(),
        }
    }

    /// Tells the supervisor what is new in the inbox.
    fn receive_messages(&mut self) {
        for item in self.job.receive(&self.seen_messages).unwrap_or_default() {
            self.seen_messages.insert(item.number);
            self.take(Input::Message { number: item.number, directive: item.directive });
        }
    }

    /// Notes where claude keeps the conversation: if it is gone later, it cannot be resumed.
    fn find_session_file(&mut self) {
        let record = self.supervisor.record();
        let Some(session) = &record.session_id else { return };
        if record.spec.replay.is_some() || !record.session_began || record.session_file().is_some()
        {
            return;
        }
        let file = claude::session_file(&claude::Env::own(), &record.spec.cwd, session);
        if let Some(file) = file.and_then(|file| file.into_os_string().into_string().ok()) {
            self.supervisor.session_file_seen(file);
        }
    }

    fn conclude(&mut self) {
        fault_point("worker:swept");
        self.stderr_marks.note_all(&self.job, self.log.length());
        let stderr = self.job.tail(STDERR, self.stderr_start, STDERR_READ);
        let evidence = Evidence {
            stderr: &String::from_utf8_lossy(&stderr),
            out_of_memory: process::out_of_memory_kills() > self.out_of_memory_kills,
            login_changed: claude::stored_login_stamp() != self.login_stamp,
        };
        self.inspect_output();
        self.find_session_file();
        let now = self.now();
        let job = self.job.clone();
        let undelivered = || job.close_inbox().map(undelivered_messages).unwrap_or_default();
        let (conclusion, effects) = self.supervisor.conclude(now, &evidence, undelivered);
        match conclusion {
            Conclusion::NextAttempt => {
                self.stderr_marks = StderrMarks::default();
                // The next one's part of the log stands by itself, also where a line broke off.
                self.open_output();
                // What this attempt came to is not the job's end, should we die before the next.
                self.supervisor.log_starts_at(self.log.length());
                self.launch_due = !self.supervisor.is_backing_off();
            }
            Conclusion::Ended(outcome) => {
                // Nothing of the job runs any more. The watch of stderr is left to the end of this
                // process: the kernel can take 20 ms to close one, for which nobody is to wait.
                self.admission.leave_queue();
                if let Err(error) = self.job.save_outcome(&outcome, Some(self.supervisor.record()))
                {
                    self.write_failed(RESULT, error.to_string());
                }
                fault_point("end:outcome-saved");
                self.has_ended = true;
            }
        }
        self.effects.extend(effects);
    }
}
