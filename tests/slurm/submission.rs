//! Submissions that were cut off: the cluster has got the job, and nobody has recorded its id.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;

/// The submission was accepted, and its answer is not recorded.
const SUBMITTED: &str = "engine:submitted";

/// Submits a job, and kills the submitter before it has recorded the id.
fn submit_partly(cluster: &mut Cluster, id: &str) {
    let _ = fs::remove_file(cluster.sandbox.path("stopped-engine-submitted"));
    let call = ["start", "--job-id", id, "--prompt", "work", "--on", "slurm"];
    cluster.sandbox.break_at(SUBMITTED, call);
}

/// Lets the record seem to be of last year.
fn age(job: &Path) {
    let mut sh = Command::new("sh");
    sh.args(["-c", r#"sed -i 's/"startedAt":"2/"startedAt":"1/' "$0"; touch -d 2025-01-01 "$0""#]);
    assert!(sh.arg(job.join("meta.json")).status().unwrap().success());
}

#[test]
fn a_job_is_found_by_its_submission() {
    let mut cluster = Cluster::new("init\nread\nresult Done.");
    for id in ["a", "b", "c"] {
        submit_partly(&mut cluster, id);
    }
    cluster.set_state("2", "PENDING|0||Resources");
    let before = cluster.calls("squeue");
    let list = cluster.sandbox.run(["list"]);
    let jobs = list.json.as_array().unwrap();
    let reasons: Vec<&str> =
        jobs.iter().filter_map(|job| job["waitingFor"]["why"].as_str()).collect();
    assert_eq!(reasons, ["Priority", "Resources", "Priority"], "{list:?}");
    assert_eq!(cluster.calls("squeue"), before + 1);
    assert_eq!(cluster.sandbox.status("b")["waitingFor"]["why"], "Resources");
    let killed = cluster.sandbox.run(["kill", "a"]);
    assert_eq!((killed.code, &killed["killed"]), (0, &true.into()), "{killed:?}");
    assert_eq!(cluster.read("1.state"), "CANCELLED|0||None\n");
    assert_eq!(cluster.run_on_node("2").join().unwrap(), 0);
    cluster.sandbox.wait("b").expect_end(0, "completed", None);
    // Its batch process could not begin.
    cluster.set_state("3", "FAILED|0|n1|NonZeroExitCode");
    let lost = cluster.sandbox.status("c");
    lost.expect_end(0, "failed", Some("worker_died"));
    assert!(lost.text("error").ends_with("(FAILED)"), "{lost:?}");
}

#[test]
fn tasks_are_found_by_their_submission() {
    let mut cluster = Cluster::new("result done");
    let file = cluster.sandbox.path("tasks");
    fs::write(&file, "{\"jobId\":\"a\",\"prompt\":\"x\"}\n{\"jobId\":\"b\",\"prompt\":\"x\"}\n")
        .unwrap();
    let call = ["start", "--on", "slurm", "--from", file.to_str().unwrap()];
    cluster.sandbox.break_at(SUBMITTED, call);
    cluster.set_state("1_1", "PENDING|0||JobArrayTaskLimit");
    assert_eq!(cluster.sandbox.status("a")["waitingFor"]["why"], "Priority");
    assert_eq!(cluster.sandbox.status("b")["waitingFor"]["why"], "JobArrayTaskLimit");
    assert_eq!(cluster.sandbox.run(["kill", "b"]).code, 0);
    assert_eq!(cluster.read("1_0.state"), "PENDING|0||Priority\n");
    assert_eq!(cluster.read("1_1.state"), "CANCELLED|0||None\n");
}

#[test]
fn a_recovery_that_was_cut_off_is_not_repeated() {
    let mut cluster = Cluster::new("session\ninit\nread\nresult Done.");
    assert_eq!(cluster.start("a", &[]).code, 0);
    cluster.set_state("1", "NODE_FAIL|0|n2|None");
    cluster.sandbox.wait("a").expect_end(1, "failed", Some("worker_died"));
    cluster.sandbox.break_at(SUBMITTED, ["recover", "a"]);
    // What the earlier submission is called does not count.
    assert_eq!(cluster.sandbox.status("a")["waitingFor"]["why"], "Priority");
    let again = cluster.sandbox.run(["recover", "a"]);
    assert_eq!(again.text("code"), "not_recoverable", "{again:?}");
    assert_eq!(cluster.run_on_node("2").join().unwrap(), 0);
    cluster.sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(cluster.calls("sbatch"), 2);
}

#[test]
fn a_job_that_nobody_submits_is_recoverable() {
    let mut cluster = Cluster::new("init\nread\nresult Done.");
    for id in ["a", "b"] {
        submit_partly(&mut cluster, id);
    }
    for state in ["1.state", "2.state"] {
        fs::remove_file(cluster.dir.join(state)).unwrap();
    }
    fs::remove_file(cluster.sandbox.job("b").join("engine.json")).unwrap();
    for (id, number) in [("a", "3"), ("b", "4")] {
        // It may be about to be submitted.
        let status = cluster.sandbox.status(id);
        assert_eq!(status["waitingFor"]["why"], "its engine does not show it", "{status:?}");
        age(&cluster.sandbox.job(id));
        let status = cluster.sandbox.status(id);
        status.expect_end(0, "failed", Some("worker_died"));
        assert!(status.text("error").ends_with("(it was not submitted)"), "{status:?}");
        assert_eq!(cluster.sandbox.run(["recover", id]).code, 0);
        assert_eq!(cluster.run_on_node(number).join().unwrap(), 0);
        cluster.sandbox.wait(id).expect_end(0, "completed", None);
    }
}
