//! Text form of `doctor`.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use super::{DoctorAnswer, Level};
use crate::error::ExitStatus;
use crate::output::{Answer, CYAN, GREEN, RED, YELLOW, columns, pad, painted, wrapped};
use crate::text::{harmless, plural};

impl Answer for DoctorAnswer {
    fn text(&self) -> String {
        text(self)
    }

    fn exit_status(&self) -> ExitStatus {
        if self.ok { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

fn text(answer: &DoctorAnswer) -> String {
    let names: Vec<String> = answer.checks.iter().map(|c| c.name.replace('_', " ")).collect();
    let name_width = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let indent = name_width + 4;
    let width = columns().saturating_sub(indent + 1).clamp(20, 100);
    let mut text = String::new();
    for (check, name) in answer.checks.iter().zip(&names) {
        let mark = match check.level {
            Level::Ok => painted(GREEN, "✓"),
            Level::Warning => painted(YELLOW.bold(), "!"),
            Level::Error => painted(RED.bold(), "✗"),
        };
        let mut head = format!("{mark} {}  ", pad(name, name_width, false));
        for line in wrapped(&harmless(&check.detail), width) {
            let _ = writeln!(text, "{head}{line}");
            head = " ".repeat(indent);
        }
        for line in wrapped(&harmless(check.hint.as_deref().unwrap_or_default()), width) {
            let _ = writeln!(text, "{head}{}", painted(CYAN, &line));
        }
    }
    let counted = |level, what| {
        let n = answer.checks.iter().filter(|check| check.level == level).count();
        (n > 0).then(|| plural(n, what))
    };
    let counts: Vec<String> = [counted(Level::Error, "error"), counted(Level::Warning, "warning")]
        .into_iter()
        .flatten()
        .collect();
    let summary = match (answer.ok, counts.is_empty()) {
        (true, true) => painted(GREEN, "Jobs can run here."),
        (true, false) => painted(YELLOW, &format!("Jobs can run here: {}.", counts.join(", "))),
        (false, _) => painted(RED, &format!("Jobs cannot run here: {}.", counts.join(", "))),
    };
    let _ = writeln!(text, "{summary}");
    text
}
