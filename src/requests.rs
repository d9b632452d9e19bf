//! Converts parsed arguments into requests of the verbs.

mod inputs;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::claude::Env;
use crate::cli;
use crate::clock;
use crate::commands::{
    answer, clean, doctor, events, export, list, logs, parse_job_id, recover, resume, send, start,
    stats, wait,
};
use crate::error::Error;
use crate::job::{
    JobId, NotifyEvent, QueueOptions, Replay, Spec, SpecChange, Status, Timestamp, WakeTarget,
    milliseconds,
};
use crate::launch::DetachMode;
use crate::store;
use inputs::{absolute, cwd, file_or_json, program, read_text, schema, text};

/// Maximum number of jobs that one job waits for.
const MAX_DEPENDENCIES: usize = 100;

/// Returns the path of the jobs directory: the option, its variable, or the platform's default.
pub(crate) fn jobs_dir(common: &cli::Common, env: &Env) -> Result<PathBuf, Error> {
    let path = common.jobs_dir.clone().filter(|path| !path.as_os_str().is_empty());
    match path {
        Some(path) => absolute(&path),
        None => {
            let root = store::default_root(|name| env.get(name).cloned());
            let missing = "neither HOME nor XDG_STATE_HOME is set: use --jobs-dir";
            root.ok_or_else(|| Error::Usage(missing.to_owned()))
        }
    }
}

/// Converts the arguments of `doctor`, which reports invalid ones itself.
pub(crate) fn doctor(args: &cli::Doctor, root: Result<PathBuf, Error>) -> doctor::DoctorRequest {
    let claude = args.claude.clone().filter(|path| !path.as_os_str().is_empty());
    let claude = claude.map(|path| program(&path).unwrap_or(path));
    doctor::DoctorRequest { root, claude, cwd: std::env::current_dir().unwrap_or_default() }
}

/// Parses the id of a verb with one job.
pub(crate) fn target(target: cli::JobIdArgs) -> Result<JobId, Error> {
    parse_job_id(&target.into_id())
}

/// Converts the arguments of `start`.
pub(crate) fn start(args: cli::Start) -> Result<start::StartRequest, Error> {
    let prompt = prompt(&args)?;
    let id = args.id.or(args.job_id).map(|text| parse_job_id(&text)).transpose()?;
    let replay = args.replay.as_deref().map(|file| {
        Ok::<_, Error>(Replay { file: Some(text(absolute(file)?)?), speed: args.replay_speed })
    });
    if args.label.len() > 10 {
        return Err(Error::Usage("at most 10 labels".to_owned()));
    }
    let resume_job = args.resume_job.as_deref().map(parse_job_id).transpose()?;
    if args.fork && resume_job.is_none() && args.resume.is_none() {
        return Err(Error::Usage("--fork needs --resume or --resume-job".to_owned()));
    }
    let after = job_ids(&args.after)?;
    let after_any = job_ids(&args.after_any)?;
    if after.len() + after_any.len() > MAX_DEPENDENCIES {
        return Err(Error::Usage(format!(
            "a job can wait for at most {MAX_DEPENDENCIES} other jobs"
        )));
    }
    let admission = QueueOptions {
        max_parallel: args.max_parallel,
        priority: args.priority,
        stagger_ms: milliseconds(args.stagger),
        limit_wait_ms: if args.no_wait_for_reset { 0 } else { milliseconds(args.max_wait) },
        group_limit: args.group_limit,
        group: args.group,
        no_queue: args.no_queue,
    };
    let on_event_filter =
        args.on_event_filter.iter().map(|name| notify_event(name)).collect::<Result<_, _>>()?;
    let wake = args.wake_url.map(|url| {
        let (token_env, session) = (args.wake_token_env, args.wake_session);
        WakeTarget { url, token_env, session }
    });
    let schema = args.json_schema.as_deref().map(schema).transpose()?;
    let mut spec = Spec {
        cwd: match (&args.cwd, &resume_job) {
            (None, Some(_)) => String::new(),
            (path, _) => cwd(path.as_deref())?,
        },
        claude: match &args.claude {
            None => String::new(),
            Some(path) if path.as_os_str().is_empty() => String::new(),
            Some(path) => text(program(path)?)?,
        },
        replay: replay.transpose()?,
        add_dirs: args
            .add_dir
            .iter()
            .map(|path| text(absolute(path)?))
            .collect::<Result<_, _>>()?,
        json_schema: schema,
        mcp_config: args
            .mcp_config
            .iter()
            .map(|config| file_or_json(config))
            .collect::<Result<_, _>>()?,
        settings: args.settings.as_deref().map(file_or_json).transpose()?,
        resume: args.resume,
        fork: args.fork,
        fallback_model: args.fallback_model,
        extra_args: args.extra_args,
        fail_on_denial: args.fail_on_denial,
        fail_on_mcp: args.fail_on_mcp,
        keep_alive: args.keep_alive,
        idle_timeout_ms: milliseconds(args.idle_timeout),
        restart: args.restart == cli::Restart::OnFailure,
        max_restarts: args.max_restarts,
        ask: args.ask,
        block_timeout_ms: args.block_timeout.map(milliseconds),
        no_recover: args.no_recover,
        memory_max: args.memory_max,
        queue_options: admission,
        start_delay_ms: args.start_delay.map_or(0, milliseconds),
        after,
        after_any,
        retries: args.retries,
        max_backoff_ms: milliseconds(args.max_backoff),
        no_wait_for_reset: args.no_wait_for_reset,
        max_wait_ms: milliseconds(args.max_wait),
        on_event: args.on_event.into_iter().filter(|command| !command.is_empty()).collect(),
        on_event_filter,
        on_event_timeout_ms: args.on_event_timeout.map(milliseconds),
        wake,
        background_wait_ms: milliseconds(args.background_wait),
        labels: args.label.into_iter().collect(),
        ..Spec::default()
    };
    spec_change(args.run).apply(&mut spec);
    let detach = detach_mode(args.detach);
    let if_absent = args.if_absent;
    let budget = args.budget_usd.map(|(usd, over)| start::Budget { usd, over });
    Ok(start::StartRequest { id, prompt, spec, if_absent, detach, resume_job, budget })
}

/// Returns the specification of a job by the defaults of `start` and its variables.
pub(crate) fn default_spec() -> Result<Spec, Error> {
    let parsed = cli::Cli::parse_args(&["claudejob", "start", "--prompt", "-"].map(OsString::from));
    let parsed =
        parsed.map_err(|error| Error::Usage(crate::text::one_line(&error.to_string(), 300)))?;
    match parsed.verb {
        cli::Verb::Start(args) => {
            Ok(start(cli::Start { prompt: Some("x".to_owned()), ..*args })?.spec)
        }
        _ => Ok(Spec::default()),
    }
}

/// Converts the arguments of `demo`: a built-in recording, or the installed claude.
pub(crate) fn demo(args: cli::Demo) -> Result<start::StartRequest, Error> {
    let is_real = args.real.is_some();
    let prompt = args.real.unwrap_or_else(|| "Fix the failing test in src/slug.rs".to_owned());
    let spec = Spec {
        cwd: cwd(None)?,
        replay: (!is_real).then_some(Replay { file: None, speed: 1.0 }),
        permission_mode: "default".to_owned(),
        ..Spec::default()
    };
    Ok(start::StartRequest {
        id: None,
        prompt: prompt.into_bytes(),
        spec,
        if_absent: false,
        detach: DetachMode::Auto,
        resume_job: None,
        budget: None,
    })
}

/// Converts the arguments of `recover`.
pub(crate) fn recover(args: cli::Recover) -> Result<recover::RecoverRequest, Error> {
    let id = args.id.or(args.job_id).map(|text| parse_job_id(&text)).transpose()?;
    Ok(recover::RecoverRequest { id, detach: detach_mode(args.detach) })
}

/// Converts the arguments of `clean`.
pub(crate) fn clean(args: cli::Clean) -> Result<clean::CleanRequest, Error> {
    Ok(clean::CleanRequest {
        ids: ids(&args.ids, &args.job_id)?,
        spare: None,
        keep: args.keep,
        older_than: args.older_than,
        labels: args.label,
        dry_run: args.dry_run,
    })
}

/// Converts the arguments of `events`.
pub(crate) fn events(args: cli::Events) -> Result<events::EventsRequest, Error> {
    let id = args.id.or(args.job_id).map(|text| parse_job_id(&text)).transpose()?;
    Ok(events::EventsRequest { id, since: args.since, follow: args.follow })
}

/// Converts the arguments of `answer`.
pub(crate) fn answer(args: cli::Answer) -> Result<(JobId, answer::AnswerRequest), Error> {
    let request = answer::AnswerRequest {
        request_id: args.request_id,
        choices: args.choice,
        text: args.text,
        allow: args.allow,
        deny: args.deny,
        message: args.message,
        release: args.release,
    };
    Ok((target(args.target)?, request))
}

/// Converts the arguments of `send`.
pub(crate) fn send(args: cli::Send) -> Result<send::SendRequest, Error> {
    let message = message(&args.message)?;
    let missing = || Error::Usage("use --message or --message-file".to_owned());
    let id = target(args.target)?;
    Ok(send::SendRequest { id, message: message.ok_or_else(missing)?, wait: args.wait })
}

/// Converts the arguments of `resume`.
pub(crate) fn resume(args: cli::Resume) -> Result<resume::ResumeRequest, Error> {
    let message = message(&args.message)?;
    let change = spec_change(args.run);
    Ok(resume::ResumeRequest {
        id: target(args.target)?,
        message,
        change,
        detach: detach_mode(args.detach),
    })
}

fn spec_change(args: cli::RunOptions) -> SpecChange {
    SpecChange {
        model: args.model.filter(|model| !model.is_empty()),
        effort: args.effort,
        permission_mode: args.permission_mode,
        allowed_tools: args.allowed_tools,
        disallowed_tools: args.disallowed_tools,
        append_system_prompt: args.append_system_prompt,
        max_turns: args.max_turns,
        max_budget_usd: args.max_budget_usd,
        timeout_ms: args.timeout.map(milliseconds),
        stall_timeout_ms: args.stall_timeout.map(milliseconds),
        tool_timeout_ms: args.tool_timeout.map(milliseconds),
    }
}

fn message(args: &cli::Message) -> Result<Option<Vec<u8>>, Error> {
    match (&args.message, &args.message_file) {
        (None, None) => Ok(None),
        (text, file) => {
            let message = read_text(text.as_deref(), file.as_deref(), send::MAX_MESSAGE_BYTES)?;
            Ok(Some(message))
        }
    }
}

fn detach_mode(detach: cli::Detach) -> DetachMode {
    match detach {
        cli::Detach::Auto => DetachMode::Auto,
        cli::Detach::Session => DetachMode::Session,
        cli::Detach::Scope => DetachMode::Scope,
    }
}

/// Converts the arguments of `logs`.
pub(crate) fn logs(args: cli::Logs) -> Result<logs::LogsRequest, Error> {
    let form = match (args.raw, args.stderr) {
        (_, true) => logs::LogFormat::Stderr,
        (true, false) => logs::LogFormat::Raw,
        (false, false) => logs::LogFormat::Readable,
    };
    if args.merged && args.since_offset.is_some() {
        let why = "--since-offset cannot be used with --merged, because an offset counts bytes of one \
            stream: use --merged with --tail or --follow, or --since-offset without --merged";
        return Err(Error::Usage(why.to_owned()));
    }
    Ok(logs::LogsRequest {
        id: target(args.target)?,
        tail: args.tail,
        since: args.since_offset,
        max_bytes: args.max_bytes,
        format: form,
        merged: args.merged,
    })
}

/// Converts the arguments of `list`.
pub(crate) fn list(args: cli::List) -> Result<list::ListRequest, Error> {
    let statuses = args.status.iter().map(|name| status(name)).collect::<Result<_, _>>()?;
    let since = args.since.as_deref().map(|text| since(text, clock::now())).transpose()?;
    let order = match args.sort {
        cli::Sort::Started => list::Order::Started,
        cli::Sort::Ended => list::Order::Ended,
        cli::Sort::Cost => list::Order::Cost,
        cli::Sort::Turns => list::Order::Turns,
        cli::Sort::Status => list::Order::Status,
        cli::Sort::Id => list::Order::Id,
    };
    Ok(list::ListRequest {
        all: args.all,
        statuses,
        labels: args.label,
        group: args.group,
        undelivered: args.undelivered,
        since,
        limit: args.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        order,
        reverse: args.reverse,
    })
}

fn status(name: &str) -> Result<Status, Error> {
    let known = Status::ALL.into_iter().find(|status| status.as_str() == name);
    known.ok_or_else(|| {
        let names = Status::ALL.map(Status::as_str).join(", ");
        Error::Usage(format!("unknown status '{}': use {names}", name.escape_debug()))
    })
}

/// Parses a point in time: a timestamp, or a duration before now.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    let ago = || cli::duration(text).ok().map(|duration| now.before(duration));
    Timestamp::parse(text).or_else(ago).ok_or_else(|| {
        Error::Usage(format!(
            "invalid time '{}': use a duration, such as 90s, 2h or 7d, or a time, such as {now}",
            text.escape_debug()
        ))
    })
}

/// Converts the arguments of `stats`.
pub(crate) fn stats(args: cli::Stats) -> stats::StatsRequest {
    let by = match args.by {
        cli::GroupByArg::Day => stats::GroupBy::Day,
        cli::GroupByArg::Model => stats::GroupBy::Model,
        cli::GroupByArg::Group => stats::GroupBy::Group,
        cli::GroupByArg::Status => stats::GroupBy::Status,
        cli::GroupByArg::Label(key) => stats::GroupBy::Label(key),
    };
    stats::StatsRequest { by, since: args.since.map(timestamp), labels: args.label, all: args.all }
}

/// Converts the arguments of `export`.
pub(crate) fn export(args: &cli::Export) -> Result<export::ExportRequest, Error> {
    Ok(export::ExportRequest {
        file: absolute(&args.html)?,
        ids: ids(&args.ids, &args.job_id)?,
        labels: args.label.clone(),
        since: args.since.map(timestamp),
    })
}

/// Returns the point in time, at the earliest 1970.
fn timestamp(since: cli::Since) -> Timestamp {
    match since {
        cli::Since::At(time) => Timestamp::new(time),
        cli::Since::Ago(ago) => clock::now().before(ago),
    }
}

/// Converts the arguments of `wait`.
pub(crate) fn wait(args: &cli::Wait) -> Result<wait::WaitRequest, Error> {
    let ids = ids(&args.ids, &args.job_id)?;
    let (any, through_blocked) = (args.any, args.through_blocked);
    Ok(wait::WaitRequest { ids, any, through_blocked, timeout: args.timeout })
}

/// Parses ids from arguments and options, without duplicates.
fn ids(arguments: &[String], options: &[String]) -> Result<Vec<JobId>, Error> {
    let mut ids = Vec::new();
    for text in arguments.iter().chain(options) {
        let id = parse_job_id(text)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn prompt(args: &cli::Start) -> Result<Vec<u8>, Error> {
    read_text(args.prompt.as_deref(), args.prompt_file.as_deref(), start::MAX_PROMPT_BYTES)
}

fn job_ids(texts: &[String]) -> Result<Vec<JobId>, Error> {
    texts.iter().map(|text| parse_job_id(text)).collect()
}

fn notify_event(name: &str) -> Result<NotifyEvent, Error> {
    let known = NotifyEvent::ALL.into_iter().find(|event| event.as_str() == name);
    known.ok_or_else(|| {
        let names = NotifyEvent::ALL.map(NotifyEvent::as_str).join(", ");
        Error::Usage(format!("unknown event '{}': use {names}", name.escape_debug()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_accepts_times_and_durations() {
        let now = Timestamp::parse("2026-11-20T21:45:12Z").unwrap();
        for (text, time) in [
            ("72", Some("2026-11-20T21:44:00.000Z")),
            ("1h 45m", Some("2026-11-20T20:00:12.000Z")),
            ("7d", Some("2026-11-13T21:45:12.000Z")),
            ("2026-11-20T01:00:00+02:00", Some("2026-11-19T23:00:00.000Z")),
            ("1000years", Some("1970-01-01T00:00:00.000Z")),
            ("yesterday", None),
            ("2026-11-20", None),
            ("-1h", None),
            ("", None),
        ] {
            let parsed = since(text, now).map(|time| time.to_string()).ok();
            assert_eq!(parsed.as_deref(), time, "{text:?}");
        }
        let error = since("soon", now).unwrap_err().to_string();
        assert!(error.contains("90s, 2h or 7d") && error.contains("2026-11-20T"), "{error}");
    }
}
