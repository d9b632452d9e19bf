//! The worker: the detached process that owns a running job.
//!
//! It contains the only asynchronous code. It reads, writes, waits and sends signals; the
//! [supervisor](crate::supervisor) decides how to react to events. The worker holds the job's lock
//! as long as it runs, and is the only process that writes to the job's directory meanwhile.

mod admission;
mod claude_process;
mod effects;
mod exit_watch;
mod here;
mod inbox_watch;
mod input;
mod job_files;
mod lease_keeper;
mod log_writer;
mod pausing;
mod process_exit;
mod stderr_marks;
mod wake_source;

use std::collections::BTreeSet;
use std::fs::File;
use std::future::pending;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep_until;

use crate::claude;
use crate::clock;
use crate::fault_point::fault_point;
use crate::job::{Login, WaitReason};
use crate::launch::{BUSY, LAUNCH_FAILED, LAUNCHED, NO_SLOT, QUEUED};
use crate::process::{self, Descendants};
use crate::store::{EVENTS, JobDir, Lock};
use crate::stream::{Line, LineSplitter};
use crate::supervisor::{Effect, Input, Now, Supervisor, WorkerStart};

pub(crate) use here::run_here;

use admission::{AdmissionControl, AdmissionStep};
use inbox_watch::InboxWatch;
use input::ClaudeInput;
use lease_keeper::LeaseKeeper;
use log_writer::LogWriter;
use stderr_marks::StderrMarks;

/// Time limit for systemd to move a worker into its scope.
const SCOPE_TIMEOUT: Duration = Duration::from_secs(2);

/// Size of the read buffer: twice the capacity of a pipe. A buffer of this size is a mapping of its
/// own, whose pages use memory only once data was read into them.
const READ_BUFFER_BYTES: usize = 128 << 10;
/// Number of I/O events that a worker handles at once; it has about ten descriptors.
const MAX_IO_EVENTS: usize = 32;

/// Runs the worker of the job in this directory. This is the hidden command that [`crate::launch`]
/// starts, which passes the lock and the report pipe.
///
/// `unit` is the systemd scope of the worker, if it has one.
pub(crate) fn run(job_dir: PathBuf, unit: Option<&str>) -> io::Result<()> {
    let job = JobDir::at(job_dir).ok_or(io::ErrorKind::InvalidInput)?;
    let (lock, report) = process::take_inherited_fds()?;
    let cgroup = unit.and_then(own_scope);
    // On the heap, because each function in between would hold the future on the stack, whose pages
    // stay in memory once they were used.
    runtime()?.block_on(Box::pin(async {
        // Never released explicitly: the kernel does so when this process has ended, before it closes
        // the watches, so that a process that waited for the lock finds neither claude nor the worker.
        std::mem::forget(Lock::inherited(process::move_to_high_fd(lock)));
        supervise(job, File::from(report), unit, cgroup, None).await
    }))
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_io_events_per_tick(MAX_IO_EVENTS)
        .build()
}

/// Returns the control group of this scope, once this process is in it; `None` if it is not in time:
/// systemd can answer before it has moved the process, or without moving it.
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
    mut report: File,
    unit: Option<&str>,
    cgroup: Option<String>,
    keeper: Option<LeaseKeeper>,
) -> io::Result<()> {
    // Before claude is started, so that no signal is missed.
    let mut signals = Signals::listen()?;
    process::adopt_orphans()?;
    let limit_warning = process::raise_limits();

    let mut worker = Worker::new(job, unit, cgroup, limit_warning)?;
    worker.keeper = keeper;
    fault_point("worker:began");
    let (code, why) = worker.begin();
    // The starter may have ended: the job continues without it.
    let _ = report.write_all(&[&[code], why.as_bytes()].concat());
    drop(report);
    if matches!(code, NO_SLOT | BUSY) {
        return Ok(());
    }
    // If this fails, senders rely on the lock of earlier versions.
    let _ = worker.job.open_inbox();
    // Watched before it is read, so that no message is missed in between.
    let mut inbox = InboxWatch::for_job(&worker.job);
    worker.receive_messages();
    worker.run_effects();

    let mut buffer = vec![0; READ_BUFFER_BYTES];
    while !matches!(worker.progress, Progress::Ended | Progress::Lost) {
        worker.handle_next_event(&mut signals, &mut inbox, &mut buffer).await;
        worker.run_effects();
        if worker.progress == Progress::LaunchDue {
            worker.progress = Progress::Running;
            worker.launch();
            worker.receive_messages();
            worker.run_effects();
        }
    }
    // Jobs that wait for the end of a limit would not learn of it.
    for change in worker.limit_changes.drain(..) {
        let _ = change.join();
    }
    // The end of this process closes its descriptors, the lock before the watches.
    std::mem::forget(worker);
    Ok(())
}

/// The signals to which the worker reacts.
struct Signals {
    child_ended: Signal,
    kill_requested: Signal,
    terminate: Signal,
    interrupt: Signal,
    queue: Signal,
    _ignored: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let child_ended = signal(SignalKind::child())?;
        let kill_requested = signal(SignalKind::user_defined1())?;
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        process::accept_requests()?;
        Ok(Self {
            child_ended,
            kill_requested,
            terminate,
            interrupt,
            queue: signal(SignalKind::user_defined2())?,
            _ignored: signal(SignalKind::hangup())?,
        })
    }
}

async fn readable(stdout: Option<&pipe::Receiver>) -> io::Result<()> {
    match stdout {
        Some(stdout) => stdout.readable().await,
        None => pending().await,
    }
}

/// Reads available output; `None` if there is none yet.
fn read(stdout: Option<&pipe::Receiver>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(stdout) = stdout else { return Ok(None) };
    match stdout.try_read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        read => read.map(Some),
    }
}

async fn sleep_to(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// A sweep in progress: the repeated killing of claude's descendants.
struct Sweep {
    descendants: Descendants,
    until: Instant,
    continue_at: Instant,
}

/// What the worker does after the pending effects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Running,
    /// Another attempt must be launched.
    LaunchDue,
    /// The job has ended.
    Ended,
    /// The attempts are over, but a successor owns the job, so that the verdict does not count.
    Lost,
}

/// The state of the machine when claude was launched, with which it is compared at claude's end.
#[derive(Default)]
struct LaunchState {
    /// Offset in stderr.log at which this attempt begins.
    stderr_start: u64,
    /// Number of processes that the kernel had killed for lack of memory.
    out_of_memory_kills: Option<u64>,
    login: Login,
    /// The stamp of the stored login.
    login_stamp: Option<claude::LoginStamp>,
}

struct Worker {
    job: JobDir,
    supervisor: Supervisor,
    began: Instant,
    effects: Vec<Effect>,
    lines: LineSplitter,
    log: LogWriter,
    events: Option<File>,
    /// Messages in the inbox that were passed to the supervisor.
    seen_messages: BTreeSet<u64>,
    stdin: ClaudeInput,
    stdout: Option<pipe::Receiver>,
    admission: AdmissionControl,
    /// Threads that wait for the queue's lock to record or remove limits.
    limit_changes: Vec<JoinHandle<()>>,
    claude: Option<Child>,
    sweep: Option<Sweep>,
    /// Files whose write errors were reported already.
    failed_files: BTreeSet<&'static str>,
    /// The saved record says that the log of this attempt is incomplete.
    is_gap_recorded: bool,
    stderr_marks: StderrMarks,
    launch_state: LaunchState,
    /// When to reserve disk space for the verdict: a job that has ended by then does not need it.
    reserve_at: Option<Instant>,
    /// A notification is due.
    notifications_due: bool,
    progress: Progress,
    /// Keeps the lease of a job with an engine.
    keeper: Option<LeaseKeeper>,
}

impl Worker {
    fn new(
        job: JobDir,
        unit: Option<&str>,
        cgroup: Option<String>,
        warning: Option<String>,
    ) -> io::Result<Self> {
        let mut record = job.load().map_err(io::Error::other)?;
        record.worker.pid_start_time = process::ProcessId::own().map(|own| own.start_time);
        let began = Instant::now();
        let now = Now { mono: Duration::ZERO, wall: clock::now() };
        let (events, last_seq) = match job.open_events() {
            Ok((file, last_seq)) => (Ok(file), last_seq),
            Err(error) => (Err(error), 0),
        };
        let start = WorkerStart {
            pid: process::own_pid(),
            boot_id: process::boot_id(),
            outcome: if record.attempt.number > 1 { job.outcome() } else { None },
            accepted_messages: job.aside_numbers(),
            last_seq,
            memory_limit: cgroup.as_deref().and_then(process::cgroup::memory_max),
            unit: unit.map(str::to_owned),
            cgroup,
            warning,
        };
        let mut worker = Self {
            supervisor: Supervisor::new(record, start, now),
            began,
            effects: Vec::new(),
            lines: LineSplitter::default(),
            log: LogWriter::default(),
            events: None,
            seen_messages: BTreeSet::new(),
            stdin: ClaudeInput::default(),
            stdout: None,
            admission: AdmissionControl::for_job(&job),
            limit_changes: Vec::new(),
            claude: None,
            sweep: None,
            failed_files: BTreeSet::new(),
            is_gap_recorded: false,
            stderr_marks: StderrMarks::default(),
            launch_state: LaunchState::default(),
            reserve_at: None,
            notifications_due: false,
            progress: Progress::Running,
            keeper: None,
            job,
        };
        worker.open_output();
        match events {
            Ok(file) => worker.events = Some(file),
            Err(error) => worker.write_failed(EVENTS, error.to_string()),
        }
        Ok(worker)
    }

    /// Starts claude, or begins to wait. Returns the answer to the starter, and its reason.
    fn begin(&mut self) -> (u8, String) {
        let record = self.supervisor.record();
        if record.released_question().is_some() {
            self.take(Input::Held);
            self.run_effects();
            return (QUEUED, String::new());
        }
        match self.admission.begin(record) {
            AdmissionStep::NoSlot(why) => return (NO_SLOT, why),
            AdmissionStep::Busy(why) => return (BUSY, why),
            AdmissionStep::Admitted => return (self.launch_first(), String::new()),
            AdmissionStep::AdmittedWithout(why) => {
                self.take(Input::WriteFailed { file: "the queue", error: why });
                return (self.launch_first(), String::new());
            }
            step => self.apply_step(step),
        }
        self.run_effects();
        (QUEUED, String::new())
    }

    /// Starts claude before the starter has its answer, which is returned.
    fn launch_first(&mut self) -> u8 {
        self.launch();
        fault_point("worker:launched");
        let answer = if self.stdout.is_some() { LAUNCHED } else { LAUNCH_FAILED };
        self.run_effects();
        fault_point("worker:recorded");
        answer
    }

    /// Waits for the next event and passes it to the supervisor.
    async fn handle_next_event(
        &mut self,
        signals: &mut Signals,
        inbox: &mut InboxWatch,
        buffer: &mut [u8],
    ) {
        let deadline = self.deadline();
        tokio::select! {
            biased;
            // First: a shutdown of the system ends claude at the same time, and the signal to this
            // process gives the reason for claude's exit.
            _ = signals.kill_requested.recv() => self.take(Input::KillRequested),
            _ = signals.terminate.recv() => self.take(Input::TerminateRequested),
            _ = signals.interrupt.recv() => self.take(Input::TerminateRequested),
            _ = signals.child_ended.recv() => self.reap(),
            ready = readable(self.stdout.as_ref()) => self.read_output(ready, buffer),
            () = self.stdin.advance() => {}
            _ = signals.queue.recv() => self.handle_wake(),
            () = self.admission.changed() => self.check_queue(false),
            () = inbox.changed() => self.receive_messages(),
            // Last, so that a flood of stderr does not delay the other events.
            () = self.stderr_marks.grown() => self.stderr_marks.handle_growth(),
            () = sleep_to(deadline) => {}
        }
        // Not only in the last branch: other events, such as endless output, may always come first.
        if deadline.is_some_and(|at| at <= Instant::now()) {
            self.tick();
        }
    }

    fn read_output(&mut self, ready: io::Result<()>, buffer: &mut [u8]) {
        // Before stdout is read, because the order is not known afterwards.
        self.stderr_marks.check_order();
        match ready.and_then(|()| read(self.stdout.as_ref(), buffer)) {
            Ok(None) => {}
            Ok(Some(length)) if length > 0 => self.handle_output(&buffer[..length]),
            Ok(_) | Err(_) => {
                self.stdout = None;
                self.output_closed();
            }
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.began.elapsed(), wall: clock::now() }
    }

    fn deadline(&self) -> Option<Instant> {
        // A time that the clock cannot represent never comes.
        let supervisor = self.supervisor.deadline().and_then(|mono| self.began.checked_add(mono));
        let sweep = self.sweep.as_ref().map(|sweep| sweep.continue_at);
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
            self.continue_sweep();
        }
        self.take(Input::Tick);
    }

    /// Appends output to the log before it is parsed, so that the log has all of claude's output if
    /// this process dies.
    fn handle_output(&mut self, bytes: &[u8]) {
        fault_point("worker:heard");
        self.append_output(bytes);
        fault_point("worker:logged");
        let now = self.now();
        let (supervisor, effects) = (&mut self.supervisor, &mut self.effects);
        self.lines.push(bytes, |line| effects.extend(supervisor.handle(now, Input::Line(line))));
    }

    /// Passes the job's state in the queue to the supervisor.
    fn apply_step(&mut self, step: AdmissionStep) {
        match step {
            AdmissionStep::Admitted => self.take(Input::Admitted),
            AdmissionStep::AdmittedWithout(why) => {
                self.take(Input::WriteFailed { file: "the queue", error: why });
                self.take(Input::Admitted);
            }
            AdmissionStep::Waits(reason) => self.take(Input::Queued(reason)),
            AdmissionStep::DependencyFailed(other) => {
                self.take(Input::Queued(WaitReason::Jobs));
                self.take(Input::DependencyFailed(other));
            }
            // Only results of the first request.
            AdmissionStep::NoSlot(_) | AdmissionStep::Busy(_) => {}
        }
    }

    fn handle_wake(&mut self) {
        self.check_queue(true);
        if self.job.is_claimed() {
            // A sender on another machine cannot write to the FIFO of this one.
            self.receive_messages();
        }
    }

    fn check_queue(&mut self, was_signalled: bool) {
        if let Some(step) = self.admission.check(self.supervisor.record(), was_signalled) {
            self.apply_step(step);
        }
        for (number, applied) in self.admission.take_applied() {
            self.take(Input::Requeued { number, applied });
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
}
