//! Costs over several results and processes, and when they are a lower bound.

use super::*;
use crate::job::RetryOptions;

fn result(total: f64, since: Option<f64>) -> String {
    let since = since.map(|usd| {
        format!(
            r#","model_usage_since_last_result":{{"m":{{"costUSD":{usd}}},"n":{{"costUSD":0}}}}"#
        )
    });
    format!(
        r#"{{"total_cost_usd":{total},"subtype":"success","is_error":false,"result":"ok","num_turns":1{},"type":"result"}}"#,
        since.unwrap_or_default()
    )
}

fn crash(rig: &mut Rig) {
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: None, signal: Some(9) }));
    rig.take(Input::Swept { ended: 0, left: Default::default() });
    let conclusion = rig.conclude(&Evidence::default());
    assert_eq!(conclusion, Conclusion::NextAttempt);
    rig.pass(30);
    rig.take(Input::Admitted);
    rig.take(launched(90));
}

#[test]
fn what_a_result_itself_cost_is_added_up() {
    for (results, expected) in [
        // 2.1.197: the total is of the process.
        (vec![result(0.1, None), result(0.3, None)], 0.3),
        // 2.1.332: the total continues from an earlier process.
        (vec![result(0.6, Some(0.1)), result(0.8, Some(0.2))], 0.3),
        // After a kill the total may start lower.
        (vec![result(0.6, Some(0.1)), result(0.05, Some(0.2))], 0.3),
        (vec![result(0.0, Some(0.0))], 0.0),
    ] {
        let mut rig = Rig::launched(Spec::default());
        rig.hear(INIT);
        for line in &results {
            rig.hear(line);
        }
        let (_, outcome) = rig.ends(0);
        assert_eq!(outcome.cost_usd, Some(expected), "{results:?}");
        assert!(!outcome.cost_is_lower_bound);
    }
}

#[test]
fn cost_without_a_result_is_a_lower_bound() {
    let spec = Spec {
        retry: RetryOptions { retries: 2, max_backoff_ms: 1_000, ..RetryOptions::default() },
        ..Spec::default()
    };
    let mut rig = Rig::launched(spec);
    rig.hear(INIT).hear(&result(0.1, Some(0.1))).hear(INIT).hear(TEXT);
    crash(&mut rig);
    assert!(rig.supervisor.record().cost.is_lower_bound);
    rig.hear(INIT).hear(&result(0.3, Some(0.2)));
    let (verdict, outcome) = rig.ends(0);
    assert_eq!((verdict, outcome.cost_usd), (COMPLETED, Some(0.3)));
    assert!(outcome.cost_is_lower_bound, "also of the job that completed afterwards");
    assert!(outcome.warnings.iter().any(|text| text.contains("lower bound")), "{outcome:?}");
}

#[test]
fn kill_requests_a_result_with_the_cost() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(TEXT).take(Input::KillRequested);
    assert_eq!(rig.wants(), ["request"]);
    let aborted = result(0.1, Some(0.1)).replace(
        r#""subtype":"success","is_error":false"#,
        r#""subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_streaming""#,
    );
    assert_eq!(rig.hear(&aborted).wants(), ["close"]);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!((verdict, outcome.cost_usd), (KILLED, Some(0.1)));
    assert!(!outcome.cost_is_lower_bound);

    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT).hear(TEXT).take(Input::KillRequested);
    assert_eq!(wants(&rig.pass(10)), ["INT", "TERM", "sweep"]);
    rig.take(Input::OutputClosed);
    rig.take(exited(Exit { code: None, signal: Some(9) }));
    let (_, outcome) = rig.concludes("");
    assert!(outcome.cost_is_lower_bound && outcome.cost_usd.is_none());
}

#[test]
fn a_subagent_that_is_cut_off_may_have_spent_more() {
    let agent = TASK.replace("}", r#","task_type":"local_agent"}"#);
    let shell = TASK.replace("}", r#","task_type":"local_bash"}"#);
    for (task, is_lower_bound) in [(agent, true), (shell, false)] {
        let mut rig = Rig::launched(spec_of(""));
        rig.hear(INIT).hear(&task).hear(&result(0.1, Some(0.1)));
        rig.pass(61);
        let (_, outcome) = rig.ends(0);
        assert_eq!(outcome.cost_is_lower_bound, is_lower_bound, "{task}");
    }
}

#[test]
fn a_lost_job_keeps_what_its_log_tells() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT);
    let log =
        [INIT.to_owned(), result(0.7, Some(0.2)), INIT.to_owned(), TEXT.to_owned()].join("\n");
    let (record, _) = recovery::examine(rig.supervisor.record(), &(log + "\n"), None);
    assert_eq!((record.cost.usd, record.cost.is_lower_bound), (Some(0.2), true));
}
