//! `setup openclaw` with a stand-in for the `openclaw` command: files, the hook, and what the
//! gateway's service finds.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::sandbox::fake_claude;
use crate::support::{Answer, Sandbox, install};

const SKILL: &str = "skills/claudejob/SKILL.md";
const HOOK: &str = "hooks/claudejob-recover/HOOK.md";
const HANDLER: &str = "hooks/claudejob-recover/handler.js";

/// The command: `hooks enable` writes what `config get` prints, unless it is told to refuse.
const OPENCLAW: &str = r#"#!/bin/sh
echo "$*" >>"$HOME/calls"
case "$*" in
  "config get hooks.internal --json")
    echo "warning: {not JSON}"
    cat "$HOME/hooks.json" 2>/dev/null || { echo '{"ok":false,"error":{"message":"unset"}}'; exit 1; } ;;
  "hooks enable claudejob-recover")
    [ -e "$HOME/refuse" ] && { echo 'Error: read-only'; exit 1; }
    echo '{"enabled":true,"entries":{"claudejob-recover":{"enabled":true}}}' >"$HOME/hooks.json" ;;
  "skills info claudejob --json")
    cat "$HOME/skill.json" 2>/dev/null || echo '{"modelVisible":true}' ;;
  *) exit 2 ;;
esac
"#;

/// A home with OpenClaw: its command, its directory and the service of its gateway.
struct Home(Sandbox);

impl Home {
    fn new() -> Self {
        let mut sandbox = Sandbox::new("read\ninit\nresult ok\neof");
        let command = sandbox.path("openclaw");
        install(&command, OPENCLAW.as_bytes());
        sandbox.set("CLAUDE_SKILL_OPENCLAW", command);
        let home = Self(sandbox);
        fs::create_dir_all(home.path(".openclaw")).unwrap();
        home.write_unit("", "");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path("home").join(name)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.path(".openclaw").join(name)
    }

    /// Writes the unit, with more variables and lines. Its PATH has `.local/bin` alone.
    fn write_unit(&self, variables: &str, lines: &str) {
        let unit = self.path(".config/systemd/user/openclaw-gateway.service");
        fs::create_dir_all(unit.parent().unwrap()).unwrap();
        let bin = self.path(".local/bin");
        let text = format!(
            "[Service]\nExecStart=/bin/sh /o.js gateway\nEnvironment=PATH={} IS_SANDBOX=1 \
             HOME={} {variables}\n{lines}\n",
            bin.display(),
            self.path("").display()
        );
        fs::write(unit, text).unwrap();
    }

    /// Links claudejob and the fake claude to where the service finds them.
    fn link_programs(&self) {
        let bin = self.path(".local/bin");
        fs::create_dir_all(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_claudejob"), bin.join("claudejob")).unwrap();
        symlink(fake_claude(), bin.join("claude")).unwrap();
    }

    fn setup(&self, options: &[&str]) -> Answer {
        self.0.run([&["setup", "openclaw"], options].concat())
    }

    /// The calls of the command since the last time.
    fn calls(&self) -> String {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        calls
    }

    /// Every path below the home, with what could have changed.
    fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut left = vec![self.path("")];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let (path, about) = (entry.path(), entry.metadata().unwrap());
                lines.push(format!("{path:?} {} {}", about.size(), about.ino()));
                if about.is_dir() {
                    left.push(path);
                }
            }
        }
        lines.sort();
        lines
    }
}

/// The action for each file.
fn actions(answer: &Answer) -> Vec<&str> {
    let files = answer["files"].as_array().unwrap();
    files.iter().map(|file| file["action"].as_str().unwrap()).collect()
}

/// Level, detail and hint of a check.
#[track_caller]
fn check(answer: &Answer, name: &str) -> (String, String, String) {
    let checks = answer["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name}: {answer:#?}"));
    let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
    (text("level"), text("detail"), text("hint"))
}

#[track_caller]
fn assert_check(answer: &Answer, name: &str, level: &str, expected: &str) {
    let (found, detail, hint) = check(answer, name);
    assert!(found == level && format!("{detail}\n{hint}").contains(expected), "{answer:#?}");
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn setup_writes_skill_and_hook_once() {
    let home = Home::new();
    home.link_programs();
    home.write_unit("ANTHROPIC_API_KEY=sk-ant-test", "");
    let answer = home.setup(&[]);
    assert_eq!((answer.code, &answer["ok"]), (0, &true.into()), "{answer:#?}");
    assert_eq!((&answer["target"], &answer["dryRun"]), (&"openclaw".into(), &false.into()));
    assert_eq!(actions(&answer), ["written"; 3]);
    for (name, source) in [
        (SKILL, "SKILL.md"),
        (HOOK, "packaging/openclaw/claudejob-recover/HOOK.md"),
        (HANDLER, "packaging/openclaw/claudejob-recover/handler.js"),
    ] {
        let path = home.state(name);
        assert_eq!(fs::read(&path).unwrap(), fs::read(repository(source)).unwrap(), "{name}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o133, 0, "{name}");
    }
    assert_eq!(fs::read_dir(home.state("skills/claudejob")).unwrap().count(), 1, "nothing else");
    for name in ["openclaw", "skill", "hook", "service", "claudejob", "claude", "login"] {
        assert_eq!(check(&answer, name).0, "ok", "{name}: {answer:#?}");
    }
    assert!(home.calls().contains("hooks enable claudejob-recover\n"));

    let before = home.listing();
    let again = home.setup(&[]);
    assert_eq!(actions(&again), ["unchanged"; 3]);
    assert_eq!(again["checks"], answer["checks"]);
    assert!(!home.calls().contains("hooks enable"), "a second time changes no configuration");
    assert_eq!(home.listing(), before);
    assert!(home.setup(&["--plain"]).stdout.contains("OpenClaw can use claudejob"));
}

#[test]
fn a_dry_run_of_setup_writes_nothing() {
    let home = Home::new();
    home.link_programs();
    let before = home.listing();
    let answer = home.setup(&["--dry-run"]);
    assert_eq!((answer.code, &answer["dryRun"]), (0, &true.into()), "{answer:#?}");
    assert_eq!(actions(&answer), ["wouldWrite"; 3]);
    assert_check(&answer, "hook", "warning", "not enabled");
    assert_eq!(home.calls(), "config get hooks.internal --json\n");
    assert_eq!(home.listing(), before);
    // Without a state directory not even a question is asked, which would create it.
    fs::remove_dir(home.state("")).unwrap();
    let answer = home.setup(&["--dry-run"]);
    assert_eq!(actions(&answer), ["wouldWrite"; 3]);
    assert_eq!(home.calls(), "");
    assert!(!home.state("").exists());
}

#[test]
fn setup_leaves_the_files_of_others() {
    let home = Home::new();
    let skill = home.state(SKILL);
    let folder = skill.parent().unwrap();
    let foreign = "---\nname: other\n---\nname: claudejob\n";
    let reset = || {
        let _ = fs::remove_file(folder).or_else(|_| fs::remove_dir_all(folder));
        fs::create_dir_all(folder).unwrap();
    };
    for (why, make) in [
        ("belongs to 'other'", &(|| fs::write(&skill, foreign).unwrap()) as &dyn Fn()),
        ("no SKILL.md names its owner", &|| fs::write(&skill, "text").unwrap()),
        ("it is a symbolic link", &|| symlink(repository("SKILL.md"), &skill).unwrap()),
        ("it is not a regular file", &|| fs::create_dir(&skill).unwrap()),
        ("its folder is a symbolic link", &|| {
            fs::remove_dir(folder).unwrap();
            symlink(repository("packaging"), folder).unwrap();
        }),
    ] {
        reset();
        make();
        let before = fs::symlink_metadata(&skill).map(|about| about.ino()).ok();
        let answer = home.setup(&[]);
        assert_eq!(answer.code, 1, "{answer:#?}");
        assert_eq!(actions(&answer)[0], "refused", "{answer:#?}");
        assert!(answer["files"][0]["why"].as_str().unwrap().contains(why), "{answer:#?}");
        assert_check(&answer, "files", "error", SKILL);
        let after = fs::symlink_metadata(&skill).map(|about| about.ino()).ok();
        assert_eq!(before, after, "{why}");
    }
    // Another version of claudejob's own.
    reset();
    fs::write(&skill, "---\nname: claudejob\n---\nold\n").unwrap();
    for (options, action) in [(&["--dry-run"][..], "wouldWrite"), (&[], "written")] {
        let answer = home.setup(options);
        assert_eq!(actions(&answer), [action, "unchanged", "unchanged"]);
        // Nobody's words are replaced without a word.
        assert!(answer["files"][0]["why"].as_str().unwrap().contains("it differed"), "{answer:#?}");
        assert!(answer["files"][1]["why"].is_null(), "{answer:#?}");
    }
    fs::write(home.state(HANDLER), "old").unwrap();
    assert_eq!(actions(&home.setup(&[])), ["unchanged", "unchanged", "written"]);
    // A hook without its manifest is not known to be claudejob's.
    fs::write(home.state(HANDLER), "other").unwrap();
    fs::remove_file(home.state(HOOK)).unwrap();
    for options in [&["--dry-run"][..], &[]] {
        assert_eq!(actions(&home.setup(options)), ["unchanged", "refused", "refused"]);
    }
    assert_eq!(fs::read_to_string(home.state(HANDLER)).unwrap(), "other");
    assert!(!home.state(HOOK).exists());
    // Nothing is added to another's hook.
    fs::write(home.state(HOOK), foreign).unwrap();
    fs::remove_file(home.state(HANDLER)).unwrap();
    assert_eq!(actions(&home.setup(&[])), ["unchanged", "refused", "refused"]);
    assert!(!home.state(HANDLER).exists());
    // The rest of an own hook whose files were removed is added.
    fs::remove_file(home.state(HOOK)).unwrap();
    assert_eq!(actions(&home.setup(&[])), ["unchanged", "written", "written"]);
    fs::remove_file(home.state(HOOK)).unwrap();
    assert_eq!(actions(&home.setup(&[])), ["unchanged", "written", "unchanged"]);
}

#[test]
fn setup_says_what_the_service_does_not_find() {
    let mut home = Home::new();
    let tools = home.path("tools");
    fs::create_dir(&tools).unwrap();
    symlink(fake_claude(), tools.join("claude")).unwrap();
    home.0.set("PATH", format!("{}:/usr/bin:/bin", tools.display()));
    let answer = home.setup(&[]);
    assert_eq!(answer.code, 1, "{answer:#?}");
    assert_check(&answer, "claudejob", "error", "does not find claudejob");
    assert_check(&answer, "claude", "error", "not found on PATH");
    let text = home.setup(&["--plain"]).stdout;
    for name in ["claudejob", "claude"] {
        let (_, _, hint) = check(&answer, name);
        assert!(text.contains(&hint), "in one line: {text}");
        assert!(Command::new("sh").args(["-c", &hint]).status().unwrap().success(), "{hint}");
    }
    let answer = home.setup(&[]);
    assert_check(&answer, "claudejob", "ok", "/.local/bin/claudejob");
    assert_check(&answer, "claude", "ok", "/.local/bin/claude");
    // The key of this shell is not the service's.
    assert_check(&answer, "login", "warning", "/.openclaw/.env");
    fs::write(home.state(".env"), "ANTHROPIC_API_KEY=\"sk-ant-secret\"\n").unwrap();
    let answer = home.setup(&[]);
    assert_check(&answer, "login", "ok", "ANTHROPIC_API_KEY");
    assert!(!answer.stdout.contains("sk-ant-secret"), "nothing secret");
    fs::remove_file(home.state(".env")).unwrap();
    fs::write(home.path("variables"), "CLAUDE_CODE_OAUTH_TOKEN=x\n").unwrap();
    home.write_unit("", &format!("EnvironmentFile=-{}", home.path("variables").display()));
    assert_check(&home.setup(&[]), "login", "ok", "CLAUDE_CODE_OAUTH_TOKEN");

    let other = home.path(".local/bin/claudejob");
    fs::remove_file(&other).unwrap();
    install(&other, b"#!/bin/sh\necho claudejob 0.0.1\n");
    assert_check(&home.setup(&[]), "claudejob", "warning", "'claudejob 0.0.1' is not version");
    fs::remove_file(home.path(".config/systemd/user/openclaw-gateway.service")).unwrap();
    // A gateway that is started by hand reads the file as well.
    fs::write(home.state(".env"), "ANTHROPIC_API_KEY=\"sk-ant-secret\"\n").unwrap();
    home.0.set("ANTHROPIC_API_KEY", "");
    let answer = home.setup(&[]);
    assert_check(&answer, "service", "warning", "openclaw gateway install");
    assert_check(&answer, "login", "warning", "/.openclaw/.env");
    home.0.unset("ANTHROPIC_API_KEY");
    assert_check(&home.setup(&[]), "login", "ok", "ANTHROPIC_API_KEY");
}

#[test]
fn setup_says_what_openclaw_lacks() {
    let mut home = Home::new();
    home.link_programs();
    fs::write(home.path("refuse"), "").unwrap();
    fs::write(home.path("skill.json"), r#"{"disabled":true,"modelVisible":false}"#).unwrap();
    let answer = home.setup(&[]);
    assert_eq!(answer.code, 1, "{answer:#?}");
    assert_check(&answer, "hook", "error", "read-only");
    assert_check(&answer, "hook", "error", "openclaw hooks enable claudejob-recover");
    assert_check(&answer, "skill", "warning", "disabled");
    // Without the command the files are written, and the hook is not enabled.
    home.0.set("CLAUDE_SKILL_OPENCLAW", home.path("nowhere"));
    fs::remove_dir_all(home.state("hooks")).unwrap();
    let answer = home.setup(&[]);
    assert_eq!((answer.code, actions(&answer)[1]), (1, "written"), "{answer:#?}");
    assert_check(&answer, "openclaw", "error", "npm install -g openclaw");
    assert_check(&answer, "hook", "warning", "openclaw hooks enable claudejob-recover");
    // Neither the command nor a directory nor a service: nothing is written.
    fs::remove_dir_all(home.state("")).unwrap();
    fs::remove_dir_all(home.path(".config")).unwrap();
    let answer = home.setup(&[]);
    assert_eq!((answer.code, answer["files"].as_array().unwrap().len()), (1, 0), "{answer:#?}");
    assert!(!home.state("").exists());
}

#[test]
fn setup_says_that_the_gateway_must_restart() {
    let mut home = Home::new();
    home.link_programs();
    let bin = home.path("bin");
    fs::create_dir(&bin).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    home.0.set("PATH", path);
    let says = |state: &str, since: &str, reload: &str| {
        let text = format!(
            "#!/bin/sh\n[ \"$1 $2\" = '--user show' ] || exit 1\n\
             printf 'ActiveState=%s\\nActiveEnterTimestampMonotonic=%s\\nNeedDaemonReload=%s\\n' \
             {state} {since} {reload}\n"
        );
        install(&bin.join("systemctl"), text.as_bytes());
    };
    // A century after the boot: after every file.
    let future = "3153600000000000";
    says("inactive", "0", "no");
    assert_check(&home.setup(&[]), "restart", "ok", "does not run");
    says("active", future, "no");
    assert_check(&home.setup(&[]), "restart", "ok", "not needed");
    says("active", future, "yes");
    let restart = "systemctl --user daemon-reload && \
        systemctl --user restart openclaw-gateway.service";
    assert_check(&home.setup(&[]), "restart", "warning", restart);
    says("active", "5", "no");
    assert_check(&home.setup(&[]), "restart", "warning", "definition was changed");
    fs::remove_file(home.path(".local/bin/claudejob")).unwrap();
    says("active", future, "no");
    assert_check(&home.setup(&[]), "restart", "warning", "when the gateway finds claudejob");
}

#[test]
fn setup_uses_the_directory_of_openclaw() {
    let mut home = Home::new();
    home.link_programs();
    home.0.set("OPENCLAW_STATE_DIR", "~/other");
    let answer = home.setup(&[]);
    let path = home.path("other").join(SKILL);
    assert_eq!(answer["files"][0]["path"], path.to_str().unwrap(), "{answer:#?}");
    assert!(path.is_file() && !home.state(SKILL).exists());
    assert_check(&answer, "service", "warning", "no service runs a gateway with");
    home.write_unit(&format!("OPENCLAW_STATE_DIR={}", home.path("other").display()), "");
    assert_check(&home.setup(&[]), "service", "ok", "openclaw-gateway.service");
    let refused = home.0.run(["setup", "nothing"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn doctor_warns_of_old_files_of_openclaw() {
    let home = Home::new();
    home.link_programs();
    let doctor = || home.0.run(["doctor"]);
    assert_check(&doctor(), "openclaw", "warning", "SKILL.md is missing");
    assert_check(&doctor(), "openclaw", "warning", "claudejob setup openclaw");
    fs::write(
        home.state("openclaw.json"),
        r#"{"plugins":{"entries":{"claudejob":{"enabled":true}}}}"#,
    )
    .unwrap();
    assert_check(&doctor(), "openclaw", "ok", "finds");
    fs::remove_file(home.state("openclaw.json")).unwrap();
    home.setup(&[]);
    assert_check(&doctor(), "openclaw", "ok", "finds");
    fs::write(home.state(HANDLER), "old").unwrap();
    assert_check(&doctor(), "openclaw", "warning", "handler.js has another version");
}

#[test]
fn setup_claude_writes_the_skill() {
    let mut home = Home::new();
    let skill = home.path(".claude").join(SKILL);
    let dry = home.0.run(["setup", "claude", "--dry-run"]);
    assert_eq!((dry.code, &dry["files"][0]["action"]), (0, &"wouldWrite".into()), "{dry:?}");
    assert!(!skill.exists());

    let written = home.0.run(["setup", "claude"]);
    assert_eq!(
        (written.code, &written["files"][0]["action"]),
        (0, &"written".into()),
        "{written:?}"
    );
    assert_eq!(fs::read_to_string(&skill).unwrap(), include_str!("../../SKILL.md"));
    assert_eq!(home.0.run(["setup", "claude"])["files"][0]["action"], "unchanged");

    // Somebody else's skill of that name, in the directory that the variable names.
    home.0.set("CLAUDE_CONFIG_DIR", home.path("other"));
    let other = home.path("other").join(SKILL);
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, "---\nname: mine\n---\n").unwrap();
    let refused = home.0.run(["setup", "claude"]);
    assert_eq!(
        (refused.code, &refused["files"][0]["action"]),
        (1, &"refused".into()),
        "{refused:?}"
    );
    assert_eq!(fs::read_to_string(&other).unwrap(), "---\nname: mine\n---\n");
}
