use crate::job::{ClaudeOptions, Limits};
use std::fs;

use super::login::LoginSource;
use super::settings::SettingsSource;
use super::*;

fn env_of(variables: &[(&str, &str)]) -> Env {
    let variables = variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
    Env { variables: variables.collect(), ..Env::default() }
}

#[test]
fn passes_every_option_but_not_the_prompt() {
    let spec = Spec {
        options: ClaudeOptions {
            permission_mode: "plan".to_owned(),
            model: Some("opus".to_owned()),
            allowed_tools: vec!["Bash(git *)".to_owned(), "Read".to_owned()],
            add_dirs: vec!["/a".to_owned(), "/b".to_owned()],
            extra_args: vec!["--betas".to_owned(), "x".to_owned()],
            ..ClaudeOptions::default()
        },
        limits: Limits { max_budget_usd: Some(0.5), max_turns: Some(3), ..Limits::default() },
        ..Spec::default()
    };
    let line = arguments(&spec, &SessionStart::New("SESSION")).join(" ");
    assert_eq!(
        line,
        "-p --output-format stream-json --input-format stream-json --verbose \
         --replay-user-messages --session-id SESSION --permission-mode plan --model opus --max-turns 3 \
         --max-budget-usd 0.5 --allowedTools Bash(git *),Read --add-dir /a --add-dir /b \
         --betas x"
    );
}

#[test]
fn a_resumed_session_gets_no_new_id() {
    let args = arguments(&Spec::default(), &SessionStart::Resume { id: "OLD", fork: false });
    assert!(args.windows(2).any(|pair| pair == ["--resume", "OLD"]));
    assert!(!args.contains(&"--session-id".to_owned()));
}

#[test]
fn removes_the_variables_of_the_outer_session() {
    let id = JobId::parse("a").unwrap();
    let spec = Spec { cwd: "/work".to_owned(), ..Spec::default() };
    let command = command(&spec, &id, Path::new("/jobs/a"), &SessionStart::New("S"));
    let changed: HashMap<_, _> = command.get_envs().collect();
    assert_eq!(changed[OsStr::new("CLAUDECODE")], None);
    assert_eq!(changed[OsStr::new("OLDPWD")], None);
    let cwd = changed[OsStr::new("PWD")];
    assert_eq!(cwd, Some(OsStr::new("/work")));
    let mark = changed[OsStr::new("CLAUDEJOB_DIR")];
    assert_eq!(mark, Some(OsStr::new("/jobs/a")));
}

#[test]
fn finds_logins_where_the_cli_does() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_str().unwrap();
    let spec = Spec { cwd: path.to_owned(), ..Spec::default() };
    let bare = env_of(&[("HOME", path)]);
    assert_eq!(login(&bare, &spec), None);
    for provider in ["CLAUDE_CODE_USE_MANTLE", "ANTHROPIC_IDENTITY_TOKEN_FILE"] {
        let provided = env_of(&[("HOME", path), (provider, "1")]);
        assert_eq!(login(&provided, &spec), Some(LoginSource::Variable(provider)));
    }
    let key = env_of(&[("ANTHROPIC_API_KEY", "k")]);
    assert_eq!(login(&key, &spec), Some(LoginSource::Variable("ANTHROPIC_API_KEY")));
    assert_eq!(login(&env_of(&[("HOME", path), ("ANTHROPIC_API_KEY", "")]), &spec), None);
    let put = |file: &str, text: &str| {
        fs::create_dir_all(home.path().join(".claude")).unwrap();
        fs::write(home.path().join(file), text).unwrap();
    };
    let at = |file: &str| home.path().join(file);
    let of = |file: &str| SettingsSource::File(at(file));
    let [state, settings] = [".claude.json", ".claude/settings.json"];
    let token = LoginSource::Setting("ANTHROPIC_AUTH_TOKEN", of(settings));
    let cloud = LoginSource::Setting("CLAUDE_CODE_USE_ANTHROPIC_AWS", of(settings));
    let credentials = ".claude/.credentials.json";
    for (file, text, found) in [
        (state, r#"{"numStartups":3}"#, None),
        (state, r#"{"oauthAccount":{"x":1}}"#, Some(LoginSource::Stored(at(state)))),
        (state, "{}", None),
        (settings, r#"{"apiKeyHelper":"~/key.sh"}"#, Some(LoginSource::Helper(of(settings)))),
        (settings, r#"{"env":{"ANTHROPIC_AUTH_TOKEN":"t"}}"#, Some(token)),
        (settings, r#"{"env":{"CLAUDE_CODE_USE_ANTHROPIC_AWS":"1"}}"#, Some(cloud)),
        (settings, "no json", None),
        (credentials, "{}", Some(LoginSource::Stored(at(credentials)))),
    ] {
        put(file, text);
        assert_eq!(login(&bare, &spec), found, "{file}: {text}");
    }
    let given = r#"{"env":{"ANTHROPIC_API_KEY":"secret"}}"#.to_owned();
    let spec = Spec {
        options: ClaudeOptions { settings: Some(given), ..ClaudeOptions::default() },
        ..Spec::default()
    };
    let found = login(&env_of(&[]), &spec).unwrap().to_string();
    assert_eq!(found, "ANTHROPIC_API_KEY of --settings", "without the secret");
}

#[test]
fn parses_versions_as_claude_prints_them() {
    for (output, numbers) in [
        ("2.1.197 (Claude Code)\n", Some((2, 1, 197))),
        ("1.0.0", Some((1, 0, 0))),
        ("v3.0.0-beta.2 (Claude Code)", Some((3, 0, 0))),
        ("(node:1) Warning: old\n\n2.0.14 (Claude Code)", Some((2, 0, 14))),
        ("2.1", None),
        ("Claude Code", None),
        ("99999999999999999999.1.1", None),
        ("", None),
    ] {
        assert_eq!(parse_version(output), numbers, "{output:?}");
    }
}
