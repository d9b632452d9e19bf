//! Distinguishes logins without storing them: a keyed hash of everything that identifies an account
//! to the API.

use std::fs;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::{Env, config_dir, is_set, read_json};
use crate::job::{Login, ModelFamily, Spec};

/// Hexadecimal digits of a key: enough to distinguish the logins of a jobs directory.
const KEY_DIGITS: usize = 16;
/// Directory of the administrator's settings, which prevail over all others.
const MANAGED_SETTINGS_DIR: &str = "/etc/claude-code";
/// Variables that select a provider other than Anthropic's own API.
const PROVIDERS: [&str; 7] = [
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_GATEWAY",
];
/// Variables that identify the account at such a provider. Session tokens are not among them: they
/// are renewed automatically.
const PROVIDER_ACCOUNT: [&str; 15] = [
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_FOUNDRY_BASE_URL",
    "ANTHROPIC_FOUNDRY_RESOURCE",
    "ANTHROPIC_FOUNDRY_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_API_KEY",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_REGION",
    "ANTHROPIC_VERTEX_PROJECT_ID",
    "CLOUD_ML_REGION",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
];
const SETTINGS_OPTIONS: [&str; 2] = ["--setting-sources", "--bare"];

/// Returns the login and the model that claude will use for this job. Without a salt the login is
/// unknown.
pub(crate) fn account(env: &Env, spec: &Spec, salt: Option<&[u8]>) -> Login {
    let config = Config::read(env, spec);
    let model = match &spec.model {
        Some(model) => ModelFamily::find_in(model),
        None => config.default_model(),
    };
    let key = salt.and_then(|salt| key_of(&config.identity(), salt));
    Login { key, model }
}

fn key_of(identity: &[(&str, String)], salt: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(salt).ok()?;
    for (name, value) in identity {
        for part in [name.as_bytes(), value.as_bytes()] {
            // With its length, so that different lists of parts give different hashes.
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
    }
    let hash = mac.finalize().into_bytes();
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(digits.chars().take(KEY_DIGITS).collect())
}

/// Claude's environment and settings.
struct Config<'a> {
    env: &'a Env,
    spec: &'a Spec,
    /// The directory of claude's own files.
    dir: Option<PathBuf>,
    /// The settings, in order of precedence.
    settings: Vec<Value>,
}

impl<'a> Config<'a> {
    fn read(env: &'a Env, spec: &'a Spec) -> Self {
        let cwd = Path::new(&spec.cwd);
        let dir = config_dir(env).map(|dir| cwd.join(dir));
        let mut settings = managed_settings();
        let option = option_value(&spec.extra_args, "--settings");
        for settings_arg in option.into_iter().chain(spec.settings.as_deref()) {
            let read = serde_json::from_str(settings_arg).ok();
            settings.extend(read.or_else(|| read_json(&cwd.join(settings_arg))));
        }
        settings.extend(read_json(&cwd.join(".claude/settings.local.json")));
        settings.extend(read_json(&cwd.join(".claude/settings.json")));
        let user = dir.as_ref().map(|dir| dir.join("settings.json"));
        settings.extend(user.and_then(|file| read_json(&file)));
        Self { env, spec, dir, settings }
    }

    /// Returns the value of a variable as claude sees it: settings prevail over the environment.
    fn variable(&self, name: &str) -> Option<String> {
        for settings in &self.settings {
            match settings.get("env").and_then(|env| env.get(name)) {
                Some(Value::String(value)) if !value.is_empty() => return Some(value.clone()),
                Some(value @ (Value::Number(_) | Value::Bool(true))) => {
                    return Some(value.to_string());
                }
                _ => {}
            }
        }
        self.env.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn is_on(&self, name: &str) -> bool {
        let value = self.variable(name).unwrap_or_default().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "false" | "no" | "off")
    }

    fn setting(&self, name: &str) -> Option<&Value> {
        self.settings.iter().filter_map(|settings| settings.get(name)).find(|v| is_set(Some(v)))
    }

    fn default_model(&self) -> Option<ModelFamily> {
        let model = self.variable("ANTHROPIC_MODEL");
        let model = model.or_else(|| self.setting("model")?.as_str().map(str::to_owned));
        ModelFamily::find_in(&model?)
    }

    /// Returns everything that identifies the account, in the order in which it is hashed.
    fn identity(&self) -> Vec<(&'static str, String)> {
        let dir = self.dir.as_ref().map(|dir| {
            let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
            dir.to_string_lossy().into_owned()
        });
        let mut identity = vec![("config directory", dir.unwrap_or_default())];
        for name in ["ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"] {
            identity.extend(self.variable(name).map(|value| (name, value)));
        }
        for name in SETTINGS_OPTIONS {
            let is_present = self.spec.extra_args.iter().any(|arg| arg.starts_with(name));
            let value = option_value(&self.spec.extra_args, name).unwrap_or_default();
            identity.extend(is_present.then(|| (name, value.to_owned())));
        }
        if let Some(provider) = PROVIDERS.into_iter().find(|name| self.is_on(name)) {
            identity.push(("provider", provider.to_owned()));
            for name in PROVIDER_ACCOUNT {
                identity.extend(self.variable(name).map(|value| (name, value)));
            }
            return identity;
        }
        identity.extend(self.credential());
        identity
    }

    /// Returns the credential that claude uses for Anthropic's API, by its order of precedence
    /// (observed with 2.1.332). A token that it reads from a descriptor is unknown: all such tokens
    /// of a jobs directory are treated as the same one.
    fn credential(&self) -> Vec<(&'static str, String)> {
        // Claude sends both a token and a key, and prefers either to a subscription.
        let mut sent = Vec::new();
        for name in ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"] {
            sent.extend(self.variable(name).map(|value| (name, value)));
        }
        let helper = self.setting("apiKeyHelper").map(Value::to_string);
        sent.extend(helper.map(|command| ("apiKeyHelper", command)));
        if !sent.is_empty() {
            return sent;
        }
        for name in ["CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_IDENTITY_TOKEN_FILE"] {
            if let Some(value) = self.variable(name) {
                return vec![(name, value)];
            }
        }
        let descriptor = "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR";
        if self.variable(descriptor).is_some() {
            return vec![(descriptor, String::new())];
        }
        self.stored_login()
    }

    /// Returns the login that the CLI has stored. Its tokens are renewed every few hours, so that
    /// only the account counts, or the config directory if the account is not named.
    fn stored_login(&self) -> Vec<(&'static str, String)> {
        let home = || Some(Path::new(&self.spec.cwd).join(self.env.home()?));
        let dir = match self.env.get("CLAUDE_CONFIG_DIR") {
            Some(_) => self.dir.clone(),
            None => home(),
        };
        let state = dir.and_then(|dir| read_json(&dir.join(".claude.json")));
        let mut login = vec![("stored", String::new())];
        let Some(state) = state else { return login };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let account = state.get("oauthAccount");
        for name in ["accountUuid", "organizationUuid"] {
            login.extend(text(account.and_then(|a| a.get(name))).map(|value| (name, value)));
        }
        login.extend(text(state.get("primaryApiKey")).map(|value| ("primaryApiKey", value)));
        login
    }
}

/// Returns the administrator's settings, in order of precedence: later files of the directory
/// override earlier ones, and all of them override the main file.
fn managed_settings() -> Vec<Value> {
    let dir = Path::new(MANAGED_SETTINGS_DIR);
    let entries = fs::read_dir(dir.join("managed-settings.d")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort_unstable_by(|a, b| b.cmp(a));
    files.push(dir.join("managed-settings.json"));
    files.iter().filter_map(|file| read_json(file)).collect()
}

/// Returns the value of an option in arguments, as `--name value` or `--name=value`.
fn option_value<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == name {
            return args.next().map(String::as_str);
        }
        if let Some(value) = arg.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn put(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn login(&self, variables: &[(&str, &str)], spec: Spec) -> Login {
            let home = self.0.path().to_str().unwrap();
            let all = variables.iter().copied().chain([("HOME", home)]);
            let all = all.map(|(name, value)| (OsString::from(name), OsString::from(value)));
            let env = Env { variables: all.collect() };
            let spec = Spec { cwd: format!("{home}/project"), ..spec };
            account(&env, &spec, Some(b"salt"))
        }

        fn key(&self, variables: &[(&str, &str)]) -> String {
            self.login(variables, Spec::default()).key.unwrap()
        }
    }

    #[test]
    fn each_login_has_its_own_key() {
        let home = Home::new();
        let key = ("ANTHROPIC_API_KEY", "secret-1");
        let first = home.key(&[key]);
        assert_eq!(first, home.key(&[key, ("TERM", "xterm"), ("CLAUDE_CODE_OAUTH_TOKEN", "t")]));
        assert_eq!(first.len(), KEY_DIGITS);
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let elsewhere = tempfile::tempdir().unwrap();
        let others = [
            vec![("ANTHROPIC_API_KEY", "secret-2")],
            vec![("ANTHROPIC_AUTH_TOKEN", "secret-1")],
            vec![key, ("ANTHROPIC_AUTH_TOKEN", "secret-1")],
            vec![("CLAUDE_CODE_OAUTH_TOKEN", "secret-1")],
            vec![key, ("ANTHROPIC_BASE_URL", "http://gateway")],
            vec![key, ("CLAUDE_CONFIG_DIR", elsewhere.path().to_str().unwrap())],
            vec![key, ("CLAUDE_CODE_USE_BEDROCK", "1")],
            vec![key, ("CLAUDE_CODE_USE_BEDROCK", "1"), ("AWS_PROFILE", "b")],
            vec![key, ("CLAUDE_CODE_USE_VERTEX", "1")],
            vec![("CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR", "3")],
            vec![],
        ];
        let mut keys: Vec<String> = others.iter().map(|env| home.key(env)).collect();
        keys.push(first.clone());
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), others.len() + 1);
        assert_eq!(first, home.key(&[key, ("CLAUDE_CODE_USE_BEDROCK", "0")]));
    }

    #[test]
    fn settings_prevail_by_their_precedence() {
        let home = Home::new();
        let token = |token: &str| format!(r#"{{"env":{{"ANTHROPIC_AUTH_TOKEN":"{token}"}}}}"#);
        let of = |name: &str| home.key(&[("ANTHROPIC_AUTH_TOKEN", name)]);
        let [user, project, local, given] = ["user", "project", "local", "given"].map(of);
        for (file, name, key) in [
            (".claude/settings.json", "user", user),
            ("project/.claude/settings.json", "project", project),
            ("project/.claude/settings.local.json", "local", local),
        ] {
            home.put(file, &token(name));
            assert_eq!(home.key(&[("ANTHROPIC_AUTH_TOKEN", "mine")]), key, "{file}");
        }
        let spec = Spec { settings: Some(token("given")), ..Spec::default() };
        assert_eq!(home.login(&[], spec).key, Some(given.clone()));
        home.put("project/more.json", &token("given"));
        let extra_args = vec!["--settings=more.json".to_owned()];
        assert_eq!(home.login(&[], Spec { extra_args, ..Spec::default() }).key, Some(given));
    }

    #[test]
    fn a_helper_is_identified_by_its_command() {
        let home = Home::new();
        let with = |command: &str| {
            home.put(".claude/settings.json", &format!(r#"{{"apiKeyHelper":"{command}"}}"#));
            home.key(&[])
        };
        assert_eq!(with("~/a.sh"), with("~/a.sh"));
        assert_ne!(with("~/a.sh"), with("~/b.sh"));
        let with_token = home.key(&[("CLAUDE_CODE_OAUTH_TOKEN", "t")]);
        assert_eq!(with_token, with("~/b.sh"), "a helper is preferred to a subscription");
        assert_ne!(home.key(&[("ANTHROPIC_API_KEY", "k")]), with("~/b.sh"), "both are sent");
    }

    #[test]
    fn renewed_tokens_do_not_change_the_key() {
        let home = Home::new();
        let token = |t: &str| format!(r#"{{"claudeAiOauth":{{"accessToken":"{t}"}}}}"#);
        home.put(".claude/.credentials.json", &token("1"));
        let unnamed = home.key(&[]);
        home.put(".claude/.credentials.json", &token("2"));
        assert_eq!(home.key(&[]), unnamed);
        home.put(".claude.json", r#"{"oauthAccount":{"accountUuid":"a"},"numStartups":1}"#);
        let named = home.key(&[]);
        assert_ne!(named, unnamed);
        home.put(".claude/.credentials.json", &token("3"));
        home.put(".claude.json", r#"{"oauthAccount":{"accountUuid":"a"},"numStartups":2}"#);
        assert_eq!(home.key(&[]), named);
        home.put(".claude.json", r#"{"oauthAccount":{"accountUuid":"b"}}"#);
        assert_ne!(home.key(&[]), named);
    }

    #[test]
    fn finds_the_requested_or_configured_model() {
        let home = Home::new();
        let model = |model: Option<&str>| {
            let spec = Spec { model: model.map(str::to_owned), ..Spec::default() };
            home.login(&[], spec).model
        };
        assert_eq!(model(None), None);
        assert_eq!(model(Some("opus")), Some(ModelFamily::Opus));
        home.put(".claude/settings.json", r#"{"model":"sonnet"}"#);
        assert_eq!(model(None), Some(ModelFamily::Sonnet));
        assert_eq!(model(Some("default")), None);
        let set = [("ANTHROPIC_MODEL", "claude-haiku-4-5")];
        assert_eq!(home.login(&set, Spec::default()).model, Some(ModelFamily::Haiku));
    }

    #[test]
    fn the_salt_changes_the_key() {
        let key = |salt: &[u8]| key_of(&[("a", "b".to_owned())], salt);
        assert_ne!(key(b"1"), key(b"2"));
        assert_ne!(
            key_of(&[("ab", "c".to_owned())], b"1"),
            key_of(&[("a", "bc".to_owned())], b"1")
        );
    }
}
