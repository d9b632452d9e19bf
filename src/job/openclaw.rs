//! Recipients that are notified through the `openclaw` command.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Words before a colon that belong to a target: `channel:123` has no thread.
const TARGET_PREFIXES: [&str; 16] = [
    "channel",
    "chat",
    "chat_guid",
    "chat_id",
    "chat_identifier",
    "conversation",
    "direct",
    "dm",
    "group",
    "id",
    "room",
    "thread",
    "topic",
    "user",
    "username",
    "uuid",
];

/// Recipients that are notified through the `openclaw` command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OpenClawRecipients {
    /// The command as it was found when the job was started.
    pub command: OpenClawCommand,
    /// `--wake openclaw`: the agent that is woken.
    pub wake: Option<AgentSession>,
    /// `--notify`: the chats that get a message.
    pub chats: Vec<Chat>,
}

/// The `openclaw` command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OpenClawCommand {
    /// Absolute path of the program, and the arguments before those of a call.
    pub program: Vec<String>,
    /// Directories in front of `PATH`: the program is a script that needs its own `node`.
    pub search_dirs: Vec<String>,
    /// Variables of the caller by which the program finds its gateway. None of them is secret.
    pub environment: BTreeMap<String, String>,
}

/// The session of an OpenClaw agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AgentSession {
    /// Key of the session; `None` for the main session.
    pub key: Option<String>,
}

/// A chat, or a thread in it, in a channel of OpenClaw's gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Chat {
    /// Name of the channel, such as `telegram`.
    pub channel: String,
    /// The person or room, in the form of the channel.
    pub target: String,
    /// The thread in the room.
    pub thread: Option<String>,
}

impl AgentSession {
    /// Parses `openclaw` or `openclaw:KEY`. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let key = match text.split_once(':') {
            None if text == "openclaw" => return Ok(Self { key: None }),
            Some(("openclaw", key)) => key,
            _ => return Err("expected openclaw or openclaw:KEY".to_owned()),
        };
        match key_problem(key) {
            Some(problem) => Err(problem.to_owned()),
            None => Ok(Self { key: Some(key.to_owned()) }),
        }
    }
}

/// Returns why the text cannot be the key of a session that can be woken.
fn key_problem(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("the session key is empty");
    }
    if key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("a session key has no white space");
    }
    if is_uuid(key) {
        return Some("a UUID is a sessionId, not a session key");
    }
    let lower = key.to_ascii_lowercase();
    if lower.starts_with("session=") {
        return Some("the session key is what follows session=");
    }
    let name = match lower.strip_prefix("agent:") {
        None => lower.as_str(),
        Some(rest) => match rest.split_once(':') {
            Some((agent, name))
                if !agent.is_empty() && !matches!(name.chars().next(), None | Some(':')) =>
            {
                name
            }
            _ => return Some("a session key is agent:AGENT:NAME"),
        },
    };
    if name.starts_with("subagent:") || name.contains(":subagent:") {
        return Some("OpenClaw wakes no session of a sub-agent");
    }
    // `main` and `global` are the names of the main session.
    if name == lower && !name.contains(':') && !matches!(name, "main" | "global") {
        return Some("a session key is agent:AGENT:NAME");
    }
    None
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

impl Chat {
    /// Parses `openclaw:CHANNEL:TARGET[:THREAD]`. The target may contain colons: the last part is
    /// a thread if it is a number. `%3A` stands for a colon that begins no thread.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected openclaw:CHANNEL:TARGET[:THREAD]";
        let Some((channel, rest)) =
            text.strip_prefix("openclaw:").and_then(|it| it.split_once(':'))
        else {
            return Err(EXPECTED.to_owned());
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        // A dash in front would make it an option of the command.
        if channel.is_empty() || channel.starts_with('-') || !channel.chars().all(is_name) {
            return Err(format!(
                "{EXPECTED}: a channel has letters, digits, '-' and '_', and begins with no '-'"
            ));
        }
        let (target, thread) = match rest.rsplit_once(':') {
            Some((target, last)) if is_thread(last) && !is_prefix(target) => (target, Some(last)),
            _ => (rest, None),
        };
        if target.trim().is_empty() {
            return Err(format!("{EXPECTED}: the target is empty"));
        }
        if rest.contains(char::is_control) {
            return Err(format!("{EXPECTED}: the target contains a control character"));
        }
        Ok(Self {
            channel: channel.to_owned(),
            target: with_colons(target),
            thread: thread.map(with_colons),
        })
    }
}

fn is_thread(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// Returns whether the target ends in a word that belongs to what follows it.
fn is_prefix(target: &str) -> bool {
    let word = target.rsplit(':').next().unwrap_or_default();
    TARGET_PREFIXES.contains(&word.to_ascii_lowercase().as_str())
}

fn with_colons(text: &str) -> String {
    text.replace("%3A", ":").replace("%3a", ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_session_to_wake() {
        let key = |key: &str| Ok(AgentSession { key: Some(key.to_owned()) });
        assert_eq!(AgentSession::parse("openclaw"), Ok(AgentSession { key: None }));
        for good in [
            "main",
            "global",
            "agent:main:main",
            "agent:main:telegram:group:-100:topic:4",
            "agent:work:dashboard:0d0f6a1e-7d5c-4a4e-9a3f-5b9a41f1b6c1",
            "agent:main:matrix:channel:!Room:server.org",
            "hook:ci",
        ] {
            assert_eq!(AgentSession::parse(&format!("openclaw:{good}")), key(good));
        }
        for (bad, why) in [
            ("", "expected openclaw or"),
            ("agent:main:main", "expected openclaw or"),
            ("openclaw:", "is empty"),
            ("openclaw:0d0f6a1e-7d5c-4a4e-9a3f-5b9a41f1b6c1", "sessionId"),
            ("openclaw:agent:main:my session", "white space"),
            ("openclaw:agent:main:main\n", "white space"),
            ("openclaw:agent:main", "agent:AGENT:NAME"),
            ("openclaw:agent::main", "agent:AGENT:NAME"),
            ("openclaw:agent:main:", "agent:AGENT:NAME"),
            ("openclaw:agent:main::x", "agent:AGENT:NAME"),
            ("openclaw:fix-login", "agent:AGENT:NAME"),
            ("openclaw:agent:main:subagent:x", "sub-agent"),
            ("openclaw:session=agent:main:main", "follows session="),
        ] {
            let error = AgentSession::parse(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn splits_channel_target_and_thread() {
        for (text, channel, target, thread) in [
            ("telegram:123", "telegram", "123", None),
            ("telegram:-100123:42", "telegram", "-100123", Some("42")),
            ("telegram:-100123:topic:42", "telegram", "-100123:topic:42", None),
            ("telegram:@ann", "telegram", "@ann", None),
            ("discord:channel:123", "discord", "channel:123", None),
            ("discord:channel:123:456", "discord", "channel:123", Some("456")),
            ("slack:user:U7", "slack", "user:U7", None),
            ("slack:C7:1700000000.000100", "slack", "C7", Some("1700000000.000100")),
            ("imessage:chat_id:7", "imessage", "chat_id:7", None),
            ("matrix:!room:server.org", "matrix", "!room:server.org", None),
            ("matrix:!room:server.org%3A8448", "matrix", "!room:server.org:8448", None),
            ("matrix:!room:server.org%3a8448:9", "matrix", "!room:server.org:8448", Some("9")),
            ("whatsapp:+15551234567", "whatsapp", "+15551234567", None),
            ("msteams:19:x@thread.tacv2", "msteams", "19:x@thread.tacv2", None),
        ] {
            let chat = Chat::parse(&format!("openclaw:{text}")).unwrap();
            let found = (&*chat.channel, &*chat.target, chat.thread.as_deref());
            assert_eq!(found, (channel, target, thread), "{text}");
        }
        for bad in [
            "",
            "openclaw",
            "openclaw:",
            "openclaw:telegram",
            "openclaw:telegram:",
            "openclaw:telegram::5",
            "openclaw::123",
            "openclaw:tele gram:123",
            "openclaw:-x:123",
            "openclaw:telegram:1\n2",
            "telegram:123",
        ] {
            assert!(Chat::parse(bad).is_err(), "{bad}");
        }
    }
}
