//! The real CLI in the versions that the tests run against, each installed once from npm into the
//! target directory, and a sandbox that drives one of them against the scripted API.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Condvar, Mutex, PoisonError};

use super::sandbox::Sandbox;
use super::scripted_api::{ScriptedApi, Step};

#[path = "../../src/claude/tested.rs"]
pub(crate) mod tested;

const PACKAGE: &str = "@anthropic-ai/claude-code";

/// Path of a CLI for the tests of [`Cli::Other`].
const OTHER: &str = "CLAUDEJOB_TEST_CLAUDE";

/// Real CLIs that one test program runs at the same time. Each needs about 250 MB, and half a core
/// while it starts.
const MAX_PARALLEL_CLIS: usize = 4;

/// Which CLI a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cli {
    /// The oldest version that is supported.
    Oldest,
    /// The newest version that is tested.
    Newest,
    /// The CLI that `CLAUDEJOB_TEST_CLAUDE` names. It is expected to behave like the newest.
    Other,
}

impl Cli {
    /// Returns the path of the CLI, which is installed at the first call.
    #[track_caller]
    fn program(self) -> PathBuf {
        // Each failure is remembered, so that not every test retries a broken installation.
        static PROGRAMS: Mutex<BTreeMap<Cli, Result<PathBuf, String>>> =
            Mutex::new(BTreeMap::new());
        let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        let program = programs.entry(self).or_insert_with(|| self.find_or_install()).clone();
        drop(programs);
        program.unwrap_or_else(|why| panic!("{why}"))
    }

    fn find_or_install(self) -> Result<PathBuf, String> {
        match self {
            Self::Oldest => install(tested::OLDEST),
            Self::Newest => install(tested::NEWEST),
            Self::Other => {
                let path = env::var_os(OTHER)
                    .ok_or_else(|| format!("{OTHER} is not set: it names the CLI to be tested"))?;
                version_of(Path::new(&path)).map(|_| path.into())
            }
        }
    }
}

/// A sandbox whose `claude` is a real one and whose API is scripted.
pub(crate) struct RealSandbox {
    sandbox: Sandbox,
    pub(crate) api: ScriptedApi,
    // Released last, when the sandbox has ended its processes.
    _permit: Permit,
}

impl RealSandbox {
    #[track_caller]
    pub(crate) fn new(cli: Cli, steps: impl IntoIterator<Item = Step>) -> Self {
        let claude = cli.program();
        let permit = Permit::acquire();
        let mut sandbox = Sandbox::with_claude(&claude);
        let api = ScriptedApi::start(steps);
        sandbox.set("ANTHROPIC_BASE_URL", api.url());
        // Only the API may be reached, without a proxy.
        sandbox.set("DISABLE_TELEMETRY", "1");
        sandbox.set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        sandbox.set("DISABLE_AUTOUPDATER", "1");
        sandbox.set("CLAUDE_CODE_TMPDIR", sandbox.path("tmp"));
        sandbox.set("SHELL", "/bin/bash");
        Self { sandbox, api, _permit: permit }
    }
}

impl Deref for RealSandbox {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl DerefMut for RealSandbox {
    fn deref_mut(&mut self) -> &mut Sandbox {
        &mut self.sandbox
    }
}

/// The right to run a real CLI.
struct Permit;

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

impl Permit {
    fn acquire() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = GIVEN_BACK
            .wait_while(taken, |taken| *taken >= MAX_PARALLEL_CLIS)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        GIVEN_BACK.notify_one();
    }
}

/// Returns this version of the CLI below the target directory, and installs it if it is missing. A
/// lock makes test programs that run at the same time install it once.
fn install(version: &str) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let directory = target.join("claude").join(version);
    fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join(".lock")).unwrap();
    lock.lock().unwrap();

    let program = directory.join("node_modules/.bin/claude");
    let is_installed = || version_of(&program).is_ok_and(|said| said.starts_with(version));
    if is_installed() {
        return Ok(program);
    }
    let npm = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-save", "--include=optional"])
        // Without a network npm would otherwise retry for minutes.
        .arg("--fetch-retries=1")
        .arg("--prefix")
        .arg(&directory)
        .arg(format!("{PACKAGE}@{version}"))
        .current_dir(&directory)
        .output();
    if is_installed() {
        return Ok(program);
    }
    // npm may leave out install scripts. Until this one has run, the program is a stub.
    let package = directory.join("node_modules").join(PACKAGE);
    let script = Command::new("node").arg("install.cjs").current_dir(&package).output();
    if is_installed() {
        return Ok(program);
    }
    Err(format!(
        "{PACKAGE}@{version} is not installed in {} and could not be installed.\n\
         npm install: {}\nnode install.cjs: {}",
        directory.display(),
        report(&npm),
        report(&script)
    ))
}

fn version_of(program: &Path) -> Result<String, String> {
    let output = Command::new(program).arg("--version").output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        _ => Err(format!("{} --version: {}", program.display(), report(&output))),
    }
}

fn report(output: &io::Result<Output>) -> String {
    match output {
        Ok(output) => format!(
            "{}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => error.to_string(),
    }
}
