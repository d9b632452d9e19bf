//! The JSON schemas of all answers, as committed in `docs/schemas`. Most are derived; types with a
//! custom serialization implement theirs here.
//!
//! `UPDATE_SCHEMAS=1 cargo test --bins schemas` updates the files.

use std::borrow::Cow;
use std::path::Path;
use std::{env, fs};

use clap::CommandFactory;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::commands::answer::AnswerAnswer;
use crate::commands::clean::CleanAnswer;
use crate::commands::diff::DiffAnswer;
use crate::commands::doctor::DoctorAnswer;
use crate::commands::events::JobEvent;
use crate::commands::export::ExportAnswer;
use crate::commands::finish::FinishAnswer;
use crate::commands::interrupt::InterruptAnswer;
use crate::commands::kill::KillAnswer;
use crate::commands::list::ListAnswer;
use crate::commands::logs::LogsAnswer;
use crate::commands::open::OpenAnswer;
use crate::commands::pause::PauseAnswer;
use crate::commands::recover::{RecoverAllAnswer, Recovered};
use crate::commands::redeliver::RedeliverAnswer;
use crate::commands::result::ResultAnswer;
use crate::commands::send::SendAnswer;
use crate::commands::setup::SetupAnswer;
use crate::commands::several::Several;
use crate::commands::sidecar::SidecarEvent;
use crate::commands::start::{BatchAnswer, StartAnswer};
use crate::commands::stats::{GroupBy, StatsAnswer};
use crate::commands::status::StatusAnswer;
use crate::commands::update::UpdateAnswer;
use crate::commands::wait::WaitAnswer;
use crate::job::{JobId, Timestamp};
use crate::output::AnyError;

impl JsonSchema for JobId {
    fn schema_name() -> Cow<'static, str> {
        "JobId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A job's id, which is also the name of its directory.",
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        })
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time in UTC with milliseconds (RFC 3339).",
            "type": "string",
            "format": "date-time",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$",
        })
    }
}

impl JsonSchema for GroupBy {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GroupBy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(day$|model$|group$|status$|label:)" })
    }
}

/// Returns the schema of `T` with this title.
fn schema<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    schema["title"] = json!(title);
    schema
}

fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("answer", schema::<AnswerAnswer>("Answer of `claudejob answer`")),
        ("clean", schema::<CleanAnswer>("Answer of `claudejob clean` and `rm`")),
        ("diff", schema::<DiffAnswer>("Answer of `claudejob diff`")),
        ("doctor", schema::<DoctorAnswer>("Answer of `claudejob doctor`")),
        ("error", schema::<AnyError>("Answer of a failed call")),
        ("events", schema::<JobEvent>("Line of `claudejob events`")),
        ("export", schema::<ExportAnswer>("Answer of `claudejob export`")),
        ("finish", schema::<FinishAnswer>("Answer of `claudejob finish`")),
        ("interrupt", schema::<InterruptAnswer>("Answer of `claudejob interrupt`")),
        ("kill", schema::<Several<KillAnswer>>("Answer of `claudejob kill`")),
        ("list", schema::<ListAnswer>("Answer of `claudejob list`")),
        (
            "logs",
            schema::<Several<LogsAnswer>>("Answer of `claudejob logs`, and part of `--follow`"),
        ),
        ("pause", schema::<PauseAnswer>("Answer of `claudejob pause` and `unpause`")),
        ("recover", schema::<Recovered>("Answer of `claudejob recover ID` and `resume ID`")),
        (
            "recover-all",
            schema::<RecoverAllAnswer>(
                "Answer of `claudejob recover` and `resume` for several jobs",
            ),
        ),
        ("redeliver", schema::<RedeliverAnswer>("Answer of `claudejob redeliver`")),
        ("result", schema::<Several<ResultAnswer>>("Answer of `claudejob result`")),
        ("send", schema::<SendAnswer>("Answer of `claudejob send`")),
        ("setup", schema::<SetupAnswer>("Answer of `claudejob setup`")),
        ("open", schema::<OpenAnswer>("Answer of `claudejob open --print`")),
        ("sidecar", schema::<SidecarEvent>("Line that `claudejob sidecar` writes")),
        ("start", schema::<StartAnswer>("Answer of `claudejob start`")),
        ("start-batch", schema::<BatchAnswer>("Answer of `claudejob start --from`")),
        ("stats", schema::<StatsAnswer>("Answer of `claudejob stats`")),
        ("status", schema::<StatusAnswer>("Answer of `claudejob status`")),
        ("update", schema::<Several<UpdateAnswer>>("Answer of `claudejob update`")),
        ("wait", schema::<WaitAnswer>("Answer of `claudejob wait`, `run` and `start --wait`")),
    ]
}

#[test]
fn each_verb_has_a_schema() {
    // `run` answers as `wait` does, `resume` as `recover`, `rerun` as `start`, `unpause` as `pause`;
    // `demo` runs other verbs, a script is no JSON, `mcp` speaks a protocol of its own, and `top` and
    // `attach` are for people.
    let mut described: Vec<&str> = all().into_iter().map(|(name, _)| name).collect();
    described.extend([
        "run",
        "resume",
        "demo",
        "completions",
        "rerun",
        "unpause",
        "rm",
        "mcp",
        "top",
        "attach",
    ]);
    for verb in Cli::command().get_subcommands() {
        assert!(described.contains(&verb.get_name()), "{}: add it to all()", verb.get_name());
    }
}

#[test]
fn committed_schemas_are_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas");
    let update = env::var_os("UPDATE_SCHEMAS").is_some();
    for (name, schema) in all() {
        let path = dir.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if update {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&path, text).unwrap();
        } else {
            let committed = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == text,
                "{} differs: run UPDATE_SCHEMAS=1 cargo test --bins schemas, and update CHANGELOG.md",
                path.display()
            );
        }
    }
    let mut files: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut expected: Vec<String> = all().iter().map(|(name, _)| format!("{name}.json")).collect();
    expected.sort();
    assert_eq!(files, expected);
}
