//! claudejob: coding tasks given to Claude Code as persistent, detached jobs whose whole state is
//! files.
//!
//! The directory is the database ([`store`]), a lock says who is live, and the lock's holder, the
//! [`worker`], is the only writer. A pure core decides: what a line of claude's stream means
//! ([`stream`]), what the worker does about it and how a job ended ([`supervisor`]). The verbs
//! ([`commands`]) translate requests into answers, and [`output`] prints them. A [`page`] shows
//! jobs in a browser.
//!
//! Dependencies point downwards: `main → requests → commands → {launch, settle, courier, queue, page,
//! claude} → store → job` and `worker → {supervisor, settle, queue, claude, store, process}`,
//! `supervisor → {stream, job}`, `page → {stream, job}`. Commands and the worker never meet but in
//! the directory.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic"))]

mod checkpoint;
mod claude;
mod cli;
mod clock;
mod commands;
mod courier;
mod error;
mod job;
mod launch;
mod output;
mod page;
mod process;
mod queue;
mod replay;
mod requests;
#[cfg(test)]
mod schemas;
mod settle;
mod store;
mod stream;
mod supervisor;
mod text;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

/// Links the unwinder, which a release needs only for the backtrace of a panic, into the program:
/// loading the shared `libgcc_s` takes a tenth of the CPU time of a `status`.
#[cfg(all(target_os = "linux", target_env = "gnu", panic = "abort"))]
#[link(name = "gcc_eh", kind = "static")]
unsafe extern "C" {}

use claude::Surroundings;
use cli::{Cli, Verb};
use commands::wait::WaitAnswer;
use error::{Error, ExitStatus};
use output::Printer;

fn main() -> ExitCode {
    process::survive_file_size_limit();
    let args: Vec<OsString> = std::env::args_os().collect();
    // The hidden programs come first: they are started for each job, must be small, and take
    // nothing that a parser would be needed for.
    if let Some(status) = hidden(&args) {
        return status;
    }
    let cli = match Cli::of(&args) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(output::usage(&error) as u8),
    };
    // As long as this program waits, others may look at its arguments.
    process::hide_arguments(&cli.verb.words_for_claude());
    let printer = Printer::new(&cli.common);
    let status = run(cli, &printer).unwrap_or_else(|error| printer.error(&error));
    ExitCode::from(status as u8)
}

/// `worker JOB_DIR [SCOPE]`, `courier JOB_DIR [locked]` and `replay --speed FACTOR [FILE]`: what [`launch`] and [`claude`] start.
fn hidden(args: &[OsString]) -> Option<ExitCode> {
    let done = match args.get(1)?.to_str()? {
        "worker" => {
            let unit = args.get(3).and_then(|unit| unit.to_str());
            worker::run(args.get(2)?.into(), unit).map(|()| 0)
        }
        "courier" => courier::run(args.get(2)?.into(), args.get(3).is_some()).map(|()| 0),
        "replay" => {
            let speed = args.get(3)?.to_str()?.parse().ok()?;
            replay::play(args.get(4).and_then(|file| file.to_str()), speed)
        }
        _ => return None,
    };
    Some(done.map_or_else(|error| ExitCode::from(output::complain(&error) as u8), ExitCode::from))
}

fn run(cli: Cli, printer: &Printer) -> Result<ExitStatus, Error> {
    let around = Surroundings::own();
    let root = requests::jobs_dir(&cli.common, &around);
    // First, because it also tells of a jobs directory that nobody can use.
    if let Verb::Doctor(given) = &cli.verb {
        let request = requests::doctor(given, root);
        return printer.doctor(&commands::doctor::doctor(&request, &around));
    }
    let root = root?;
    let store = match (store::Store::open(&root), &cli.verb) {
        // Whoever changed the directory shall not keep its jobs from being ended.
        (Err(error), Verb::Kill(given)) => {
            let id = requests::target(given.target.clone())?;
            return printer.kill(&commands::kill::kill_untrusted(&root, &id, error)?);
        }
        (store, _) => store?,
    };
    match cli.verb {
        // Answered above.
        Verb::Doctor(_) => Ok(ExitStatus::Done),
        Verb::Start(given) => {
            let wait = given.wait;
            let answer = commands::start::start(&store, requests::start(*given)?, &around)?;
            let Some(timeout) = wait else { return printer.start(&answer) };
            let ids = vec![answer.job_id];
            let (any, through_blocked) = (false, false);
            let request = commands::wait::Request { ids, any, through_blocked, timeout };
            finish(printer, &wait_for(&store, &request, printer)?)
        }
        Verb::Status(given) => {
            let id = requests::target(given.target)?;
            if given.force_host {
                commands::host::take_over(&store, std::slice::from_ref(&id))?;
            }
            printer.status(&commands::status::status(&store, &id, given.full)?)
        }
        Verb::Logs(given) => {
            let follow = given.follow;
            let request = requests::logs(given)?;
            if follow {
                commands::logs::follow(&store, &request, |part| printer.logs_on(part))?;
                return Ok(ExitStatus::Done);
            }
            printer.logs(&commands::logs::logs(&store, &request)?)
        }
        Verb::Result(given) => {
            let id = requests::target(given.target)?;
            printer.result(&commands::result::result(&store, &id, given.full)?)
        }
        Verb::List(given) => printer.list(&commands::list::list(&store, &requests::list(given)?)?),
        Verb::Stats(given) => {
            printer.stats(&commands::stats::stats(&store, &requests::stats(given))?)
        }
        Verb::Export(given) => {
            printer.export(&commands::export::export(&store, &requests::export(&given)?)?)
        }
        Verb::Wait(given) => {
            let request = requests::wait(&given)?;
            finish(printer, &wait_for(&store, &request, printer)?)
        }
        Verb::Kill(given) => {
            let id = requests::target(given.target)?;
            if given.force_host {
                commands::host::take_over(&store, std::slice::from_ref(&id))?;
            }
            printer.kill(&commands::kill::kill(&store, &id)?)
        }
        Verb::Sidecar => {
            let tell = std::sync::Arc::new(move |told: &_| Printer::line(told));
            commands::sidecar::serve(&store, around, requests::usual()?, tell);
            Ok(ExitStatus::Done)
        }
        Verb::Events(given) => {
            let request = requests::events(given)?;
            commands::events::events(&store, &request, |event| printer.event(event))?;
            Ok(ExitStatus::Done)
        }
        Verb::Answer(given) => {
            let (id, mut request) = requests::answer(given)?;
            if request.says_nothing() {
                let open = commands::answer::open(&store, &id, request.request_id.as_deref())?;
                printer.ask(&open, &mut request)?;
            }
            printer.answer(&commands::answer::answer(&store, &id, &request)?)
        }
        Verb::Send(given) => {
            let follow = given.follow;
            let request = requests::send(given)?;
            if follow {
                let say = |part: &_| printer.logs_on(part);
                let answer = commands::send::send_and_follow(&store, request, say)?;
                return printer.sent(&answer);
            }
            printer.send(&commands::send::send(&store, request)?)
        }
        Verb::Interrupt(given) => {
            let id = requests::target(given.target)?;
            printer.interrupt(&commands::send::interrupt(&store, &id)?)
        }
        Verb::Finish(given) => {
            let id = requests::target(given.target)?;
            printer.finish_job(&commands::send::finish(&store, &id)?)
        }
        Verb::Resume(given) => {
            let request = requests::resume(given)?;
            printer.recover(&commands::resume::resume(&store, request, &around)?)
        }
        Verb::Recover(given) => {
            let force_host = given.force_host;
            let request = requests::recover(given)?;
            if force_host {
                match &request.id {
                    Some(id) => commands::host::take_over(&store, std::slice::from_ref(id))?,
                    None => commands::host::take_over_all(&store)?,
                }
            }
            match &request.id {
                Some(id) => printer.recover(&commands::recover::recover(
                    &store,
                    id,
                    request.detach,
                    &around,
                )?),
                None => printer.recover_all(&commands::recover::recover_all(
                    &store,
                    request.detach,
                    &around,
                )?),
            }
        }
        Verb::Redeliver(given) => {
            let id = given.id.or(given.job_id).map(|text| commands::job_id(&text)).transpose()?;
            printer.redeliver(&commands::redeliver::redeliver(&store, id.as_ref())?)
        }
        Verb::Clean(given) => {
            let force_host = given.force_host && !given.dry_run;
            let request = requests::clean(given)?;
            match request.ids.as_slice() {
                _ if !force_host => {}
                [] => commands::host::take_over_all(&store)?,
                ids => commands::host::take_over(&store, ids)?,
            }
            printer.clean(&commands::clean::clean(&store, &request)?)
        }
        Verb::Demo(given) => {
            let request = requests::demo(given)?;
            let ended =
                commands::demo::demo(&store, request, &around, |scene| printer.scene(scene))?;
            Ok(ended.exit_status())
        }
    }
}

fn wait_for(
    store: &store::Store,
    request: &commands::wait::Request,
    printer: &Printer,
) -> Result<WaitAnswer, Error> {
    let mut line = printer.live_line();
    match &mut line {
        None => commands::wait::wait(store, request, None),
        Some(line) => commands::wait::wait(store, request, Some(&mut |status| line.show(status))),
    }
}

fn finish(printer: &Printer, answer: &WaitAnswer) -> Result<ExitStatus, Error> {
    printer.wait(answer)?;
    Ok(answer.exit_status)
}
