//! A home, a jobs directory and an environment for one test. When it ends, live jobs are killed,
//! and a process that outlived its job fails the test.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Index;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use nix::sys::signal::{SigHandler, Signal, signal};
use serde_json::Value;
use tempfile::TempDir;

use super::processes::{describe, is_alive, kill, processes_in, processes_of, send};
use super::schema;

/// No verb takes this long, not even a wait: one that does is stuck.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);
/// Longer than the last processes of a test need to end on a busy machine.
const END_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Sandbox {
    directory: TempDir,
    root: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    has_old_kernel: bool,
}

impl Sandbox {
    /// A sandbox whose `claude` is the fake, with this script.
    pub(crate) fn new(script: &str) -> Self {
        let mut sandbox = Self::with_claude(&fake_claude());
        sandbox.set("FAKE_DIR", sandbox.root.clone());
        sandbox.set("FAKE_CLAUDE", sandbox.path("script"));
        sandbox.script(script);
        sandbox
    }

    /// A sandbox whose `claude` is this program.
    pub(crate) fn with_claude(claude: &Path) -> Self {
        // Under nohup(1), or as a job that a script runs in the background, the programs that the
        // tests start would ignore these, too.
        for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
            // SAFETY: no handler is replaced that anything in this process relies on.
            unsafe { signal(ignored, SigHandler::SigDfl) }.unwrap();
        }
        let directory = tempfile::Builder::new().prefix("claudejob-test-").tempdir().unwrap();
        // Canonical, because the kernel and the program under test name it so.
        let root = directory.path().canonicalize().unwrap();
        let has_old_kernel = env::var_os("CLAUDEJOB_TEST_OLD_KERNEL").is_some();
        let mut sandbox = Self { directory, root, environment: BTreeMap::new(), has_old_kernel };
        for part in ["home", "tmp", "work"] {
            fs::create_dir(sandbox.path(part)).unwrap();
        }
        sandbox.set("HOME", sandbox.path("home"));
        sandbox.set("TMPDIR", sandbox.path("tmp"));
        sandbox.set("PATH", env::var_os("PATH").unwrap_or_default());
        sandbox.set("LANG", "C.UTF-8");
        sandbox.set("ANTHROPIC_API_KEY", "sk-ant-test");
        sandbox.set("IS_SANDBOX", "1");
        sandbox.set("CLAUDE_SKILL_JOBS_DIR", sandbox.jobs());
        sandbox.set("CLAUDE_SKILL_CLAUDE", claude);
        // A test sets these itself if one start is to wait for another, or a failure is to be
        // retried.
        sandbox.set("CLAUDE_SKILL_STAGGER", "0");
        sandbox.set("CLAUDE_SKILL_RETRIES", "0");
        sandbox
    }

    /// Replaces the fake's script, which a fake reads when it starts.
    pub(crate) fn script(&self, script: &str) {
        fs::write(self.path("script"), script).unwrap();
    }

    /// Sets a variable for every later call.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.environment.insert(name.into(), value.as_ref().to_owned());
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.remove(OsStr::new(name));
    }

    /// Sets the time of day that every later call sees, and that of its processes: so many seconds
    /// from now.
    pub(crate) fn shift_clock(&mut self, seconds: i64) {
        let library = example("libclock_shift.so");
        assert!(library.exists(), "run `cargo build --examples`: no {}", library.display());
        self.set("LD_PRELOAD", library);
        self.set("CLOCK_SHIFT", self.path("clock-shift"));
        // Replaced at once: processes read it at each call.
        fs::write(self.path("clock-shift.new"), seconds.to_string()).unwrap();
        fs::rename(self.path("clock-shift.new"), self.path("clock-shift")).unwrap();
    }

    /// Makes every later call, and its processes, as on Linux 5.0. `CLAUDEJOB_TEST_OLD_KERNEL=1`
    /// does so in all tests.
    pub(crate) fn use_old_kernel(&mut self) {
        self.has_old_kernel = true;
    }

    /// The variables of every call.
    pub(crate) fn environment(&self) -> &BTreeMap<OsString, OsString> {
        &self.environment
    }

    /// A path in the sandbox, which the fake knows as `$DIR/NAME`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn jobs(&self) -> PathBuf {
        self.path("jobs")
    }

    pub(crate) fn job(&self, id: &str) -> PathBuf {
        self.jobs().join(id)
    }

    /// The directory in which calls are made, and so the default `cwd` of a job.
    pub(crate) fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// The program under test with the sandbox's environment and nothing else.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claudejob"));
        command.env_clear().envs(&self.environment).current_dir(self.work()).args(arguments);
        #[cfg(target_os = "linux")]
        if self.has_old_kernel {
            return super::faults::on_old_kernel(command);
        }
        command
    }

    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Answer {
        Answer::from_command(self.command(arguments), Vec::new())
    }

    #[track_caller]
    pub(crate) fn run_with_stdin<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        stdin: impl Into<Vec<u8>>,
    ) -> Answer {
        Answer::from_command(self.command(arguments), stdin.into())
    }

    /// Starts a job with an id and a prompt of one word, and asserts that it started.
    #[track_caller]
    pub(crate) fn start(&self, id: &str, options: &[&str]) -> Answer {
        let arguments = [&["start", "--job-id", id, "--prompt", "work"], options].concat();
        let answer = self.run(&arguments);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer
    }

    /// Runs the call, or the worker that it starts, up to a fault point of the program, and kills
    /// the process that has reached it. Returns the call's answer.
    #[track_caller]
    pub(crate) fn break_at<S: AsRef<OsStr>>(
        &mut self,
        point: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Answer {
        self.stop_at(point, arguments, |_, pid| {
            kill(pid);
        })
    }

    /// Runs the call, or the worker that it starts, up to a fault point of the program, and lets it
    /// continue after `meanwhile`. Returns the call's answer.
    #[track_caller]
    pub(crate) fn pause_at<S: AsRef<OsStr>>(
        &mut self,
        point: &str,
        arguments: impl IntoIterator<Item = S>,
        meanwhile: impl FnOnce(&Self),
    ) -> Answer {
        self.stop_at(point, arguments, |sandbox, pid| {
            meanwhile(sandbox);
            send(pid, Signal::SIGCONT);
        })
    }

    #[track_caller]
    fn stop_at<S: AsRef<OsStr>>(
        &mut self,
        point: &str,
        arguments: impl IntoIterator<Item = S>,
        then: impl FnOnce(&Self, i32),
    ) -> Answer {
        let reached = self.path(&format!("stopped-{}", point.replace(':', "-")));
        self.set("CLAUDEJOB_STOP_AT", point);
        self.set("CLAUDEJOB_STOP_FILE", &reached);
        let command = self.command(arguments);
        self.unset("CLAUDEJOB_STOP_AT");
        self.unset("CLAUDEJOB_STOP_FILE");
        let call = thread::spawn(move || Answer::from_command(command, Vec::new()));
        let pid = super::eventually(&format!("{point} to be reached"), || {
            fs::read_to_string(&reached).ok()?.parse().ok()
        });
        super::eventually("the stop", || super::processes::is_stopped(pid).then_some(()));
        then(self, pid);
        call.join().unwrap()
    }

    /// The most fakes that ran at the same time, of those whose script has `count-running
    /// $DIR/running`.
    #[track_caller]
    pub(crate) fn most_running(&self) -> usize {
        let counts = fs::read_to_string(self.path("running/counts")).unwrap();
        counts.lines().map(|count| count.parse().unwrap()).max().unwrap()
    }

    /// The process id of the job's claude, from the record.
    #[track_caller]
    pub(crate) fn claude_pid(&self, id: &str) -> i32 {
        let record = fs::read_to_string(self.job(id).join("meta.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        i32::try_from(record["claudePid"].as_i64().unwrap()).unwrap()
    }

    /// The names of the files in a job's directory.
    pub(crate) fn files(&self, id: &str) -> Vec<String> {
        let entries = fs::read_dir(self.job(id)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Waits for the job's end and returns the answer of `wait`.
    #[track_caller]
    pub(crate) fn wait(&self, id: &str) -> Answer {
        let answer = self.run(["wait", id, "--timeout", "8m"]);
        assert_ne!(answer.code, 124, "the job did not end: {answer:?}");
        answer
    }

    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> Answer {
        let answer = self.run(["status", id]);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer
    }

    /// Asserts that no process has the job's marker, right now and not some time later.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self, id: &str) {
        let left = processes_of(&self.job(id));
        let names: Vec<String> = left.into_iter().map(describe).collect();
        assert!(names.is_empty(), "still there: {names:#?}");
    }

    /// Every process of the sandbox: those of its jobs, by their marker, and those that work in it.
    fn processes(&self) -> Vec<i32> {
        let mut processes = processes_of(&self.jobs());
        processes.extend(processes_in(&self.root));
        processes.retain(|&pid| is_alive(pid));
        processes.sort_unstable();
        processes.dedup();
        processes
    }

    /// Starts a job with the options, waits for it and returns the answer of `wait`.
    #[track_caller]
    pub(crate) fn run_job(&self, id: &str, options: &[&str]) -> Answer {
        self.start(id, options);
        self.wait(id)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.jobs()).into_iter().flatten().flatten() {
            let status = entry.path().join("meta.json");
            if fs::read_to_string(status).is_ok_and(|meta| may_be_live(&meta)) {
                let _ = self.command(["kill".as_ref(), entry.file_name().as_os_str()]).output();
            }
        }
        // A worker that has released its lock may need a short time to exit, a notifier longer.
        let deadline = Instant::now() + END_TIMEOUT;
        while !self.processes().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let left = self.processes();
        let names: Vec<String> = left.iter().copied().map(describe).collect();
        for pid in left {
            send(pid, Signal::SIGKILL);
        }
        assert!(
            names.is_empty() || thread::panicking(),
            "processes outlived their jobs: {names:#?}"
        );
    }
}

/// A file that Cargo builds as an example beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().unwrap().with_file_name("examples").join(name)
}

/// The outcome of a call. `answer["status"]` is a field of the JSON on its stdout.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    /// Null if stdout held anything but one JSON document.
    pub(crate) json: Value,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// Returns when the program has ended and no process holds its stdout and stderr any more.
    #[track_caller]
    pub(crate) fn from_command(command: Command, stdin: Vec<u8>) -> Self {
        let arguments = command.get_args().map(OsStr::to_string_lossy);
        let arguments: Vec<String> = arguments.map(Into::into).collect();
        let output = assert_cmd::Command::from_std(command)
            .timeout(CALL_TIMEOUT)
            .write_stdin(stdin)
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        schema::check_output(&arguments, &stdout);
        Self {
            code: output.status.code().unwrap_or(-1),
            json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the end that the answer reports: its exit code, status and reason.
    #[track_caller]
    pub(crate) fn expect_end(&self, code: i32, status: &str, reason: Option<&str>) -> &Self {
        assert_eq!(
            (self.code, self["status"].as_str(), self["reason"].as_str()),
            (code, Some(status), reason),
            "{self:#?}"
        );
        self
    }

    #[track_caller]
    pub(crate) fn text(&self, field: &str) -> &str {
        self[field].as_str().unwrap_or_else(|| panic!("no text in {field}: {self:#?}"))
    }
}

impl Index<&str> for Answer {
    type Output = Value;

    fn index(&self, field: &str) -> &Value {
        &self.json[field]
    }
}

/// The stand-in for `claude`, which Cargo builds as an example beside the tests.
pub(crate) fn fake_claude() -> PathBuf {
    let path = example("fake-claude");
    assert!(
        path.exists(),
        "{} is missing: run plain `cargo test`, or `cargo build --example fake-claude` first",
        path.display()
    );
    path
}

/// Lenient: an unreadable record is not a reason to leave its processes behind.
fn may_be_live(meta: &str) -> bool {
    let status = serde_json::from_str::<Value>(meta).unwrap_or_default()["status"].take();
    !matches!(status.as_str(), Some("completed" | "failed" | "killed"))
}
