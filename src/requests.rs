//! What was said on the command line, as requests to the verbs.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::claude::Surroundings;
use crate::cli;
use crate::clock;
use crate::commands::{
    answer, clean, doctor, events, export, job_id, list, logs, recover, resume, send, start, stats,
    wait,
};
use crate::error::Error;
use crate::job::{
    Admission, JobId, Milestone, Replay, Spec, SpecChange, Status, Timestamp, Wake, milliseconds,
};
use crate::launch::Wish;
use crate::store;

/// Jobs that one job may wait for.
const AFTER_MOST: usize = 100;

/// The path of the jobs directory: the flag or its variable, or else the platform's place for
/// state.
pub fn jobs_dir(common: &cli::Common, around: &Surroundings) -> Result<PathBuf, Error> {
    let given = common.jobs_dir.clone().filter(|path| !path.as_os_str().is_empty());
    match given {
        Some(path) => absolute(&path),
        None => {
            let root = store::default_root(|name| around.get(name).cloned());
            let missing = "neither HOME nor XDG_STATE_HOME is set: give --jobs-dir";
            root.ok_or_else(|| Error::Usage(missing.to_owned()))
        }
    }
}

/// `doctor`. What of it is wrong is for `doctor` to tell.
pub fn doctor(given: &cli::Doctor, root: Result<PathBuf, Error>) -> doctor::Request {
    let claude = given.claude.clone().filter(|path| !path.as_os_str().is_empty());
    let claude = claude.map(|path| program(&path).unwrap_or(path));
    doctor::Request { root, claude, cwd: std::env::current_dir().unwrap_or_default() }
}

/// The id of a verb about one job.
pub fn target(target: cli::Target) -> Result<JobId, Error> {
    job_id(&target.into_id())
}

/// `start`.
pub fn start(given: cli::Start) -> Result<start::Request, Error> {
    let prompt = prompt(&given)?;
    let id = given.id.or(given.job_id).map(|text| job_id(&text)).transpose()?;
    let replay = given.replay.as_deref().map(|file| {
        Ok::<_, Error>(Replay { file: Some(text(absolute(file)?)?), speed: given.replay_speed })
    });
    if given.label.len() > 10 {
        return Err(Error::Usage("at most 10 labels".to_owned()));
    }
    let resume_job = given.resume_job.as_deref().map(job_id).transpose()?;
    if given.fork && resume_job.is_none() && given.resume.is_none() {
        return Err(Error::Usage("--fork needs --resume or --resume-job".to_owned()));
    }
    let after = job_ids(&given.after)?;
    let after_any = job_ids(&given.after_any)?;
    if after.len() + after_any.len() > AFTER_MOST {
        return Err(Error::Usage(format!("a job waits for at most {AFTER_MOST} others")));
    }
    let admission = Admission {
        max_parallel: given.max_parallel,
        priority: given.priority,
        stagger_ms: milliseconds(given.stagger),
        limit_wait_ms: if given.no_wait_for_reset { 0 } else { milliseconds(given.max_wait) },
        group_limit: given.group_limit,
        group: given.group,
        no_queue: given.no_queue,
    };
    let on_event_filter =
        given.on_event_filter.iter().map(|word| milestone(word)).collect::<Result<_, _>>()?;
    let wake = given.wake_url.map(|url| {
        let (token_env, session) = (given.wake_token_env, given.wake_session);
        Wake { url, token_env, session }
    });
    let schema = given.json_schema.as_deref().map(schema).transpose()?;
    let mut spec = Spec {
        cwd: match (&given.cwd, &resume_job) {
            (None, Some(_)) => String::new(),
            (given, _) => cwd(given.as_deref())?,
        },
        claude: match &given.claude {
            None => String::new(),
            Some(path) if path.as_os_str().is_empty() => String::new(),
            Some(path) => text(program(path)?)?,
        },
        replay: replay.transpose()?,
        add_dirs: given
            .add_dir
            .iter()
            .map(|path| text(absolute(path)?))
            .collect::<Result<_, _>>()?,
        json_schema: schema,
        mcp_config: given
            .mcp_config
            .iter()
            .map(|config| file_or_json(config))
            .collect::<Result<_, _>>()?,
        settings: given.settings.as_deref().map(file_or_json).transpose()?,
        resume: given.resume,
        fork: given.fork,
        fallback_model: given.fallback_model,
        extra_args: given.extra_args,
        fail_on_denial: given.fail_on_denial,
        fail_on_mcp: given.fail_on_mcp,
        keep_alive: given.keep_alive,
        idle_timeout_ms: milliseconds(given.idle_timeout),
        restart: given.restart == cli::Restart::OnFailure,
        max_restarts: given.max_restarts,
        ask: given.ask,
        block_timeout_ms: given.block_timeout.map(milliseconds),
        no_recover: given.no_recover,
        memory_max: given.memory_max,
        admission,
        start_delay_ms: given.start_delay.map_or(0, milliseconds),
        after,
        after_any,
        retries: given.retries,
        max_backoff_ms: milliseconds(given.max_backoff),
        no_wait_for_reset: given.no_wait_for_reset,
        max_wait_ms: milliseconds(given.max_wait),
        on_event: given.on_event.into_iter().filter(|command| !command.is_empty()).collect(),
        on_event_filter,
        on_event_timeout_ms: given.on_event_timeout.map(milliseconds),
        wake,
        background_wait_ms: milliseconds(given.background_wait),
        labels: given.label.into_iter().collect(),
        ..Spec::default()
    };
    spec_change(given.run).apply(&mut spec);
    let detach = wish(given.detach);
    let if_absent = given.if_absent;
    let budget = given.budget_usd.map(|(usd, over)| start::Budget { usd, over });
    Ok(start::Request { id, prompt, spec, if_absent, detach, resume_job, budget })
}

/// What a job is asked where nothing is said: the defaults of `start`, and its variables.
pub fn usual() -> Result<Spec, Error> {
    let parsed = cli::Cli::of(&["claudejob", "start", "--prompt", "-"].map(OsString::from));
    let parsed =
        parsed.map_err(|error| Error::Usage(crate::text::one_line(&error.to_string(), 300)))?;
    match parsed.verb {
        cli::Verb::Start(given) => {
            Ok(start(cli::Start { prompt: Some("x".to_owned()), ..*given })?.spec)
        }
        _ => Ok(Spec::default()),
    }
}

/// `demo`: with the recording that is built in, or for real.
pub fn demo(given: cli::Demo) -> Result<start::Request, Error> {
    let real = given.real.is_some();
    let prompt = given.real.unwrap_or_else(|| "Fix the failing test in src/slug.rs".to_owned());
    let spec = Spec {
        cwd: cwd(None)?,
        replay: (!real).then_some(Replay { file: None, speed: 1.0 }),
        permission_mode: "default".to_owned(),
        ..Spec::default()
    };
    Ok(start::Request {
        id: None,
        prompt: prompt.into_bytes(),
        spec,
        if_absent: false,
        detach: Wish::Auto,
        resume_job: None,
        budget: None,
    })
}

/// `recover`.
pub fn recover(given: cli::Recover) -> Result<recover::Request, Error> {
    let id = given.id.or(given.job_id).map(|text| job_id(&text)).transpose()?;
    Ok(recover::Request { id, detach: wish(given.detach) })
}

/// `clean`.
pub fn clean(given: cli::Clean) -> Result<clean::Request, Error> {
    Ok(clean::Request {
        ids: ids(&given.ids, &given.job_id)?,
        spare: None,
        keep: given.keep,
        older_than: given.older_than,
        labels: given.label,
        dry_run: given.dry_run,
    })
}

/// `events`.
pub fn events(given: cli::Events) -> Result<events::Request, Error> {
    let id = given.id.or(given.job_id).map(|text| job_id(&text)).transpose()?;
    Ok(events::Request { id, since: given.since, follow: given.follow })
}

/// `answer`.
pub fn answer(given: cli::Answer) -> Result<(JobId, answer::Request), Error> {
    let request = answer::Request {
        request_id: given.request_id,
        choices: given.choice,
        text: given.text,
        allow: given.allow,
        deny: given.deny,
        message: given.message,
        release: given.release,
    };
    Ok((target(given.target)?, request))
}

/// `send`.
pub fn send(given: cli::Send) -> Result<send::Request, Error> {
    let message = message(&given.message)?;
    let missing = || Error::Usage("give --message or --message-file".to_owned());
    let id = target(given.target)?;
    Ok(send::Request { id, message: message.ok_or_else(missing)?, wait: given.wait })
}

/// `resume`.
pub fn resume(given: cli::Resume) -> Result<resume::Request, Error> {
    let message = message(&given.message)?;
    let change = spec_change(given.run);
    Ok(resume::Request { id: target(given.target)?, message, change, detach: wish(given.detach) })
}

fn spec_change(given: cli::RunOptions) -> SpecChange {
    SpecChange {
        model: given.model.filter(|model| !model.is_empty()),
        effort: given.effort,
        permission_mode: given.permission_mode,
        allowed_tools: given.allowed_tools,
        disallowed_tools: given.disallowed_tools,
        append_system_prompt: given.append_system_prompt,
        max_turns: given.max_turns,
        max_budget_usd: given.max_budget_usd,
        timeout_ms: given.timeout.map(milliseconds),
        stall_timeout_ms: given.stall_timeout.map(milliseconds),
        tool_timeout_ms: given.tool_timeout.map(milliseconds),
    }
}

fn message(given: &cli::Message) -> Result<Option<Vec<u8>>, Error> {
    match (&given.message, &given.message_file) {
        (None, None) => Ok(None),
        (text, file) => {
            let message = words(text.as_deref(), file.as_deref(), send::MESSAGE_MOST)?;
            Ok(Some(message))
        }
    }
}

fn wish(detach: cli::Detach) -> Wish {
    match detach {
        cli::Detach::Auto => Wish::Auto,
        cli::Detach::Session => Wish::Session,
        cli::Detach::Scope => Wish::Scope,
    }
}

/// `logs`.
pub fn logs(given: cli::Logs) -> Result<logs::Request, Error> {
    let form = match (given.raw, given.stderr) {
        (_, true) => logs::Form::Stderr,
        (true, false) => logs::Form::Raw,
        (false, false) => logs::Form::Readable,
    };
    if given.merged && given.since_offset.is_some() {
        let why = "--since-offset cannot be used with --merged: an offset counts bytes of one \
            stream. Use --merged with --tail or --follow, or --since-offset without --merged";
        return Err(Error::Usage(why.to_owned()));
    }
    Ok(logs::Request {
        id: target(given.target)?,
        tail: given.tail,
        since: given.since_offset,
        max_bytes: given.max_bytes,
        form,
        merged: given.merged,
    })
}

/// `list`.
pub fn list(given: cli::List) -> Result<list::Request, Error> {
    let status = |word: &String| {
        let known = Status::ALL.into_iter().find(|status| status.as_str() == word);
        known.ok_or_else(|| {
            let words = Status::ALL.map(Status::as_str).join(", ");
            Error::Usage(format!("{word:?} is no status; there are {words}"))
        })
    };
    let statuses = given.status.iter().map(status).collect::<Result<_, _>>()?;
    let since = given.since.as_deref().map(|text| since(text, clock::now())).transpose()?;
    let order = match given.sort {
        cli::Sort::Started => list::Order::Started,
        cli::Sort::Ended => list::Order::Ended,
        cli::Sort::Cost => list::Order::Cost,
        cli::Sort::Turns => list::Order::Turns,
        cli::Sort::Status => list::Order::Status,
        cli::Sort::Id => list::Order::Id,
    };
    Ok(list::Request {
        all: given.all,
        statuses,
        labels: given.label,
        group: given.group,
        undelivered: given.undelivered,
        since,
        limit: given.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        order,
        reverse: given.reverse,
    })
}

/// A point in time, given as such or as how long ago it was.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    let ago = || cli::duration(text).ok().map(|duration| now.before(duration));
    Timestamp::parse(text).or_else(ago).ok_or_else(|| {
        Error::Usage(format!(
            "{text:?} is neither a duration, such as 90s, 2h or 7d, nor a time, such as {now}"
        ))
    })
}

/// `stats`.
pub fn stats(given: cli::Stats) -> stats::Request {
    let by = match given.by {
        cli::By::Day => stats::By::Day,
        cli::By::Model => stats::By::Model,
        cli::By::Group => stats::By::Group,
        cli::By::Status => stats::By::Status,
        cli::By::Label(key) => stats::By::Label(key),
    };
    stats::Request { by, since: given.since.map(point), labels: given.label, all: given.all }
}

/// `export`.
pub fn export(given: &cli::Export) -> Result<export::Request, Error> {
    Ok(export::Request {
        file: absolute(&given.html)?,
        ids: ids(&given.ids, &given.job_id)?,
        labels: given.label.clone(),
        since: given.since.map(point),
    })
}

/// The point in time; what lies too far back is 1970.
fn point(since: cli::Since) -> Timestamp {
    match since {
        cli::Since::At(time) => Timestamp::new(time),
        cli::Since::Ago(ago) => clock::now().before(ago),
    }
}

/// `wait`.
pub fn wait(given: &cli::Wait) -> Result<wait::Request, Error> {
    let ids = ids(&given.ids, &given.job_id)?;
    let (any, through_blocked) = (given.any, given.through_blocked);
    Ok(wait::Request { ids, any, through_blocked, timeout: given.timeout })
}

/// Ids given in either way, each once.
fn ids(given: &[String], by_flag: &[String]) -> Result<Vec<JobId>, Error> {
    let mut ids = Vec::new();
    for text in given.iter().chain(by_flag) {
        let id = job_id(text)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn prompt(given: &cli::Start) -> Result<Vec<u8>, Error> {
    words(given.prompt.as_deref(), given.prompt_file.as_deref(), start::PROMPT_MOST)
}

/// Text that is given as it is, by `-` on stdin, or in a file. Of one with more than `most` bytes
/// one byte more is read, by which it is seen to be too long.
fn words(given: Option<&str>, file: Option<&Path>, most: usize) -> Result<Vec<u8>, Error> {
    let read = |source: &mut dyn Read, from: String| {
        let mut words = Vec::new();
        let read = source.take(most as u64 + 1).read_to_end(&mut words);
        read.map_err(|error| Error::PromptUnreadable(from, error))?;
        Ok(words)
    };
    match (given, file) {
        (Some("-"), _) => read(&mut std::io::stdin().lock(), "stdin".to_owned()),
        (Some(words), _) => Ok(words.as_bytes().to_vec()),
        (None, Some(file)) => {
            let from = file.display().to_string();
            match fs::File::open(file) {
                Ok(mut opened) => read(&mut opened, from),
                Err(error) => Err(Error::PromptUnreadable(from, error)),
            }
        }
        // Only a replay needs none.
        (None, None) => Ok(b"(a recording is replayed)".to_vec()),
    }
}

fn job_ids(given: &[String]) -> Result<Vec<JobId>, Error> {
    given.iter().map(|text| job_id(text)).collect()
}

fn milestone(word: &str) -> Result<Milestone, Error> {
    let known = Milestone::ALL.into_iter().find(|milestone| milestone.as_str() == word);
    known.ok_or_else(|| {
        let words = Milestone::ALL.map(Milestone::as_str).join(", ");
        Error::Usage(format!("{word:?} is no event to be told of; there are {words}"))
    })
}

fn cwd(given: Option<&Path>) -> Result<String, Error> {
    let here = || std::env::current_dir();
    let path = match given {
        Some(path) => absolute(path)?,
        None => here().map_err(|error| Error::BadCwd(PathBuf::from("."), error.to_string()))?,
    };
    match path.into_os_string().into_string() {
        Ok(path) => Ok(path),
        Err(path) => Err(Error::BadCwd(path.into(), "its name is not UTF-8".to_owned())),
    }
}

/// A path that holds wherever the job runs: from the root, without `.` and `..` parts (as far as
/// they can be resolved without following links).
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::Usage(format!("{} is no path: {error}", path.display())))?;
    if path.components().any(|part| part == Component::ParentDir)
        && let Ok(resolved) = fs::canonicalize(&path)
    {
        return Ok(resolved);
    }
    Ok(path)
}

/// A program by its path, or by its name on PATH as a shell takes it.
fn program(path: &Path) -> Result<PathBuf, Error> {
    if path.components().count() == 1 && !path.exists() {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&folders)
            .map(|folder| folder.join(path))
            .find(|program| crate::claude::is_executable(program));
        if let Some(found) = found {
            return absolute(&found);
        }
    }
    absolute(path)
}

fn text(path: PathBuf) -> Result<String, Error> {
    let not_text = |path| Error::Usage(format!("{} is not UTF-8", Path::new(&path).display()));
    path.into_os_string().into_string().map_err(not_text)
}

/// JSON as it is, or a file, whose path must hold in the job's folder, too.
fn file_or_json(given: &str) -> Result<String, Error> {
    if given.trim_start().starts_with('{') {
        return Ok(given.to_owned());
    }
    let path = absolute(Path::new(given))?;
    if path.is_file() {
        text(path)
    } else {
        Err(Error::Usage(format!("{given:?} is neither a file nor JSON")))
    }
}

fn schema(given: &str) -> Result<String, Error> {
    let text = if given.trim_start().starts_with('{') {
        given.to_owned()
    } else {
        fs::read_to_string(given).map_err(|error| {
            Error::Usage(format!("could not read the schema {given:?}: {error}"))
        })?
    };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(serde_json::Value::Object(_)) => Ok(text),
        Ok(_) => Err(Error::Usage("the JSON schema is no object".to_owned())),
        Err(error) => Err(Error::Usage(format!("the schema is no JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_given_as_such_or_as_how_long_ago_it_was() {
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
            let found = since(text, now).map(|time| time.to_string()).ok();
            assert_eq!(found.as_deref(), time, "{text:?}");
        }
        let refused = since("soon", now).unwrap_err().to_string();
        assert!(refused.contains("90s, 2h or 7d") && refused.contains("2026-11-20T"), "{refused}");
    }
}
