//! Reads a page as a person at a terminal: types each command, and sees its output.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, mkfifo};
use std::os::fd::AsFd;

use crate::compare::{Ids, are_same, updated};
use crate::page::{Page, Run, Step};
use crate::root;
use crate::settled::Jobs;
use crate::support::screen::Screen;
use crate::support::{Sandbox, install, sandbox};

/// No command of a page takes this long: one that does waits for something that never comes.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(90);
const SIZE: Winsize = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
/// Surrounds the exit status after each command.
const MARK: char = '\u{1e}';
/// Runs a file with commands for each line in a FIFO, and prints the exit status. `reboot` ends the
/// jobs as a power cut does: their records are from another boot.
const SHELL: &str = r#"cd ~/app || exit
reboot() {
  local record name
  for record in ~/.local/state/claudejob/jobs/*/meta.json; do
    grep -Eq '"status":"(running|queued|blocked|idle)"' "$record" || continue
    for name in pid claudePid; do
      kill -KILL "$(sed -n "s/.*\"$name\":\([0-9]*\).*/\1/p" "$record")" 2>/dev/null || true
    done
    sed -i 's/"bootId":"[^"]*"/"bootId":"00000000-0000-4000-8000-000000000000"/' "$record"
  done
  return 0
}
while read -r _ <"$DOCS_DIR/next"; do
  trap 'docs_failed=$?' ERR
  docs_failed=0
  . "$DOCS_DIR/commands"
  docs_status=$?
  printf '\036%s %s\036' "$docs_status" "$docs_failed"
done
"#;
/// Files of the repository `~/app`.
const FILES: [(&str, &str); 4] = [
    ("src/login.rs", "pub fn check(name: &str) -> bool {\n    name.len() > 1\n}\n"),
    ("tests/login.rs", "#[test]\nfn a_short_name_is_refused() {}\n"),
    ("Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\n"),
    ("task.md", "Fix the login test.\n"),
];
/// Programs that a page may use and that are not everywhere: they do nothing.
const OTHER_PROGRAMS: [&str; 4] = ["mail", "notify-send", "npm", "openclaw"];

/// What came of reading a page.
pub(crate) struct Reading {
    pub(crate) problems: Vec<String>,
    /// The page with its present outputs, if they differ.
    pub(crate) updated: Option<String>,
}

pub(crate) fn read(page: &Page) -> Reading {
    let mut reader = Reader::new();
    let mut problems = Vec::new();
    let mut lines: Vec<String> = page.text.lines().map(str::to_owned).collect();
    let mut replaced: Vec<(usize, usize, Vec<String>)> = Vec::new();
    for step in &page.steps {
        let outcome = reader.run(step);
        let place = page.place(step.line);
        let shown = outcome.lines.join("\n");
        let Some((status, failed)) = outcome.status else {
            problems.push(format!("{place}: `{}` does not end:\n{shown}", step.command));
            break;
        };
        let status = if step.run == Run::Shown { status } else { failed };
        if status != 0 && Some(status) != step.settings.exits {
            problems.push(format!("{place}: `{}` exits with {status}:\n{shown}", step.command));
        }
        if step.run == Run::Shown {
            let (first, end) = step.output;
            let indent = page.text.lines().nth(step.line - 1).unwrap_or_default();
            let indent = indent.len() - indent.trim_start().len();
            let expected: Vec<&str> = page.text.lines().take(end).skip(first).collect();
            let expected: Vec<&str> =
                expected.iter().map(|line| line.get(indent..).unwrap_or_default()).collect();
            reader.ids.learn(&expected, &outcome.lines);
            if !are_same(&expected, &outcome.lines) {
                let now: Vec<String> =
                    outcome.lines.iter().map(|line| reader.ids.of_the_page(line)).collect();
                let now = updated(&expected, &now);
                problems.push(format!(
                    "{place}: the output of `{}` has changed. In the page:\n{}\nNow:\n{}",
                    step.command,
                    expected.join("\n"),
                    now.join("\n")
                ));
                let now = now.iter().map(|line| format!("{:indent$}{line}", "")).collect();
                replaced.push((first, end, now));
            }
        }
    }
    reader.leave();
    let is_changed = !replaced.is_empty();
    for (first, end, now) in replaced.into_iter().rev() {
        lines.splice(first..end, now);
    }
    Reading { problems, updated: is_changed.then(|| lines.join("\n") + "\n") }
}

/// The output of a command, and its exit status with that of the last command in it that failed.
struct Outcome {
    lines: Vec<String>,
    status: Option<(i32, i32)>,
}

struct Reader {
    sandbox: Sandbox,
    shell: Child,
    terminal: File,
    /// The FIFO from which the shell reads a line for each command. It is always open, so that the
    /// shell finds no end of it.
    next: File,
    jobs: Jobs,
    ids: Ids,
}

impl Reader {
    fn new() -> Self {
        let mut sandbox = Sandbox::new("");
        prepare(&mut sandbox);
        let folder = sandbox.path("docs");
        fs::create_dir(&folder).unwrap();
        mkfifo(&folder.join("next"), Mode::S_IRWXU).unwrap();
        let next = File::options().read(true).write(true).open(folder.join("next")).unwrap();
        fs::write(folder.join("shell"), SHELL).unwrap();
        let pty = openpty(&SIZE, None).unwrap();
        let mut shell = Command::new("setsid");
        shell.args(["--ctty", "bash"]).arg(folder.join("shell")).env_clear();
        shell.envs(sandbox.environment()).env("DOCS_DIR", &folder).env("CHECKOUT", root());
        shell.current_dir(sandbox.path("home/app"));
        shell.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap());
        let shell = shell.stderr(pty.slave).spawn().unwrap();
        let jobs = Jobs { directory: sandbox.jobs(), stand_in: sandbox.path("") };
        let terminal = File::from(pty.master);
        let mut reader = Self { sandbox, shell, terminal, next, jobs, ids: Ids::default() };
        reader.warm_up();
        reader
    }

    /// Makes the warnings about this machine, which are given once a day, and the job's files go.
    fn warm_up(&mut self) {
        self.sandbox.script("exit 1");
        let start = "claudejob start warm-up -q -p x >/dev/null 2>&1; claudejob wait -q warm-up \
                     >/dev/null 2>&1; claudejob rm -q warm-up >/dev/null 2>&1; rm -f ~/.claude.json";
        let outcome = self.type_command(start, &[]);
        assert!(outcome.status.is_some(), "{:?}", outcome.lines);
        let _ = fs::remove_file(self.sandbox.jobs().join(".spent.ndjson"));
    }

    fn run(&mut self, step: &Step) -> Outcome {
        let claude = step.settings.claude.as_deref().unwrap_or("done");
        let script = root().join("tests/docs/claude").join(claude);
        assert!(script.exists(), "no script {}", script.display());
        let script = format!("export FAKE_CLAUDE='{}'\n", script.display());
        for before in step.settings.before.iter().flat_map(|commands| commands.split("; ")) {
            self.jobs.settle();
            let outcome = self.type_command(&format!("{script}{before}"), &[]);
            assert_eq!(outcome.status, Some((0, 0)), "{before}: {:?}", outcome.lines);
        }
        let command = self.ids.of_this_time(&step.command);
        self.jobs.settle();
        self.jobs.release(&command);
        let command = match step.run {
            Run::Script => format!("bash <<'DOCS-SCRIPT'\n{command}\nDOCS-SCRIPT"),
            _ => command,
        };
        self.type_command(&format!("{script}{command}"), &step.settings.types)
    }

    /// Runs a command in the reader's shell. Each text is typed when the output asks for it.
    fn type_command(&mut self, command: &str, types: &[String]) -> Outcome {
        let folder = self.sandbox.path("docs");
        fs::write(folder.join("commands"), format!("{command}\n")).unwrap();
        self.next.write_all(b"\n").unwrap();
        let mut types = types.iter();
        let mut output = Vec::new();
        let mut seen = 0;
        loop {
            if !self.read_more(&mut output).unwrap() {
                let lines = self.shown(&String::from_utf8_lossy(&output));
                self.stop();
                return Outcome { lines, status: None };
            }
            let text = String::from_utf8_lossy(&output);
            if let [shown, status, _] = *text.split(MARK).collect::<Vec<_>>() {
                let status = status.split_once(' ').unwrap();
                let status = (status.0.parse().unwrap(), status.1.parse().unwrap());
                return Outcome { lines: self.shown(shown), status: Some(status) };
            }
            // After the echo of the last text.
            let is_new = seen < text.len();
            let is_raw = self.is_raw();
            if is_new
                && (is_raw || text.ends_with(": "))
                && let Some(typed) = types.next()
            {
                let keys = if is_raw { key(typed) } else { format!("{typed}\n") };
                self.terminal.write_all(keys.as_bytes()).unwrap();
                seen = if is_raw { text.len() } else { text.len() + keys.len() };
            }
        }
    }

    /// Whether the program reads single keys.
    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap();
        !modes.local_flags.contains(LocalFlags::ICANON)
    }

    /// Reads what the terminal shows next; false if nothing comes for too long, or the shell ended.
    fn read_more(&mut self, output: &mut Vec<u8>) -> io::Result<bool> {
        let mut ready = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(COMMAND_TIMEOUT).unwrap();
        if poll(&mut ready, timeout)? == 0 {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        match (&self.terminal).read(&mut buffer) {
            Ok(count) => output.extend_from_slice(&buffer[..count]),
            // Linux reports the end so.
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the lines that a person sees, with the paths of a reader's machine.
    fn shown(&self, output: &str) -> Vec<String> {
        let home = self.sandbox.path("home").display().to_string();
        let all = self.sandbox.path("").display().to_string();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = format!("host {}", host.trim());
        let mut lines = Screen::after(&without_screens(output));
        for line in &mut lines {
            *line = line.replace(&home, "/home/ann").replace(all.trim_end_matches('/'), "/tmp");
            *line = line.replace(&host, "host laptop");
        }
        lines
    }

    fn stop(&self) {
        let _ = killpg(Pid::from_raw(self.shell.id() as i32), Signal::SIGKILL);
    }

    /// Ends the shell and all jobs.
    fn leave(mut self) {
        let kill = "claudejob unpause --all; claudejob kill --all";
        let mut command = Command::new("bash");
        command.args(["-c", kill]).env_clear().envs(self.sandbox.environment());
        let _ = command.output();
        self.stop();
        let _ = self.shell.wait();
    }
}

/// Returns what is typed for a key with a name, or for a text.
fn key(name: &str) -> String {
    match name {
        "Enter" => "\r".to_owned(),
        "Esc" => "\u{1b}".to_owned(),
        "Ctrl-C" => "\u{3}".to_owned(),
        "Ctrl-D" => "\u{4}".to_owned(),
        text => text.to_owned(),
    }
}

/// Leaves out what was shown on the alternate screen, which is gone when the program ends.
fn without_screens(output: &str) -> String {
    let mut parts = output.split("\u{1b}[?1049h");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += part.split_once("\u{1b}[?1049l").map_or("", |(_, rest)| rest);
    }
    text
}

/// Makes the home directory of a reader who has a login, `claude`, `claudejob` and `~/app`.
fn prepare(sandbox: &mut Sandbox) {
    let bin = sandbox.path("home/.local/bin");
    let app = sandbox.path("home/app");
    for folder in [&bin, &app.join("src"), &app.join("tests"), &sandbox.path("home/.claude")] {
        fs::create_dir_all(folder).unwrap();
    }
    for name in ["CLAUDE_SKILL_JOBS_DIR", "CLAUDE_SKILL_CLAUDE", "ANTHROPIC_API_KEY"] {
        sandbox.unset(name);
    }
    let jobs = sandbox.path("home/.local/state/claudejob/jobs");
    fs::create_dir_all(jobs.parent().unwrap()).unwrap();
    symlink(&jobs, sandbox.jobs()).unwrap();
    symlink(env!("CARGO_BIN_EXE_claudejob"), bin.join("claudejob")).unwrap();
    symlink(sandbox::fake_claude(), bin.join("claude")).unwrap();
    symlink(root().join("tests/fixtures/transcripts"), sandbox.path("streams")).unwrap();
    for name in OTHER_PROGRAMS {
        install(&bin.join(name), b"#!/bin/sh\n");
    }
    let login =
        r#"{"claudeAiOauth":{"accessToken":"a","refreshToken":"r","expiresAt":9999999999999}}"#;
    fs::write(sandbox.path("home/.claude/.credentials.json"), login).unwrap();
    let path = sandbox.environment().get(std::ffi::OsStr::new("PATH")).cloned().unwrap_or_default();
    let path = format!("{}:{}", bin.display(), PathBuf::from(path).display());
    let settings = BTreeMap::from([
        ("PATH", path.as_str()),
        ("TERM", "xterm"),
        ("NO_COLOR", "1"),
        ("TZ", "UTC"),
        ("SHELL", "/bin/bash"),
        ("USER", "ann"),
        ("PAGER", "cat"),
        ("GIT_PAGER", "cat"),
    ]);
    for (name, value) in settings {
        sandbox.set(name, value);
    }
    for (name, text) in FILES {
        fs::write(app.join(name), text).unwrap();
    }
    let git = "git config --global user.name Ann && git config --global user.email ann@localhost \
               && git config --global init.defaultBranch main && git init -q && git add . \
               && git commit -q -m Begin";
    let mut command = Command::new("sh");
    command.args(["-c", git]).env_clear().envs(sandbox.environment()).current_dir(&app);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
