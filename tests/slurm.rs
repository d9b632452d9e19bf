//! Jobs on a Slurm cluster, whose commands are replaced by a script.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "slurm/cluster.rs"]
mod cluster;
#[path = "slurm/doctor.rs"]
mod doctor;
#[path = "slurm/screens.rs"]
mod screens;
#[path = "slurm/submission.rs"]
mod submission;
mod support;

use std::fs;
use std::process::Command;

use cluster::Cluster;
use support::{Answer, await_file};

#[test]
fn a_job_is_submitted_without_the_environment() {
    let cluster = Cluster::new("result done");
    let answer = cluster.start("a", &["--on-arg=--partition=x", "--memory-max", "1G"]);
    assert_eq!((answer.code, answer.text("status")), (0, "queued"), "{answer:?}");
    assert_eq!(answer["waitingFor"]["kind"], "engine");
    assert!(answer["warnings"][0].as_str().unwrap().contains("ANTHROPIC_API_KEY"), "{answer:?}");
    let arguments = cluster.read("1.args");
    for expected in [
        "--requeue",
        "--partition=x",
        "--export=NONE",
        "--mem=1048576K",
        "--signal=B:TERM@60",
        "--job-name=claudejob-a",
    ] {
        assert!(arguments.lines().any(|line| line == expected), "{expected}: {arguments}");
    }
    assert!(arguments.contains("\n--comment=claudejob:a:"), "{arguments}");
    assert!(!arguments.contains("sk-ant-test"), "{arguments}");
    let script = cluster.read("1.script");
    let root = cluster.sandbox.jobs();
    let end = format!(
        "claudejob' worker-here '{0}'/\"$1\" >>'{0}'/\"$1\"/engine.log 2>&1\n",
        root.display()
    );
    assert!(script.contains("\nset -- a\n") && script.ends_with(&end), "{script}");
}

#[test]
fn options_without_an_effect_are_named() {
    let cluster = Cluster::new("result done");
    let warned = |id: &str, options: &[&str]| {
        let answer = cluster.start(id, &[options, &["--export-env=ANTHROPIC_API_KEY"]].concat());
        let warnings = answer["warnings"].as_array().unwrap().clone();
        let names =
            warnings.iter().map(|it| it.as_str().unwrap().split(' ').next().unwrap().to_owned());
        names.collect::<Vec<String>>().join(" ")
    };
    let mut options =
        vec!["--no-queue", "--priority=5", "--detach=session", "--group=g", "--group-limit=2"];
    options.extend(["--max-parallel=4", "--stagger=1s"]);
    assert_eq!(
        warned("a", &options),
        "--no-queue --priority --max-parallel --stagger --detach --group-limit"
    );
    assert_eq!(warned("b", &["--group=g"]), "");
    let paused = cluster.sandbox.run(["pause", "b"]);
    assert_eq!(
        (paused.code, &paused["failed"][0]["code"]),
        (1, &"not_in_queue".into()),
        "{paused:?}"
    );
    let updated = cluster.sandbox.run(["update", "b", "--priority", "5"]);
    assert_eq!((updated.code, updated.text("code")), (1, "not_queued"), "{updated:?}");
    assert!(updated.text("error").contains("of its cluster"), "{updated:?}");
    let inbox = cluster.sandbox.job("b").join("inbox");
    assert!(!inbox.exists(), "no worker would answer");
}

#[test]
fn a_variable_is_passed_only_by_its_name() {
    let cluster = Cluster::new("result done");
    let answer = cluster.start("a", &["--export-env", "ANTHROPIC_API_KEY"]);
    assert_eq!(answer["warnings"], serde_json::json!([]), "{answer:?}");
    assert!(cluster.read("1.args").contains("--get-user-env\n--export=ANTHROPIC_API_KEY\n"));
    for bad in ["ALL", "NONE", "A=b", "1A", ""] {
        assert_eq!(cluster.start("b", &["--export-env", bad]).code, 2, "{bad}");
    }
    assert_eq!(cluster.sandbox.run(["start", "-p", "x", "--export-env", "HOME"]).code, 2);
}

#[test]
fn a_file_of_variables_is_checked_and_not_passed() {
    let mut cluster = Cluster::new("result done");
    cluster.sandbox.unset("ANTHROPIC_API_KEY");
    let file = cluster.sandbox.path("keys");
    let given = file.to_str().unwrap();
    assert_eq!(cluster.start("a", &["--env-file", given]).text("code"), "bad_config");
    fs::write(&file, "ANTHROPIC_API_KEY=sk-secret\n").unwrap();
    let open = cluster.start("a", &["--env-file", given]);
    assert!(open.text("error").contains("others can access it"), "{open:?}");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let answer = cluster.start("a", &["--env-file", given]);
    assert_eq!((answer.code, &answer["warnings"]), (0, &serde_json::json!([])), "{answer:?}");
    assert!(!cluster.read("1.args").contains("sk-secret"));
}

#[test]
fn a_refused_job_does_not_exist() {
    let cluster = Cluster::new("result done");
    fs::write(cluster.dir.join("refuse"), "Invalid partition name specified").unwrap();
    let answer = cluster.start("a", &[]);
    assert_eq!((answer.code, answer.text("code")), (1, "engine_refused"), "{answer:?}");
    assert!(answer.text("error").ends_with("Invalid partition name specified"), "{answer:?}");
    assert!(!cluster.sandbox.job("a").exists());
    fs::write(cluster.dir.join("down"), "").unwrap();
    let answer = cluster.start("a", &[]);
    assert_eq!((answer.code, answer.text("code")), (75, "engine_unavailable"), "{answer:?}");
    assert!(!cluster.sandbox.job("a").exists());
}

#[test]
fn status_and_list_show_why_a_job_waits() {
    let cluster = Cluster::new("result done");
    for id in ["a", "b", "c"] {
        assert_eq!(cluster.start(id, &[]).code, 0);
    }
    cluster.set_state("2", "PENDING|0||Resources");
    cluster.set_state("3", "RUNNING|0|n1|None");
    let status = cluster.sandbox.status("b");
    assert_eq!(
        (status.text("status"), &status["waitingFor"]["why"]),
        ("queued", &"Resources".into())
    );
    assert_eq!(cluster.sandbox.status("c").text("status"), "starting");
    let before = cluster.calls("squeue");
    let list = cluster.sandbox.run(["list"]);
    assert_eq!(cluster.calls("squeue"), before + 1);
    let reasons: Vec<&str> = list
        .json
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|job| job["waitingFor"]["why"].as_str())
        .collect();
    assert_eq!(reasons, ["Resources", "Priority"], "{list:?}");
    fs::write(cluster.dir.join("down"), "").unwrap();
    let status = cluster.sandbox.status("a");
    assert!(status["warnings"][0].as_str().unwrap().contains("does not answer"), "{status:?}");
}

#[test]
fn an_array_for_the_jobs_of_a_file() {
    let mut cluster = Cluster::new("result done");
    cluster.sandbox.set("STAND_IN_ARRAY_SIZE", "3");
    let mut lines = String::new();
    for id in ["a", "b", "c", "d"] {
        lines += &format!("{{\"jobId\":\"{id}\",\"prompt\":\"x\"}}\n");
    }
    lines += "{\"jobId\":\"e\",\"prompt\":\"x\",\"after\":[\"a\",\"d\"]}\n";
    lines += "{\"jobId\":\"f\",\"prompt\":\"x\",\"group\":\"g\"}\n";
    let call = ["start", "--on", "slurm", "--max-parallel", "2", "--from", "-"];
    let answer = cluster.sandbox.run_with_stdin(call, lines);
    assert_eq!((answer.code, &answer["started"]), (0, &6.into()), "{answer:?}");
    assert!(cluster.read("1.args").contains("--array=0-2%2\n"));
    let root = cluster.sandbox.jobs();
    let script = cluster.read("1.script");
    assert!(script.contains("set -- a b c\nshift \"${SLURM_ARRAY_TASK_ID:-0}\"\n"), "{script}");
    let end = format!("worker-here '{0}'/\"$1\" >>'{0}'/\"$1\"/engine.log 2>&1\n", root.display());
    assert!(script.ends_with(&end), "{script}");
    assert!(cluster.read("2.script").contains("\nset -- d\n"));
    let jobs = cluster.read("3.args") + &cluster.read("4.args");
    assert!(jobs.contains("--dependency=afterany:1_0,afterany:2\n"), "{jobs}");
    assert!(jobs.contains("--job-name=claudejob-group-g\n--dependency=singleton\n"), "{jobs}");
    assert_eq!(cluster.calls("sbatch"), 4);
}

#[test]
fn jobs_that_continue_are_one_array() {
    let cluster = Cluster::new("session\ninit\nread\nresult Done.");
    let mut lines = String::new();
    for id in ["a", "b", "c"] {
        lines += &format!("{{\"jobId\":\"{id}\",\"prompt\":\"x\"}}\n");
    }
    lines += "{\"jobId\":\"d\",\"prompt\":\"x\",\"after\":[\"a\"]}\n";
    let call = ["start", "--on", "slurm", "--max-parallel", "2", "--from", "-"];
    assert_eq!(cluster.sandbox.run_with_stdin(call, lines).code, 0);
    for id in ["1_0", "1_1", "1_2", "2"] {
        cluster.set_state(id, "NODE_FAIL|0|n2|None");
    }
    fs::write(cluster.dir.join("refuse"), "Invalid account").unwrap();
    let refused = cluster.sandbox.run(["recover", "--all"]);
    assert_eq!((refused.code, &refused["recovered"]), (1, &serde_json::json!([])), "{refused:?}");
    assert_eq!(refused["failed"].as_array().unwrap().len(), 4, "{refused:?}");
    fs::remove_file(cluster.dir.join("refuse")).unwrap();
    // What the engine called the job before is not asked about any more.
    let program = env!("CARGO_BIN_EXE_claudejob");
    fs::write(cluster.dir.join("meanwhile"), format!("'{program}' status a >>during")).unwrap();
    for (number, call) in [(3, vec!["recover", "--all"]), (5, vec!["resume", "a", "b", "c", "d"])] {
        let answer = cluster.sandbox.run(call);
        let continued = answer["recovered"].as_array().unwrap();
        let ids: Vec<&str> = continued.iter().map(|job| job["jobId"].as_str().unwrap()).collect();
        assert_eq!((answer.code, ids.as_slice()), (0, &["a", "b", "c", "d"][..]), "{answer:?}");
        let arguments = cluster.read(&format!("{number}.args"));
        assert!(arguments.contains("--array=0-2%2\n"), "{arguments}");
        let arguments = cluster.read(&format!("{}.args", number + 1));
        assert!(
            arguments.contains(&format!("--dependency=afterany:{number}_0\n")),
            "{number} {arguments} {answer:?}"
        );
        for id in ["0", "1", "2"] {
            let node = cluster.run_on_node(&format!("{number}_{id}"));
            assert_eq!(node.join().unwrap(), 0);
        }
        assert_eq!(cluster.run_on_node(&format!("{}", number + 1)).join().unwrap(), 0);
        assert_eq!(cluster.sandbox.status("c")["status"], "completed");
    }
    let during = cluster.read("during");
    assert!(!during.contains("failed") && during.contains("queued"), "{during}");
}

#[test]
fn a_job_does_not_wait_for_one_elsewhere() {
    let cluster = Cluster::new("result done");
    assert_eq!(cluster.start("a", &[]).code, 0);
    let answer = cluster.sandbox.run(["start", "b", "-p", "x", "--after", "a"]);
    assert_eq!(answer.text("code"), "other_engine", "{answer:?}");
    assert_eq!(cluster.start("c", &["--after", "a"]).code, 0);
    assert!(cluster.read("2.args").contains("--dependency=afterany:1\n"));
}

#[test]
fn a_pending_job_is_killed_and_cancelled() {
    let cluster = Cluster::new("result done");
    assert_eq!(cluster.start("a", &[]).code, 0);
    let killed = cluster.sandbox.run(["kill", "a"]);
    assert_eq!((killed.code, &killed["killed"]), (0, &true.into()), "{killed:?}");
    assert_eq!(cluster.read("1.state"), "CANCELLED|0||None\n");
    cluster.sandbox.wait("a").expect_end(3, "killed", None);
    assert_eq!(cluster.sandbox.run(["kill", "a"]).code, 0);
}

#[test]
fn a_kill_says_if_the_node_does_not_answer() {
    let mut cluster = Cluster::new("result done");
    cluster.sandbox.set("CLAUDEJOB_TEST_KILL_TIMEOUT", "5");
    assert_eq!(cluster.start("a", &[]).code, 0);
    cluster.set_state("1", "RUNNING|0|n2|None");
    // No process of this number can be signalled.
    fs::write(cluster.dir.join("1.pid"), "-0").unwrap();
    let killed = cluster.sandbox.run(["kill", "a"]);
    assert_eq!((killed.code, &killed["killed"]), (1, &false.into()), "{killed:?}");
    assert!(killed.text("error").starts_with("node n2 does not answer"), "{killed:?}");
    assert_eq!(killed["status"], "killed");
    let calls = cluster.read("calls");
    let cancels: Vec<&str> = calls.lines().filter(|call| call.starts_with("scancel")).collect();
    assert_eq!(cancels, ["scancel -b -s USR1 1", "scancel 1"]);
}

#[test]
fn several_jobs_are_killed_by_few_commands() {
    let cluster = Cluster::new("init\nread\nrest");
    let mut nodes = Vec::new();
    for (id, number) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")] {
        assert_eq!(cluster.start(id, &["--label", "of=x"]).code, 0);
        if number < "3" {
            nodes.push(cluster.run_on_node(number));
            cluster.await_status(id, "running");
        }
    }
    assert_eq!(cluster.sandbox.run(["start", "local", "-p", "x", "--label", "of=x"]).code, 0);
    cluster.set_state("5", "NODE_FAIL|0|n2|None");
    cluster.sandbox.wait("e").expect_end(1, "failed", Some("worker_died"));
    fs::remove_file(cluster.dir.join("calls")).unwrap();
    let answer = cluster.sandbox.run(["kill", "a", "b", "c", "d", "e", "local"]);
    for (job, id) in answer.json.as_array().unwrap().iter().zip(["a", "b", "c", "d", "e", "local"])
    {
        // That one has its verdict, and is not started again.
        let is_killed = id != "e";
        assert_eq!((&job["jobId"], &job["killed"]), (&id.into(), &is_killed.into()), "{answer:?}");
    }
    for node in nodes {
        assert_eq!(node.join().unwrap(), 3);
    }
    let calls = cluster.read("calls");
    let cancels: Vec<&str> = calls.lines().filter(|call| call.starts_with("scancel")).collect();
    assert_eq!(cancels, ["scancel 3 4 5", "scancel -b -s USR1 1 2"], "{calls}");
    assert_eq!(cluster.calls("squeue"), 1, "{calls}");
}

#[test]
fn a_job_that_its_engine_has_lost_gets_a_verdict() {
    let cluster = Cluster::new("result done");
    assert_eq!(cluster.start("a", &[]).code, 0);
    assert_eq!(cluster.start("b", &[]).code, 0);
    cluster.set_state("1", "NODE_FAIL|0|n2|None");
    let waited = cluster.sandbox.wait("a");
    waited.expect_end(1, "failed", Some("worker_died"));
    assert!(waited.text("error").ends_with("without a verdict (NODE_FAIL)"), "{waited:?}");
    fs::remove_file(cluster.dir.join("2.state")).unwrap();
    cluster.sandbox.status("b").expect_end(0, "failed", Some("worker_died"));
}

#[test]
fn jobs_that_are_long_gone_cost_one_question() {
    let cluster = Cluster::new("result done");
    let age = r#"sed -i 's/"startedAt":"2/"startedAt":"1/' "$0"; touch -d 2026-01-01 "$0""#;
    for (state, id) in [("1.state", "new"), ("2.state", "old"), ("3.state", "older")] {
        assert_eq!(cluster.start(id, &[]).code, 0);
        fs::remove_file(cluster.dir.join(state)).unwrap();
        if id != "new" {
            let record = cluster.sandbox.job(id).join("meta.json");
            assert!(Command::new("sh").arg("-c").arg(age).arg(record).status().unwrap().success());
        }
    }
    let before = cluster.calls("squeue");
    let list = cluster.sandbox.run(["list"]);
    assert_eq!(list.stdout.matches("\"reason\":\"worker_died\"").count(), 3, "{list:?}");
    assert_eq!(cluster.calls("squeue"), before + 2, "about all, and about the new one");
}

#[test]
fn a_node_runs_the_job_and_exits_as_it_ends() {
    let cluster = Cluster::new("init\nread\nresult Done.");
    assert_eq!(cluster.start("a", &[]).code, 0);
    assert_eq!(cluster.sandbox.status("a").text("status"), "queued");
    let node = cluster.run_on_node("1");
    let waited = cluster.sandbox.wait("a");
    waited.expect_end(0, "completed", None);
    assert_eq!(waited["result"], "Done.");
    assert_eq!(node.join().unwrap(), 0);
    assert_eq!(cluster.read("1.state"), "COMPLETED|0|n1|None\n");
    let status = cluster.sandbox.status("a");
    assert_eq!((status.text("status"), cluster.calls("squeue") > 0), ("completed", true));
    let events = cluster.sandbox.run(["events", "a"]);
    assert!(events.stdout.contains("\"event\":\"finished\""), "{events:?}");
    let list = cluster.sandbox.run(["list", "--plain"]);
    assert!(list.stdout.contains("Done."), "{list:?}");
}

#[test]
fn a_profile_is_read_on_the_node() {
    let cluster = Cluster::new("env $DIR/env\ninit\nread\nresult Done.");
    let folder = cluster.sandbox.path("home/.config/claudejob");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("ci.env");
    fs::write(&file, "ANTHROPIC_API_KEY=sk-of-profile\n").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = folder.join("config.toml");
    fs::write(&config, format!("[profile.ci]\nenv-file = \"{}\"\n", file.display())).unwrap();
    let answer = cluster.start("a", &["--profile", "ci"]);
    assert_eq!((answer.code, &answer["warnings"]), (0, &serde_json::json!([])), "{answer:?}");
    assert!(!cluster.read("1.args").contains("sk-of-profile"));
    assert_eq!(cluster.run_on_node("1").join().unwrap(), 0);
    let env = fs::read_to_string(cluster.sandbox.path("env")).unwrap();
    assert!(env.contains("\"ANTHROPIC_API_KEY\":\"sk-of-profile\""), "{env}");
    assert_eq!(cluster.start("b", &["--profile", "ci"]).code, 0);
    fs::remove_file(&config).unwrap();
    assert_eq!(cluster.run_on_node("2").join().unwrap(), 1);
    let lost = cluster.sandbox.wait("b");
    assert!(
        lost.text("error").contains("(FAILED): ") && lost.text("error").contains("'ci'"),
        "{lost:?}"
    );
}

#[test]
fn a_killed_job_does_not_begin() {
    let cluster = Cluster::new("touch $DIR/began\ninit\nread\nresult Done.");
    assert_eq!(cluster.start("a", &[]).code, 0);
    // Slurm has begun to start it when it is killed.
    let killed = cluster.sandbox.run(["kill", "a"]);
    assert_eq!(killed["killed"], true, "{killed:?}");
    assert_eq!(cluster.run_on_node("1").join().unwrap(), 3);
    assert!(!cluster.sandbox.path("began").exists());
    cluster.sandbox.wait("a").expect_end(3, "killed", None);
}

#[test]
fn a_running_job_is_killed_by_a_signal() {
    let cluster = Cluster::new("init\nread\nrest");
    assert_eq!(cluster.start("a", &[]).code, 0);
    let node = cluster.run_on_node("1");
    cluster.await_status("a", "running");
    let killed = cluster.sandbox.run(["kill", "a"]);
    assert_eq!((killed.code, &killed["killed"]), (0, &true.into()), "{killed:?}");
    assert_eq!(node.join().unwrap(), 3);
    assert!(cluster.read("calls").contains("scancel -b -s USR1 1\n"));
    cluster.sandbox.assert_nothing_left("a");
}

#[test]
fn a_message_reaches_the_node() {
    let cluster = Cluster::new("init\nread\nresult One.\nhear heard\nresult Two.\neof");
    assert_eq!(cluster.start("a", &["--keep-alive"]).code, 0);
    let node = cluster.run_on_node("1");
    cluster.await_status("a", "idle");
    let sent = cluster.sandbox.run(["send", "a", "more", "--wait", "1m"]);
    assert_eq!(sent["turn"]["result"], "Two.", "{sent:?}");
    assert_eq!(cluster.sandbox.run(["finish", "a"]).code, 0);
    cluster.sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(node.join().unwrap(), 0);
}

#[test]
fn a_signal_brings_a_message_to_the_node() {
    let mut cluster = Cluster::new("init\nread\nresult One.\nhear heard\nresult Two.\neof");
    // The node does not look into the inbox by itself, and has no FIFO in common with the sender.
    cluster.sandbox.set("CLAUDEJOB_TEST_INBOX_POLL", "86400000");
    assert_eq!(cluster.start("a", &["--keep-alive"]).code, 0);
    let node = cluster.run_on_node("1");
    cluster.await_status("a", "idle");
    fs::remove_file(cluster.sandbox.job("a").join("inbox/.bell")).unwrap();
    let sent = cluster.sandbox.run(["send", "a", "more", "--wait", "1m"]);
    assert_eq!(sent["turn"]["result"], "Two.", "{sent:?}");
    assert_eq!(cluster.sandbox.run(["finish", "a"]).code, 0);
    cluster.sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(node.join().unwrap(), 0);
}

#[test]
fn a_requeued_job_is_queued_until_it_ends() {
    let cluster = Cluster::new("session\ninit\nread\ntouch $DIR/up\nfresh rest\nresult Done.");
    assert_eq!(cluster.start("a", &[]).code, 0);
    let node = cluster.run_on_node("1");
    cluster.await_status("a", "running");
    // A claude that is ended before its session begins leaves nothing to resume.
    await_file(&cluster.sandbox.path("up"));
    let command = cluster.sandbox.command(["wait", "a"]);
    let wait = std::thread::spawn(move || Answer::from_command(command, Vec::new()));
    fs::write(cluster.dir.join("1.requeue"), "").unwrap();
    cluster.end("1");
    assert_eq!(node.join().unwrap(), 1);
    fs::remove_file(cluster.dir.join("1.requeue")).unwrap();
    let status = cluster.sandbox.status("a");
    assert_eq!(
        (status.text("status"), &status["waitingFor"]["why"], &status["reason"]),
        ("queued", &"BeginTime".into(), &serde_json::Value::Null)
    );
    assert_eq!(cluster.sandbox.run(["list"]).json[0]["status"], "queued");
    let present = cluster.sandbox.run(["wait", "a", "--timeout", "0"]);
    assert_eq!((present.code, present.text("status")), (124, "queued"), "{present:?}");
    let refused = cluster.sandbox.run(["recover", "a"]);
    assert!(refused.text("error").ends_with("it is queued"), "{refused:?}");
    assert_eq!(cluster.sandbox.run(["clean", "--keep", "0"])["removed"], 0);
    let refused = cluster.sandbox.run(["rm", "a"]);
    assert_eq!(refused["left"][0]["code"], "job_live", "{refused:?}");
    fs::write(cluster.dir.join("down"), "").unwrap();
    assert_eq!(cluster.sandbox.run(["clean", "--keep", "0"])["removed"], 0);
    let status = cluster.sandbox.status("a");
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("its engine, which may start it again, does not"), "{status:?}");
    assert_eq!(status["reason"], "terminated");
    fs::remove_file(cluster.dir.join("down")).unwrap();
    // The node begins, and has not yet started the worker.
    cluster.set_state("1", "RUNNING|1|n2|None");
    assert_eq!(cluster.sandbox.status("a").text("status"), "starting");
    let node = cluster.run_again_on_node("1", "1");
    wait.join().unwrap().expect_end(0, "completed", None);
    assert_eq!(node.join().unwrap(), 0);
}

#[test]
fn recover_and_resume_submit_the_job_again() {
    let cluster = Cluster::new("session\ninit\nread\ntouch $DIR/up\nfresh rest\nresult Done.");
    assert_eq!(cluster.start("a", &[]).code, 0);
    let node = cluster.run_on_node("1");
    cluster.await_status("a", "running");
    // A claude that is ended before its session begins leaves nothing to resume.
    await_file(&cluster.sandbox.path("up"));
    cluster.end("1");
    assert_eq!(node.join().unwrap(), 1);
    cluster.sandbox.wait("a").expect_end(1, "failed", Some("terminated"));
    fs::write(cluster.dir.join("refuse"), "Invalid account").unwrap();
    let refused = cluster.sandbox.run(["recover", "a"]);
    assert_eq!(refused.text("code"), "engine_refused", "{refused:?}");
    fs::remove_file(cluster.dir.join("refuse")).unwrap();
    for (call, attempt) in [(["recover", "a"], 3), (["resume", "a"], 4)] {
        let answer = cluster.sandbox.run(call);
        assert_eq!((answer.code, answer.text("status")), (0, "queued"), "{answer:?}");
        assert_eq!(
            (&answer["attempt"], &answer["pid"]),
            (&attempt.into(), &serde_json::Value::Null)
        );
        let node = cluster.run_on_node(&(attempt - 1).to_string());
        cluster.sandbox.wait("a").expect_end(0, "completed", None);
        assert_eq!(node.join().unwrap(), 0);
    }
}
