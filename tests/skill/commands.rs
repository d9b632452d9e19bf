//! Each command and option in SKILL.md, run by a shell with the fake claude, as OpenClaw's `exec`
//! runs it: stdout is not a terminal.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Sandbox, await_file, eventually, install};
use crate::text::{code_blocks, spans};

const QUESTION: &str = r#"json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which table?","header":"T","options":[{"label":"It's `new`","description":"d"},{"label":"old","description":"d"}],"multiSelect":false}]}}}"#;
const PERMISSION: &str = r#"json {"type":"control_request","request_id":"p1","request":{"subtype":"can_use_tool","tool_name":"Write","input":{"file_path":"x"}}}"#;
/// A text that a shell would change if it read it.
const TEXT: &str = "It's `old` \"for now\"; $HOME";

/// The words in SKILL.md for which a model puts others.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("CHANNEL", "telegram"),
    ("ID", "fix-login"),
    ("KEY", "agent:main:main"),
    ("TARGET", "123456"),
];
/// A stand-in for OpenClaw's command, which prints its arguments into a file.
const OPENCLAW: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" >>\"$FAKE_DIR/openclaw\"\n";

/// What exists when the command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Nothing,
    /// `fix-login` works on its first message, and hears the next one.
    Running,
    /// `fix-login` has a question, or a request for a permission.
    Question,
    Permission,
    /// `fix-login` has completed.
    Completed,
}

#[derive(Debug)]
pub(crate) struct Row {
    /// The command or option as it is in SKILL.md: of a block the line with the command.
    pub(crate) text: &'static str,
    given: Given,
    /// The whole command, in place of `text`.
    run: Option<String>,
    stdin: &'static str,
    /// A part of the answer, as JSON pointer and value.
    answer: (&'static str, Value),
    /// What claude then reads.
    heard: Option<&'static str>,
}

impl Row {
    fn new(text: &'static str, given: Given, answer: (&'static str, Value)) -> Self {
        Self { text, given, run: None, stdin: "", answer, heard: None }
    }

    /// An option of a command that ends where the option begins.
    fn option(
        text: &'static str,
        command: &str,
        given: Given,
        answer: (&'static str, Value),
    ) -> Self {
        let run = Some(format!("{command} {text}"));
        Self { run, ..Self::new(text, given, answer) }
    }

    /// The command reads [`TEXT`] from stdin, and claude receives it.
    fn with_text(self) -> Self {
        Self { stdin: TEXT, heard: Some(TEXT), ..self }
    }

    fn heard(self, text: &'static str) -> Self {
        Self { heard: Some(text), ..self }
    }
}

pub(crate) fn rows() -> Vec<Row> {
    use Given::{Completed, Nothing, Permission, Question, Running};
    const START: &str = "claudejob start other --prompt work";
    let started = || ("/jobId", json!("other"));
    let answered = || ("/answered", json!(true));
    let own = || ("/jobId", json!("fix-login"));
    vec![
        Row::new(
            "claudejob start fix-login --if-absent --cwd ~/app --worktree --wake openclaw:KEY \\",
            Nothing,
            own(),
        )
        .heard("Fix the failing login test."),
        Row::option(
            "--worktree",
            "claudejob start other --prompt work --cwd ~/app",
            Nothing,
            started(),
        ),
        Row::option("--permission-mode plan", START, Nothing, started()),
        Row {
            run: Some(format!("{START} --setup true")),
            ..Row::new("--setup 'npm ci'", Nothing, started())
        },
        Row::option("--ask", START, Nothing, started()),
        Row::option("--after ID", START, Completed, started()),
        Row::option("--max-parallel 4", START, Nothing, started()),
        Row::option("--notify openclaw:CHANNEL:TARGET", START, Nothing, started()),
        Row::option("--prompt -", "claudejob start other", Nothing, started()).with_text(),
        Row::option("--if-absent", "claudejob start fix-login --prompt other", Completed, own()),
        Row {
            stdin: "{\"jobId\": \"many\", \"prompt\": \"work\"}\n",
            ..Row::new("claudejob start --from -", Nothing, ("/jobs/0/jobId", json!("many")))
        },
        Row::new("claudejob wait fix-login", Completed, ("/status", json!("completed"))),
        Row::new("claudejob wait ID", Completed, own()),
        Row::new("claudejob status fix-login", Question, ("/status", json!("blocked"))),
        Row::new("claudejob result fix-login", Completed, ("/result", json!("done"))),
        Row::new(
            "claudejob result fix-login --max-chars 15000",
            Completed,
            ("/truncated", json!(false)),
        ),
        Row::new("claudejob diff fix-login", Completed, ("/files", json!([]))),
        Row::new("claudejob answer fix-login --text - <<'TEXT'", Question, answered())
            .heard("Neither: use the `users` table."),
        Row::option("--text -", "claudejob answer fix-login", Question, answered()).with_text(),
        Row::option("--choice 1", "claudejob answer fix-login", Question, answered()),
        Row::option("--allow", "claudejob answer fix-login", Permission, answered()).heard("allow"),
        Row::option("--deny --message -", "claudejob answer fix-login", Permission, answered())
            .with_text(),
        Row::new("claudejob resume fix-login --message - <<'MESSAGE'", Completed, own())
            .heard("Good. Now fix the logout test, too."),
        Row::new("claudejob resume ID", Completed, own()),
        Row::new("claudejob resume ID --permission-mode bypassPermissions", Completed, own()),
        Row::option("--message -", "claudejob send fix-login", Running, own()).with_text(),
        Row::new("claudejob send ID --message -", Running, own()).with_text(),
        Row::new("claudejob interrupt ID", Running, own()),
        Row::new("claudejob rerun ID --prompt -", Completed, ("/warnings", json!([]))).with_text(),
        Row::new("claudejob kill ID", Running, ("/killed", json!(true))),
        Row::new("claudejob rm ID", Completed, ("/jobs/0", json!("fix-login"))),
        Row::new("claudejob logs ID", Completed, own()),
        Row::new("claudejob list", Running, ("/0/jobId", json!("fix-login"))),
        Row::new("claudejob list --undelivered", Completed, ("", json!([]))),
        Row::new("claudejob redeliver", Completed, ("/failed", json!([]))),
        Row::new("claudejob recover --all", Completed, ("/failed", json!([]))),
        Row::new("claudejob doctor", Nothing, ("/ok", json!(true))),
    ]
}

/// Replaces whole words.
fn substituted(text: &str) -> String {
    let mut result = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let found = PLACEHOLDERS.iter().find(|(name, _)| *name == word);
        result += found.map_or(word, |(_, value)| value);
        result += &piece[word.len()..];
    }
    result
}

/// Returns the whole script of a row: the block with the command, the command, or the option with
/// its command.
fn script(row: &Row) -> String {
    let blocks = code_blocks();
    let block = blocks.iter().find(|block| block.lines().any(|line| line == row.text));
    match (block, &row.run) {
        (Some(block), _) => substituted(block),
        (None, Some(run)) => substituted(run),
        (None, None) => substituted(row.text),
    }
}

/// Makes a sandbox with a repository `~/app`, and the state that a row needs.
fn given(given: Given) -> Sandbox {
    let mut sandbox = Sandbox::new(&match given {
        Given::Nothing | Given::Completed => "read $DIR/heard\ninit\nresult done\neof".to_owned(),
        Given::Running => "read\ninit\ntouch $DIR/up\nhear $DIR/heard\nresult done\neof".to_owned(),
        Given::Question => format!("read\ninit\n{QUESTION}\nread $DIR/heard\nresult done\neof"),
        Given::Permission => format!("read\ninit\n{PERMISSION}\nread $DIR/heard\nresult done\neof"),
    });
    fs::create_dir(sandbox.path("bin")).unwrap();
    install(&sandbox.path("bin/openclaw"), OPENCLAW.as_bytes());
    for (name, value) in [("NAME", "me"), ("EMAIL", "me@localhost")] {
        sandbox.set(&format!("GIT_AUTHOR_{name}"), value);
        sandbox.set(&format!("GIT_COMMITTER_{name}"), value);
    }
    match given {
        Given::Nothing => {}
        Given::Running => {
            sandbox.start("fix-login", &[]);
            await_file(&sandbox.path("up"));
        }
        Given::Question | Given::Permission => {
            sandbox.start("fix-login", &["--ask", "--permission-mode", "default"]);
            let blocked = sandbox.run(["wait", "fix-login"]);
            assert_eq!(blocked.code, 5, "{blocked:?}");
        }
        Given::Completed => {
            let git = "git init -q && git commit -q --allow-empty -m Begin && echo 0";
            shell(&sandbox, git, "");
            sandbox.run_job("fix-login", &[]).expect_end(0, "completed", None);
            fs::remove_file(sandbox.path("heard")).unwrap();
        }
    }
    sandbox
}

/// Runs a script by a shell whose PATH has the program, and returns its answer.
#[track_caller]
fn shell(sandbox: &Sandbox, script: &str, stdin: &str) -> Value {
    let program = sandbox.command(["list"]);
    let folder = Path::new(program.get_program()).parent().unwrap();
    let path = format!("{}:{}:/usr/bin:/bin", sandbox.path("bin").display(), folder.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).env_clear().current_dir(sandbox.work());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", path);
    let output = assert_cmd::Command::from_std(shell).write_stdin(stdin).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{script}: {output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{script}: {error}: {stdout}"))
}

#[test]
fn every_command_runs() {
    for row in rows() {
        let sandbox = given(row.given);
        let script = script(&row);
        if script.contains("--worktree") {
            let git =
                "git init -q ~/app && git -C ~/app commit -q --allow-empty -m Begin && echo 0";
            shell(&sandbox, git, "");
        }
        let answer = shell(&sandbox, &script, row.stdin);
        let (pointer, expected) = &row.answer;
        assert_eq!(answer.pointer(pointer), Some(expected), "{row:?}: {answer}");
        if let Some(text) = row.heard {
            eventually(&format!("{row:?}"), || {
                let heard = fs::read_to_string(sandbox.path("heard")).ok()?;
                // The fake writes a message as text, and other lines as the JSON that they are.
                let quoted = json!(text).to_string();
                (heard.contains(text) || heard.contains(quoted.trim_matches('"'))).then_some(())
            });
        }
    }
}

#[test]
fn the_wake_is_the_line_that_it_shows() {
    let mut sandbox = given(Given::Nothing);
    // With another directory than the default one the command names it.
    sandbox.unset("CLAUDE_SKILL_JOBS_DIR");
    let start = "claudejob start fix-login --prompt work --wake openclaw:agent:main:main";
    shell(&sandbox, start, "");
    let sent = eventually("the wake", || {
        let arguments = fs::read_to_string(sandbox.path("openclaw")).ok()?;
        arguments.contains("claudejob: job").then_some(arguments)
    });
    assert!(sent.lines().any(|argument| argument.ends_with("agent:main:main")), "{sent}");
    let text = sent.lines().find(|argument| argument.starts_with("claudejob: ")).unwrap();
    let shown = spans().into_iter().find(|span| span.starts_with("System: ")).unwrap();
    assert_eq!(shown, format!("System: […] {text}"));
}
