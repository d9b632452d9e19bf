//! The real CLI: the one on PATH, or a pinned version from npm, installed once into the target
//! directory, and a sandbox that drives it against the scripted API.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::sandbox::Sandbox;
use super::scripted_api::{ScriptedApi, Step};

const PACKAGE: &str = "@anthropic-ai/claude-code";
const VERSION: &str = "2.1.197";

/// A sandbox in which `claude` is the real one and the API is scripted.
pub(crate) struct RealSandbox {
    sandbox: Sandbox,
    pub(crate) api: ScriptedApi,
}

impl RealSandbox {
    /// Nothing where the CLI can neither be found nor installed: the test is then skipped.
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Option<Self> {
        let mut sandbox = Sandbox::with_claude(real_claude()?);
        let api = ScriptedApi::start(steps);
        sandbox.set("ANTHROPIC_BASE_URL", api.url());
        // Nothing but the API is to be reached, and no proxy lies on the way to it.
        sandbox.set("DISABLE_TELEMETRY", "1");
        sandbox.set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        sandbox.set("DISABLE_AUTOUPDATER", "1");
        sandbox.set("CLAUDE_CODE_TMPDIR", sandbox.path("tmp"));
        sandbox.set("SHELL", "/bin/bash");
        Some(Self { sandbox, api })
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

/// The path of the CLI, found or installed at the first call. A failure is kept as well, so that
/// one broken installation is not tried again by every test.
#[track_caller]
fn real_claude() -> Option<&'static Path> {
    static CLAUDE: OnceLock<Result<Option<PathBuf>, String>> = OnceLock::new();
    match CLAUDE.get_or_init(find_or_install) {
        Ok(claude) => claude.as_deref(),
        Err(message) => panic!("{message}"),
    }
}

fn find_or_install() -> Result<Option<PathBuf>, String> {
    if let Some(claude) = on_path("claude") {
        return Ok(Some(claude));
    }
    if let Some(npm) = on_path("npm") {
        return install(&npm).map(Some);
    }
    if env::var_os("CI").is_some() {
        return Err(
            "neither `claude` nor `npm` is on PATH, so the tests with the real CLI cannot \
                    run; that is a failure where `CI` is set"
                .to_owned(),
        );
    }
    let rule = "=".repeat(78);
    let notice = format!(
        "\n{rule}\nSKIPPED: the tests with the real CLI did not run, because neither `claude` nor \
         `npm`\nis on PATH. Install one of them to run them all.\n{rule}\n"
    );
    // Written past the test harness, which would capture what a test that passes prints.
    let _ = io::stderr().write_all(notice.as_bytes());
    Ok(None)
}

/// The pinned version below the target directory. A lock makes test programs that run at the same
/// time install it once.
fn install(npm: &Path) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let place = target.join("claude-code");
    fs::create_dir_all(&place).unwrap();
    let lock = File::create(place.join(".lock")).unwrap();
    lock.lock().unwrap();

    let program = place.join("node_modules/.bin/claude");
    if answers(&program) {
        return Ok(program);
    }
    let install = Command::new(npm)
        .args(["install", "--no-audit", "--no-fund", "--no-save", "--include=optional"])
        .arg("--prefix")
        .arg(&place)
        .arg(format!("{PACKAGE}@{VERSION}"))
        .current_dir(&place)
        .output();
    if answers(&program) {
        return Ok(program);
    }
    // npm may leave out install scripts. Until this one has run, the program is a stub.
    let package = place.join("node_modules").join(PACKAGE);
    let script = Command::new("node").arg("install.cjs").current_dir(&package).output();
    if answers(&program) {
        return Ok(program);
    }
    Err(format!(
        "could not install {PACKAGE}@{VERSION} into {}\nnpm install: {}\ninstall.cjs: {}",
        place.display(),
        report(&install),
        report(&script)
    ))
}

fn answers(program: &Path) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).starts_with(VERSION))
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

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
