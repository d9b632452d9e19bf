use super::*;
use crate::job::{Record, Spec};
use crate::store::{Lock, Store};

struct Hall {
    _folder: tempfile::TempDir,
    store: Store,
    queue: Queue,
}

fn hall() -> Hall {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("jobs");
    Hall { _folder: folder, store: Store::at(root.clone()), queue: Queue::of(&root) }
}

fn most(max_parallel: u32) -> Admission {
    Admission { max_parallel, ..Admission::default() }
}

impl Hall {
    /// A job with a worker, which is this process, as long as the lock is held.
    fn job(&self, id: &str) -> (JobId, Lock) {
        let id = JobId::parse(id).unwrap();
        let record = Record::new(id.clone(), Spec::default(), String::new(), clock::now());
        (id, self.store.create(&record, "x").unwrap().1)
    }
}

#[test]
fn slots_are_given_out_in_the_order_of_asking() {
    let hall = hall();
    let jobs: Vec<_> = ["a", "b", "c"].map(|id| hall.job(id)).into();
    let entered: Vec<_> =
        jobs.iter().map(|(id, _)| hall.queue.enter(id, &most(1), None).unwrap()).collect();
    let Entered::Admitted(first) = &entered[0] else { panic!("{entered:?}") };
    let Entered::Waiting(second) = &entered[1] else { panic!("{entered:?}") };
    assert_eq!(hall.queue.positions()[&jobs[2].0], 2);
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 2 });

    hall.queue.leave(first);
    let done = hall.queue.dispatch().unwrap();
    assert_eq!(hall.queue.place(second), Place::Running);
    assert_eq!(done.running, [(jobs[1].0.clone(), std::process::id() as i32)]);
    assert_eq!(hall.queue.positions()[&jobs[2].0], 1);
}

#[test]
fn the_slot_of_a_dead_worker_is_free() {
    let hall = hall();
    let (a, lock) = hall.job("a");
    let (b, _held) = hall.job("b");
    hall.queue.enter(&a, &most(1), None).unwrap();
    let Entered::Waiting(ticket) = hall.queue.enter(&b, &most(1), None).unwrap() else { panic!() };
    drop(lock);
    hall.queue.dispatch().unwrap();
    assert_eq!(hall.queue.place(&ticket), Place::Running);
    // Its end is still to be written, until somebody says that it was.
    let lost = hall.queue.lost();
    assert_eq!(lost.iter().map(|ticket| &ticket.job_id).collect::<Vec<_>>(), [&a]);
    hall.queue.found(&lost[0]);
    assert_eq!(hall.queue.lost(), []);
}

#[test]
fn whoever_died_in_the_line_is_in_nobodys_way() {
    let hall = hall();
    let (a, _a) = hall.job("a");
    let (b, b_lock) = hall.job("b");
    let (c, _c) = hall.job("c");
    let Entered::Admitted(first) = hall.queue.enter(&a, &most(1), None).unwrap() else { panic!() };
    hall.queue.enter(&b, &most(1), None).unwrap();
    drop(b_lock);
    hall.queue.leave(&first);
    assert!(matches!(hall.queue.enter(&c, &most(1), None).unwrap(), Entered::Admitted(_)));
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 0 });
}

#[test]
fn whoever_comes_finds_the_dead_as_well() {
    let hall = hall();
    let [(a, a_lock), (b, b_lock), (c, _c)] = ["a", "b", "c"].map(|id| hall.job(id));
    hall.queue.enter(&a, &most(1), None).unwrap();
    hall.queue.enter(&b, &most(1), None).unwrap();
    drop((a_lock, b_lock));
    assert!(matches!(hall.queue.enter(&c, &most(1), None).unwrap(), Entered::Admitted(_)));
    let lost = hall.queue.lost();
    assert_eq!(lost.iter().map(|ticket| &ticket.job_id).collect::<Vec<_>>(), [&a, &b]);
}

#[test]
fn a_queue_of_an_earlier_version_gets_a_room_for_the_lost() {
    let hall = hall();
    let [(a, lock), (b, _b)] = ["a", "b"].map(|id| hall.job(id));
    hall.queue.enter(&a, &most(1), None).unwrap();
    fs::remove_dir(hall.queue.path.join(LOST)).unwrap();
    drop(lock);
    hall.queue.enter(&b, &most(1), None).unwrap();
    assert_eq!(hall.queue.lost().len(), 1);
}

#[test]
fn a_dead_waiter_is_no_reason_to_refuse_who_does_not_want_to_wait() {
    let hall = hall();
    let [(a, _a), (b, lock), (c, _c)] = ["a", "b", "c"].map(|id| hall.job(id));
    let slow = Admission { stagger_ms: 60_000, ..most(2) };
    hall.queue.enter(&a, &slow, None).unwrap();
    assert!(matches!(hall.queue.enter(&b, &slow, None).unwrap(), Entered::Waiting(_)));
    drop(lock);
    let hasty = Admission { no_queue: true, ..slow };
    assert!(matches!(hall.queue.enter(&c, &hasty, None).unwrap(), Entered::Waiting(_)));
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 1 });
}

#[test]
fn the_ticket_of_a_dead_worker_is_not_that_of_the_next() {
    let hall = hall();
    let [(a, _a), (b, _b)] = ["a", "b"].map(|id| hall.job(id));
    // The lock is the next worker's by now, which draws another number.
    hall.queue.enter(&a, &most(1), None).unwrap();
    let Entered::Admitted(again) = hall.queue.enter(&a, &most(1), None).unwrap() else { panic!() };
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 0 });

    hall.queue.enter(&b, &most(1), None).unwrap();
    let Entered::Waiting(later) = hall.queue.enter(&b, &most(1), None).unwrap() else { panic!() };
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 1 });
    hall.queue.leave(&again);
    hall.queue.dispatch().unwrap();
    assert_eq!(hall.queue.place(&later), Place::Running);
}

#[test]
fn who_does_not_want_to_wait_leaves_nothing_behind() {
    let hall = hall();
    let (a, _a) = hall.job("a");
    let (b, _b) = hall.job("b");
    hall.queue.enter(&a, &most(1), None).unwrap();
    let hasty = Admission { no_queue: true, ..most(1) };
    assert!(matches!(hall.queue.enter(&b, &hasty, None).unwrap(), Entered::NoSlot(_)));
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 0 });
    // A stagger is no queue.
    let hasty = Admission { no_queue: true, stagger_ms: 60_000, ..most(2) };
    assert!(matches!(hall.queue.enter(&b, &hasty, None).unwrap(), Entered::Waiting(_)));
}

#[test]
fn who_does_not_want_to_wait_is_not_put_behind_those_who_do() {
    let hall = hall();
    let [a, b, c] = ["a", "b", "c"].map(|name| hall.job(name));
    hall.queue.enter(&a.0, &most(1), None).unwrap();
    hall.queue.enter(&b.0, &most(1), None).unwrap();
    let hasty = |most: Admission| Admission { no_queue: true, ..most };
    for (admission, why) in
        [(most(1), "1 taken, and --max-parallel is 1"), (most(9), "others wait for one, too")]
    {
        let entered = hall.queue.enter(&c.0, &hasty(admission), None).unwrap();
        assert_eq!(entered, Entered::NoSlot(why.to_owned()));
    }
}

#[test]
fn who_waits_for_a_moment_takes_a_slot_from_those_who_do_not_want_to_wait() {
    let hall = hall();
    let [a, b, c] = ["a", "b", "c"].map(|name| hall.job(name));
    hall.queue.enter(&a.0, &most(0), None).unwrap();
    let hasty = |most: Admission| Admission { no_queue: true, ..most };
    let slow =
        Admission { stagger_ms: 60_000, group: Some("g".to_owned()), group_limit: 1, ..most(2) };
    assert!(matches!(hall.queue.enter(&b.0, &slow, None).unwrap(), Entered::Waiting(_)));
    for (admission, why) in [
        (most(2), "2 taken, and --max-parallel is 2"),
        (Admission { max_parallel: 9, ..slow }, "1 taken by group g, and --group-limit is 1"),
    ] {
        let entered = hall.queue.enter(&c.0, &hasty(admission), None).unwrap();
        assert_eq!(entered, Entered::NoSlot(why.to_owned()));
    }
}

#[test]
fn a_limit_that_one_has_met_holds_up_the_others() {
    let hall = hall();
    let (a, _a) = hall.job("a");
    let (b, _b) = hall.job("b");
    let patient = |minutes: u64| Admission { limit_wait_ms: minutes * 60_000, ..most(0) };
    hall.queue.enter(&a, &most(0), None).unwrap();
    let began = clock::now();
    hall.queue.note_limit(clock::now().after(Duration::from_secs(60)));
    assert!(hall.queue.limit().is_some());
    let entered = hall.queue.enter(&b, &patient(2), None).unwrap();
    assert!(matches!(entered, Entered::Waiting(_)));
    let again = hall.queue.dispatch().unwrap().again_in.unwrap();
    assert!(again > Duration::from_secs(50), "{again:?}");
    // Who would not wait so long finds out for himself.
    let (c, _c) = hall.job("c");
    assert!(matches!(hall.queue.enter(&c, &patient(0), None).unwrap(), Entered::Admitted(_)));
    hall.queue.note_limit(clock::now().after(Duration::from_secs(600)));
    assert_eq!(hall.queue.dispatch().unwrap().running.len(), 3);
    // One who began before has not met it; one who began later shows that it is over.
    hall.queue.lift_limit(began);
    assert!(hall.queue.limit().is_some());
    hall.queue.lift_limit(clock::now().after(Duration::from_millis(1)));
    assert_eq!(hall.queue.limit(), None);
}

#[test]
fn a_limit_lasts_no_longer_than_it_was_noted_for() {
    let hall = hall();
    let (a, _a) = hall.job("a");
    hall.queue.enter(&a, &most(0), None).unwrap();
    let month = Duration::from_secs(30 * 24 * 3_600);
    let now = || clock::now().epoch_ms();
    let ahead = clock::now().after(month).epoch_ms();
    let steady = clock::monotonic_ms();
    for (until, noted, steady, left) in [
        (now() + 60_000, now(), steady, 58..61),
        // The clock was a month ahead, and was set right.
        (ahead + 60_000, ahead, steady, 58..61),
        (ahead + 60_000, ahead, steady.saturating_sub(61_000), 0..1),
        // It is a month ahead by now.
        (now() - 1, now() - 60_000, steady, 0..1),
        // After a reboot there is no telling.
        (now() + 60_000, now(), steady + 1_000_000, 58..61),
    ] {
        fs::write(hall.queue.path.join(LIMIT), format!("{until} {noted} {steady}\n")).unwrap();
        let seconds = hall.queue.limit().map_or(0, |at| at.since(clock::now()).as_secs());
        assert!(left.contains(&seconds), "{until} {noted} {steady}: {seconds}");
    }
}

#[test]
fn what_is_no_ordinary_file_holds_up_nobody() {
    for name in [DESK, NUMBER, ADMITTED, LIMIT] {
        let hall = hall();
        let (a, _a) = hall.job("a");
        hall.queue.enter(&a, &most(0), None).unwrap();
        let path = hall.queue.path.join(name);
        let _ = fs::remove_file(&path);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let (b, _b) = hall.job("b");
        // Let in, or told that the queue is of no use.
        let entered = hall.queue.enter(&b, &most(0), None);
        assert!(!matches!(entered, Ok(Entered::Waiting(_))), "{name}: {entered:?}");
        assert_eq!(hall.queue.limit(), None);
    }
}

#[test]
fn the_numbers_go_on_where_the_count_was_lost() {
    let hall = hall();
    let (a, _a) = hall.job("a");
    let (b, _b) = hall.job("b");
    let Entered::Admitted(first) = hall.queue.enter(&a, &most(0), None).unwrap() else { panic!() };
    fs::write(hall.queue.path.join(NUMBER), "no number").unwrap();
    let Entered::Admitted(next) = hall.queue.enter(&b, &most(0), None).unwrap() else { panic!() };
    assert_eq!(next.number, first.number + 1);
}
