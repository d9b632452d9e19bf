//! A stand-in for a Slurm cluster.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use crate::support::{Answer, Sandbox, eventually};

/// A cluster that runs nothing by itself.
pub(crate) struct Cluster {
    pub(crate) sandbox: Sandbox,
    pub(crate) dir: PathBuf,
}

impl Cluster {
    pub(crate) fn new(script: &str) -> Self {
        let mut sandbox = Sandbox::new(script);
        let (dir, bin) = (sandbox.path("slurm"), sandbox.path("bin"));
        for path in [&dir, &bin] {
            fs::create_dir(path).unwrap();
        }
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/slurm.sh");
        for command in ["sbatch", "squeue", "scancel", "scontrol"] {
            symlink(&stand_in, bin.join(command)).unwrap();
        }
        let path = std::env::var("PATH").unwrap();
        sandbox.set("PATH", format!("{}:{path}", bin.display()));
        sandbox.set("SLURM_STAND_IN", &dir);
        // The stand-in and the workers take long on a busy machine.
        for limit in ["CLAUDEJOB_TEST_QUERY_TIMEOUT", "CLAUDEJOB_TEST_KILL_TIMEOUT"] {
            sandbox.set(limit, "120");
        }
        Self { sandbox, dir }
    }

    pub(crate) fn start(&self, id: &str, options: &[&str]) -> Answer {
        let fixed = ["start", "--job-id", id, "--prompt", "work", "--on", "slurm"];
        self.sandbox.run([&fixed, options].concat())
    }

    /// Runs a job as a node does. Returns its exit status.
    pub(crate) fn run_on_node(&self, id: &str) -> JoinHandle<i32> {
        self.run_again_on_node(id, "0")
    }

    pub(crate) fn run_again_on_node(&self, id: &str, restarts: &str) -> JoinHandle<i32> {
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/slurm.sh");
        let mut node = Command::new(stand_in);
        node.args(["run", id, restarts]).env_clear().envs(self.sandbox.environment());
        std::thread::spawn(move || node.status().unwrap().code().unwrap_or(-1))
    }

    #[track_caller]
    pub(crate) fn await_status(&self, id: &str, status: &str) {
        eventually(status, || (self.sandbox.status(id)["status"] == status).then_some(()));
    }

    /// The file that the stand-in keeps.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    pub(crate) fn set_state(&self, id: &str, state: &str) {
        let written = self.dir.join(format!("{id}.new"));
        fs::write(&written, format!("{state}\n")).unwrap();
        fs::rename(written, self.dir.join(format!("{id}.state"))).unwrap();
    }

    /// Ends a running job as Slurm does.
    pub(crate) fn end(&self, id: &str) {
        let mut scancel = Command::new(self.sandbox.path("bin/scancel"));
        assert!(scancel.arg(id).envs(self.sandbox.environment()).status().unwrap().success());
    }

    /// How often a command was called.
    pub(crate) fn calls(&self, command: &str) -> usize {
        self.read("calls").lines().filter(|line| line.split(' ').next() == Some(command)).count()
    }
}
