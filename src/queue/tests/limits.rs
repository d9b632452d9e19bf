use super::*;

fn login(key: &str) -> Login {
    Login { key: Some(key.to_owned()), model: None }
}

fn patient(minutes: u64) -> QueueOptions {
    QueueOptions { limit_wait_ms: minutes * 60_000, ..up_to(0) }
}

impl Fixture {
    /// Asks for a slot. Returns whether the job was admitted, and its ticket.
    fn ask(&self, id: &JobId, login: &Login) -> (bool, Ticket) {
        match self.queue.ask(id, &patient(60), None, login).unwrap() {
            EnterResult::Admitted(ticket) => (true, ticket),
            EnterResult::Waiting(ticket) => (false, ticket),
            other => panic!("{other:?}"),
        }
    }

    fn meet_limit(&self, id: &JobId, login: &Login, seconds: u64) {
        let until = clock::now().after(Duration::from_secs(seconds));
        self.queue.record_limit(id, login, LimitMet { until, model: None });
    }

    pub(super) fn ends(&self) -> Vec<Timestamp> {
        self.queue.limits().iter().filter_map(Limit::ends_at).collect()
    }

    /// Moves the last probe of a limit this many seconds into the past.
    fn probed_before(&self, login: &Login, seconds: u64) {
        let path = self.queue.path.join(LIMITS).join(login.key.as_deref().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words[4] = (words[4].parse::<u64>().unwrap() - seconds * 1_000).to_string();
        fs::write(path, words.join(" ")).unwrap();
    }
}

#[test]
fn a_limit_delays_jobs_with_the_same_login() {
    let fixture = fixture();
    let [(a, _a), (b, _b), (c, _c), (d, _d)] = ["a", "b", "c", "d"].map(|id| fixture.job(id));
    let (own, other) = (login("own"), login("other"));
    assert!(fixture.ask(&a, &own).0);
    let began = clock::now();
    fixture.meet_limit(&a, &own, 60);
    assert!(fixture.ask(&b, &other).0, "another login");
    assert!(!fixture.ask(&c, &own).0);
    let again = fixture.queue.dispatch_all().unwrap().retry_after.unwrap();
    assert!(again > Duration::from_secs(50), "{again:?}");
    // A job that would not wait that long finds out for itself.
    let entered = fixture.queue.ask(&d, &patient(0), None, &own).unwrap();
    assert!(matches!(entered, EnterResult::Admitted(_)));
    fixture.meet_limit(&a, &own, 7_200);
    assert_eq!(fixture.queue.dispatch_all().unwrap().running.len(), 4, "c would not wait so long");
    // An answer to a job that began before, or to another login, proves nothing; one to a job that
    // began later shows that the limit is over.
    let later = clock::now().after(Duration::from_millis(1));
    fixture.queue.lift_limit(&own, None, began);
    fixture.queue.lift_limit(&other, None, later);
    assert_eq!(fixture.ends().len(), 2, "its own, and that for workers of earlier versions");
    fixture.queue.lift_limit(&own, None, later);
    assert_eq!(fixture.ends(), []);
}

#[test]
fn a_limit_of_a_model_delays_jobs_of_that_model() {
    let fixture = fixture();
    let [(a, _a), (b, _b), (c, _c)] = ["a", "b", "c"].map(|id| fixture.job(id));
    let with = |model| Login { model: Some(model), ..login("own") };
    let (opus, sonnet) = (with(ModelFamily::Opus), with(ModelFamily::Sonnet));
    let until = clock::now().after(Duration::from_secs(60));
    let met = LimitMet { until, model: Some(ModelFamily::Opus) };
    assert!(fixture.ask(&a, &opus).0);
    fixture.queue.record_limit(&a, &opus, met);
    assert!(fixture.ask(&b, &sonnet).0);
    assert!(!fixture.ask(&c, &opus).0);
    let later = clock::now().after(Duration::from_millis(1));
    fixture.queue.lift_limit(&sonnet, Some("claude-sonnet-4-5"), later);
    assert_eq!(fixture.queue.dispatch_all().unwrap().running.len(), 2);
    fixture.queue.lift_limit(&opus, Some("claude-opus-4-5"), later);
    assert_eq!(fixture.queue.dispatch_all().unwrap().running.len(), 3);
}

#[test]
fn writes_and_reads_the_legacy_limit() {
    let fixture = fixture();
    let [(a, _a), (b, _b), (c, _c)] = ["a", "b", "c"].map(|id| fixture.job(id));
    let own = login("own");
    assert!(fixture.ask(&a, &own).0);
    fixture.meet_limit(&a, &own, 60);
    assert!(!fixture.ask(&b, &Login::default()).0, "a ticket without a key");
    // As an earlier version reads it.
    let text = fs::read_to_string(fixture.queue.path.join(LEGACY_LIMIT)).unwrap();
    let text = &text[..text.len().min(64)];
    let numbers: Vec<i64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    assert!(numbers.len() >= 3, "{numbers:?}");
    // A limit that such a worker recorded does not apply to logins with a key.
    let until = clock::now().after(Duration::from_secs(90)).epoch_ms();
    let (recorded, monotonic) = (clock::now().epoch_ms(), clock::monotonic_ms());
    fixture.queue.overwrite(LEGACY_LIMIT, &format!("{until} {recorded} {monotonic}")).unwrap();
    assert!(fixture.ask(&c, &login("other")).0);
    fixture.queue.lift_limit(&login("other"), None, clock::now().after(Duration::from_millis(1)));
    fixture.queue.dispatch_all().unwrap();
    assert!(fixture.queue.has_slot(&b), "an answer ends it");
}

#[test]
fn one_job_at_a_time_probes_a_limit() {
    let fixture = fixture();
    let own = login("own");
    let [(a, a_lock), (b, b_lock)] = ["a", "b"].map(|id| fixture.job(id));
    let [(c, _c), (d, d_lock), (e, _e)] = ["c", "d", "e"].map(|id| fixture.job(id));
    fixture.ask(&a, &own);
    fixture.meet_limit(&a, &own, 3_000);
    let [b_ticket, c_ticket, d_ticket] = [&b, &c, &d].map(|id| fixture.ask(id, &own).1);
    let place = |ticket: &Ticket| {
        let done = fixture.queue.dispatch_all().unwrap();
        (fixture.queue.ticket_state(ticket), done.retry_after.map(|wait| wait.as_secs()))
    };
    assert_eq!(place(&b_ticket).0, TicketState::Waiting, "the job that met the limit waits itself");
    // It ends: the next job is admitted at once, and no other.
    a_lock.release();
    assert_eq!(place(&b_ticket).0, TicketState::Running);
    assert_eq!(place(&c_ticket).0, TicketState::Waiting);
    assert!(!fixture.ask(&e, &own).0);
    // It meets the limit too and waits: a few minutes later another job is admitted.
    fixture.meet_limit(&b, &own, 3_000);
    let (at, again) = place(&c_ticket);
    assert!(at == TicketState::Waiting && (290..=300).contains(&again.unwrap()), "{again:?}");
    fixture.probed_before(&own, 301);
    assert_eq!(
        (place(&c_ticket).0, place(&d_ticket).0),
        (TicketState::Running, TicketState::Waiting)
    );
    // That job is killed before it has found out.
    b_lock.release();
    assert_eq!(place(&d_ticket).0, TicketState::Waiting, "c is about to find out");
    fixture.queue.lift_limit(&own, None, clock::now().after(Duration::from_millis(1)));
    assert_eq!(place(&d_ticket).0, TicketState::Running);
    drop(d_lock);
}

#[test]
fn a_job_that_failed_by_the_limit_counts_as_a_probe() {
    let own = login("own");
    for (reason, expected) in
        [(Reason::RateLimit, TicketState::Waiting), (Reason::WorkerDied, TicketState::Running)]
    {
        let fixture = fixture();
        let [(a, a_lock), (b, b_lock), (c, _c)] = ["a", "b", "c"].map(|id| fixture.job(id));
        fixture.ask(&a, &own);
        fixture.meet_limit(&a, &own, 3_000);
        fixture.ask(&b, &own);
        let ticket = fixture.ask(&c, &own).1;
        a_lock.release();
        fixture.queue.dispatch_all().unwrap();
        assert!(fixture.queue.has_slot(&b));
        fixture.meet_limit(&b, &own, 3_000);
        let dir = fixture.store.job(&b);
        let mut record = dir.load().unwrap();
        record.end(&Verdict::failed(reason, "limit"), clock::now());
        dir.save(&record, false).unwrap();
        b_lock.release();
        fixture.queue.dispatch_all().unwrap();
        assert_eq!(fixture.queue.ticket_state(&ticket), expected, "{reason}");
    }
}

#[test]
fn creates_the_salt_once_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = fixture();
    let salt = fixture.queue.salt().unwrap();
    assert!(salt.len() >= 32);
    assert_eq!(fixture.queue.salt().unwrap(), salt);
    let path = fixture.queue.path.join(SALT);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "torn").unwrap();
    assert_ne!(fixture.queue.salt().unwrap(), b"torn");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(fixture.queue.salt().is_err());
}

#[test]
fn a_limit_never_lasts_longer_than_recorded() {
    let fixture = fixture();
    let (a, _a) = fixture.job("a");
    fixture.ask(&a, &login("own"));
    let month = Duration::from_secs(30 * 24 * 3_600);
    let now = || clock::now().epoch_ms();
    let ahead = clock::now().after(month).epoch_ms();
    let monotonic = clock::monotonic_ms();
    fs::create_dir(fixture.queue.path.join(LIMITS)).unwrap();
    for (until, recorded, monotonic, left) in [
        (now() + 60_000, now(), monotonic, 30..61),
        // The clock was a month ahead, and was corrected.
        (ahead + 60_000, ahead, monotonic, 30..61),
        (ahead + 60_000, ahead, monotonic.saturating_sub(61_000), 0..1),
        // The clock is a month ahead now.
        (now() - 1, now() - 60_000, monotonic, 0..1),
        // The monotonic clock has restarted.
        (now() + 60_000, now(), monotonic + 1_000_000, 30..61),
    ] {
        for (file, rest) in [(LEGACY_LIMIT, ""), ("limits/own", " met - 1 a")] {
            let text = format!("{until} {recorded} {monotonic}{rest}\n");
            fs::write(fixture.queue.path.join(file), text).unwrap();
            let seconds = fixture.ends().pop().map_or(0, |at| at.since(clock::now()).as_secs());
            assert!(left.contains(&seconds), "{until} {recorded} {monotonic} in {file}: {seconds}");
            fs::remove_file(fixture.queue.path.join(file)).unwrap();
        }
    }
}
