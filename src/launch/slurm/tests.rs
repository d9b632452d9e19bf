use super::*;

/// Lines of squeue 22.05.
const QUEUE: &str = "\
15_2|PENDING|0||JobArrayTaskLimit|claudejob:a:ff
15_0|RUNNING|0|n1|None|claudejob:a:ff
7|PENDING|2||ReqNodeNotAvail, UnavailableNodes:n1|claudejob:b:ee
8|COMPLETING|1|n2|None|
9|NODE_FAIL|0|n[1-3]|NodeDown|odd | comment
10|NEW_STATE|0|n2|None|(null)
torn
";

#[test]
fn reads_the_states_of_jobs() {
    let states = states(QUEUE);
    let running = |node: &str, restarts| EngineStatus::Running { node: node.to_owned(), restarts };
    for (id, expected) in [
        ("15_2", EngineStatus::Pending("JobArrayTaskLimit".to_owned())),
        ("15_0", running("n1", 0)),
        ("7", EngineStatus::Pending("ReqNodeNotAvail, UnavailableNodes:n1".to_owned())),
        ("8", running("n2", 1)),
        ("9", EngineStatus::Ended("NODE_FAIL".to_owned())),
        ("10", running("n2", 0)),
        // By the names of their submissions.
        ("claudejob:a:ff_2", EngineStatus::Pending("JobArrayTaskLimit".to_owned())),
        ("claudejob:a:ff_0", running("n1", 0)),
        (
            "claudejob:b:ee",
            EngineStatus::Pending("ReqNodeNotAvail, UnavailableNodes:n1".to_owned()),
        ),
    ] {
        assert_eq!(states[id].status, expected, "{id}");
    }
    assert_eq!(states.len(), 9);
    assert_eq!(states["claudejob:a:ff_2"].id, "15_2");
}

#[test]
fn messages_are_short_and_say_what_passes() {
    for (stderr, expected) in [
        (
            "sbatch: error: invalid partition specified: nosuch\n\
             sbatch: error: Batch job submission failed: Invalid partition name specified\n",
            "Batch job submission failed: Invalid partition name specified",
        ),
        (
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
            "Unable to contact slurm controller (connect failure)",
        ),
        (
            "sbatch: fatal: Unable to process configuration file\n\n",
            "sbatch: fatal: Unable to process configuration file",
        ),
        ("", "it failed without a message"),
    ] {
        assert_eq!(message(stderr.as_bytes()), expected);
    }
}

#[test]
fn reads_settings() {
    let config = "Configuration data as of now\nMaxArraySize            = 1001\nMaxDBDMsgs = 4\n";
    assert_eq!(setting(config, "MaxArraySize"), Some("1001"));
    assert_eq!(setting(config, "KillWait"), None);
}
