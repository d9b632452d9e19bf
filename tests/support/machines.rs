//! Machines and containers of one kernel: mount, UTS and PID namespaces with a name of their own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::processes::{children_of, program_of};
use super::sandbox::{Answer, Sandbox};
use super::{await_file, eventually, schema};

/// A machine, or a container with `main` as its main process; ended on drop.
pub(crate) struct Machine {
    unshare: Child,
    init: i32,
}

impl Machine {
    /// Starts a container on this machine's file systems. Its main process is a shell that runs
    /// `main` and then waits to be ended.
    pub(crate) fn container(sandbox: &Sandbox, host: &str, main: &str) -> Self {
        Self::with(sandbox, host, main)
    }

    /// Starts a machine with a boot id of its own that reaches `shared` only through a network file
    /// system, mounted at the sandbox's jobs directory. No lock of another machine reaches it.
    pub(crate) fn on_network(sandbox: &Sandbox, host: &str, shared: &Path) -> Self {
        let boot = sandbox.path(&format!("{host}.boot"));
        fs::write(&boot, fs::read("/proc/sys/kernel/random/uuid").unwrap()).unwrap();
        fs::create_dir_all(sandbox.jobs()).unwrap();
        let mounts = format!(
            "mount --bind '{}' /proc/sys/kernel/random/boot_id && bindfs '{}' '{}'",
            boot.display(),
            shared.display(),
            sandbox.jobs().display()
        );
        Self::with(sandbox, host, &mounts)
    }

    fn with(sandbox: &Sandbox, host: &str, setup: &str) -> Self {
        let up = sandbox.path(&format!("{host}.up"));
        let _ = fs::remove_file(&up);
        let script = format!(
            "hostname {host} && {setup} && touch '{}'; while :; do sleep 0.2; done",
            up.display()
        );
        let inner = sandbox.command(["--version"]);
        let unshare = Command::new("unshare")
            .args(["-m", "-u", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", &script])
            .env_clear()
            .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        await_file(&up);
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let children = fs::read_to_string(children).unwrap();
        let init = children.split_whitespace().next().unwrap().parse().unwrap();
        Self { unshare, init }
    }

    /// The program under test, with the sandbox's environment, on this machine.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        sandbox: &Sandbox,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let inner = sandbox.command(arguments);
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-u", "-p"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
        command.current_dir(sandbox.work());
        command
    }

    /// Runs the program under test on this machine.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(
        &self,
        sandbox: &Sandbox,
        arguments: impl IntoIterator<Item = S>,
    ) -> Answer {
        let command = self.command(sandbox, arguments);
        // Behind the options of nsenter and the program.
        let arguments: Vec<String> = command
            .get_args()
            .skip(6)
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        let answer = Answer::from_command(command, Vec::new());
        schema::check_output(&arguments, &answer.stdout);
        answer
    }

    /// The process that serves the network's file system, by its number outside of the machine.
    pub(crate) fn file_server(&self) -> i32 {
        let is_server = |pid: &i32| program_of(*pid).ends_with("bindfs");
        children_of(self.init).into_iter().find(is_server).expect("no bindfs")
    }

    /// Ends the machine and all its processes at once.
    pub(crate) fn end(mut self) {
        self.kill();
    }

    fn kill(&mut self) {
        let processes = PathBuf::from(format!("/proc/{}", self.init));
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        eventually("the machine's end", || (!processes.exists()).then_some(()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}
