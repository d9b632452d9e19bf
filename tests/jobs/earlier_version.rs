//! Jobs that version 0.1.0 left behind: `tests/fixtures/jobs-0.1.0`, with two paths replaced.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::Sandbox;

/// Copies the jobs into a sandbox: one that has completed, and one whose worker was killed.
fn sandbox_of_earlier_version() -> Sandbox {
    let sandbox = Sandbox::new("");
    let known = sandbox.command([""; 0]);
    let claude = known.get_envs().find(|(name, _)| *name == "CLAUDE_SKILL_CLAUDE").unwrap().1;
    let claude = claude.unwrap().to_str().unwrap();
    let cwd = sandbox.work();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jobs-0.1.0");
    for id in ["fix-login", "port"] {
        fs::create_dir_all(sandbox.job(id).join("inbox")).unwrap();
        fs::write(sandbox.job(id).join("lock"), "").unwrap();
        for entry in fs::read_dir(fixtures.join(id)).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap();
            let text = text.replace("$CWD", cwd.to_str().unwrap()).replace("$CLAUDE", claude);
            fs::write(sandbox.job(id).join(entry.file_name()), text).unwrap();
        }
    }
    sandbox
}

#[test]
fn reads_jobs_of_an_earlier_version() {
    let sandbox = sandbox_of_earlier_version();
    let status = sandbox.status("fix-login");
    assert_eq!(status["status"], "completed", "{status:?}");
    assert_eq!((&status["numTurns"], &status["costUsd"]), (&1.into(), &0.02175.into()));
    assert_eq!(status["labels"], json!({"project": "app"}));
    assert_eq!(status["startedAt"], "2026-11-26T12:53:51.199Z");
    let result = sandbox.run(["result", "fix-login"]);
    assert_eq!(result["result"], "The login test is fixed.", "{result:?}");
    let log = sandbox.run(["logs", "fix-login"]);
    assert!(log.text("tail").contains("The login test is fixed."), "{log:?}");
    let events = sandbox.run(["events", "fix-login", "--since", "5"]);
    assert!(events.stdout.contains(r#""event":"finished""#), "{events:?}");
    // Its worker was killed, and the machine was restarted since.
    let lost = sandbox.status("port");
    assert_eq!((&lost["status"], &lost["reason"]), (&"failed".into(), &"host_restarted".into()));
    assert_eq!(lost["sessionId"], "9dfea401-f1cc-469a-a5c2-b67c63fcf55b");
    let list = sandbox.run(["list", "--label", "project=app"]);
    assert_eq!(list.json[0]["jobId"], "fix-login", "{list:?}");
    let stats = sandbox.run(["stats"]);
    assert_eq!((&stats["total"]["jobs"], &stats["total"]["costUsd"]), (&2.into(), &0.02175.into()));
}

#[test]
fn continues_and_removes_jobs_of_an_earlier_version() {
    let sandbox = sandbox_of_earlier_version();
    sandbox.script("args $DIR/args\nhear $DIR/said\ninit\nresult more\neof");
    let resumed = sandbox.run(["resume", "fix-login", "--message", "Now the logout test"]);
    assert_eq!((&resumed["attempt"], &resumed["resumes"]), (&2.into(), &true.into()));
    sandbox.wait("fix-login").expect_end(0, "completed", None);
    let said = fs::read_to_string(sandbox.path("said")).unwrap();
    assert!(said.contains("Now the logout test"), "{said}");
    let args = fs::read_to_string(sandbox.path("args")).unwrap();
    assert!(args.contains("62d680ed-7be4-4b14-b481-d6c12f6eacf6"), "its session: {args}");
    assert_eq!(sandbox.status("fix-login")["labels"], json!({"project": "app"}));

    let recovered = sandbox.run(["recover", "--all"]);
    assert_eq!(recovered["recovered"][0]["jobId"], "port", "{recovered:?}");
    sandbox.wait("port").expect_end(0, "completed", None);
    let args = fs::read_to_string(sandbox.path("args")).unwrap();
    assert!(args.contains("9dfea401-f1cc-469a-a5c2-b67c63fcf55b"), "its session: {args}");

    let cleaned = sandbox.run(["clean", "--keep", "0"]);
    assert_eq!(cleaned["removed"], 2, "{cleaned:?}");
    assert!(!sandbox.job("port").exists());
}
