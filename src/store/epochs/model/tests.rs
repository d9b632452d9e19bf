use super::*;

fn ownership() -> Ownership {
    Ownership { workers: 2, kills: false, faults: Faults::default(), rules: ALL }
}

#[allow(clippy::print_stdout, reason = "the figures are for `--nocapture`")]
fn check(name: &str, model: &Ownership) -> Vec<&'static str> {
    let began = std::time::Instant::now();
    let checker = model.clone().checker().threads(2).spawn_bfs().join();
    let mut wrong = Vec::new();
    for property in checker.model().properties() {
        if matches!(property.expectation, stateright::Expectation::Always)
            && let Some(path) = checker.discovery(property.name)
        {
            println!("  {} does not hold after {:?}", property.name, path.into_actions());
            wrong.push(property.name);
        }
    }
    println!("{name}: {} states, {:?}, {wrong:?}", checker.unique_state_count(), began.elapsed());
    wrong
}

#[test]
fn the_protocol_keeps_its_properties() {
    let two = ownership();
    let with = |faults| Ownership { faults, ..two.clone() };
    let killed = |faults| Ownership { kills: true, faults, ..two.clone() };
    let none = Faults::default();
    for (name, model) in [
        ("two workers at once", with(Faults { wrong_answers: 2, repeats: 2, ..none })),
        ("two frozen, one crashed", with(Faults { freezes: 2, crashes: 1, ..none })),
        ("partitions", with(Faults { partitions: 2, crashes: 1, ..none })),
        ("frozen without a server", with(Faults { partitions: 1, freezes: 1, ..none })),
        ("requeued", with(Faults { terminations: 2, freezes: 1, crashes: 1, ..none })),
        ("three workers", Ownership { workers: 3, ..with(Faults { freezes: 1, ..none }) }),
        ("killed, one frozen", killed(Faults { freezes: 1, ..none })),
        ("killed, one crashed", killed(Faults { crashes: 1, terminations: 1, ..none })),
        ("killed without a server", killed(Faults { partitions: 1, ..none })),
    ] {
        assert_eq!(check(name, &model), Vec::<&str>::new(), "{name}");
    }
}

#[test]
fn a_successor_can_complete_the_job() {
    let faults = Faults { crashes: 1, ..Faults::default() };
    let model = Ownership { faults, ..ownership() };
    let checker = model.checker().spawn_bfs().join();
    assert!(checker.discovery("a successor completes the job").is_some());
}

#[test]
fn finds_the_error_of_each_missing_rule() {
    let faults = Faults {
        freezes: 1,
        crashes: 1,
        partitions: 1,
        wrong_answers: 1,
        repeats: 1,
        terminations: 0,
    };
    let base = Ownership { faults, ..ownership() };
    let with = |rules| Ownership { rules, ..base.clone() };
    let killed = |rules| Ownership {
        kills: true,
        faults: Faults { crashes: 1, ..Faults::default() },
        ..with(rules)
    };
    for (name, model, property) in [
        (
            "answers are believed",
            with(Assumptions { count_links: false, ..ALL }),
            "what is reported counts",
        ),
        (
            "no wait for the lease",
            with(Assumptions { await_lease: false, ..ALL }),
            "two claudes only beside a revived owner",
        ),
        (
            "no fence",
            with(Assumptions { fence: false, ..ALL }),
            "two claudes only beside a revived owner",
        ),
        (
            "an end without a link",
            with(Assumptions { end_by_link: false, ..ALL }),
            "the end is single",
        ),
        (
            "a kill is forgotten",
            killed(Assumptions { finish_kill: false, ..ALL }),
            "no claude starts after a kill",
        ),
        (
            "one temporary name",
            with(Assumptions { own_end_name: false, ..ALL }),
            "readers see no end before it counts",
        ),
    ] {
        let wrong = check(name, &model);
        assert!(wrong.contains(&property), "{name}: {wrong:?}");
    }
}
