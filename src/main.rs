//! claudejob runs coding tasks with Claude Code as persistent, detached jobs. A job's whole state
//! is files.
//!
//! The directory is the database ([`store`]). A file lock marks a live job; the process that holds
//! it, the [`worker`], is the only writer of the job's record. A pure core makes the decisions:
//! [`stream`] interprets the lines of claude's stream, [`supervisor`] decides what the worker does
//! and how the job ended. The verbs ([`commands`]) turn requests into answers, and [`output`]
//! prints them. [`page`] renders jobs as HTML.
//!
//! Dependencies point downwards: `main → requests → commands → {launch, finalize, notifier, queue, page,
//! claude} → store → job` and `worker → {supervisor, finalize, queue, claude, store, process}`,
//! `supervisor → {stream, job}`, `page → {stream, job}`. Commands and the worker communicate only
//! through the directory.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic"))]

mod claude;
mod cli;
mod clock;
mod commands;
mod error;
mod fault_point;
mod finalize;
mod hidden_verbs;
mod job;
mod launch;
mod notifier;
mod output;
mod page;
mod process;
mod queue;
mod replay;
mod requests;
#[cfg(test)]
mod schemas;
mod store;
mod stream;
mod supervisor;
mod text;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use claude::Env;
use cli::{Cli, Verb};
use commands::wait::WaitAnswer;
use error::{Error, ExitStatus};
use output::Printer;

fn main() -> ExitCode {
    process::survive_file_size_limit();
    let args: Vec<OsString> = std::env::args_os().collect();
    // The hidden verbs come first: they are started for each job, must be cheap to start, and need
    // no parser.
    if let Some(status) = run_hidden_verb(&args) {
        return status;
    }
    let cli = match Cli::parse_args(&args) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(output::usage(&error) as u8),
    };
    // While this process waits, other users can read its arguments.
    process::hide_arguments(&cli.verb.texts_for_claude());
    let printer = Printer::new(&cli.common);
    let status = run(cli, &printer).unwrap_or_else(|error| printer.error(&error));
    ExitCode::from(status as u8)
}

/// Runs a [hidden verb](hidden_verbs), which [`launch`] or [`claude`] starts. Returns `None` for any
/// other verb.
fn run_hidden_verb(args: &[OsString]) -> Option<ExitCode> {
    let status = match args.get(1)?.to_str()? {
        hidden_verbs::WORKER => {
            let unit = args.get(3).and_then(|unit| unit.to_str());
            worker::run(args.get(2)?.into(), unit).map(|()| 0)
        }
        hidden_verbs::NOTIFIER => {
            notifier::run(args.get(2)?.into(), args.get(3).is_some()).map(|()| 0)
        }
        hidden_verbs::REPLAY => {
            let speed = args.get(3)?.to_str()?.parse().ok()?;
            replay::play(args.get(4).and_then(|file| file.to_str()), speed)
        }
        _ => return None,
    };
    Some(status.map_or_else(
        |error| ExitCode::from(output::print_hidden_error(&error) as u8),
        ExitCode::from,
    ))
}

fn run(cli: Cli, printer: &Printer) -> Result<ExitStatus, Error> {
    let env = Env::own();
    let root = requests::jobs_dir(&cli.common, &env);
    // `doctor` comes first, because it also reports a jobs directory that cannot be used.
    if let Verb::Doctor(args) = &cli.verb {
        let request = requests::doctor(args, root);
        return printer.doctor(&commands::doctor::doctor(&request, &env));
    }
    let root = root?;
    let store = match (store::Store::open(&root), &cli.verb) {
        // Jobs can be killed even if another user has tampered with the directory.
        (Err(error), Verb::Kill(args)) => {
            let id = requests::target(args.target.clone())?;
            return printer.kill(&commands::kill::kill_untrusted(&root, &id, error)?);
        }
        (store, _) => store?,
    };
    match cli.verb {
        // Handled above.
        Verb::Doctor(_) => Ok(ExitStatus::Done),
        Verb::Start(args) => {
            let wait = args.wait;
            let answer = commands::start::start(&store, requests::start(*args)?, &env)?;
            let Some(timeout) = wait else { return printer.start(&answer) };
            let ids = vec![answer.job_id];
            let (any, through_blocked) = (false, false);
            let request = commands::wait::WaitRequest { ids, any, through_blocked, timeout };
            print_wait(printer, &wait_for(&store, &request, printer)?)
        }
        Verb::Status(args) => {
            let id = requests::target(args.target)?;
            if args.force_host {
                commands::host_takeover::take_over(&store, std::slice::from_ref(&id))?;
            }
            printer.status(&commands::status::status(&store, &id, args.full)?)
        }
        Verb::Logs(args) => {
            let follow = args.follow;
            let request = requests::logs(args)?;
            if follow {
                commands::logs::follow(&store, &request, |part| printer.log_part(part))?;
                return Ok(ExitStatus::Done);
            }
            printer.logs(&commands::logs::logs(&store, &request)?)
        }
        Verb::Result(args) => {
            let id = requests::target(args.target)?;
            printer.result(&commands::result::result(&store, &id, args.full)?)
        }
        Verb::List(args) => printer.list(&commands::list::list(&store, &requests::list(args)?)?),
        Verb::Stats(args) => {
            printer.stats(&commands::stats::stats(&store, &requests::stats(args))?)
        }
        Verb::Export(args) => {
            printer.export(&commands::export::export(&store, &requests::export(&args)?)?)
        }
        Verb::Wait(args) => {
            let request = requests::wait(&args)?;
            print_wait(printer, &wait_for(&store, &request, printer)?)
        }
        Verb::Kill(args) => {
            let id = requests::target(args.target)?;
            if args.force_host {
                commands::host_takeover::take_over(&store, std::slice::from_ref(&id))?;
            }
            printer.kill(&commands::kill::kill(&store, &id)?)
        }
        Verb::Sidecar => {
            let write = std::sync::Arc::new(move |event: &_| Printer::sidecar_line(event));
            commands::sidecar::serve(&store, env, requests::default_spec()?, write);
            Ok(ExitStatus::Done)
        }
        Verb::Events(args) => {
            let request = requests::events(args)?;
            commands::events::events(&store, &request, |event| printer.event(event))?;
            Ok(ExitStatus::Done)
        }
        Verb::Answer(args) => {
            let (id, mut request) = requests::answer(args)?;
            if request.is_empty() {
                let open = commands::answer::open(&store, &id, request.request_id.as_deref())?;
                printer.read_answer(&open, &mut request)?;
            }
            printer.answer(&commands::answer::answer(&store, &id, &request)?)
        }
        Verb::Send(args) => {
            let follow = args.follow;
            let request = requests::send(args)?;
            if follow {
                let print = |part: &_| printer.log_part(part);
                let answer = commands::send::send_and_follow(&store, request, print)?;
                return printer.send_followed(&answer);
            }
            printer.send(&commands::send::send(&store, request)?)
        }
        Verb::Interrupt(args) => {
            let id = requests::target(args.target)?;
            printer.interrupt(&commands::send::interrupt(&store, &id)?)
        }
        Verb::Finish(args) => {
            let id = requests::target(args.target)?;
            printer.finish(&commands::send::finish(&store, &id)?)
        }
        Verb::Resume(args) => {
            let request = requests::resume(args)?;
            printer.recover(&commands::resume::resume(&store, request, &env)?)
        }
        Verb::Recover(args) => {
            let force_host = args.force_host;
            let request = requests::recover(args)?;
            if force_host {
                match &request.id {
                    Some(id) => {
                        commands::host_takeover::take_over(&store, std::slice::from_ref(id))?;
                    }
                    None => commands::host_takeover::take_over_all(&store)?,
                }
            }
            match &request.id {
                Some(id) => {
                    printer.recover(&commands::recover::recover(&store, id, request.detach, &env)?)
                }
                None => printer.recover_all(&commands::recover::recover_all(
                    &store,
                    request.detach,
                    &env,
                )?),
            }
        }
        Verb::Redeliver(args) => {
            let id =
                args.id.or(args.job_id).map(|text| commands::parse_job_id(&text)).transpose()?;
            printer.redeliver(&commands::redeliver::redeliver(&store, id.as_ref())?)
        }
        Verb::Clean(args) => {
            let force_host = args.force_host && !args.dry_run;
            let request = requests::clean(args)?;
            match request.ids.as_slice() {
                _ if !force_host => {}
                [] => commands::host_takeover::take_over_all(&store)?,
                ids => commands::host_takeover::take_over(&store, ids)?,
            }
            printer.clean(&commands::clean::clean(&store, &request)?)
        }
        Verb::Demo(args) => {
            let request = requests::demo(args)?;
            let ended = commands::demo::demo(&store, request, &env, |scene| printer.scene(scene))?;
            Ok(ended.exit_status())
        }
    }
}

fn wait_for(
    store: &store::Store,
    request: &commands::wait::WaitRequest,
    printer: &Printer,
) -> Result<WaitAnswer, Error> {
    let mut line = printer.live_line();
    match &mut line {
        None => commands::wait::wait(store, request, None),
        Some(line) => commands::wait::wait(store, request, Some(&mut |status| line.show(status))),
    }
}

fn print_wait(printer: &Printer, answer: &WaitAnswer) -> Result<ExitStatus, Error> {
    printer.wait(answer)?;
    Ok(answer.exit_status)
}
