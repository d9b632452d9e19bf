//! Lists of jobs: filters, order, and entries that are not jobs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::Sandbox;

#[test]
fn foreign_entries_do_no_harm() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("good", &[]);
    let put = |id: &str, meta: &str| {
        fs::create_dir(sandbox.job(id)).unwrap();
        fs::write(sandbox.job(id).join("meta.json"), meta).unwrap();
    };
    put("torn", "{\"jobId\":\"torn\",\"sta");
    put("empty", "");
    put("false", r#"{"version":2,"jobId":"../x","status":"completed","prompt":1}"#);
    put("newer", r#"{"version":9,"jobId":"newer","status":"failed","reason":"auth","x":1}"#);
    put("legacy", r#"{"jobId":"legacy","pid":1,"status":"completed","prompt":"p","cwd":"/"}"#);
    fs::write(sandbox.jobs().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("/", sandbox.jobs().join("link")).unwrap();
    let list = sandbox.run(["list"]);
    let of = |id: &str| {
        let items = list.json.as_array().unwrap();
        items.iter().find(|item| item["jobId"] == id).unwrap_or_else(|| panic!("{id}: {list:?}"))
    };
    assert_eq!(list.json.as_array().unwrap().len(), 6);
    for id in ["torn", "empty", "false"] {
        assert!(of(id)["error"].is_string() && of(id)["status"].is_null());
        assert_eq!(sandbox.run(["status", id])["code"], "record_unreadable");
    }
    assert_eq!(of("newer")["reason"], "auth");
    assert_eq!(of("legacy")["status"], "completed");
    assert_eq!(of("good")["status"], "completed");
    for filter in [["--status", "completed"], ["--since", "1000years"]] {
        let list = sandbox.run([&["list"][..], &filter].concat());
        assert!(
            list.json.as_array().unwrap().iter().all(|item| item["status"].is_string()),
            "{list:?}"
        );
    }
    let status = sandbox.status("good");
    for field in ["jobId", "pid", "status", "startedAt", "endedAt", "error", "rateLimited"] {
        assert!(status.json.as_object().unwrap().contains_key(field), "{field}");
    }
}

/// Creates a record with the fields that a list needs, `age` hours old.
fn write_record(sandbox: &Sandbox, id: &str, age: u64, fields: &str) {
    let at = std::time::SystemTime::now() - std::time::Duration::from_secs(age * 3_600);
    let at = chrono::DateTime::<chrono::Utc>::from(at).to_rfc3339();
    fs::create_dir_all(sandbox.job(id)).unwrap();
    fs::set_permissions(sandbox.jobs(), fs::Permissions::from_mode(0o700)).unwrap();
    let record = format!(
        r#"{{"version":2,"jobId":"{id}","status":"completed","startedAt":"{at}","endedAt":"{at}",{fields}}}"#
    );
    fs::write(sandbox.job(id).join("meta.json"), record).unwrap();
}

#[test]
fn list_filters_and_sorts() {
    let sandbox = Sandbox::new("");
    write_record(
        &sandbox,
        "a",
        1,
        r#""costUsd":0.5,"numTurns":3,"spec":{"admission":{"group":"ci"}}"#,
    );
    write_record(
        &sandbox,
        "b",
        5,
        r#""costUsd":2.5,"numTurns":1,"spec":{"admission":{"group":"ci"}}"#,
    );
    write_record(&sandbox, "c", 50, r#""numTurns":7,"spec":{"labels":{"k":"v"}}"#);
    write_record(&sandbox, "bad", 0, "torn");
    let ids = |args: &[&str]| {
        let answer = sandbox.run([&["list"], args].concat());
        let items = answer.json.as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
        let ids: Vec<String> =
            items.iter().map(|item| item["jobId"].as_str().unwrap().to_owned()).collect();
        ids.join(" ")
    };
    let since = (chrono::Utc::now() - chrono::TimeDelta::hours(3)).to_rfc3339();
    for (args, found) in [
        (&[][..], "a b c bad"),
        (&["--reverse"], "c b a bad"),
        (&["--since", "2h"], "a"),
        (&["--since", "1day"], "a b"),
        (&["--since", &since], "a"),
        (&["--group", "ci"], "a b"),
        (&["--group", "none"], ""),
        (&["--group", "ci", "--since", "2h"], "a"),
        (&["--limit", "2"], "a b"),
        (&["--all", "--limit", "1", "--reverse"], "c"),
        (&["--sort", "cost"], "b a c bad"),
        (&["--sort", "cost", "--reverse"], "a b c bad"),
        (&["--sort", "turns", "--limit", "1"], "c"),
        (&["--sort", "ended", "--reverse"], "c b a bad"),
        (&["--sort", "id", "--status", "completed"], "a b c"),
        (&["--sort", "status", "--label", "k=v"], "c"),
    ] {
        assert_eq!(ids(args), found, "{args:?}");
    }
    let items = sandbox.run(["list"]).json;
    assert_eq!(items[0]["group"], "ci");
    assert_eq!(items[2].get("group"), Some(&Value::Null), "null where it is not set");
    for (args, word) in [
        (["--since", "soon"], "7d"),
        (["--limit", "0"], "1.."),
        (["--limit", "some"], "whole number"),
        (["--sort", "colour"], "started, ended, cost, turns, status, id"),
        (["--group", ""], "group"),
        (["--status", "done"], "completed"),
    ] {
        let refused = sandbox.run([&["list"][..], &args].concat());
        assert_eq!((refused.code, refused.text("code")), (2, "usage"), "{refused:?}");
        assert!(refused.text("error").contains(word), "{args:?}: {refused:?}");
    }
}

#[test]
fn a_filtered_list_is_shortened_and_says_so() {
    let mut sandbox = Sandbox::new("");
    sandbox.set("AI_AGENT", "test");
    for n in 0..200 {
        let prompt =
            format!(r#""prompt":"{}","spec":{{"admission":{{"group":"g"}}}}"#, "p".repeat(200));
        write_record(&sandbox, &format!("j{n}"), n, &prompt);
    }
    for args in [["--group", "g"], ["--since", "9d"], ["--limit", "190"]] {
        let answer = sandbox.run([&["list"][..], &args].concat());
        let items = answer.json.as_array().unwrap();
        assert!(answer.stdout.chars().count() < 8_000, "{args:?}");
        let wanted = if args[0] == "--limit" { 190 } else { 200 };
        let last = items.last().unwrap();
        assert_eq!(last["truncated"], true, "{args:?}");
        assert_eq!(last["omitted"], wanted - (items.len() - 1), "{args:?}");
        let ids = sandbox.run([&["list", "-o", "ids"], &args[..]].concat()).stdout;
        assert_eq!(ids.lines().count(), wanted, "ids are never left out");
    }
    assert_eq!(sandbox.run(["list", "--all"]).json.as_array().unwrap().len(), 200);
    sandbox.unset("AI_AGENT");
    let whole = sandbox.run(["list", "--group", "g"]).json;
    assert_eq!(whole.as_array().unwrap().len(), 200);
    for item in whole.as_array().unwrap() {
        assert_eq!((&item["truncated"], &item["status"]), (&false.into(), &"completed".into()));
    }
}
