//! The hook that the gateway runs at its start: it finds the program, recovers jobs, delivers
//! notifications, and logs exactly one line.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::processes::kill;
use crate::support::{Sandbox, await_file, install};

const HANGS: &str = "read\ninit\ntouch $DIR/up\nhang";
/// Where the hook finds a program that a sandbox does not have.
const SHARED: [&str; 3] = [
    "/usr/local/bin/claudejob",
    "/opt/homebrew/bin/claudejob",
    "/home/linuxbrew/.linuxbrew/bin/claudejob",
];

/// The folder of `node`, which the hook needs; also on the search path of the tests.
fn node() -> String {
    let output = Command::new("node").args(["-p", "process.execPath"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs the hook in the sandbox's environment with this `PATH`, as a gateway does. Returns what it
/// logs.
#[track_caller]
fn run_hook(sandbox: &Sandbox, path: &Path) -> String {
    // OpenClaw loads it as a module, whatever its extension.
    let module = sandbox.path("handler.mjs");
    let file = "packaging/openclaw/claudejob-recover/handler.js";
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &module).unwrap();
    let script = format!("await (await import('{}')).default()", module.display());
    let mut command = Command::new(node());
    command
        .env_clear()
        .envs(sandbox.command(["list"]).get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.env("PATH", path).args(["--input-type=module", "-e", &script]);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_hook_recovers_jobs_and_delivers() {
    let sandbox = Sandbox::new(HANGS);
    // Not on PATH: the PATH of a service lacks it.
    let program = sandbox.path("home/.cargo/bin/claudejob");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_claudejob"), &program).unwrap();
    let nothing = "claudejob: jobs recovered: 0, failed: 0; \
        notifications delivered: 0, jobs with undelivered ones: 0\n";
    assert_eq!(run_hook(&sandbox, Path::new("/nowhere")), nothing);

    sandbox.start("lost", &[]);
    await_file(&sandbox.path("up"));
    let worker = sandbox.status("lost")["pid"].as_i64().unwrap();
    kill(i32::try_from(worker).unwrap());
    sandbox.script("read\ninit\nresult ok\neof");
    let line = run_hook(&sandbox, &sandbox.work());
    assert!(line.starts_with("claudejob: jobs recovered: 1, failed: 0; "), "{line}");
    assert_eq!(sandbox.wait("lost")["status"], "completed");
    assert_eq!(run_hook(&sandbox, Path::new("/nowhere")), nothing);
}

#[test]
fn the_hook_logs_one_line_about_a_failure() {
    let mut sandbox = Sandbox::new(HANGS);
    let log = sandbox.path("calls");
    let program = sandbox.path("bin/claudejob");
    fs::create_dir(program.parent().unwrap()).unwrap();
    for (answer, expected) in [
        (r#"echo '{"error":"no space","code":"no_space"}'; exit 1"#, "failed: no space"),
        ("echo 'broken\nmore' >&2; exit 3", "failed: broken"),
        ("exit 3", "failed: Command failed"),
        ("kill -9 $$", "failed: Command failed"),
        ("echo null", "failed: no answer"),
        ("echo 7", "failed: no answer"),
        (r#"echo '{"error":{}}'"#, "failed: [object Object]"),
        (r"printf '\033[31mred\007\n' >&2; exit 3", "failed: [31mred"),
    ] {
        install(
            &program,
            format!("#!/bin/sh\necho \"$*\" >>{}\n{answer}\n", log.display()).as_bytes(),
        );
        let line = run_hook(&sandbox, program.parent().unwrap());
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        assert!(line.starts_with("claudejob: recover --all failed: "), "{line}");
        assert_eq!(line.matches(expected).count(), 2, "{line}");
        // The second is tried, too.
        assert_eq!(fs::read_to_string(&log).unwrap(), "recover --all --json\nredeliver --json\n");
        fs::remove_file(&log).unwrap();
    }
    // Some jobs failed: exit code 1 with an answer.
    let answer = r#"{"recovered":[],"failed":[{}],"delivered":2}"#;
    install(&program, format!("#!/bin/sh\necho '{answer}'\nexit 1\n").as_bytes());
    let counts = "claudejob: jobs recovered: 0, failed: 1; \
        notifications delivered: 2, jobs with undelivered ones: 1\n";
    assert_eq!(run_hook(&sandbox, program.parent().unwrap()), counts);
    // The variable comes first.
    let named = sandbox.path("named");
    install(&named, b"#!/bin/sh\necho named >&2\nexit 1\n");
    sandbox.set("CLAUDEJOB", &named);
    assert!(run_hook(&sandbox, program.parent().unwrap()).contains("failed: named"));
}

#[test]
fn the_hook_says_that_it_found_nothing() {
    let sandbox = Sandbox::new(HANGS);
    let beside_node = Path::new(&node()).with_file_name("claudejob");
    if SHARED.iter().any(|path| Path::new(path).exists()) || beside_node.exists() {
        return;
    }
    // Neither a folder of this name nor a file that cannot be run is the program.
    fs::create_dir_all(sandbox.path("home/bin/claudejob")).unwrap();
    fs::create_dir_all(sandbox.path("home/.local/bin")).unwrap();
    fs::write(sandbox.path("home/.local/bin/claudejob"), "text").unwrap();
    let line = run_hook(&sandbox, Path::new("/nowhere"));
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("claudejob: program not found: set CLAUDEJOB"), "{line}");
    // npm's own folder, without npm.
    let program = sandbox.path("prefix/bin/claudejob");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    install(&program, b"#!/bin/sh\necho by npm >&2\nexit 1\n");
    let settings = format!("registry=x\nprefix = {}\n", sandbox.path("prefix").display());
    fs::write(sandbox.path("home/.npmrc"), settings).unwrap();
    assert!(run_hook(&sandbox, Path::new("/nowhere")).contains("by npm"));
}
