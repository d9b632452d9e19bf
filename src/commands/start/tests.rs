use clap::{Args, Command, FromArgMatches};

use super::*;

fn request(arguments: &[&str]) -> Option<String> {
    let command = StartArgs::augment_args(Command::new("start")).no_binary_name(true);
    let matches = command.try_get_matches_from(arguments).ok()?;
    let request = StartArgs::from_arg_matches(&matches).ok()?.into_request().ok()?;
    Some(format!("{request:?}"))
}

#[test]
fn each_option_changes_the_request() {
    const VALUES: &str = "7 7s 2G 7/day plan a=b {} / /dev/null Cargo.toml blocked no session \
                          http://h/x openclaw openclaw:c:t other slurm HOME";
    // Some options need others, or exclude them.
    const BASES: [&str; 4] = [
        "--prompt x",
        "--prompt x --on slurm",
        "--replay /dev/null",
        "--prompt x --keep-alive --ask --group g --wake-url http://h/ --resume S --worktree",
    ];
    for option in StartArgs::augment_args(Command::new("start")).get_arguments() {
        let Some(name) = option.get_long() else { continue };
        // These are not a part of the request.
        if ["wait", "from", "from-schema", "set-label"].contains(&name) {
            continue;
        }
        let flag = format!("--{name}");
        let has_effect = BASES.iter().any(|base| {
            let base: Vec<&str> = base.split(' ').collect();
            let with = |rest: &[&str]| request(&[&base, &[flag.as_str()][..], rest].concat());
            let without = request(&base);
            let mut requests = vec![with(&[])];
            requests.extend(VALUES.split_whitespace().map(|value| with(&[value])));
            requests.iter().any(|request| request.is_some() && *request != without)
        });
        assert!(has_effect, "{flag} has no effect");
    }
}

#[test]
fn a_generated_id_steps_over_jobs_that_exist() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::at(root.path().to_owned());
    let now = Timestamp::parse("2026-11-26T12:57:03.204Z").unwrap();
    for expected in ["261126-popokok", "261126-popokol", "261126-popokom"] {
        let mut step = 0;
        let id = unused_id(&store, now, &mut step);
        assert_eq!(id.as_str(), expected);
        std::fs::create_dir(store.job(&id).path()).unwrap();
    }
}

#[test]
fn wake_url_needs_host_and_valid_port() {
    for good in [
        "http://gateway/",
        "http://localhost:1",
        "http://127.0.0.1:18789/hooks/wake",
        "http://[::1]",
        "http://[::1]:65535/hooks/wake",
    ] {
        assert_eq!(check_wake_url(good), Ok(()), "{good}");
    }
    for bad in [
        "gateway",
        "http://",
        "http://:80/",
        "http://token@/",
        "http://127.0.0.1:/hooks",
        "http://127.0.0.1:0/hooks",
        "http://127.0.0.1:99999/hooks",
        "http://127.0.0.1:hooks",
        "http://127.0.0.1:8080:80",
        "http://[::1]:/hooks",
        "http://[::1]:65536/hooks",
        "http://[::1]18789/hooks",
        "http://[::1]x:80/hooks",
        "http://::1:80/hooks",
        "http://gateway/hooks?",
        "http://gateway?token=x",
        "http://gateway/hooks#x",
    ] {
        assert!(check_wake_url(bad).is_err(), "{bad}");
    }
}
