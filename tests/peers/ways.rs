//! The ways to run claude in the background, and how each starts, stops and reports a job.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::processes::{is_alive, processes_in, send};
use crate::{Cli, RealSandbox, Step, eventually};

/// How long a report may take to change after the job has changed.
const SETTLING: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Shell,
    Background,
    Tmux,
    Pueue,
    Job,
}

impl Way {
    pub(crate) const ALL: [Self; 5] =
        [Self::Shell, Self::Background, Self::Tmux, Self::Pueue, Self::Job];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shell => "`claude -p &`",
            Self::Background => "`claude --bg`",
            Self::Tmux => "tmux",
            Self::Pueue => "pueue",
            Self::Job => "claudejob",
        }
    }

    pub(crate) fn is_installed(&self) -> bool {
        let program = match self {
            Self::Tmux => "tmux",
            Self::Pueue => "pueue",
            Self::Shell | Self::Background | Self::Job => return true,
        };
        Command::new(program).arg("--help").output().is_ok()
    }
}

/// A sandbox for one way. All processes are ended when it is dropped.
pub(crate) struct Stage {
    way: Way,
    pub(crate) sandbox: RealSandbox,
    starts: Cell<usize>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill_everything();
    }
}

impl Stage {
    pub(crate) fn new(way: Way, steps: impl IntoIterator<Item = Step>) -> Self {
        let mut sandbox = RealSandbox::new(Cli::Newest, steps);
        // Elsewhere `claude` is found on PATH, as users have it.
        let claude =
            PathBuf::from(&sandbox.environment()[std::ffi::OsStr::new("CLAUDE_SKILL_CLAUDE")]);
        let path = std::env::var("PATH").unwrap();
        sandbox.set("PATH", format!("{}:{path}", claude.parent().unwrap().display()));
        let stage = Self { way, sandbox, starts: Cell::new(0) };
        stage.trust_the_folder();
        match way {
            Way::Pueue => stage.start_pueue(),
            // Without a session the server exits.
            Way::Tmux => drop(stage.shell("tmux -S ../tmp/tmux new-session -d")),
            Way::Shell | Way::Background | Way::Job => {}
        }
        stage
    }

    fn start_pueue(&self) {
        self.shell("pueued --daemonize > /dev/null 2>&1");
        eventually("pueue's daemon", || self.shell("pueue status").status.success().then_some(()));
    }

    /// Gives the answers that claude asks for in its first interactive session, without which
    /// `claude --bg` does not work.
    fn trust_the_folder(&self) {
        let answers = json!({
            "hasCompletedOnboarding": true,
            "bypassPermissionsModeAccepted": true,
            "customApiKeyResponses": {"approved": ["sk-ant-test"], "rejected": []},
            "projects": {self.work().to_str().unwrap(): {"hasTrustDialogAccepted": true}},
        });
        fs::write(self.sandbox.path("home/.claude.json"), answers.to_string()).unwrap();
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.sandbox.work()
    }

    /// Runs a command in a shell, as a user does.
    fn shell(&self, command: &str) -> Output {
        let mut shell = Command::new("bash");
        shell.env_clear().envs(self.sandbox.environment()).current_dir(self.work());
        shell.args(["-c", command]).stdin(Stdio::null()).output().unwrap()
    }

    fn text(&self, command: &str) -> String {
        String::from_utf8(self.shell(command).stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn start(&self) {
        self.start_with("--permission-mode bypassPermissions");
    }

    /// Starts a job whose agent may ask, as far as the way allows it.
    pub(crate) fn start_asking(&self) {
        match self.way {
            Way::Job => self.start_with("--ask"),
            _ => self.start(),
        }
    }

    fn start_with(&self, options: &str) {
        let _ = fs::remove_file(self.work().join("exit"));
        let print =
            format!("claude -p {options} work > out 2>&1; echo $? > exit.new; mv exit.new exit");
        let output = self.shell(&match self.way {
            Way::Shell => format!("({print}) > /dev/null 2>&1 & echo $! > pid"),
            Way::Background => format!("claude --bg {options} work"),
            Way::Tmux => format!("tmux -S ../tmp/tmux new-session -d '{print}'"),
            Way::Pueue => format!("pueue add '{print}'"),
            Way::Job => format!("{} start -p work {options}", env!("CARGO_BIN_EXE_claudejob")),
        });
        assert!(output.status.success(), "{output:?}");
        self.starts.set(self.starts.get() + 1);
    }

    pub(crate) fn stop(&self) {
        let output = self.shell(&match self.way {
            // The shell in between has no other child, and may end as soon as that has ended.
            Way::Shell => {
                "c=$(pgrep -P $(cat pid) -f 'claude -p') && kill $c $(cat pid)".to_owned()
            }
            Way::Background => format!("claude stop {}", self.background()["id"].as_str().unwrap()),
            Way::Tmux => "tmux -S ../tmp/tmux kill-server".to_owned(),
            Way::Pueue => "pueue kill 0".to_owned(),
            Way::Job => format!("{} kill --all", env!("CARGO_BIN_EXE_claudejob")),
        });
        assert!(output.status.success(), "{output:?}");
    }

    /// Waits until the way reports no running job.
    pub(crate) fn await_end(&self) {
        match self.way {
            Way::Shell | Way::Tmux => crate::await_file(&self.work().join("exit")),
            Way::Background => {
                // The state `done` comes from a model call, which the scripted API cannot answer.
                self.sandbox.api.wait_for_request(self.starts.get());
                let is_over = |session: &Value| {
                    session["state"] != "working"
                        || ["idle", "waiting"].contains(&session["status"].as_str().unwrap_or(""))
                };
                eventually("the end", || is_over(&self.background()).then_some(()));
            }
            Way::Pueue => drop(self.shell("pueue wait --quiet")),
            Way::Job => {
                drop(self.shell(&format!("{} wait --all", env!("CARGO_BIN_EXE_claudejob"))));
            }
        }
    }

    /// The latest session of `claude --bg`.
    fn background(&self) -> Value {
        let sessions = self.text("claude agents --json --all");
        let sessions: Value = serde_json::from_str(&sessions).unwrap_or_default();
        let sessions = sessions.as_array().cloned().unwrap_or_default();
        let started = |session: &Value| session["startedAt"].as_u64();
        sessions.into_iter().max_by_key(started).unwrap_or_default()
    }

    /// What the way reports of the job.
    pub(crate) fn verdict(&self) -> String {
        match self.way {
            Way::Shell | Way::Tmux => match fs::read_to_string(self.work().join("exit")) {
                Ok(code) => format!("exit code {}", code.trim()),
                Err(_) => "nothing".to_owned(),
            },
            Way::Background => {
                let session = self.background();
                let word = |name: &str| session[name].as_str().unwrap_or("nothing").to_owned();
                format!("`{}`, {}", word("state"), word("status"))
            }
            Way::Pueue => {
                let status: Value =
                    serde_json::from_str(&self.text("pueue status --json")).unwrap();
                format!("`{}`", status["tasks"]["0"]["status"]["Done"]["result"].as_str().unwrap())
            }
            Way::Job => {
                let list = self.text(&format!("{} list --json", env!("CARGO_BIN_EXE_claudejob")));
                let list: Value = serde_json::from_str(&list).unwrap();
                let job = &list[0];
                let reason = job["reason"].as_str().map(|reason| format!(" (`{reason}`)"));
                format!("`{}`{}", job["status"].as_str().unwrap(), reason.unwrap_or_default())
            }
        }
    }

    /// Whether claude's conversation with its first tool call is on its disk.
    pub(crate) fn has_conversation(&self) -> bool {
        let projects = self.sandbox.path("home/.claude/projects");
        let folders = fs::read_dir(projects).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
        let texts = files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok());
        texts.into_iter().any(|text| text.contains("tool_use"))
    }

    /// The processes of the sandbox, found by their working directory or their HOME.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut pids = processes_in(self.work().parent().unwrap());
        pids.extend(processes_with_home(&self.sandbox.path("home")));
        pids.retain(|&pid| is_alive(pid));
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    pub(crate) fn kill_everything(&self) {
        eventually("the end of all processes", || {
            let pids = self.processes();
            pids.iter().for_each(|&pid| send(pid, Signal::SIGKILL));
            pids.is_empty().then_some(())
        });
    }

    /// Does what the way offers to continue its jobs, and waits for what comes of it.
    pub(crate) fn bring_back(&self) {
        match self.way {
            Way::Shell | Way::Tmux => {}
            Way::Background => {
                // The call starts its daemon again.
                let deadline = Instant::now() + SETTLING;
                while self.background()["state"] == "working" && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(500));
                }
            }
            Way::Pueue => self.start_pueue(),
            Way::Job => {
                self.shell(&format!("{} recover --all", env!("CARGO_BIN_EXE_claudejob")));
                self.await_end();
            }
        }
    }
}

fn processes_with_home(home: &Path) -> Vec<i32> {
    let entry = [b"HOME=", home.as_os_str().as_encoded_bytes()].concat();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|bytes| bytes.split(|&byte| byte == 0).any(|word| word == entry.as_slice()))
    })
    .collect()
}
