//! What the worker tells its supervisor, and what it is told to do.

use std::time::Duration;

use super::{INTERRUPT_GRACE, REQUEST_GRACE, TERMINATE_GRACE};
use crate::job::{
    EventLine, Exit, InboxMessage, Leftovers, LimitMet, NotifyEvent, Outcome, Timestamp, TurnEnd,
    WaitReason,
};
use crate::stream::Line;

/// The two clocks: the monotonic one for durations, the other for showing.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since some fixed point.
    pub mono: Duration,
    /// The time of day.
    pub wall: Timestamp,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The job has to wait for its turn.
    Queued(WaitReason),
    /// It is its turn.
    Admitted,
    /// The job begins with a question that waits without a claude.
    Held,
    /// A job that it waits for did not complete.
    DependencyFailed(FailedDependency),
    /// Claude runs.
    Launched {
        /// Its process id.
        pid: i32,
        /// The program.
        program: String,
        /// Its arguments, as they may be written.
        arguments: Vec<String>,
    },
    /// Claude could not be run.
    LaunchFailed(String),
    /// It wrote a line.
    Line(Line<'a>),
    /// Its output ended in the middle of this line.
    Torn(Line<'a>),
    /// Its output was closed.
    OutputClosed,
    /// It ended.
    Exited {
        /// How.
        exit: Exit,
        /// The last lines of its stderr.
        stderr: Option<String>,
    },
    /// `kill` asked for the job's end.
    KillRequested,
    /// Somebody asked the worker to shut down.
    TerminateRequested,
    /// Something new lies in the inbox.
    Message {
        /// Its place in the order of arrival.
        number: u64,
        /// What it says, or why it cannot be understood.
        directive: Result<InboxMessage, String>,
    },
    /// The sweep is over.
    Swept {
        /// How many processes it ended.
        ended: usize,
        /// What it could not end.
        left: Leftovers,
    },
    /// A file of the job was removed or cut by somebody else.
    Damaged {
        /// Its name.
        file: &'static str,
        /// What was done to it, fit to be read after its name.
        what: &'static str,
    },
    /// A file of the job could not be written.
    WriteFailed {
        /// Its name.
        file: &'static str,
        /// Why.
        error: String,
    },
    /// The [deadline](super::Supervisor::deadline) has come.
    Tick,
}

/// A job that was waited for, and did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedDependency {
    /// Which, and how it ended.
    pub error: String,
    /// It was cut off, and can go on.
    pub cut_off: bool,
}

/// Bytes at the end of stderr that are evidence.
pub const STDERR_READ: u64 = 16 << 10;

/// What an attempt left besides its stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// The end of what claude wrote to stderr.
    pub stderr: &'a str,
    /// Processes of this machine were ended for lack of memory while claude ran.
    pub out_of_memory: bool,
    /// The stored login was replaced while claude ran.
    pub login_changed: bool,
}

/// What follows on the end of an attempt.
#[derive(Debug, PartialEq)]
pub enum Conclusion {
    /// The job has ended with this.
    Ended(Box<Outcome>),
    /// Another attempt is to be launched, as [`Supervisor::opening`](super::Supervisor::opening) says.
    NextAttempt,
}

/// What the worker has to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Write the [record](super::Supervisor::record).
    Save,
    /// Append to `events.ndjson`.
    Log(EventLine),
    /// Give claude a message.
    SendMessage {
        /// Its id, under which claude says that it took it in.
        uuid: String,
        /// What is said.
        text: String,
    },
    /// Start claude.
    Launch,
    /// Give up the slot: claude does not run for a while.
    LeaveQueue,
    /// Ask for a slot again.
    EnterQueue,
    /// A limit of the API was met.
    Limited(LimitMet),
    /// The API has answered a claude that was started then.
    Answered(Timestamp),
    /// Tell others what the job has come to.
    RecordNotification(NotifyEvent),
    /// Answer a request of claude's.
    Respond {
        /// Its id.
        request_id: String,
        /// The answer in claude's own words.
        response: serde_json::Value,
    },
    /// Ask claude to stop its turn, under this number.
    Interrupt(u64),
    /// Take this out of the inbox: it was dealt with.
    RemoveMessage(u64),
    /// Claude has taken that message in: it is set aside until its turn ends.
    SetAside(u64),
    /// The conversation that held what is set aside is gone: it is put back into the inbox.
    RestoreAside,
    /// Append to `turns.ndjson`.
    AppendTurn(TurnEnd),
    /// Close claude's stdin, once what is queued for it was written.
    CloseInput,
    /// Send a signal to the claude process.
    Signal(TermSignal),
    /// End every process of the job, claude included, within this time, and report back.
    Sweep(Duration),
    /// Nothing more will come: [`conclude`](super::Supervisor::conclude).
    Conclude,
}

/// The steps by which claude is asked to end, in their order. After the last one comes SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermSignal {
    /// The `interrupt` request on its stdin: claude ends its turn with a result.
    Request,
    /// SIGINT: claude stops its tool, writes a result with the cost so far, and ends.
    Interrupt,
    /// SIGTERM: claude ends at once.
    Terminate,
}

impl TermSignal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Request => "interrupt",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    pub(super) fn grace(self) -> Duration {
        match self {
            Self::Request => REQUEST_GRACE,
            Self::Interrupt => INTERRUPT_GRACE,
            Self::Terminate => TERMINATE_GRACE,
        }
    }
}
