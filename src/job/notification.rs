//! Notifications about a job: their events and their recipients.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{OpenClawRecipients, Status, Timestamp};

/// An event for which notifications are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum NotifyEvent {
    /// The job waits for an answer.
    Blocked,
    /// The job completed.
    Completed,
    /// The job failed.
    Failed,
    /// The job was killed.
    Killed,
}

impl NotifyEvent {
    pub(crate) const ALL: [Self; 4] = [Self::Blocked, Self::Completed, Self::Failed, Self::Killed];

    /// Returns the event of reaching this status.
    pub(crate) fn from_status(status: Status) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == status.as_str())
    }

    /// Returns the status's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }
}

impl fmt::Display for NotifyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An agent that is notified by `POST URL` (OpenClaw's `/hooks/wake`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WakeTarget {
    pub url: String,
    /// Environment variable with the bearer token. The token itself is never stored.
    pub token_env: Option<String>,
    /// Key of the agent's session.
    pub session: Option<String>,
}

/// A notification to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notification {
    /// Number of the event among the job's notified events.
    pub number: u64,
    /// The event.
    pub event: NotifyEvent,
    /// The recipient: `command N`, the N-th `--on-event`; `wake`, the agent of `--wake` or
    /// `--wake-url`; or `notify N`, the N-th `--notify`.
    pub to: String,
    /// Number of attempts to deliver it, the current one included.
    pub tries: u32,
    /// Why it could not be delivered; null as long as it is tried.
    pub error: Option<String>,
    /// The command that tries it again now, as `sh` takes it; null in an answer of `redeliver`.
    pub hint: Option<String>,
    /// When the event was recorded; `None` if it was not recorded yet.
    #[serde(skip)]
    pub due_at: Option<Timestamp>,
}

/// Returns the recipients of a job's notifications.
pub(crate) fn recipients(
    on_event: &[String],
    wake: Option<&WakeTarget>,
    openclaw: Option<&OpenClawRecipients>,
) -> Vec<String> {
    let mut recipients = Vec::new();
    for number in 1..=on_event.len() {
        recipients.push(format!("command {number}"));
    }
    if wake.is_some() || openclaw.is_some_and(|it| it.wake.is_some()) {
        recipients.push("wake".to_owned());
    }
    let chats = openclaw.map_or(0, |it| it.chats.len());
    for number in 1..=chats {
        recipients.push(format!("notify {number}"));
    }
    recipients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_status() {
        for event in NotifyEvent::ALL {
            assert_eq!(serde_json::to_string(&event).unwrap(), format!("\"{event}\""));
        }
        assert_eq!(NotifyEvent::from_status(Status::Failed), Some(NotifyEvent::Failed));
        assert_eq!(NotifyEvent::from_status(Status::Idle), None);
    }
}
