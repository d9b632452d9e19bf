//! The files of `packaging/`: one version, complete lists of files, and the launcher of the npm
//! package. `tests/packages/` has the tests that build and install the packages.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const PLATFORMS: [&str; 4] = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// Runs a part of a script with the functions of the packaging scripts.
#[track_caller]
fn shell(script: &str) -> String {
    let script = format!("set -euo pipefail; . packaging/common.sh; {script}");
    let output = Command::new("bash").current_dir(root()).arg("-c").arg(script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The template of a package, with a version and without the other values.
fn template(path: &str) -> Value {
    let mut text = read(path);
    for (name, value) in [
        ("@VERSION@", "1.2.3"),
        ("@PLATFORM@", "linux-x64"),
        ("@OS@", "linux"),
        ("@CPU@", "x64"),
        ("@LIBC@", r#", "libc": ["glibc"]"#),
        ("@MAN@", r#""man/claudejob.1""#),
        ("@REPOSITORY@", ""),
    ] {
        text = text.replace(name, value);
    }
    serde_json::from_str(&text).expect(path)
}

#[test]
fn only_cargo_states_the_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(shell("version").trim(), version);
    let files = [
        "packaging/npm/package.json",
        "packaging/npm/platform.json",
        "packaging/homebrew/claudejob.rb",
    ];
    for file in files {
        let text = read(file);
        assert!(text.contains("@VERSION@"), "{file}");
        assert!(!text.contains(version), "{file} states a version of its own");
    }
    let lock = read("Cargo.lock");
    assert!(lock.contains(&format!("name = \"claudejob\"\nversion = \"{version}\"")));
}

#[test]
fn every_list_names_the_same_platforms() {
    assert_eq!(shell("echo $PLATFORMS").split_whitespace().collect::<Vec<_>>(), PLATFORMS);
    let package = template("packaging/npm/package.json");
    let packages: BTreeSet<&String> =
        package["optionalDependencies"].as_object().unwrap().keys().collect();
    let expected: BTreeSet<String> = PLATFORMS.map(|it| format!("@claudejob/{it}")).into();
    assert_eq!(packages, expected.iter().collect());
    let workflow = read(".github/workflows/release.yml");
    for platform in PLATFORMS {
        let jobs = workflow.matches(&format!("- platform: {platform}\n")).count();
        assert_eq!(jobs, 2, "{platform} is built, and is run before it is published");
        let target = shell(&format!("target {platform}"));
        assert!(read("packaging/install.sh").contains(format!(" target={target}").trim_end()));
    }
}

/// Debian's summary of a package has at most 80 characters; cargo-deb breaks a longer one.
#[test]
fn every_package_has_the_same_short_summary() {
    let summary = env!("CARGO_PKG_DESCRIPTION");
    assert!(summary.len() <= 80, "{summary}");
    assert_eq!(template("packaging/npm/package.json")["description"], summary);
    assert!(read("packaging/homebrew/claudejob.rb").contains(&format!("desc \"{summary}\"")));
}

#[test]
fn npm_runs_no_script_at_installation() {
    for file in ["packaging/npm/package.json", "packaging/npm/platform.json"] {
        assert_eq!(template(file)["scripts"], Value::Null, "{file}");
    }
    let platform = template("packaging/npm/platform.json");
    let (name, version) = (&platform["name"], &platform["version"]);
    assert_eq!((name, version), (&json!("@claudejob/linux-x64"), &json!("1.2.3")));
    assert_eq!((&platform["os"], &platform["cpu"]), (&json!(["linux"]), &json!(["x64"])));
    assert_eq!(platform["libc"], json!(["glibc"]));
}

/// Returns the paths of the files below a directory.
fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn packages_contain_all_files() {
    let stage = TempDir::new().unwrap();
    shell(&format!("copy_common_files '{}'", stage.path().display()));
    let mut expected: BTreeSet<PathBuf> = [
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "skills/claudejob/SKILL.md",
        "openclaw/claudejob-recover/HOOK.md",
        "openclaw/claudejob-recover/handler.js",
        "systemd/claudejob-recover.service",
        "completions/claudejob.bash",
        "completions/_claudejob",
        "completions/claudejob.fish",
    ]
    .map(PathBuf::from)
    .into();
    for page in files_below(&root().join("docs/man")) {
        expected.insert(Path::new("man").join(page));
    }
    assert_eq!(files_below(stage.path()), expected);

    // npm leaves out what the list does not name, except the README, the licence and the manifest.
    let package = template("packaging/npm/package.json");
    let mut listed: BTreeSet<&str> =
        package["files"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(listed.remove("bin"), "the launcher");
    let parts: BTreeSet<String> = expected
        .iter()
        .map(|path| path.iter().next().unwrap().to_string_lossy().into_owned())
        .filter(|part| part != "LICENSE" && part != "README.md")
        .collect();
    assert_eq!(listed, parts.iter().map(String::as_str).collect());
}

#[test]
fn packaged_completions_are_the_printed_ones() {
    let stage = TempDir::new().unwrap();
    shell(&format!("copy_common_files '{}'", stage.path().display()));
    let files = [("bash", "claudejob.bash"), ("zsh", "_claudejob"), ("fish", "claudejob.fish")];
    for (name, file) in files {
        let output = Command::new(env!("CARGO_BIN_EXE_claudejob"))
            .args(["completions", name])
            .output()
            .unwrap();
        let packaged = fs::read(stage.path().join("completions").join(file)).unwrap();
        assert!(output.stdout == packaged, "{file}");
    }
}

#[test]
fn the_files_of_the_debian_package_exist() {
    let manifest = read("Cargo.toml");
    let (_, assets) = manifest.split_once("\nassets = [\n").unwrap();
    let (assets, _) = assets.split_once("\n]\n").unwrap();
    let mut sources = BTreeSet::new();
    for line in assets.lines() {
        let source = line.split('"').nth(1).unwrap();
        let path = root().join(source.trim_end_matches("*.1").trim_end_matches('*'));
        assert!(source == "target/release/claudejob" || path.exists(), "{source}");
        sources.insert(source);
    }
    for file in ["target/release/claudejob", "docs/man/*.1", "SKILL.md"] {
        assert!(sources.contains(file), "{file}");
    }
}

/// An installation by npm: the package of the launcher, with a link to it.
struct Installation(TempDir);

impl Installation {
    fn new() -> Self {
        // The path has spaces, as the home of a user may have.
        let directory = tempfile::Builder::new().prefix("npm prefix ").tempdir().unwrap();
        let package = directory.path().join("lib/node_modules/claudejob");
        fs::create_dir_all(package.join("bin")).unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        let launcher = fs::read(root().join("packaging/npm/claudejob")).unwrap();
        support::install(&package.join("bin/claudejob"), &launcher);
        let link = directory.path().join("bin/claudejob");
        symlink("../lib/node_modules/claudejob/bin/claudejob", link).unwrap();
        Self(directory)
    }

    /// Adds a stand-in for the program of a platform, which prints its name and its arguments.
    fn add(&self, modules: &str, platform: &str) {
        let directory = self.0.path().join("lib/node_modules").join(modules);
        let directory = directory.join("@claudejob").join(platform).join("bin");
        fs::create_dir_all(&directory).unwrap();
        let program = directory.join("claudejob");
        let script = format!("#!/bin/sh\nprintf '{platform}'; printf '|%s' \"$@\"; exit 7\n");
        support::install(&program, script.as_bytes());
    }

    fn run(&self, program: &OsStr) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.path().join("bin").display());
        let mut command = Command::new("/bin/sh");
        command.env_clear().env("PATH", path).current_dir(self.0.path().join("bin"));
        // Through a shell, so that PATH finds the program as for a user.
        command.args(["-c", "exec \"$0\" \"$@\""]).arg(program);
        command.args(["start", "two words", "", "*", "$HOME"]).output().unwrap()
    }

    #[track_caller]
    fn expect(&self, platform: &str) {
        let by_path = self.0.path().join("bin/claudejob");
        for program in [OsStr::new("claudejob"), OsStr::new("./claudejob"), by_path.as_os_str()] {
            let output = self.run(program);
            let printed = String::from_utf8(output.stdout).unwrap();
            assert_eq!(printed, format!("{platform}|start|two words||*|$HOME"), "{program:?}");
            assert_eq!(output.status.code(), Some(7), "the exit code of the program");
        }
    }
}

/// The name of the platform on which this runs.
fn own_platform() -> String {
    let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let cpu = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    format!("{os}-{cpu}")
}

#[test]
fn the_launcher_runs_the_program() {
    // Below the package, as `npm install -g` puts it, and beside it, as `npm install` does.
    for modules in ["claudejob/node_modules", "."] {
        let installation = Installation::new();
        installation.add(modules, "linux-x64");
        installation.expect("linux-x64");
    }
}

#[test]
fn the_launcher_selects_its_platform() {
    let installation = Installation::new();
    for platform in PLATFORMS {
        installation.add("claudejob/node_modules", platform);
    }
    installation.expect(&own_platform());
}

#[test]
fn the_launcher_says_that_the_program_is_missing() {
    let output = Installation::new().run(OsStr::new("claudejob"));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "stdout is for answers");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let error = format!("error: the program for {} is not installed\nhint: npm ", own_platform());
    assert!(stderr.starts_with(&error), "{stderr}");
}

#[test]
fn build_binaries_refuses_what_it_cannot_build() {
    let elsewhere = if cfg!(target_os = "macos") { "linux-x64" } else { "darwin-x64" };
    for (platform, error) in [
        ("plan9", "build-binaries: unknown platform 'plan9'\nhint: one of: linux-x64 "),
        (elsewhere, &format!("build-binaries: {elsewhere} cannot be built on ")),
    ] {
        let script = root().join("packaging/build-binaries");
        let output = Command::new(script).arg(platform).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(error), "{stderr}");
    }
}

#[test]
fn the_scripts_have_no_syntax_error() {
    for (shell, scripts) in [
        ("sh", &["packaging/install.sh", "packaging/npm/claudejob"][..]),
        (
            "bash",
            &[
                "packaging/common.sh",
                "packaging/build-binaries",
                "packaging/build-npm",
                "packaging/build-openclaw-plugin",
                "packaging/build-deb",
                "packaging/build-brew",
                "packaging/build-sbom",
                "packaging/prepare-release",
                "packaging/release-notes",
            ],
        ),
    ] {
        for script in scripts {
            let check = Command::new(shell).arg("-n").arg(root().join(script)).output().unwrap();
            assert!(check.status.success(), "{script}: {check:?}");
        }
    }
}

/// A file of the OpenClaw plugin.
fn plugin(file: &str) -> Value {
    let path = format!("packaging/openclaw-plugin/{file}");
    serde_json::from_str(&read(&path)).expect(&path)
}

#[test]
fn the_plugin_declares_each_of_its_tools() {
    let manifest = plugin("openclaw.plugin.json");
    let declared: BTreeSet<&str> = manifest["contracts"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let described: BTreeSet<&str> =
        manifest["toolMetadata"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(declared, described);
    let source = read("packaging/openclaw-plugin/src/tools.ts");
    let (_, table) = source.split_once("const TOOLS").unwrap();
    let (table, _) = table.split_once("};").unwrap();
    let defined: BTreeSet<&str> =
        table.lines().skip(1).filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
    assert_eq!(declared, defined);
}

#[test]
fn the_plugin_depends_on_nothing_at_run_time() {
    let package = plugin("package.json");
    assert_eq!(package["version"], "0.0.0", "the build script sets that of Cargo.toml");
    for field in ["dependencies", "peerDependencies", "optionalDependencies"] {
        assert_eq!(package[field], Value::Null, "{field}");
    }
    for (name, version) in package["devDependencies"].as_object().unwrap() {
        let locked = &plugin("package-lock.json")["packages"][format!("node_modules/{name}")];
        assert_eq!(&locked["version"], version, "{name} is pinned");
    }
}
