//! Messages, interrupts, and conversations that are resumed or recovered.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::processes::{is_alive, send};
use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;
use crate::support::{Answer, await_file, eventually};

each_cli!(a_message_during_a_tool_call_joins_the_turn);
fn a_message_during_a_tool_call_joins_the_turn(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [
            Step::bash("touch $HOME/../up; while [ ! -e $HOME/../go ]; do sleep 0.05; done"),
            Step::text("Both done."),
        ],
    );
    sandbox.start("steered", &[]);
    await_file(&sandbox.path("up"));

    let sent = sandbox.run(["send", "steered", "--message", "and the docs, please"]);

    assert_eq!((sent.code, &sent["message"]), (0, &1.into()), "{sent:?}");
    // Claude notes there also what it has heard during the call.
    await_stored(&sandbox, "and the docs, please");
    fs::write(sandbox.path("go"), "").unwrap();
    let result = sandbox.wait("steered");
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "Both done.");
    let seen = sandbox.api.wait_for_request(2);
    assert!(seen.last.to_string().contains("and the docs, please"), "{}", seen.last);
    assert_eq!(sandbox.api.requests(), 2, "one turn for both");
    let turns = fs::read_to_string(sandbox.job("steered").join("turns.ndjson")).unwrap();
    assert!(turns.contains("\"messages\":[1]") && turns.lines().count() == 1, "{turns}");
}

each_cli!(an_interrupt_keeps_the_session);
fn an_interrupt_keeps_the_session(cli: Cli) {
    for step in [
        Step::bash("touch $HOME/../up; tail -f /dev/null"),
        Step::Slow(std::time::Duration::from_secs(60)),
    ] {
        let in_tool = matches!(step, Step::Bash(_));
        let sandbox = RealSandbox::new(cli, [step, Step::text("Went on.")]);
        sandbox.start("halted", &[]);
        if in_tool {
            await_file(&sandbox.path("up"));
        } else {
            sandbox.api.wait_for_request(1);
            let log = sandbox.job("halted").join("output.log");
            eventually("the turn", || {
                fs::read_to_string(&log).ok()?.contains("\"subtype\":\"init\"").then_some(())
            });
        }

        let answer = sandbox.run(["interrupt", "halted"]);

        assert_eq!((answer.code, &answer["interrupted"]), (0, &true.into()), "{answer:?}");
        sandbox.wait("halted").expect_end(1, "failed", Some("interrupted"));
        sandbox.assert_nothing_left("halted");
        let resumed = sandbox.run(["resume", "halted", "--message", "go on"]);
        assert_eq!(resumed.code, 0, "{resumed:?}");
        let result = sandbox.wait("halted");
        result.expect_end(0, "completed", None);
        assert_eq!((&result["result"], &result["attempt"]), (&"Went on.".into(), &2.into()));
        let seen = sandbox.api.wait_for_request(2);
        assert!(seen.messages > 1, "the conversation so far was sent along");
    }
}

each_cli!(a_kept_alive_job_outlives_its_claude);
fn a_kept_alive_job_outlives_its_claude(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [
            Step::text("One."),
            Step::text("Two."),
            Step::bash("touch $HOME/../up; tail -f /dev/null"),
            Step::text("Three, after all."),
        ],
    );
    let idle = |result: &str| {
        eventually(result, || {
            let idle = sandbox.status("kept")["status"] == "idle";
            (idle && sandbox.run(["result", "kept"])["result"] == result).then_some(())
        });
    };
    sandbox.start("kept", &["--keep-alive"]);
    idle("One.");
    await_stored(&sandbox, r#""text":"One.""#);

    send(sandbox.claude_pid("kept"), Signal::SIGKILL);
    let second = sandbox.run(["send", "kept", "--message", "and then?", "--wait", "3m"]);

    assert_eq!(second["turn"]["result"], "Two.", "{second:?}");
    let seen = sandbox.api.wait_for_request(2);
    assert!(seen.messages >= 3, "it knows the conversation: {}", seen.messages);
    sandbox.run(["send", "kept", "--message", "now the long one"]);
    await_file(&sandbox.path("up"));
    send(sandbox.claude_pid("kept"), Signal::SIGKILL);
    idle("Three, after all.");
    let last = sandbox.api.wait_for_request(4).last.to_string();
    assert!(last.contains("You were interrupted"), "{last}");
    assert_eq!(sandbox.run(["finish", "kept"])["finished"], true);
    let end = sandbox.wait("kept");
    end.expect_end(0, "completed", None);
    assert_eq!((&end["attempt"], &end["result"]), (&3.into(), &"Three, after all.".into()));
    sandbox.assert_nothing_left("kept");
}

each_cli!(resumes_and_forks_a_completed_job);
fn resumes_and_forks_a_completed_job(cli: Cli) {
    let sandbox =
        RealSandbox::new(cli, [Step::text("One."), Step::text("Two."), Step::text("Three.")]);
    let first = sandbox.run_job("asked", &[]);
    first.expect_end(0, "completed", None);

    assert_eq!(sandbox.run(["resume", "asked", "--message", "and then?"]).code, 0);

    let second = sandbox.wait("asked");
    second.expect_end(0, "completed", None);
    assert_eq!((&second["result"], &second["num_turns"]), (&"Two.".into(), &2.into()));
    assert_eq!(second["session_id"], first["session_id"]);
    // Both turns cost the same. The total that 2.1.332 reports continues that of the first process,
    // where 2.1.197 starts anew.
    let cost = |answer: &Answer| answer["cost_usd"].as_f64().unwrap();
    assert!((cost(&second) - 2.0 * cost(&first)).abs() < 1e-9, "{first:?} {second:?}");
    let copy = ["start", "copy", "--resume-job", "asked", "--fork", "--prompt", "as an aside"];
    assert_eq!(sandbox.run(copy).code, 0);
    let third = sandbox.wait("copy");
    third.expect_end(0, "completed", None);
    assert_ne!(third["session_id"], first["session_id"]);
    let seen = sandbox.api.wait_for_request(3);
    assert!(seen.messages >= 5, "the copy knows the conversation: {}", seen.messages);
}

/// Waits until claude has stored this text of its conversation.
#[track_caller]
fn await_stored(sandbox: &RealSandbox, text: &str) {
    let projects = sandbox.path("home/.claude/projects");
    eventually(text, || {
        let folders = fs::read_dir(&projects).into_iter().flatten().flatten();
        let mut files =
            folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
        let is_in = |file: fs::DirEntry| {
            fs::read_to_string(file.path()).is_ok_and(|stored| stored.contains(text))
        };
        files.any(is_in).then_some(())
    });
}

each_cli!(recovers_the_conversation_of_a_killed_worker);
fn recovers_the_conversation_of_a_killed_worker(cli: Cli) {
    let sandbox = RealSandbox::new(
        cli,
        [
            Step::bash("echo once >> $HOME/../deeds"),
            Step::bash("touch $HOME/../up; tail -f /dev/null"),
            Step::text("Done after all."),
        ],
    );
    let started = sandbox.start("cut", &[]);
    let worker = i32::try_from(started["pid"].as_i64().unwrap()).unwrap();
    await_file(&sandbox.path("up"));
    let session = eventually("the session", || {
        sandbox.status("cut")["sessionId"].as_str().map(str::to_owned)
    });
    await_stored(&sandbox, "touch $HOME/../up");
    let claude = sandbox.claude_pid("cut");
    send(worker, Signal::SIGKILL);
    // The kernel sends claude its signal when the worker is gone. Before that, claude could see its
    // tool end, and report it to the API.
    eventually("claude's end", || (!is_alive(claude)).then_some(()));
    sandbox.wait("cut").expect_end(1, "failed", Some("worker_died"));
    assert!(sandbox.status("cut").text("hint").contains("recover"));

    let recovered = sandbox.run(["recover", "cut"]);

    assert_eq!((recovered.code, &recovered["resumes"]), (0, &true.into()), "{recovered:?}");
    let result = sandbox.wait("cut");
    result.expect_end(0, "completed", None);
    assert_eq!(
        (result["result"].as_str(), result["session_id"].as_str()),
        (Some("Done after all."), Some(session.as_str()))
    );
    assert_eq!(fs::read_to_string(sandbox.path("deeds")).unwrap(), "once\n");
    let seen = sandbox.api.wait_for_request(3);
    assert!(seen.messages > 3, "the conversation so far was sent along");
    assert!(seen.last.to_string().contains("You were interrupted"), "{}", seen.last);
    let status = sandbox.status("cut");
    assert_eq!(status["attempt"], 2);
}

each_cli!(recovers_with_the_prompt_without_a_conversation);
fn recovers_with_the_prompt_without_a_conversation(cli: Cli) {
    // Killed during the wait for the first answer: the session was announced, but is not stored.
    let sandbox = RealSandbox::new(cli, [Step::Hang, Step::text("Begun again.")]);
    sandbox.start("early", &[]);
    sandbox.api.wait_for_request(1);
    eventually("the session", || {
        let log = fs::read_to_string(sandbox.job("early").join("output.log")).ok()?;
        log.contains("\"subtype\":\"init\"").then_some(())
    });
    send(sandbox.claude_pid("early"), Signal::SIGKILL);
    sandbox.wait("early").expect_end(1, "failed", Some("no_result"));

    assert_eq!(sandbox.run(["recover", "--all"])["recovered"][0]["jobId"], "early");

    let result = sandbox.wait("early");
    result.expect_end(0, "completed", None);
    assert_eq!(result["result"], "Begun again.");
    let seen = sandbox.api.wait_for_request(2);
    assert!(seen.last.to_string().contains("work"), "the prompt came again: {}", seen.last);
}
