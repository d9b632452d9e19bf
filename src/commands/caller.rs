//! Who makes the call: a person on a terminal, an agent or another program; and how long an answer
//! to it may be.

use std::io::{self, IsTerminal};

use super::Call;
use crate::arguments::Format;
use crate::claude::Env;
use crate::text::shell_word;

/// Variables by which agents mark the environment of their commands.
const AGENT_VARIABLES: [&str; 10] = [
    "AI_AGENT",
    "AUGMENT_AGENT",
    "CLAUDECODE",
    "CODEX_SANDBOX",
    "CODEX_THREAD_ID",
    "CURSOR_AGENT",
    "GEMINI_CLI",
    "GOOSE_TERMINAL",
    "OPENCLAW_SHELL",
    "OPENCODE",
];

/// Maximum number of characters of an answer for an agent, which truncates longer output: truncated
/// JSON cannot be parsed.
const AGENT_CHARS: usize = 8_000;

impl Call {
    /// Returns whether a person makes the call: on a terminal, and not within an agent, which may
    /// give its commands a terminal, too.
    pub(super) fn is_by_person(&self) -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal() && !is_by_agent(&self.env)
    }

    /// Returns whether an agent makes the call, whose shell waits for at most 10 s.
    pub(super) fn is_by_agent(&self) -> bool {
        is_by_agent(&self.env)
    }

    /// Returns the maximum number of characters of an answer; `None` if answers are whole.
    pub(super) fn bound(&self) -> Option<usize> {
        self.bound_unless(false)
    }

    /// Like [`bound`](Self::bound), for a call that asks for all, which only `--max-chars` bounds.
    pub(super) fn bound_unless(&self, asks_for_all: bool) -> Option<usize> {
        // Each line of ids is whole, and a reader that truncates them sees that.
        if self.printer.format() == Format::Ids {
            return None;
        }
        bound(self.max_chars, &self.env, asks_for_all)
    }

    /// Returns this call without a limit of the answer's length, for `sh`.
    pub(super) fn whole(&self) -> String {
        let mut command = "claudejob".to_owned();
        let mut args = self.args.iter().skip(1).map(|arg| arg.to_string_lossy());
        while let Some(arg) = args.next() {
            if arg == "--max-chars" {
                args.next();
            } else if !arg.starts_with("--max-chars=") {
                command.push(' ');
                command.push_str(&shell_word(&arg));
            }
        }
        command + " --max-chars 0"
    }
}

/// Returns whether the environment names an agent: a variable of one is set, and not to a value that
/// denies it.
fn is_by_agent(env: &Env) -> bool {
    for name in AGENT_VARIABLES {
        if env.get(name).is_some_and(|value| value != "0" && value != "false") {
            return true;
        }
    }
    false
}

/// Returns the maximum number of characters of an answer: the given one, where 0 is none, or else
/// [`AGENT_CHARS`] for an agent, unless the call asks for all.
fn bound(given: Option<usize>, env: &Env, asks_for_all: bool) -> Option<usize> {
    match given {
        Some(0) => None,
        Some(max) => Some(max),
        None if is_by_agent(env) && !asks_for_all => Some(AGENT_CHARS),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_answers_of_agents_alone() {
        let agents = [("AI_AGENT", "test"), ("CLAUDECODE", "1"), ("OPENCLAW_SHELL", "exec")];
        let others = [("HOME", "/home/dev"), ("CLAUDECODE", ""), ("GEMINI_CLI", "0")];
        let env = |(name, value): (&str, &str)| Env::of(&[(name, value)]);
        for agent in agents {
            let env = env(agent);
            assert_eq!(bound(None, &env, false), Some(AGENT_CHARS), "{agent:?}");
            assert_eq!(bound(None, &env, true), None, "{agent:?}");
            assert_eq!(bound(Some(0), &env, false), None, "{agent:?}");
            assert_eq!(bound(Some(900), &env, true), Some(900), "{agent:?}");
        }
        for other in others {
            assert_eq!(bound(None, &env(other), false), None, "{other:?}");
            assert_eq!(bound(Some(900), &env(other), false), Some(900), "{other:?}");
        }
    }
}
