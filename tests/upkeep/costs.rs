//! Budgets, and the costs of jobs that were removed.

use std::fs;

use crate::support::Sandbox;

#[test]
fn costs_of_removed_jobs_count_against_the_budget() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay hm\njson {\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\",\"num_turns\":1,\"total_cost_usd\":0.75}\neof",
    );
    let label = ["--label", "project=x"];
    let budget = |id: &'static str, usd: &'static str, label: &'static str| {
        let start = ["start", id, "--prompt", "x", "--label", label, "--budget-usd", usd];
        sandbox.run(start)
    };
    for id in ["a", "b"] {
        sandbox.run_job(id, &label);
    }
    sandbox.run_job("other", &["--label", "project=y"]);
    let refused = budget("c", "1.50/day", "project=x");
    assert_eq!((refused.code, refused.text("code")), (1, "budget_exceeded"));
    let said = "budget exceeded: $1.50 of $1.50 spent in the last day by jobs with project=x";
    assert_eq!(refused.text("error"), said);
    let refused = budget("c", "0.0072/30d", "project=x");
    assert!(refused.text("error").contains("$1.50 of $0.0072"), "{refused:?}");
    assert!(refused.text("error").contains("in the last 30 days"), "{refused:?}");
    assert!(!sandbox.job("c").exists());
    assert_eq!(budget("c", "1.60/day", "project=x").code, 0);
    sandbox.wait("c");
    assert_eq!(budget("d", "1/day", "project=y").code, 0);
    sandbox.wait("d");
    sandbox.run(["clean", "--label", "project=x"]);
    let refused = budget("e", "2/day", "project=x");
    assert!(refused.text("error").contains("$2.25 of $2.00"), "{refused:?}");
    for bad in ["2", "0/day", "2/never"] {
        assert_eq!(budget("f", bad, "project=x").code, 2, "{bad}");
    }
}

/// A job whose claude reports a cost of three quarters of a dollar.
const COSTS: &str = "read\ninit\nsay hm\njson {\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\",\"num_turns\":1,\"total_cost_usd\":0.75}\neof";

/// Asserts the costs of all jobs, by a start that the budget refuses.
#[track_caller]
fn assert_spent(sandbox: &Sandbox, usd: &str) {
    let budget = format!("{usd}/day");
    let refused = sandbox.run(["start", "refused", "--prompt", "x", "--budget-usd", &budget]);
    let said = format!("${usd} of ${usd}");
    assert!(refused["error"].to_string().contains(&said), "{refused:?}");
}

#[test]
fn a_torn_line_does_not_swallow_the_next() {
    let sandbox = Sandbox::new(COSTS);
    let costs = sandbox.jobs().join(".spent.ndjson");
    sandbox.run_job("a", &[]);
    // Costs that an earlier version has recorded count, too.
    let at = chrono::Utc::now().to_rfc3339();
    let line = format!(r#"{{"endedAt":"{at}","costUsd":0.25,"labels":{{}}}}"#);
    fs::write(&costs, format!("{line}\n{line}\n{{\"endedAt\":\"20")).unwrap();
    assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
    assert_spent(&sandbox, "1.25");
}

#[test]
fn a_killed_clean_does_not_lose_costs() {
    let mut sandbox = Sandbox::new(COSTS);
    sandbox.run_job("a", &[]);
    sandbox.break_at("discard:renamed", ["clean", "a"]);
    assert_spent(&sandbox, "0.75");
    sandbox.run(["clean"]);
    assert_eq!(fs::read_dir(sandbox.jobs().join(".new")).unwrap().count(), 0);
    assert_spent(&sandbox, "0.75");
}

#[test]
fn keeps_a_job_until_its_cost_is_recorded() {
    let sandbox = Sandbox::new(COSTS);
    sandbox.run_job("a", &[]);
    let (costs, staging) = (sandbox.jobs().join(".spent.ndjson"), sandbox.jobs().join(".new"));
    fs::create_dir(&costs).unwrap();
    let cleaned = sandbox.run(["clean", "a"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (0, &1.into()), "{cleaned:?}");
    let warning = cleaned["warnings"][0].as_str().unwrap();
    assert!(warning.contains(".spent.ndjson"), "{warning}");
    assert!(!sandbox.job("a").exists());
    assert_spent(&sandbox, "0.75");
    let kept = fs::read_dir(&staging).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(kept).unwrap().count(), 2, "the record and its lock alone");
    fs::remove_dir(&costs).unwrap();
    sandbox.run(["clean"]);
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    assert_spent(&sandbox, "0.75");
}

#[test]
fn counts_the_cost_of_a_removed_job_once() {
    let mut sandbox = Sandbox::new(COSTS);
    sandbox.run_job("a", &[]);
    let staging = sandbox.jobs().join(".new");
    fs::remove_dir(&staging).unwrap();
    fs::write(&staging, "").unwrap();
    for _ in 0..2 {
        assert_eq!(sandbox.run(["clean", "a"]).code, 1);
    }
    fs::remove_file(&staging).unwrap();
    assert_spent(&sandbox, "0.75");
    assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
    assert_spent(&sandbox, "0.75");
    // Another job of the same id.
    sandbox.run_job("a", &[]);
    assert_spent(&sandbox, "1.50");
    sandbox.break_at("discard:noted", ["clean", "a"]);
    assert_spent(&sandbox, "1.50");
    sandbox.run(["clean"]);
    assert_spent(&sandbox, "1.50");
    let costs = fs::read_to_string(sandbox.jobs().join(".spent.ndjson")).unwrap();
    assert_eq!(costs.matches("costUsd").count(), 3, "the last of them twice: {costs}");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
}

#[test]
fn counts_a_job_removed_during_a_start() {
    let mut sandbox = Sandbox::new(COSTS);
    sandbox.run_job("a", &[]);
    let start = ["start", "b", "--prompt", "x", "--budget-usd", "0.75/day"];
    let refused = sandbox.pause_at("start:budget", start, |sandbox| {
        assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
    });
    assert!(refused["error"].to_string().contains("$0.75 of $0.75"), "{refused:?}");
}
