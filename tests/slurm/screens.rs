//! Screens that stay usable while the scheduler does not answer.

use std::fs::{self, File};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::cluster::Cluster;
use crate::support::eventually;
use crate::support::screen::Screen;
use crate::support::terminal::Terminal;

/// A cluster with a job, whose `squeue` hangs.
fn hanging() -> Cluster {
    let mut cluster = Cluster::new("session\nread\ninit\nresult Done.\neof");
    cluster.sandbox.set("TERM", "xterm-256color");
    // Longer than the test: only the release ends a question.
    cluster.sandbox.set("CLAUDEJOB_TEST_QUERY_TIMEOUT", "3600");
    assert_eq!(cluster.start("far", &[]).code, 0);
    mkfifo(&cluster.dir.join("hang"), Mode::S_IRWXU).unwrap();
    cluster
}

/// Lets `squeue` answer.
fn release(cluster: &Cluster) {
    let pipe = cluster.dir.join("hang");
    let writer = File::options().write(true).open(&pipe).unwrap();
    // No later call hangs, and those that have opened it go on.
    fs::remove_file(&pipe).unwrap();
    drop(writer);
}

fn await_line(terminal: &Terminal, begins: &str, ends: &str) {
    eventually(&format!("{begins} … {ends}"), || {
        let lines = Screen::after(&terminal.screen());
        lines.iter().any(|line| line.starts_with(begins) && line.ends_with(ends)).then_some(())
    });
}

#[test]
fn top_follows_keys_while_the_scheduler_hangs() {
    let cluster = hanging();
    let mut terminal = Terminal::start(cluster.sandbox.command(["top"]));
    await_line(&terminal, "> far  queued", "");
    eventually("a question", || (cluster.calls("squeue") == 1).then_some(()));
    cluster.sandbox.start("near", &[]);
    await_line(&terminal, "  near  completed", "Done.");
    terminal.press("/near");
    await_line(&terminal, "/near", "");
    terminal.press("\u{1b}");
    await_line(&terminal, "  far", "");
    assert_eq!(cluster.calls("squeue"), 1, "one question at a time");
    release(&cluster);
    await_line(&terminal, "  far ", "Priority");
    terminal.press("q");
    let (code, output) = terminal.finish();
    assert_eq!(code, 0, "{output}");
}
