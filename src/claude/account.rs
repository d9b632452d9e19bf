//! Distinguishes logins without storing them: a keyed hash of everything that identifies an account
//! to the API.

use std::fs;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::Env;
use super::settings::{PROVIDERS, Settings, config_dir, option_value, read_state};
use crate::job::{Login, ModelFamily, Spec};

/// Hexadecimal digits of a key: enough to distinguish the logins of a jobs directory.
const KEY_DIGITS: usize = 16;
/// Variables that identify the account at one of the [`PROVIDERS`]. Session tokens are not among them: they
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

/// What identifies an account, as names and values in the order in which they are hashed.
type Identity = Vec<(&'static str, String)>;

/// Returns the login and the model that claude will use for this job. Without a salt the login is
/// unknown.
pub(crate) fn account(env: &Env, spec: &Spec, salt: Option<&[u8]>) -> Login {
    let config = Config { env, spec, settings: Settings::read_all(env, spec) };
    let model = match &spec.options.model {
        Some(model) => ModelFamily::find_in(model),
        None => config.default_model(),
    };
    let key = match salt {
        Some(salt) => key_of(&config.identity(), salt),
        None => None,
    };
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
    let mut digits = String::new();
    for byte in mac.finalize().into_bytes() {
        digits += &format!("{byte:02x}");
    }
    digits.truncate(KEY_DIGITS);
    Some(digits)
}

/// Claude's environment and settings.
struct Config<'a> {
    env: &'a Env,
    spec: &'a Spec,
    /// The settings, in order of precedence.
    settings: Vec<Settings>,
}

impl Config<'_> {
    /// Returns the value of a variable as claude sees it: settings prevail over the environment.
    fn variable(&self, name: &str) -> Option<String> {
        for settings in &self.settings {
            match settings.variable(name) {
                Some(Value::String(value)) => return Some(value.clone()),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                    return Some(value.to_string());
                }
                _ => {}
            }
        }
        Some(self.env.get(name)?.to_string_lossy().into_owned())
    }

    fn is_on(&self, name: &str) -> bool {
        let value = self.variable(name).unwrap_or_default().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "false" | "no" | "off")
    }

    fn setting(&self, name: &str) -> Option<&Value> {
        self.settings.iter().find_map(|settings| settings.get(name))
    }

    fn default_model(&self) -> Option<ModelFamily> {
        match self.variable("ANTHROPIC_MODEL") {
            Some(model) => ModelFamily::find_in(&model),
            None => ModelFamily::find_in(self.setting("model")?.as_str()?),
        }
    }

    /// Adds the variables that are set.
    fn add_variables(&self, identity: &mut Identity, names: &[&'static str]) {
        for name in names {
            if let Some(value) = self.variable(name) {
                identity.push((name, value));
            }
        }
    }

    /// Returns everything that identifies the account.
    fn identity(&self) -> Identity {
        let mut dir = config_dir(self.env).unwrap_or_default();
        if let Ok(resolved) = fs::canonicalize(&dir) {
            dir = resolved;
        }
        let mut identity = vec![("config directory", dir.to_string_lossy().into_owned())];
        self.add_variables(&mut identity, &["ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"]);
        for name in SETTINGS_OPTIONS {
            if self.spec.options.extra_args.iter().any(|arg| arg.starts_with(name)) {
                let value = option_value(&self.spec.options.extra_args, name).unwrap_or_default();
                identity.push((name, value.to_owned()));
            }
        }
        match PROVIDERS.into_iter().find(|name| self.is_on(name)) {
            Some(provider) => {
                identity.push(("provider", provider.to_owned()));
                self.add_variables(&mut identity, &PROVIDER_ACCOUNT);
            }
            None => identity.extend(self.credential()),
        }
        identity
    }

    /// Returns the credential that claude uses for Anthropic's API, by its order of precedence
    /// (observed with 2.1.332). A token that it reads from a descriptor is unknown: all such tokens
    /// of a jobs directory are treated as the same one.
    fn credential(&self) -> Identity {
        // Claude sends both a token and a key, and prefers either to a subscription.
        let mut sent = Vec::new();
        self.add_variables(&mut sent, &["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"]);
        if let Some(command) = self.setting("apiKeyHelper") {
            sent.push(("apiKeyHelper", command.to_string()));
        }
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
    fn stored_login(&self) -> Identity {
        let mut login = vec![("stored", String::new())];
        let Some((_, state)) = read_state(self.env) else { return login };
        let account = &state["oauthAccount"];
        for (name, value) in [
            ("accountUuid", &account["accountUuid"]),
            ("organizationUuid", &account["organizationUuid"]),
            ("primaryApiKey", &state["primaryApiKey"]),
        ] {
            if let Some(value) = value.as_str() {
                login.push((name, value.to_owned()));
            }
        }
        login
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::job::ClaudeOptions;

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
            let env = Env { variables: all.collect(), ..Env::default() };
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
        let spec = Spec {
            options: ClaudeOptions { settings: Some(token("given")), ..ClaudeOptions::default() },
            ..Spec::default()
        };
        assert_eq!(home.login(&[], spec).key, Some(given.clone()));
        home.put("project/more.json", &token("given"));
        let extra_args = vec!["--settings=more.json".to_owned()];
        assert_eq!(
            home.login(
                &[],
                Spec {
                    options: ClaudeOptions { extra_args, ..ClaudeOptions::default() },
                    ..Spec::default()
                }
            )
            .key,
            Some(given)
        );
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
            let spec = Spec {
                options: ClaudeOptions {
                    model: model.map(str::to_owned),
                    ..ClaudeOptions::default()
                },
                ..Spec::default()
            };
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
