mod limits;

use std::fs;

use super::queue_lock::PROGRESS_TIMEOUT;
use super::*;
use crate::job::{LimitMet, ModelFamily, Reason, Record, Spec, Timestamp, Verdict, milliseconds};
use crate::store::{Lock, Store};

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
    queue: Queue,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("jobs");
    Fixture { _dir: dir, store: Store::at(root.clone()), queue: Queue::for_jobs_dir(&root) }
}

fn no_wait(options: QueueOptions) -> QueueOptions {
    QueueOptions { no_queue: true, ..options }
}

fn up_to(max_parallel: u32) -> QueueOptions {
    QueueOptions { max_parallel, ..QueueOptions::default() }
}

impl Fixture {
    /// Returns the number of jobs that have a slot, and of those that wait for one.
    fn tickets(&self) -> (usize, usize) {
        (self.queue.tickets(RUNNING).len(), self.queue.tickets(WAITING).len())
    }

    /// Creates a job whose worker is this process while the lock is held.
    fn job(&self, id: &str) -> (JobId, Lock) {
        let id = JobId::parse(id).unwrap();
        let record = Record::new(id.clone(), Spec::default(), String::new(), clock::now());
        (id, self.store.create(&record, "x").unwrap().1)
    }

    fn enter(&self, id: &JobId, options: &QueueOptions) -> EnterResult {
        self.queue.ask(id, options, None, &Login::default()).unwrap()
    }

    fn admitted(&self, id: &JobId, options: &QueueOptions) -> Ticket {
        let EnterResult::Admitted(ticket) = self.enter(id, options) else { panic!("waits") };
        ticket
    }

    fn waiting(&self, id: &JobId, options: &QueueOptions) -> Ticket {
        let EnterResult::Waiting(ticket) = self.enter(id, options) else { panic!("admitted") };
        ticket
    }

    /// Asks for the only slot, and returns the ticket.
    fn ticket(&self, id: &JobId) -> Ticket {
        match self.enter(id, &up_to(1)) {
            EnterResult::Admitted(ticket) | EnterResult::Waiting(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }
}

impl Queue {
    fn ask(
        &self,
        job: &JobId,
        admission: &QueueOptions,
        earlier: Option<u64>,
        login: &Login,
    ) -> io::Result<EnterResult> {
        let lock = self.lock()?;
        Ok(self.enter(&lock, job, admission, earlier, login)?.unwrap())
    }

    /// Dispatches for each waiting job, and then for a job that is not in the queue.
    fn dispatch_all(&self) -> io::Result<DispatchResult> {
        let lock = self.lock()?;
        let nobody = Ticket::parse("1000.0000000000.0.0.0.1.-.nobody").unwrap();
        for ticket in self.waiting_tickets().0.iter().chain([&nobody]) {
            let done = self.dispatch(&lock, ticket)?.unwrap();
            if *ticket == nobody {
                return Ok(done);
            }
        }
        unreachable!()
    }
}

#[test]
fn gives_slots_in_order() {
    let fixture = fixture();
    let jobs = ["a", "b", "c"].map(|id| fixture.job(id));
    let first = fixture.admitted(&jobs[0].0, &up_to(1));
    let second = fixture.waiting(&jobs[1].0, &up_to(1));
    fixture.enter(&jobs[2].0, &up_to(1));
    assert_eq!(fixture.queue.waiting_tickets().0[1].job_id, jobs[2].0);
    assert_eq!(fixture.tickets(), (1, 2));

    fixture.queue.leave(&first);
    let done = fixture.queue.dispatch_all().unwrap();
    assert_eq!(fixture.queue.ticket_state(&second), TicketState::Running);
    assert_eq!(done.running, [(jobs[1].0.clone(), own_pid())]);
    assert_eq!(fixture.queue.waiting_tickets().0[0].job_id, jobs[2].0);
}

#[test]
fn frees_the_slot_of_a_dead_worker() {
    let fixture = fixture();
    let (a, lock) = fixture.job("a");
    let (b, _held) = fixture.job("b");
    fixture.enter(&a, &up_to(1));
    let ticket = fixture.waiting(&b, &up_to(1));
    lock.release();
    fixture.queue.dispatch_all().unwrap();
    assert_eq!(fixture.queue.ticket_state(&ticket), TicketState::Running);
    // Its verdict is not written yet.
    let lost = fixture.queue.lost_tickets();
    assert_eq!(lost.iter().map(|ticket| &ticket.job_id).collect::<Vec<_>>(), [&a]);
    fixture.queue.remove_lost_ticket(&lost[0]);
    assert_eq!(fixture.queue.lost_tickets(), []);
}

#[test]
fn skips_a_waiting_job_whose_worker_is_dead() {
    let fixture = fixture();
    let (a, _a) = fixture.job("a");
    let (b, b_lock) = fixture.job("b");
    let (c, _c) = fixture.job("c");
    let first = fixture.admitted(&a, &up_to(1));
    fixture.enter(&b, &up_to(1));
    b_lock.release();
    fixture.queue.leave(&first);
    assert!(matches!(fixture.enter(&c, &up_to(1)), EnterResult::Admitted(_)));
    assert_eq!(fixture.tickets(), (1, 0));
}

#[test]
fn enter_finds_dead_workers() {
    let fixture = fixture();
    let [(a, a_lock), (b, b_lock), (c, _c)] = ["a", "b", "c"].map(|id| fixture.job(id));
    fixture.enter(&a, &up_to(1));
    fixture.enter(&b, &up_to(1));
    a_lock.release();
    b_lock.release();
    assert!(matches!(fixture.enter(&c, &up_to(1)), EnterResult::Admitted(_)));
    let lost = fixture.queue.lost_tickets();
    assert_eq!(lost.iter().map(|ticket| &ticket.job_id).collect::<Vec<_>>(), [&a, &b]);
}

#[test]
fn creates_the_directory_of_lost_tickets() {
    let fixture = fixture();
    let [(a, lock), (b, _b)] = ["a", "b"].map(|id| fixture.job(id));
    fixture.enter(&a, &up_to(1));
    fs::remove_dir(fixture.queue.path.join(LOST)).unwrap();
    lock.release();
    fixture.enter(&b, &up_to(1));
    assert_eq!(fixture.queue.lost_tickets().len(), 1);
}

#[test]
fn no_queue_ignores_dead_waiting_jobs() {
    let fixture = fixture();
    let [(a, _a), (b, lock), (c, _c)] = ["a", "b", "c"].map(|id| fixture.job(id));
    let slow = QueueOptions { stagger_ms: 60_000, ..up_to(2) };
    fixture.enter(&a, &slow);
    assert!(matches!(fixture.enter(&b, &slow), EnterResult::Waiting(_)));
    lock.release();
    let no_wait = QueueOptions { no_queue: true, ..slow };
    assert!(matches!(fixture.enter(&c, &no_wait), EnterResult::Waiting(_)));
    assert_eq!(fixture.tickets(), (1, 1));
}

#[test]
fn replaces_the_ticket_of_a_dead_worker() {
    let fixture = fixture();
    let [(a, _a), (b, _b)] = ["a", "b"].map(|id| fixture.job(id));
    // The job's next worker holds the lock now, and gets another number.
    fixture.enter(&a, &up_to(1));
    let again = fixture.admitted(&a, &up_to(1));
    assert_eq!(fixture.tickets(), (1, 0));

    fixture.enter(&b, &up_to(1));
    let later = fixture.waiting(&b, &up_to(1));
    assert_eq!(fixture.tickets(), (1, 1));
    fixture.queue.leave(&again);
    fixture.queue.dispatch_all().unwrap();
    assert_eq!(fixture.queue.ticket_state(&later), TicketState::Running);
}

#[test]
fn no_queue_leaves_no_ticket() {
    let fixture = fixture();
    let (a, _a) = fixture.job("a");
    let (b, _b) = fixture.job("b");
    fixture.enter(&a, &up_to(1));
    let no_wait = no_wait(up_to(1));
    assert!(matches!(fixture.enter(&b, &no_wait), EnterResult::NoSlot(_)));
    assert_eq!(fixture.tickets(), (1, 0));
    // A stagger is accepted.
    let no_wait = QueueOptions { no_queue: true, stagger_ms: 60_000, ..up_to(2) };
    assert!(matches!(fixture.enter(&b, &no_wait), EnterResult::Waiting(_)));
}

#[test]
fn no_queue_does_not_wait_behind_others() {
    let fixture = fixture();
    let [a, b, c] = ["a", "b", "c"].map(|name| fixture.job(name));
    fixture.enter(&a.0, &up_to(1));
    fixture.enter(&b.0, &up_to(1));
    for (admission, why) in
        [(up_to(1), "1 taken, and --max-parallel is 1"), (up_to(9), "other jobs wait for a slot")]
    {
        let entered = fixture.enter(&c.0, &no_wait(admission));
        assert_eq!(entered, EnterResult::NoSlot(why.to_owned()));
    }
}

#[test]
fn no_queue_counts_jobs_that_wait_for_a_stagger() {
    let fixture = fixture();
    let [a, b, c] = ["a", "b", "c"].map(|name| fixture.job(name));
    fixture.enter(&a.0, &up_to(0));
    let slow = QueueOptions {
        stagger_ms: 60_000,
        group: Some("g".to_owned()),
        group_limit: 1,
        ..up_to(2)
    };
    assert!(matches!(fixture.enter(&b.0, &slow), EnterResult::Waiting(_)));
    for (admission, why) in [
        (QueueOptions { stagger_ms: 60_000, ..up_to(2) }, "2 taken, and --max-parallel is 2"),
        (QueueOptions { max_parallel: 9, ..slow }, "1 taken by group g, and --group-limit is 1"),
    ] {
        let entered = fixture.enter(&c.0, &no_wait(admission));
        assert_eq!(entered, EnterResult::NoSlot(why.to_owned()));
    }
}

#[test]
fn a_fifo_in_place_of_a_file_delays_no_job() {
    for name in [QUEUE_LOCK, LAST_NUMBER, LAST_ADMISSION, LEGACY_LIMIT] {
        let fixture = fixture();
        let (a, _a) = fixture.job("a");
        fixture.enter(&a, &up_to(0));
        let path = fixture.queue.path.join(name);
        let _ = fs::remove_file(&path);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let (b, _b) = fixture.job("b");
        // The job is admitted, or the queue fails.
        let entered = fixture.queue.ask(&b, &up_to(0), None, &Login::default());
        assert!(!matches!(entered, Ok(EnterResult::Waiting(_))), "{name}: {entered:?}");
        assert_eq!(fixture.ends(), []);
    }
}

#[test]
fn continues_the_numbers_if_the_counter_is_lost() {
    let fixture = fixture();
    let (a, _a) = fixture.job("a");
    let (b, _b) = fixture.job("b");
    let first = fixture.admitted(&a, &up_to(0));
    fs::write(fixture.queue.path.join(LAST_NUMBER), "no number").unwrap();
    let next = fixture.admitted(&b, &up_to(0));
    assert_eq!(next.number, first.number + 1);
}

#[test]
fn a_job_without_a_slot_waits_again() {
    let fixture = fixture();
    let [(a, _a), (b, _b)] = ["a", "b"].map(|id| fixture.job(id));
    let first = fixture.admitted(&a, &up_to(1));
    let second = fixture.waiting(&b, &up_to(1));
    // A worker that was stopped meanwhile, or one of an earlier version, admits it.
    let path = |dir: &str| fixture.queue.path.join(dir).join(second.name());
    let admit = || fs::rename(path(WAITING), path(RUNNING)).unwrap();
    let confirm = || fixture.queue.confirm(&fixture.queue.lock().unwrap(), &second).unwrap();
    admit();
    assert_eq!(confirm(), TicketState::Waiting);
    assert_eq!(fixture.tickets(), (1, 1));
    fixture.queue.leave(&first);
    admit();
    assert_eq!(confirm(), TicketState::Running);
    fixture.queue.leave(&second);
    assert_eq!(confirm(), TicketState::Gone);
}

#[test]
fn moves_tickets_of_workers_of_earlier_versions() {
    let fixture = fixture();
    let jobs = ["a", "b", "c"].map(|id| fixture.job(id));
    let tickets = jobs.each_ref().map(|(id, _)| fixture.ticket(id));
    let pid = std::process::id();
    let earlier = fixture.queue.path.join(WAITING).join(tickets[1].name());
    fs::write(earlier, format!("{pid} - - default\n")).unwrap();
    fixture.queue.leave(&tickets[0]);
    let lock = fixture.queue.lock().unwrap();
    fixture.queue.dispatch(&lock, &tickets[2]).unwrap().unwrap();
    assert_eq!(fixture.queue.ticket_state(&tickets[1]), TicketState::Running);
    assert_eq!(fixture.queue.ticket_state(&tickets[2]), TicketState::Waiting);
}

#[test]
fn an_offer_expires_and_the_job_is_skipped() {
    let fixture = fixture();
    let jobs = ["a", "b", "c"].map(|id| fixture.job(id));
    let tickets = jobs.each_ref().map(|(id, _)| fixture.ticket(id));
    fixture.queue.leave(&tickets[0]);
    let dispatch = |ticket: &Ticket| {
        let lock = fixture.queue.lock().unwrap();
        fixture.queue.dispatch(&lock, ticket).unwrap().unwrap()
    };
    let done = dispatch(&tickets[2]);
    assert!(
        !done.is_admitted && done.retry_after.is_some_and(|wait| wait <= PROGRESS_TIMEOUT),
        "{done:?}"
    );
    let offer = fixture.queue.path.join(OFFERS).join(tickets[1].name());
    let at: u64 = fs::read_to_string(&offer).unwrap().parse().unwrap();
    assert!(!dispatch(&tickets[2]).is_admitted);
    fs::write(&offer, (at.saturating_sub(milliseconds(PROGRESS_TIMEOUT))).to_string()).unwrap();
    assert!(dispatch(&tickets[2]).is_admitted);
    fixture.queue.leave(&tickets[2]);
    // Its worker answers later.
    assert!(dispatch(&tickets[1]).is_admitted);
    assert!(!offer.exists());
}
