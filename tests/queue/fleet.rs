//! Many jobs at once, while workers and claudes are killed.
//!
//! `FLEET_JOBS`, `FLEET_SLOTS` and `FLEET_KILLS` set the size of the fleet (default 24, 4 and 8),
//! `FLEET_NAP` the longest duration of a job in milliseconds (600); `FLEET_SEED` repeats a run. With
//! `-- --nocapture` it prints its measurements.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::events;
use super::support::chance::{number, seed};
use super::support::naps::nap_of;
use super::support::processes::{processes_of, program_of, send};
use super::support::{Sandbox, await_file};

/// When the last of these ends, if each starts as soon as a slot is free.
fn schedule(naps: impl Iterator<Item = u64>, slots: u64) -> u64 {
    let mut free = vec![0; slots as usize];
    for nap in naps {
        let next = free.iter_mut().min().unwrap();
        *next += nap;
    }
    free.into_iter().max().unwrap_or_default()
}

#[test]
fn a_fleet_uses_all_its_slots_and_no_more() {
    let (jobs, slots) = (number("FLEET_JOBS", 24), number("FLEET_SLOTS", 4));
    let (kills, nap) = (number("FLEET_KILLS", 8), number("FLEET_NAP", 600));
    let mut seed = seed("FLEET_SEED");
    let script =
        format!("count-running $DIR/running\nsession\nread\ninit\nnap {nap}\nresult ok\neof");
    let sandbox = Sandbox::new(&script);
    let limit = slots.to_string();
    let options = ["--max-parallel", &limit, "--retries", "50", "--max-backoff", "1ms"];
    let ids: Vec<String> = (0..jobs).map(|n| format!("job-{n:04}")).collect();
    let claudes = || {
        let mut workers = Vec::new();
        let mut claudes = Vec::new();
        for pid in processes_of(&sandbox.jobs()) {
            match program_of(pid).as_str() {
                "claudejob" => workers.push(pid),
                "fake-claude" => claudes.push(pid),
                _ => {}
            }
        }
        (workers, claudes)
    };
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let began = Instant::now();
    for id in &ids {
        sandbox.start(id, &options);
    }
    let mut struck = 0;
    while struck < kills {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (workers, claudes) = claudes();
        let workers_are_gone = workers.is_empty();
        let prey = if seed >> 63 == 0 { workers } else { claudes };
        match prey.len() {
            // The end of a job whose worker is dead by now is written by the next reader.
            0 if workers_are_gone => break,
            0 => continue,
            _ => {}
        }
        send(prey[(seed >> 33) as usize % prey.len()], Signal::SIGKILL);
        struck += 1;
        std::thread::sleep(Duration::from_millis(nap / 5));
    }
    let wait = [&["wait", "--timeout", "3m"], &*ids.iter().map(String::as_str).collect::<Vec<_>>()];
    sandbox.run(wait.concat());
    let took = began.elapsed();
    for id in &ids {
        let status = sandbox.status(id);
        let end = status["reason"].as_str().unwrap_or(status.text("status")).to_owned();
        assert!(["completed", "worker_died"].contains(&end.as_str()), "{id}: {status:?}");
        *ends.entry(end).or_default() += 1;
        sandbox.assert_nothing_left(id);
    }
    let mut admitted: Vec<(String, &String)> = Vec::new();
    for id in &ids {
        let events = events(&sandbox, id);
        // A job that finds a slot at once is not queued before.
        let kinds = ["admitted", "launched"];
        let first = events.iter().find(|event| kinds.iter().any(|kind| event["event"] == *kind));
        admitted.extend(first.map(|event| (event["at"].as_str().unwrap().to_owned(), id)));
    }
    admitted.sort();
    // Recovered jobs get new tickets.
    let recovered = sandbox.run(["recover", "--all"]);
    let died = ends.get("worker_died").copied().unwrap_or_default();
    assert_eq!(recovered["recovered"].as_array().map(Vec::len), Some(died), "{recovered:?}");
    assert_eq!(sandbox.run(wait.concat()).code, 0);
    let peak = sandbox.most_running() as u64;
    assert!(peak <= slots, "{peak} claudes at once");
    for directory in ["waiting", "running"] {
        // Files of a dead worker do not count; workers that lived have removed theirs.
        for entry in fs::read_dir(sandbox.jobs().join(".queue").join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let job = name.rsplit('.').next().unwrap();
            let events = events(&sandbox, job);
            assert!(events.iter().any(|event| event["event"] == "lost"), "{name}: {events:?}");
        }
    }
    // A job may only be overtaken by jobs that are admitted at about the same moment: its worker must
    // run to take the slot.
    for (at, (_, id)) in admitted.iter().enumerate() {
        let earlier = admitted[..at].iter().filter(|(_, other)| other > id).count() as u64;
        assert!(earlier < 3 * slots.max(2), "{id} was overtaken by {earlier}");
    }
    // No slot is lost: the next jobs find as many as before.
    for n in 0..slots {
        sandbox.start(&format!("after-{n}"), &[&options[..], &["--no-queue"]].concat());
    }
    let ideal = schedule(ids.iter().map(|id| nap_of(id, nap)), slots);
    println!(
        "{jobs} jobs, {slots} slots, {kills} kills: {ends:?}, at most {peak} claudes at once, \
         {took:?} where the naps alone take {ideal} ms in this order"
    );
    await_file(&sandbox.job("after-0"));
}
