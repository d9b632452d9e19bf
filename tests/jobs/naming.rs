//! Names of jobs: parts of ids on a terminal, whole ids elsewhere.

use std::fs;

use serde_json::{Value, json};

use crate::support::Sandbox;
use crate::support::terminal::run_on_terminal;

/// Makes copies of the ended job `fix-login` with other ids. Each starts an hour later than the
/// one before.
fn copy_job(sandbox: &Sandbox, ids: &[&str]) {
    let record = fs::read_to_string(sandbox.job("fix-login").join("meta.json")).unwrap();
    for (hour, id) in ids.iter().enumerate() {
        let mut record: Value = serde_json::from_str(&record).unwrap();
        record["jobId"] = json!(id);
        record["startedAt"] = json!(format!("2126-11-26T{hour:02}:00:00.000Z"));
        fs::create_dir(sandbox.job(id)).unwrap();
        for file in ["output.log", "result.json", "lock"] {
            fs::copy(sandbox.job("fix-login").join(file), sandbox.job(id).join(file)).unwrap();
        }
        fs::write(sandbox.job(id).join("meta.json"), record.to_string()).unwrap();
    }
}

/// A sandbox with the ended jobs `fix-login` and, started later and in this order, these.
fn sandbox_with(ids: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nresult ok\neof");
    sandbox.run_job("fix-login", &[]);
    copy_job(&sandbox, ids);
    sandbox
}

/// Runs a call on a terminal, and returns its exit code and output.
fn type_in(sandbox: &Sandbox, arguments: &[&str], input: &str) -> (i32, String) {
    run_on_terminal(sandbox.command(arguments), input)
}

#[track_caller]
fn assert_shows(sandbox: &Sandbox, arguments: &[&str], code: i32, expected: &str) {
    let (actual, output) = type_in(sandbox, arguments, "");
    assert!(actual == code && output.contains(expected), "{arguments:?}: {actual} {output}");
}

#[test]
fn a_terminal_completes_the_names_of_jobs() {
    let sandbox = sandbox_with(&["261126-popokok", "fix-logout", "261126-popabar", "a", "ab"]);
    for (name, id) in [
        ("fix-logi", "fix-login"),
        ("fix-logo", "fix-logout"),
        ("popo", "261126-popokok"),
        ("261126-popa", "261126-popabar"),
        // A whole id is no beginning.
        ("a", "a"),
        ("@last", "ab"),
    ] {
        assert_shows(&sandbox, &["status", name], 0, &format!("job {id}\r\n"));
    }
    for verb in ["logs", "events", "result", "wait", "redeliver"] {
        assert_shows(&sandbox, &[verb, "popo"], 0, "");
    }
    for verb in ["interrupt", "finish", "answer", "recover"] {
        assert_shows(&sandbox, &[verb, "popo"], 1, "261126-popokok");
    }
    assert_shows(&sandbox, &["status", "popu"], 4, "no job named 'popu'");
    assert_shows(&sandbox, &["status", "popokk"], 4, "# nearest: 261126-popokok");
    assert_shows(&sandbox, &["status", "@first"], 1, "invalid job id '@first'");
    assert_shows(&sandbox, &["status", ""], 2, "the job id is empty");
    assert_shows(&sandbox, &["status", "--job-id", "popo"], 4, "no job named 'popo'");
    let (code, output) = type_in(&sandbox, &["status", "po", "--json"], "");
    let error: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (code, error),
        (
            2,
            json!({
                "error": "'po' names 2 jobs", "code": "ambiguous_name",
                "hint": "claudejob list  # 261126-popokok, 261126-popabar",
            })
        )
    );
}

#[test]
fn an_ambiguous_name_names_at_most_five_jobs() {
    let sandbox = sandbox_with(&["j1", "j2", "j3", "j4", "j5", "j6"]);
    let hint = "claudejob list  # j6, j5, j4, j3, j2, …";
    assert_shows(&sandbox, &["kill", "j"], 2, "'j' names 6 jobs");
    assert_shows(&sandbox, &["wait", "j1", "j"], 2, hint);
}

#[test]
fn a_terminal_takes_the_last_job_if_none_is_named() {
    let sandbox = sandbox_with(&["c", "b"]);
    assert_shows(&sandbox, &["logs"], 0, "job b\r\n");
    assert_shows(&sandbox, &["status"], 0, "job b\r\n");
    assert_shows(&sandbox, &["result"], 0, "ok");
    assert_shows(&sandbox, &["wait"], 0, "ok");
    let (code, output) = type_in(&sandbox, &["kill"], "");
    assert!(code == 2 && output.contains("no job given"), "{output}");
    fs::remove_dir_all(sandbox.jobs()).unwrap();
    assert_shows(&sandbox, &["status"], 4, "there are no jobs");
    assert_shows(&sandbox, &["status", "@last"], 4, "there are no jobs");
}

#[test]
fn an_agent_or_a_pipe_gives_whole_ids() {
    let mut sandbox = sandbox_with(&["261126-popokok"]);
    for verb in ["status", "logs", "result", "wait"] {
        let answer = sandbox.run([verb, "popo"]);
        assert_eq!((answer.code, &answer["code"]), (4, &json!("not_found")), "{answer:?}");
        assert_eq!(answer["hint"], "claudejob list --all  # nearest: 261126-popokok");
        let answer = sandbox.run([verb, "@last"]);
        assert_eq!((answer.code, &answer["code"]), (1, &json!("invalid_job_id")), "{answer:?}");
        let answer = sandbox.run([verb]);
        assert_eq!((answer.code, &answer["error"]), (2, &json!("no job given")), "{answer:?}");
    }
    let both = sandbox.run(["wait", "fix-login", "fix-logn"]);
    assert_eq!(both.json[1]["hint"], "claudejob list --all  # nearest: fix-login", "{both:?}");
    for (name, value, code) in [("CLAUDECODE", "1", 4), ("AI_AGENT", "x", 4), ("AI_AGENT", "0", 0)]
    {
        sandbox.set(name, value);
        let (actual, output) = type_in(&sandbox, &["status", "popo"], "");
        assert_eq!(actual, code, "{name}={value}: {output}");
        sandbox.unset(name);
    }
}

#[test]
fn no_verb_completes_a_name_for_a_program() {
    let mut sandbox = sandbox_with(&["261126-popokok"]);
    let verbs: [&[&str]; 14] = [
        &["kill"],
        &["rm"],
        &["clean"],
        &["resume"],
        &["recover"],
        &["interrupt"],
        &["finish"],
        &["answer", "--allow"],
        &["send", "-p", "x"],
        &["events"],
        &["redeliver"],
        &["rerun"],
        &["pause"],
        &["update", "--priority", "1"],
    ];
    sandbox.set("AI_AGENT", "test");
    for verb in verbs {
        for name in ["popo", "fix-logi"] {
            let call = [&verb[..1], &[name], &verb[1..]].concat();
            let answer = sandbox.run(&call);
            assert!(answer.code == 4 || answer.stdout.contains("not_found"), "{call:?} {answer:?}");
            // An agent may give its commands a terminal.
            let (code, output) = type_in(&sandbox, &[&call[..], &["--json"]].concat(), "y\n");
            assert!(code == 4 || output.contains("not_found"), "{call:?} {output}");
        }
    }
    assert!(sandbox.job("fix-login").exists() && sandbox.job("261126-popokok").exists());
    assert_eq!(sandbox.run(["list"]).json.as_array().unwrap().len(), 2, "no job was started");
}

#[test]
fn verbs_that_act_name_their_job() {
    let sandbox = sandbox_with(&[]);
    for verb in [
        &["kill"][..],
        &["rm"],
        &["resume"],
        &["recover"],
        &["interrupt"],
        &["finish"],
        &["answer", "--allow"],
        &["send", "-p", "x"],
        &["events"],
        &["rerun"],
    ] {
        let answer = sandbox.run(verb);
        assert_eq!((answer.code, answer.text("error")), (2, "no job given"), "{verb:?}");
        let hint = format!("claudejob {} --help  # claudejob list shows the ids", verb[0]);
        assert_eq!(answer.text("hint"), hint);
        assert_shows(&sandbox, verb, 2, "no job given");
    }
}

#[test]
fn kill_and_clean_ask_before_they_complete_a_name() {
    let sandbox = sandbox_with(&["old", "older"]);
    for input in ["n\n", "\n", "\u{4}"] {
        let (code, output) = type_in(&sandbox, &["kill", "fix"], input);
        assert!(output.contains("Kill job fix-login? [y/N]"), "{output}");
        assert!(code == 1 && output.contains("nothing was killed"), "{code} {output}");
        assert!(!output.contains("no job named"), "{output}");
    }
    let (code, output) = type_in(&sandbox, &["kill", "fix"], "y\n");
    assert!(code == 1 && output.contains("has already completed"), "{code} {output}");
    let (_, output) = type_in(&sandbox, &["kill", "@last"], "");
    assert!(output.contains("older") && !output.contains("[y/N]"), "{output}");
    let (code, output) = type_in(&sandbox, &["clean", "olde", "--dry-run"], "");
    assert!(code == 0 && !output.contains("[y/N]"), "{output}");
    let (code, output) = type_in(&sandbox, &["clean", "olde"], "n\n");
    assert!(code == 1 && output.contains("nothing was removed"), "{code} {output}");
    assert!(sandbox.job("older").exists());
    let (code, output) = type_in(&sandbox, &["clean", "olde"], "YES\n");
    assert!(code == 0 && output.contains("Remove job older? [y/N]"), "{output}");
    let (code, output) = type_in(&sandbox, &["rm", "fix-log"], "\n");
    assert!(code == 1 && output.contains("nothing was removed"), "{code} {output}");
    let (code, _) = type_in(&sandbox, &["rm", "fix-log", "--dry-run"], "");
    assert!(code == 0 && sandbox.job("fix-login").exists());
    assert!(!sandbox.job("older").exists() && sandbox.job("old").exists());
}
