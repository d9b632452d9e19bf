//! Several logs that are followed at the same time.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Child;

use serde_json::Value;

use crate::support::terminal::run_on_terminal;
use crate::support::{Sandbox, await_file, eventually};

/// Three jobs: each says its name twice and waits for the file `go` in between.
fn three_jobs() -> Sandbox {
    let sandbox = Sandbox::new("");
    for id in ["fix-login", "a-name-of-more-than-20-characters", "x"] {
        sandbox.script(&format!(
            "read\ninit\nsay {id} begins\ntouch $DIR/{id}.up\nwait-file $DIR/go\n\
             say {id} ends\nresult ok\neof"
        ));
        sandbox.start(id, &["--max-parallel", "0"]);
        await_file(&sandbox.path(&format!("{id}.up")));
    }
    sandbox
}

/// A call whose output goes to a file.
struct Call {
    child: Child,
    output: PathBuf,
}

impl Call {
    /// Starts a call, and waits until its output contains each of the texts.
    fn start(sandbox: &Sandbox, name: &str, arguments: &[&str], texts: &[&str]) -> Self {
        let output = sandbox.path(name);
        let mut command = sandbox.command(arguments);
        let child = command.stdout(File::create(&output).unwrap()).spawn().unwrap();
        eventually(name, || {
            let shown = fs::read_to_string(&output).unwrap();
            texts.iter().all(|text| shown.contains(text)).then_some(())
        });
        Self { child, output }
    }

    /// Waits for the end of the call and returns its output.
    fn end(mut self) -> String {
        assert!(self.child.wait().unwrap().success());
        fs::read_to_string(&self.output).unwrap()
    }
}

#[test]
fn follows_several_jobs_to_their_ends() {
    let sandbox = three_jobs();
    let start = |name: &str, options: &[&str]| {
        let begun = ["x begins", "fix-login begins"];
        Call::start(&sandbox, name, &[&["logs", "-f"], options].concat(), &begun)
    };
    let all = start("all", &["--all", "--plain"]);
    let two = start("two", &["x", "fix-login", "--plain"]);
    let json = start("json", &["--status", "running"]);
    fs::write(sandbox.path("go"), "").unwrap();
    let (all, two) = (all.end(), two.end());
    assert!(all.contains("a-name-of-more-than… | = completed"), "{all}");
    assert!(all.lines().all(|line| line.chars().nth(21) == Some('|')), "{all}");
    let of = |name: &str| -> Vec<String> {
        let lines = two.lines().filter_map(|line| line.strip_prefix(name));
        let lines = lines.map(|line| line.split(" · ").next().unwrap().to_owned());
        // The end of the turn is left out if the job ends within a second, as on a machine at rest.
        lines.filter(|line| line != "= done").collect()
    };
    assert_eq!(of("x         | "), ["x begins", "x ends", "= completed"]);
    assert_eq!(of("fix-login | "), ["fix-login begins", "fix-login ends", "= completed"]);
    let json = json.end();
    let parts: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for id in ["fix-login", "a-name-of-more-than-20-characters", "x"] {
        let texts = parts.iter().filter(|part| part["jobId"] == id);
        let text: String = texts.map(|part| part["tail"].as_str().unwrap()).collect();
        assert!(text.contains(&format!("{id} ends")) && text.contains("= completed"), "{json}");
    }
    let none = sandbox.run(["logs", "-f", "--all", "--plain"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""), "no job is live");
}

#[test]
fn follows_the_others_if_one_is_unknown() {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nresult ok\neof");
    sandbox.run_job("j", &[]);
    let answer = sandbox.run(["logs", "-f", "j", "none", "--plain"]);
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.stdout.starts_with("j    | hello\nj    | = completed"), "{answer:?}");
    assert!(answer.stderr.contains("error: no job named 'none'"), "{answer:?}");
    for option in [&["--raw"][..], &["--stderr"], &["--since-offset", "0"]] {
        let refused = sandbox.run([&["logs", "-f", "j", "none"], option].concat());
        assert_eq!((refused.code, refused.text("code")), (2, "usage"), "{refused:?}");
    }
}

#[test]
fn terminals_show_names_beside_wrapped_lines() {
    let mut sandbox =
        Sandbox::new(&format!("read\ninit\nsay {}\nresult ok\neof", "word ".repeat(40)));
    sandbox.set("TERM", "xterm");
    for id in ["fix-login", "a-name-of-more-than-20-characters"] {
        sandbox.run_job(id, &[]);
    }
    let command = sandbox.command(["logs", "-f", "--status", "completed"]);
    let (code, screen) = run_on_terminal(command, "");
    assert_eq!(code, 0, "{screen}");
    let mut texts = 0;
    for line in screen.lines() {
        let line = anstream::adapter::strip_str(line).to_string();
        let line = line.trim_end();
        assert!(line.chars().count() <= 80, "{line}");
        let names = ["fix-login            | ", "a-name-of-more-than… | "];
        assert!(names.iter().any(|name| line.starts_with(name)), "{line}");
        texts += line.matches("word").count();
    }
    assert_eq!(texts, 80, "{screen}");
    assert!(screen.contains("\u{1b}[36m") && screen.contains("\u{1b}[32m"), "{screen}");
}
