//! Asks for the answer on the terminal.

use std::fmt::Write as _;
use std::io;

use super::{OpenRequest, Reply};
use crate::error::Error;
use crate::job::Question;
use crate::output::{BOLD, DIM, painted, print_text};
use crate::text::{harmless, one_line};

/// Shows the open request and reads the answer.
pub(super) fn read(open: &OpenRequest, reply: &mut Reply) -> Result<(), Error> {
    if open.blocked.kind != "question" {
        let line = read_line(&permission(open))?;
        reply.allow = matches!(line.as_str(), "y" | "yes");
        reply.deny = !reply.allow;
        return Ok(());
    }
    for asked in &open.blocked.questions {
        let line = read_line(&question(asked))?;
        let number: usize = line.parse().unwrap_or(0);
        match asked.options.get(number.wrapping_sub(1)) {
            Some(option) => reply.choices.push(format!("{}={}", asked.question, option.label)),
            None => reply.text = Some(line),
        }
    }
    Ok(())
}

fn read_line(prompt: &str) -> Result<String, Error> {
    print_text(prompt)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(Error::Output)?;
    Ok(line.trim().to_owned())
}

fn permission(open: &OpenRequest) -> String {
    let tool = open.blocked.tool_name.as_deref().unwrap_or_default();
    let what = harmless(&format!("{tool} {}", one_line(&open.blocked.input, 1_000)));
    format!("Allow {what}?\n[y/N] ")
}

fn question(question: &Question) -> String {
    let mut text = format!("{}\n", painted(BOLD, &harmless(&question.question)));
    for (n, option) in question.options.iter().enumerate() {
        let description = painted(DIM, &harmless(&one_line(&option.description, 200)));
        let _ = writeln!(text, "  {} {}  {description}", n + 1, harmless(&option.label));
    }
    text + "Number or free text: "
}
