//! Conversations that are continued: what a resume must not lose, and what it may change.

use std::fs;

use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;

/// Removes claude's files of all conversations.
fn forget_conversations(sandbox: &RealSandbox) {
    let projects = sandbox.path("home").join(".claude/projects");
    let mut removed = 0;
    for folder in fs::read_dir(projects).unwrap().flatten() {
        for file in fs::read_dir(folder.path()).unwrap().flatten() {
            if file.path().extension().is_some_and(|ending| ending == "jsonl") {
                fs::remove_file(file.path()).unwrap();
                removed += 1;
            }
        }
    }
    assert!(removed > 0, "claude keeps its conversations elsewhere");
}

each_cli!(does_not_resume_a_missing_conversation);
fn does_not_resume_a_missing_conversation(cli: Cli) {
    let sandbox =
        RealSandbox::new(cli, [Step::text("the answer"), Step::text("the second answer")]);
    let link = sandbox.path("link to work");
    std::os::unix::fs::symlink(sandbox.work(), &link).unwrap();
    sandbox.run_job("j", &["--cwd", link.to_str().unwrap()]).expect_end(0, "completed", None);
    assert_eq!(sandbox.run(["resume", "j", "--message", "more"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);

    forget_conversations(&sandbox);
    let before = sandbox.run(["result", "j"]);
    for call in [
        &["resume", "j", "--message", "more"][..],
        &["start", "k", "--resume-job", "j", "--prompt", "more"],
        &["start", "k", "--resume-job", "j", "--fork", "--prompt", "more"],
    ] {
        let answer = sandbox.run(call);
        assert_eq!((answer.code, &answer["code"]), (1, &"session_gone".into()), "{answer:?}");
        assert!(answer.text("hint").starts_with("claudejob rerun j  # "), "{answer:?}");
    }
    assert!(!sandbox.job("k").exists());
    let after = sandbox.run(["result", "j"]);
    assert_eq!((&after.json, &after["result"]), (&before.json, &"the second answer".into()));
    assert_eq!(sandbox.api.requests(), 2);
}

each_cli!(a_resumed_conversation_gets_the_new_system_prompt);
fn a_resumed_conversation_gets_the_new_system_prompt(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("ok")]);
    sandbox.run_job("a", &["--append-system-prompt", "MARK-ONE"]);
    sandbox.run_job("b", &["--resume-job", "a", "--append-system-prompt", "MARK-TWO"]);
    for (id, prompt) in [("a", Some("MARK-THREE")), ("a", None)] {
        let mut call = vec!["resume", id];
        call.extend(prompt.iter().flat_map(|prompt| ["--append-system-prompt", *prompt]));
        assert_eq!(sandbox.run(&call).code, 0);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    for (number, mark) in [(1, "ONE"), (2, "TWO"), (3, "THREE"), (4, "THREE")] {
        let body = sandbox.api.wait_for_request(number).text;
        for other in ["ONE", "TWO", "THREE"] {
            let has = body.contains(&format!("MARK-{other}"));
            assert_eq!(has, other == mark, "request {number}: MARK-{other}");
        }
    }
}
