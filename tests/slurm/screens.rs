//! Lists and screens that stay usable while the scheduler does not answer.

use std::fs::{self, File};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::cluster::Cluster;
use crate::support::processes::{is_stopped, send};
use crate::support::screen::Screen;
use crate::support::terminal::Terminal;
use crate::support::{await_file, eventually};

/// A cluster with a job.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new("session\nread\ninit\nresult Done.\neof");
    cluster.sandbox.set("TERM", "xterm-256color");
    // Longer than the test: only the release ends a question.
    cluster.sandbox.set("CLAUDEJOB_TEST_QUERY_TIMEOUT", "3600");
    assert_eq!(cluster.start("far", &[]).code, 0);
    cluster
}

/// Makes `squeue` hang from now on.
fn hang(cluster: &Cluster) {
    mkfifo(&cluster.dir.join("hang"), Mode::S_IRWXU).unwrap();
}

/// Waits until a call of `squeue` hangs.
fn await_hanging(cluster: &Cluster) {
    await_file(&cluster.dir.join("hangs"));
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
    let cluster = cluster();
    hang(&cluster);
    let mut terminal = Terminal::start(cluster.sandbox.command(["top"]));
    await_line(&terminal, "> far  queued", "");
    await_hanging(&cluster);
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

#[test]
fn the_watched_list_takes_signals_meanwhile() {
    let cluster = cluster();
    let terminal = Terminal::start(cluster.sandbox.command(["list", "--watch"]));
    await_line(&terminal, "far  queued", "Priority");
    hang(&cluster);
    // The list is read again when an answer is too old.
    await_hanging(&cluster);
    send(terminal.pid(), Signal::SIGTSTP);
    eventually("the stop", || is_stopped(terminal.pid()).then_some(()));
    eventually("an empty screen", || Screen::after(&terminal.screen()).is_empty().then_some(()));
    send(terminal.pid(), Signal::SIGCONT);
    await_line(&terminal, "far  queued", "Priority");
    cluster.set_state("1", "PENDING|0||Resources");
    release(&cluster);
    await_line(&terminal, "far  queued", "Resources");
    send(terminal.pid(), Signal::SIGQUIT);
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn an_engine_that_hangs_is_asked_once() {
    let mut cluster = Cluster::new("result done");
    for id in ["a", "b", "c"] {
        assert_eq!(cluster.start(id, &[]).code, 0);
    }
    // Longer than an answer is used.
    cluster.sandbox.set("CLAUDEJOB_TEST_QUERY_TIMEOUT", "6");
    hang(&cluster);
    let before = cluster.calls("squeue");
    let list = cluster.sandbox.run(["list"]);
    assert_eq!(
        list.stdout.matches("\"why\":\"its engine does not answer\"").count(),
        3,
        "{list:?}"
    );
    assert_eq!(cluster.calls("squeue"), before + 1);
}
