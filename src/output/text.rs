//! Parts of the text form of answers.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

use super::layout::{columns, hanging, width_of};
use crate::clock;
use crate::job::{
    Activity, Blocked, JobId, Notification, Reason, Status, Timestamp, WaitKind, WaitingFor,
};
use crate::text::{format_duration, format_second, format_time, harmless};

pub(crate) const PLAIN: Style = Style::new();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const BLUE: Style = AnsiColor::Blue.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Returns a text as it is shown on a stream: without styles if it must not be coloured. Unlike
/// anstream's streams this leaves the control of the cursor to the caller.
pub(super) fn styled_for(stream: &impl anstream::stream::RawStream, text: &str) -> String {
    match anstream::AutoStream::choice(stream) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

/// Whether stdout shows colours.
pub(crate) fn has_colors() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Like [`styled_for`], for stdout.
pub(crate) fn styled(text: &str) -> String {
    styled_for(&io::stdout(), text)
}

/// Adds a style to a text.
pub(crate) fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns the colour of a status.
pub(crate) fn color(status: Status) -> Style {
    match status {
        Status::Completed => GREEN,
        Status::Failed => RED,
        Status::Killed => YELLOW,
        Status::Blocked => YELLOW.bold(),
        Status::Queued | Status::Idle => PLAIN,
        Status::Starting | Status::Running => BLUE,
    }
}

/// Prints an error to stderr.
pub(crate) fn error(message: &str, hint: Option<&str>) {
    let width = width_of(&io::stderr());
    let message = hanging(&harmless(message), "error: ".len(), width);
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{} {message}", painted(RED.bold(), "error:"));
    if let Some(hint) = hint {
        let hint = command_lines(&harmless(hint), "hint: ".len(), width);
        let _ = writeln!(err, "{} {hint}", painted(DIM, "hint:"));
    }
}

/// Prints a text to stderr.
pub(crate) fn print_note(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// Prints a text to stderr. Returns after this time at the latest, also if nobody reads stderr.
pub(crate) fn print_note_within(text: String, timeout: Duration) {
    let (done, printed) = channel();
    // Without another thread nothing is printed.
    let _ = std::thread::Builder::new().spawn(move || {
        print_note(&text);
        let _ = done.send(());
    });
    let _ = printed.recv_timeout(timeout);
}

/// Prints the id of the job to stderr, above an answer that does not contain it.
pub(crate) fn print_job(id: &JobId) {
    let _ = writeln!(anstream::stderr().lock(), "{}", painted(DIM, &format!("job {id}")));
}

/// Adds a warning to a text, on a line of its own.
pub(crate) fn push_warning(text: &mut String, warning: &str) {
    push_marked(text, YELLOW, "warning:", warning);
}

/// Adds a text that begins with a coloured word, wrapped at the width of the terminal.
pub(crate) fn push_marked(text: &mut String, style: Style, mark: &str, rest: &str) {
    let rest = hanging(&harmless(rest), mark.width() + 1, columns());
    let _ = writeln!(text, "{} {rest}", painted(style, mark));
}

/// Returns a sentence, which may be coloured, wrapped at the width of the terminal.
pub(crate) fn sentence(text: &str) -> String {
    hanging(text, 0, columns()) + "\n"
}

/// Adds a line with the command to run next.
pub(crate) fn push_hint(text: &mut String, hint: Option<&str>) {
    if let Some(hint) = hint {
        let hint = command_lines(&harmless(hint), "hint: ".len(), columns());
        let _ = writeln!(text, "{} {hint}", painted(DIM, "hint:"));
    }
}

/// Returns a command after `indent` columns, with its comment on the next line if both are too
/// wide for one. The command itself is not wrapped, so that it can be copied.
pub(crate) fn command_lines(command: &str, indent: usize, width: usize) -> String {
    match command.split_once("  # ") {
        Some((call, comment)) if indent + command.width() > width => {
            format!("{call}\n{:indent$}# {comment}", "")
        }
        _ => command.to_owned(),
    }
}

/// Formats a time in the time zone of the reader, without the day if that is today.
pub(crate) fn local_time(at: Timestamp) -> String {
    format_time(local(at), local(clock::now()))
}

/// Like [`local_time`], with seconds.
pub(crate) fn local_second(at: Timestamp) -> String {
    format_second(local(at), local(clock::now()))
}

fn local(at: Timestamp) -> DateTime {
    let at =
        jiff::Timestamp::from_millisecond(at.epoch_ms()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    TimeZone::system().to_datetime(at)
}

/// Returns why a job waits, with the end of the wait if it is known: `rate limit, until 15:40 (12m
/// 10s left)`.
pub(crate) fn wait_reason(wait: &WaitingFor) -> String {
    let why = match wait.kind {
        WaitKind::Limit => "rate limit",
        _ => wait.why.strip_prefix("it is ").unwrap_or(&wait.why),
    };
    let why = match wait.kind {
        WaitKind::Slot => why.strip_suffix(" for a slot").unwrap_or(why),
        _ => why,
    };
    let why = harmless(why);
    let Some(until) = wait.until else { return why };
    let left = until.since(clock::now());
    if left.is_zero() {
        return why;
    }
    let (at, left) = (local_time(until), format_duration(left));
    match wait.kind {
        WaitKind::Retry => format!("{why} at {at} (in {left})"),
        _ => format!("{why}, until {at} ({left} left)"),
    }
}

/// Returns why a job failed: the stable word, then the sentence.
pub(crate) fn failure(reason: Option<Reason>, error: &str) -> String {
    match reason {
        Some(reason) => format!("{reason}: {error}"),
        None => error.to_owned(),
    }
}

/// Returns a path with `~` for the home directory.
pub(crate) fn short_path(path: &str) -> String {
    let home = std::env::var_os("HOME").unwrap_or_default();
    if home.is_empty() {
        return path.to_owned();
    }
    match Path::new(path).strip_prefix(&home) {
        Ok(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Ok(rest) => format!("~/{}", rest.display()),
        Err(_) => path.to_owned(),
    }
}

/// Returns which notification was not delivered, and why.
pub(crate) fn undelivered(notification: &Notification) -> String {
    let why = match &notification.error {
        Some(error) => error.clone(),
        None if notification.tries < 2 => "in progress".to_owned(),
        None => format!("{} tries so far", notification.tries),
    };
    format!("{} to {}: {why}", notification.event, notification.to)
}

/// Returns what a blocked job asks.
pub(crate) fn open_request(blocked: &Blocked) -> String {
    let tool = blocked.tool_name.as_deref().unwrap_or_default();
    match blocked.questions.first() {
        Some(question) => format!("asks: {}", question.question),
        None => format!("asks to use {tool} {}", blocked.input),
    }
}

/// Returns what the agent is doing.
pub(crate) fn activity_text(activity: &Activity) -> String {
    match &activity.tool {
        Some(tool) => harmless(&format!("{tool}: {}", activity.text)),
        None => harmless(&activity.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::NotifyEvent;

    #[test]
    fn says_how_often_a_delivery_was_tried() {
        let text = |tries, error: Option<&str>| {
            undelivered(&Notification {
                number: 1,
                event: NotifyEvent::Completed,
                to: "wake".to_owned(),
                tries,
                error: error.map(str::to_owned),
                hint: None,
                due_at: None,
            })
        };
        assert_eq!(text(1, None), "completed to wake: in progress");
        assert_eq!(text(3, None), "completed to wake: 3 tries so far");
        assert_eq!(text(3, Some("exit code 1")), "completed to wake: exit code 1");
    }

    #[test]
    fn a_comment_moves_below_a_long_command() {
        let command = "claudejob status a --full  # shows the whole request";
        assert_eq!(command_lines(command, 6, 58), command);
        let two = "claudejob status a --full\n      # shows the whole request";
        assert_eq!(command_lines(command, 6, 57), two);
        // A command alone is never broken.
        assert_eq!(command_lines("claudejob run 'a  #b'", 6, 10), "claudejob run 'a  #b'");
    }
}
