use super::*;
use crate::job::{LimitMet, ModelFamily, Reason, Record, Spec, Timestamp, Verdict, milliseconds};
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

    /// The ticket of a job that asks for the only slot.
    fn ticket(&self, id: &JobId) -> Ticket {
        match self.queue.ask(id, &most(1), None, &Login::default()).unwrap() {
            Entered::Admitted(ticket) | Entered::Waiting(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }
}

impl Queue {
    /// Asks for a slot.
    fn ask(
        &self,
        job: &JobId,
        admission: &Admission,
        earlier: Option<u64>,
        login: &Login,
    ) -> io::Result<Entered> {
        let desk = self.desk()?;
        Ok(self.enter(&desk, job, admission, earlier, login)?.unwrap())
    }

    /// Has each of those who wait look, and then somebody who is none of them.
    fn dispatch_all(&self) -> io::Result<Dispatched> {
        let desk = self.desk()?;
        let nobody = Ticket::parse("1000.0000000000.0.0.0.1.-.nobody").unwrap();
        for ticket in self.line().0.iter().chain([&nobody]) {
            let done = self.dispatch(&desk, ticket)?.unwrap();
            if *ticket == nobody {
                return Ok(done);
            }
        }
        unreachable!()
    }
}

#[test]
fn slots_are_given_out_in_the_order_of_asking() {
    let hall = hall();
    let jobs: Vec<_> = ["a", "b", "c"].map(|id| hall.job(id)).into();
    let entered: Vec<_> = jobs
        .iter()
        .map(|(id, _)| hall.queue.ask(id, &most(1), None, &Login::default()).unwrap())
        .collect();
    let Entered::Admitted(first) = &entered[0] else { panic!("{entered:?}") };
    let Entered::Waiting(second) = &entered[1] else { panic!("{entered:?}") };
    assert_eq!(hall.queue.line().0[1].job_id, jobs[2].0);
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 2 });

    hall.queue.leave(first);
    let done = hall.queue.dispatch_all().unwrap();
    assert_eq!(hall.queue.place(second), Place::Running);
    assert_eq!(done.running, [(jobs[1].0.clone(), std::process::id() as i32)]);
    assert_eq!(hall.queue.line().0[0].job_id, jobs[2].0);
}

#[test]
fn the_slot_of_a_dead_worker_is_free() {
    let hall = hall();
    let (a, lock) = hall.job("a");
    let (b, _held) = hall.job("b");
    hall.queue.ask(&a, &most(1), None, &Login::default()).unwrap();
    let Entered::Waiting(ticket) = hall.queue.ask(&b, &most(1), None, &Login::default()).unwrap()
    else {
        panic!()
    };
    drop(lock);
    hall.queue.dispatch_all().unwrap();
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
    let Entered::Admitted(first) = hall.queue.ask(&a, &most(1), None, &Login::default()).unwrap()
    else {
        panic!()
    };
    hall.queue.ask(&b, &most(1), None, &Login::default()).unwrap();
    drop(b_lock);
    hall.queue.leave(&first);
    assert!(matches!(
        hall.queue.ask(&c, &most(1), None, &Login::default()).unwrap(),
        Entered::Admitted(_)
    ));
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 0 });
}

#[test]
fn whoever_comes_finds_the_dead_as_well() {
    let hall = hall();
    let [(a, a_lock), (b, b_lock), (c, _c)] = ["a", "b", "c"].map(|id| hall.job(id));
    hall.queue.ask(&a, &most(1), None, &Login::default()).unwrap();
    hall.queue.ask(&b, &most(1), None, &Login::default()).unwrap();
    drop((a_lock, b_lock));
    assert!(matches!(
        hall.queue.ask(&c, &most(1), None, &Login::default()).unwrap(),
        Entered::Admitted(_)
    ));
    let lost = hall.queue.lost();
    assert_eq!(lost.iter().map(|ticket| &ticket.job_id).collect::<Vec<_>>(), [&a, &b]);
}

#[test]
fn a_queue_of_an_earlier_version_gets_a_room_for_the_lost() {
    let hall = hall();
    let [(a, lock), (b, _b)] = ["a", "b"].map(|id| hall.job(id));
    hall.queue.ask(&a, &most(1), None, &Login::default()).unwrap();
    fs::remove_dir(hall.queue.path.join(LOST)).unwrap();
    drop(lock);
    hall.queue.ask(&b, &most(1), None, &Login::default()).unwrap();
    assert_eq!(hall.queue.lost().len(), 1);
}

#[test]
fn a_dead_waiter_is_no_reason_to_refuse_who_does_not_want_to_wait() {
    let hall = hall();
    let [(a, _a), (b, lock), (c, _c)] = ["a", "b", "c"].map(|id| hall.job(id));
    let slow = Admission { stagger_ms: 60_000, ..most(2) };
    hall.queue.ask(&a, &slow, None, &Login::default()).unwrap();
    assert!(matches!(
        hall.queue.ask(&b, &slow, None, &Login::default()).unwrap(),
        Entered::Waiting(_)
    ));
    drop(lock);
    let hasty = Admission { no_queue: true, ..slow };
    assert!(matches!(
        hall.queue.ask(&c, &hasty, None, &Login::default()).unwrap(),
        Entered::Waiting(_)
    ));
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 1 });
}

#[test]
fn the_ticket_of_a_dead_worker_is_not_that_of_the_next() {
    let hall = hall();
    let [(a, _a), (b, _b)] = ["a", "b"].map(|id| hall.job(id));
    // The lock is the next worker's by now, which draws another number.
    hall.queue.ask(&a, &most(1), None, &Login::default()).unwrap();
    let Entered::Admitted(again) = hall.queue.ask(&a, &most(1), None, &Login::default()).unwrap()
    else {
        panic!()
    };
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 0 });

    hall.queue.ask(&b, &most(1), None, &Login::default()).unwrap();
    let Entered::Waiting(later) = hall.queue.ask(&b, &most(1), None, &Login::default()).unwrap()
    else {
        panic!()
    };
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 1 });
    hall.queue.leave(&again);
    hall.queue.dispatch_all().unwrap();
    assert_eq!(hall.queue.place(&later), Place::Running);
}

#[test]
fn who_does_not_want_to_wait_leaves_nothing_behind() {
    let hall = hall();
    let (a, _a) = hall.job("a");
    let (b, _b) = hall.job("b");
    hall.queue.ask(&a, &most(1), None, &Login::default()).unwrap();
    let hasty = Admission { no_queue: true, ..most(1) };
    assert!(matches!(
        hall.queue.ask(&b, &hasty, None, &Login::default()).unwrap(),
        Entered::NoSlot(_)
    ));
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 0 });
    // A stagger is no queue.
    let hasty = Admission { no_queue: true, stagger_ms: 60_000, ..most(2) };
    assert!(matches!(
        hall.queue.ask(&b, &hasty, None, &Login::default()).unwrap(),
        Entered::Waiting(_)
    ));
}

#[test]
fn who_does_not_want_to_wait_is_not_put_behind_those_who_do() {
    let hall = hall();
    let [a, b, c] = ["a", "b", "c"].map(|name| hall.job(name));
    hall.queue.ask(&a.0, &most(1), None, &Login::default()).unwrap();
    hall.queue.ask(&b.0, &most(1), None, &Login::default()).unwrap();
    let hasty = |most: Admission| Admission { no_queue: true, ..most };
    for (admission, why) in
        [(most(1), "1 taken, and --max-parallel is 1"), (most(9), "others wait for one, too")]
    {
        let entered = hall.queue.ask(&c.0, &hasty(admission), None, &Login::default()).unwrap();
        assert_eq!(entered, Entered::NoSlot(why.to_owned()));
    }
}

#[test]
fn who_waits_for_a_moment_takes_a_slot_from_those_who_do_not_want_to_wait() {
    let hall = hall();
    let [a, b, c] = ["a", "b", "c"].map(|name| hall.job(name));
    hall.queue.ask(&a.0, &most(0), None, &Login::default()).unwrap();
    let hasty = |most: Admission| Admission { no_queue: true, ..most };
    let slow =
        Admission { stagger_ms: 60_000, group: Some("g".to_owned()), group_limit: 1, ..most(2) };
    assert!(matches!(
        hall.queue.ask(&b.0, &slow, None, &Login::default()).unwrap(),
        Entered::Waiting(_)
    ));
    for (admission, why) in [
        (Admission { stagger_ms: 60_000, ..most(2) }, "2 taken, and --max-parallel is 2"),
        (Admission { max_parallel: 9, ..slow }, "1 taken by group g, and --group-limit is 1"),
    ] {
        let entered = hall.queue.ask(&c.0, &hasty(admission), None, &Login::default()).unwrap();
        assert_eq!(entered, Entered::NoSlot(why.to_owned()));
    }
}

fn login(key: &str) -> Login {
    Login { key: Some(key.to_owned()), model: None }
}

fn patient(minutes: u64) -> Admission {
    Admission { limit_wait_ms: minutes * 60_000, ..most(0) }
}

impl Hall {
    /// Asks for a slot, and says whether there is one; with the ticket.
    fn asks(&self, id: &JobId, login: &Login) -> (bool, Ticket) {
        match self.queue.ask(id, &patient(60), None, login).unwrap() {
            Entered::Admitted(ticket) => (true, ticket),
            Entered::Waiting(ticket) => (false, ticket),
            other => panic!("{other:?}"),
        }
    }

    fn meets(&self, id: &JobId, login: &Login, seconds: u64) {
        let until = clock::now().after(Duration::from_secs(seconds));
        self.queue.note_limit(id, login, LimitMet { until, model: None });
    }

    fn ends(&self) -> Vec<Timestamp> {
        self.queue.limits().iter().filter_map(Limit::ends).collect()
    }

    /// Makes a limit look as if its last probe was so many seconds ago.
    fn probed_before(&self, login: &Login, seconds: u64) {
        let path = self.queue.path.join(LIMITS).join(login.key.as_deref().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words[4] = (words[4].parse::<u64>().unwrap() - seconds * 1_000).to_string();
        fs::write(path, words.join(" ")).unwrap();
    }
}

#[test]
fn a_limit_that_one_has_met_holds_up_those_of_its_login() {
    let hall = hall();
    let [(a, _a), (b, _b), (c, _c), (d, _d)] = ["a", "b", "c", "d"].map(|id| hall.job(id));
    let (own, other) = (login("own"), login("other"));
    assert!(hall.asks(&a, &own).0);
    let began = clock::now();
    hall.meets(&a, &own, 60);
    assert!(hall.asks(&b, &other).0, "another login");
    assert!(!hall.asks(&c, &own).0);
    let again = hall.queue.dispatch_all().unwrap().again_in.unwrap();
    assert!(again > Duration::from_secs(50), "{again:?}");
    // Who would not wait so long finds out for himself.
    let entered = hall.queue.ask(&d, &patient(0), None, &own).unwrap();
    assert!(matches!(entered, Entered::Admitted(_)));
    hall.meets(&a, &own, 7_200);
    assert_eq!(hall.queue.dispatch_all().unwrap().running.len(), 4, "c would not wait so long");
    // One who began before has not met it, nor has another login; one who began later shows that
    // it is over.
    let later = clock::now().after(Duration::from_millis(1));
    hall.queue.lift_limit(&own, None, began);
    hall.queue.lift_limit(&other, None, later);
    assert_eq!(hall.ends().len(), 2, "its own, and that for workers of earlier versions");
    hall.queue.lift_limit(&own, None, later);
    assert_eq!(hall.ends(), []);
}

#[test]
fn a_limit_of_a_model_holds_up_jobs_of_that_model() {
    let hall = hall();
    let [(a, _a), (b, _b), (c, _c)] = ["a", "b", "c"].map(|id| hall.job(id));
    let with = |model| Login { model: Some(model), ..login("own") };
    let (opus, sonnet) = (with(ModelFamily::Opus), with(ModelFamily::Sonnet));
    let until = clock::now().after(Duration::from_secs(60));
    let met = LimitMet { until, model: Some(ModelFamily::Opus) };
    assert!(hall.asks(&a, &opus).0);
    hall.queue.note_limit(&a, &opus, met);
    assert!(hall.asks(&b, &sonnet).0);
    assert!(!hall.asks(&c, &opus).0);
    let later = clock::now().after(Duration::from_millis(1));
    hall.queue.lift_limit(&sonnet, Some("claude-sonnet-4-5"), later);
    assert_eq!(hall.queue.dispatch_all().unwrap().running.len(), 2);
    hall.queue.lift_limit(&opus, Some("claude-opus-4-5"), later);
    assert_eq!(hall.queue.dispatch_all().unwrap().running.len(), 3);
}

#[test]
fn a_limit_for_workers_of_earlier_versions_is_written_and_read() {
    let hall = hall();
    let [(a, _a), (b, _b), (c, _c)] = ["a", "b", "c"].map(|id| hall.job(id));
    let own = login("own");
    assert!(hall.asks(&a, &own).0);
    hall.meets(&a, &own, 60);
    assert!(!hall.asks(&b, &Login::default()).0, "a ticket without a key");
    let numbers = hall.queue.words(LIMIT);
    assert!(numbers.len() >= 3, "as an earlier version reads it: {numbers:?}");
    // One that such a worker noted concerns no login of which more is known.
    let until = clock::now().after(Duration::from_secs(90)).epoch_ms();
    let (noted, steady) = (clock::now().epoch_ms(), clock::monotonic_ms());
    hall.queue.replace(LIMIT, &format!("{until} {noted} {steady}")).unwrap();
    assert!(hall.asks(&c, &login("other")).0);
    hall.queue.lift_limit(&login("other"), None, clock::now().after(Duration::from_millis(1)));
    hall.queue.dispatch_all().unwrap();
    assert!(hall.queue.has_slot(&b), "an answer ends it");
}

#[test]
fn one_job_at_a_time_finds_out_whether_a_limit_is_over() {
    let hall = hall();
    let own = login("own");
    let [(a, a_lock), (b, b_lock)] = ["a", "b"].map(|id| hall.job(id));
    let [(c, _c), (d, d_lock), (e, _e)] = ["c", "d", "e"].map(|id| hall.job(id));
    hall.asks(&a, &own);
    hall.meets(&a, &own, 3_000);
    let [b_ticket, c_ticket, d_ticket] = [&b, &c, &d].map(|id| hall.asks(id, &own).1);
    let place = |ticket: &Ticket| {
        let done = hall.queue.dispatch_all().unwrap();
        (hall.queue.place(ticket), done.again_in.map(|wait| wait.as_secs()))
    };
    assert_eq!(place(&b_ticket).0, Place::Waiting, "the job that met the limit waits itself");
    // It ends: the next one is let in at once, and no other.
    drop(a_lock);
    assert_eq!(place(&b_ticket).0, Place::Running);
    assert_eq!(place(&c_ticket).0, Place::Waiting);
    assert!(!hall.asks(&e, &own).0);
    // It meets the limit, too, and waits: a few minutes later it is the turn of another.
    hall.meets(&b, &own, 3_000);
    let (at, again) = place(&c_ticket);
    assert!(at == Place::Waiting && (290..=300).contains(&again.unwrap()), "{again:?}");
    hall.probed_before(&own, 301);
    assert_eq!((place(&c_ticket).0, place(&d_ticket).0), (Place::Running, Place::Waiting));
    // It was killed before it knew.
    drop(b_lock);
    assert_eq!(place(&d_ticket).0, Place::Waiting, "c is about to find out");
    hall.queue.lift_limit(&own, None, clock::now().after(Duration::from_millis(1)));
    assert_eq!(place(&d_ticket).0, Place::Running);
    drop(d_lock);
}

#[test]
fn a_job_that_failed_by_the_limit_has_found_out() {
    let own = login("own");
    for (reason, expected) in
        [(Reason::RateLimit, Place::Waiting), (Reason::WorkerDied, Place::Running)]
    {
        let hall = hall();
        let [(a, a_lock), (b, b_lock), (c, _c)] = ["a", "b", "c"].map(|id| hall.job(id));
        hall.asks(&a, &own);
        hall.meets(&a, &own, 3_000);
        hall.asks(&b, &own);
        let ticket = hall.asks(&c, &own).1;
        drop(a_lock);
        hall.queue.dispatch_all().unwrap();
        assert!(hall.queue.has_slot(&b));
        hall.meets(&b, &own, 3_000);
        let dir = hall.store.job(&b);
        let mut record = dir.load().unwrap();
        record.end(&Verdict::failed(reason, "limit"), clock::now());
        dir.save(&record, false).unwrap();
        drop(b_lock);
        hall.queue.dispatch_all().unwrap();
        assert_eq!(hall.queue.place(&ticket), expected, "{reason}");
    }
}

#[test]
fn the_salt_is_made_once_and_for_us_alone() {
    use std::os::unix::fs::PermissionsExt;
    let hall = hall();
    let salt = hall.queue.salt().unwrap();
    assert!(salt.len() >= 32);
    assert_eq!(hall.queue.salt().unwrap(), salt);
    let path = hall.queue.path.join(SALT);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "torn").unwrap();
    assert_ne!(hall.queue.salt().unwrap(), b"torn");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(hall.queue.salt().is_err());
}

#[test]
fn a_limit_lasts_no_longer_than_it_was_noted_for() {
    let hall = hall();
    let (a, _a) = hall.job("a");
    hall.asks(&a, &login("own"));
    let month = Duration::from_secs(30 * 24 * 3_600);
    let now = || clock::now().epoch_ms();
    let ahead = clock::now().after(month).epoch_ms();
    let steady = clock::monotonic_ms();
    fs::create_dir(hall.queue.path.join(LIMITS)).unwrap();
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
        for (file, rest) in [(LIMIT, ""), ("limits/own", " met - 1 a")] {
            let text = format!("{until} {noted} {steady}{rest}\n");
            fs::write(hall.queue.path.join(file), text).unwrap();
            let seconds = hall.ends().pop().map_or(0, |at| at.since(clock::now()).as_secs());
            assert!(left.contains(&seconds), "{until} {noted} {steady} in {file}: {seconds}");
            fs::remove_file(hall.queue.path.join(file)).unwrap();
        }
    }
}

#[test]
fn what_is_no_ordinary_file_holds_up_nobody() {
    for name in [DESK, NUMBER, ADMITTED, LIMIT] {
        let hall = hall();
        let (a, _a) = hall.job("a");
        hall.queue.ask(&a, &most(0), None, &Login::default()).unwrap();
        let path = hall.queue.path.join(name);
        let _ = fs::remove_file(&path);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let (b, _b) = hall.job("b");
        // Let in, or told that the queue is of no use.
        let entered = hall.queue.ask(&b, &most(0), None, &Login::default());
        assert!(!matches!(entered, Ok(Entered::Waiting(_))), "{name}: {entered:?}");
        assert_eq!(hall.ends(), []);
    }
}

#[test]
fn the_numbers_go_on_where_the_count_was_lost() {
    let hall = hall();
    let (a, _a) = hall.job("a");
    let (b, _b) = hall.job("b");
    let Entered::Admitted(first) = hall.queue.ask(&a, &most(0), None, &Login::default()).unwrap()
    else {
        panic!()
    };
    fs::write(hall.queue.path.join(NUMBER), "no number").unwrap();
    let Entered::Admitted(next) = hall.queue.ask(&b, &most(0), None, &Login::default()).unwrap()
    else {
        panic!()
    };
    assert_eq!(next.number, first.number + 1);
}

#[test]
fn one_job_too_many_gives_its_slot_back_and_waits() {
    let hall = hall();
    let [(a, _a), (b, _b)] = ["a", "b"].map(|id| hall.job(id));
    let login = Login::default();
    let Entered::Admitted(first) = hall.queue.ask(&a, &most(1), None, &login).unwrap() else {
        panic!()
    };
    let Entered::Waiting(second) = hall.queue.ask(&b, &most(1), None, &login).unwrap() else {
        panic!()
    };
    // A worker that was stopped in between, or one of an earlier version, lets it in.
    let path = |room: &str| hall.queue.path.join(room).join(second.name());
    let let_in = || fs::rename(path(WAITING), path(RUNNING)).unwrap();
    let confirm = || hall.queue.confirm(&hall.queue.desk().unwrap(), &second).unwrap();
    let_in();
    assert_eq!(confirm(), Place::Waiting);
    assert_eq!(hall.queue.crowd(), Crowd { running: 1, waiting: 1 });
    hall.queue.leave(&first);
    let_in();
    assert_eq!(confirm(), Place::Running);
    hall.queue.leave(&second);
    assert_eq!(confirm(), Place::Gone);
}

#[test]
fn the_ticket_of_a_worker_of_an_earlier_version_is_moved_for_it() {
    let hall = hall();
    let jobs = ["a", "b", "c"].map(|id| hall.job(id));
    let tickets = jobs.each_ref().map(|(id, _)| hall.ticket(id));
    let pid = std::process::id();
    let earlier = hall.queue.path.join(WAITING).join(tickets[1].name());
    fs::write(earlier, format!("{pid} - - default\n")).unwrap();
    hall.queue.leave(&tickets[0]);
    let desk = hall.queue.desk().unwrap();
    hall.queue.dispatch(&desk, &tickets[2]).unwrap().unwrap();
    assert_eq!(hall.queue.place(&tickets[1]), Place::Running);
    assert_eq!(hall.queue.place(&tickets[2]), Place::Waiting);
}

#[test]
fn one_that_was_called_keeps_its_turn_for_a_moment_and_is_passed_over_then() {
    let hall = hall();
    let jobs = ["a", "b", "c"].map(|id| hall.job(id));
    let tickets = jobs.each_ref().map(|(id, _)| hall.ticket(id));
    hall.queue.leave(&tickets[0]);
    let look = |ticket: &Ticket| {
        let desk = hall.queue.desk().unwrap();
        hall.queue.dispatch(&desk, ticket).unwrap().unwrap()
    };
    let done = look(&tickets[2]);
    assert!(!done.let_in && done.again_in.is_some_and(|wait| wait <= PATIENCE), "{done:?}");
    let called = hall.queue.path.join(CALLED).join(tickets[1].name());
    let at: u64 = fs::read_to_string(&called).unwrap().parse().unwrap();
    assert!(!look(&tickets[2]).let_in);
    fs::write(&called, (at.saturating_sub(milliseconds(PATIENCE))).to_string()).unwrap();
    assert!(look(&tickets[2]).let_in);
    hall.queue.leave(&tickets[2]);
    // It comes by itself.
    assert!(look(&tickets[1]).let_in);
    assert!(!called.exists());
}
