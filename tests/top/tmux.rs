//! `top` in tmux, a terminal of its own kind, which is resized.

use std::process::{Command, Output};

use super::sandbox;
use crate::support::{Sandbox, eventually};

/// A tmux server for one test.
struct Tmux<'a>(&'a Sandbox);

impl Tmux<'_> {
    fn call(&self, arguments: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.env_clear().envs(self.0.environment());
        tmux.arg("-S").arg(self.0.path("tmux")).args(["-f", "/dev/null"]).args(arguments);
        tmux.output().unwrap()
    }

    #[track_caller]
    fn await_screen(&self, what: &str, fits: impl Fn(&[&str]) -> bool) {
        eventually(what, || {
            let shown = self.call(&["capture-pane", "-p"]).stdout;
            let shown = String::from_utf8_lossy(&shown).into_owned();
            fits(&shown.lines().collect::<Vec<&str>>()).then_some(())
        });
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.call(&["kill-server"]);
    }
}

#[test]
fn follows_the_size_of_tmux() {
    if Command::new("tmux").arg("-V").output().is_err() {
        // Another terminal is used by the other tests.
        return;
    }
    let sandbox = sandbox("read\ninit\nsay hello\nhang");
    for index in 0..9 {
        sandbox.start(&format!("job-{index}"), &[]);
    }
    let tmux = Tmux(&sandbox);
    let top = format!("{} top; echo left: $?; cat", env!("CARGO_BIN_EXE_claudejob"));
    tmux.call(&["new-session", "-d", "-x", "80", "-y", "24", &top]);
    let rows = |lines: &[&str]| lines.iter().filter(|line| line.contains("job-")).count();
    // The list, and the line above the conversation.
    tmux.await_screen("seven rows", |lines| {
        lines.len() == 24 && rows(lines) == 9 && lines[23].starts_with("? keys")
    });
    tmux.call(&["resize-window", "-x", "40", "-y", "10"]);
    tmux.await_screen("three rows", |lines| {
        lines.len() == 10 && rows(lines) == 4 && lines[9].starts_with("? keys")
    });
    tmux.call(&["resize-window", "-x", "200", "-y", "50"]);
    tmux.await_screen("nine rows", |lines| {
        lines.len() == 50 && rows(lines) == 10 && lines[49].ends_with("d diff")
    });
    tmux.call(&["send-keys", "q"]);
    tmux.await_screen("the end", |lines| lines.contains(&"left: 0"));
}
