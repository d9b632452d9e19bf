use super::*;

/// Asserts that no sequence of steps returns to an earlier state. Stops, kills and slowness are
/// counted, so that every run ends, and where it ends no one waits.
fn assert_every_run_ends(model: &Protocol) {
    // Visited states: true if all their successors were visited, false if on the present path.
    let mut visited: HashMap<u64, bool> = HashMap::new();
    let mut path: Vec<(ModelState, Vec<Act>)> = Vec::new();
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let first = model.init_states().remove(0);
    let acts = acts_of(model, &first);
    visited.insert(hasher.hash_one(&first), false);
    path.push((first, acts));
    while let Some((state, acts)) = path.last_mut() {
        let Some(act) = acts.pop() else {
            visited.insert(hasher.hash_one(&*state), true);
            path.pop();
            continue;
        };
        let Some(next) = model.next_state(state, act) else { continue };
        let id = hasher.hash_one(&next);
        match visited.insert(id, false) {
            None => {
                let acts = acts_of(model, &next);
                path.push((next, acts));
            }
            Some(true) => {
                visited.insert(id, true);
            }
            Some(false) => panic!("a cycle, after {act:?}: {next:#?}"),
        }
    }
}

fn acts_of(model: &Protocol, state: &ModelState) -> Vec<Act> {
    let mut acts = Vec::new();
    model.actions(state, &mut acts);
    acts
}

fn protocol() -> Protocol {
    Protocol {
        workers: 3,
        slots: 1,
        watchers: 2,
        stops: 1,
        kills: 0,
        slow: 0,
        all_poll: false,
        pauses: false,
        rules: ALL,
    }
}

/// Two workers and the caller of `pause`.
fn with_pause() -> Protocol {
    Protocol { pauses: true, ..protocol() }
}

#[allow(clippy::print_stdout, reason = "the figures are for `--nocapture`")]
fn check(name: &str, model: &Protocol) -> Vec<&'static str> {
    let began = std::time::Instant::now();
    let checker = model.clone().checker().threads(2).spawn_bfs().join();
    let mut wrong = Vec::new();
    for property in checker.model().properties() {
        if matches!(property.expectation, stateright::Expectation::Always)
            && checker.discovery(property.name).is_some()
        {
            wrong.push(property.name);
        }
    }
    println!("{name}: {} states, {:?}, {wrong:?}", checker.unique_state_count(), began.elapsed());
    for property in &wrong {
        if let Some(path) = checker.discovery(property) {
            let acts = path.clone().into_actions();
            println!("  {property} does not hold after {acts:?}");
        }
    }
    wrong
}

#[test]
fn the_protocol_keeps_its_properties() {
    for (name, model) in [
        ("one stopped, one killed", Protocol { kills: 1, ..protocol() }),
        ("two slots, a slow machine", Protocol { slots: 2, slow: 1, ..protocol() }),
        ("two stopped, all watchers", Protocol { stops: 2, watchers: 3, ..protocol() }),
        (
            "one watcher, the others poll",
            Protocol { watchers: 1, stops: 2, all_poll: true, ..protocol() },
        ),
        ("a pause, one stopped, one killed", Protocol { kills: 1, ..with_pause() }),
        ("a pause, two stopped", Protocol { stops: 2, ..with_pause() }),
        ("a pause, a slow machine", Protocol { slow: 1, ..with_pause() }),
        ("a pause of one of three", Protocol { workers: 4, watchers: 3, ..with_pause() }),
    ] {
        assert_eq!(check(name, &model), Vec::<&str>::new(), "{name}");
        assert_every_run_ends(&model);
    }
}

#[test]
fn finds_the_error_of_each_missing_rule() {
    let slots = "slots are never exceeded";
    let waits = "no one waits forever";
    let all_watch = Protocol { stops: 2, watchers: 3, ..protocol() };
    let paused = "no paused job is admitted";
    let with = |rules| Protocol { rules, ..all_watch.clone() };
    let pausing = |rules| Protocol { rules, pauses: true, ..all_watch.clone() };
    for (name, model, property) in [
        ("no generations", with(Rules { generations: false, ..ALL }), waits),
        ("no second check", with(Rules { verify: false, ..ALL }), slots),
        ("no one skipped", with(Rules { skip_silent: false, ..ALL }), waits),
        ("no confirmation of pauses", pausing(Rules { confirm_pause: false, ..ALL }), paused),
        ("no check of a pause", pausing(Rules { verify_pause: false, ..ALL }), paused),
        ("too few watchers", Protocol { watchers: 1, ..protocol() }, waits),
    ] {
        let wrong = check(name, &model);
        assert!(wrong.contains(&property), "{name}: {wrong:?}");
    }
}
