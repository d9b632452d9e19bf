//! Agents that are woken through a gateway.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Sandbox, eventually};
use crate::{QUICK, delivered};

/// A gateway that answers one request with each of these statuses and passes on what it received.
struct Gateway {
    url: String,
    asked: Receiver<(String, String)>,
}

fn gateway(answers: &'static [u16]) -> Gateway {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks/wake", server.server_addr());
    let (tell, asked) = channel();
    thread::spawn(move || {
        for status in answers {
            let mut request = server.recv().unwrap();
            let mut body = String::new();
            request.as_reader().read_to_string(&mut body).unwrap();
            let token = request.headers().iter().find(|header| header.field.equiv("Authorization"));
            let token = token.map(|header| header.value.to_string()).unwrap_or_default();
            let answer = tiny_http::Response::from_string("{}").with_status_code(*status);
            request.respond(answer).unwrap();
            let _ = tell.send((token, body));
        }
    });
    Gateway { url, asked }
}

/// An address at which nobody listens. Its port is free for the test, because no other program uses
/// this host number of the loopback network.
fn address_of_nobody() -> SocketAddr {
    let [a, b, c, ..] = *uuid::Uuid::new_v4().as_bytes();
    TcpListener::bind((Ipv4Addr::new(127, a | 1, b, c), 0)).unwrap().local_addr().unwrap()
}

#[test]
fn no_file_of_a_job_contains_a_secret() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("HOOK_TOKEN", "s3cret-token");
    let gateway = gateway(&[200]);
    let wake = [
        "--wake-url",
        &gateway.url,
        "--wake-token-env",
        "HOOK_TOKEN",
        "--wake-session",
        "agent:main:7",
    ];
    sandbox.run_job("a", &wake);
    let (token, body) = gateway.asked.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(token, "Bearer s3cret-token");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["mode"], &body["sessionKey"]), (&"now".into(), &"agent:main:7".into()));
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("job a completed") && !text.contains("All is well."), "{text}");
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    for entry in walk(&sandbox.jobs()) {
        let bytes = fs::read(&entry).unwrap_or_default();
        for secret in ["s3cret-token", "sk-ant-test"] {
            let found = memchr::memmem::find(&bytes, secret.as_bytes());
            assert_eq!(found, None, "{secret} in {entry:?}");
        }
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(walk(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

#[test]
fn retries_an_overloaded_gateway_but_no_refusal() {
    let sandbox = Sandbox::new(QUICK);
    let overloaded = gateway(&[503, 200]);
    sandbox.run_job("patient", &["--wake-url", &overloaded.url]);
    assert_eq!(delivered(&sandbox, "patient"), serde_json::json!([]));
    // The gateway ends after its last answer.
    assert_eq!(overloaded.asked.iter().count(), 2);

    let refusing = gateway(&[401]);
    sandbox.run_job("refused", &["--wake-url", &refusing.url]);
    let undelivered = delivered(&sandbox, "refused");
    let notification = &undelivered[0];
    assert_eq!(
        (&notification["tries"], &notification["error"]),
        (&1.into(), &"the gateway answered 401: {}".into())
    );
}

#[test]
fn an_unusable_token_is_not_retried() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("HOOK_TOKEN", "s3cret-token");
    let refusing = gateway(&[401]);
    sandbox.run_job("a", &["--wake-url", &refusing.url, "--wake-token-env", "HOOK_TOKEN"]);
    assert_eq!(delivered(&sandbox, "a")[0]["tries"], 1);
    sandbox.set("HOOK_TOKEN", "s3cret-token\n");
    let again = sandbox.run(["redeliver", "a"]);
    let notification = &again["failed"][0]["undeliveredNotifications"][0];
    assert_eq!((again.code, &notification["tries"]), (1, &2.into()), "{again:?}");
    assert_eq!(
        notification["error"],
        "HOOK_TOKEN contains a control character, such as a line feed"
    );
}

#[test]
fn a_gateway_that_is_down_gets_it_later() {
    let sandbox = Sandbox::new(QUICK);
    let address = address_of_nobody();
    sandbox.run_job("a", &["--wake-url", &format!("http://{address}/hooks/wake")]);
    let pending = eventually("some tries", || {
        let pending = sandbox.status("a")["undeliveredNotifications"][0].clone();
        (pending["tries"].as_u64() >= Some(3)).then_some(pending)
    });
    assert_eq!((&pending["to"], &pending["error"]), (&"wake".into(), &Value::Null));
    // The gateway is up again.
    let server = tiny_http::Server::http(address).unwrap();
    let answer = thread::spawn(move || {
        server.recv().unwrap().respond(tiny_http::Response::from_string("{}")).unwrap();
    });
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    answer.join().unwrap();
}

#[test]
fn start_refuses_an_unusable_wake_url() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("TWO_LINES", "s3cret\nX-Other: y");
    sandbox.set("NO_TEXT", std::ffi::OsStr::from_bytes(b"\xff"));
    for wake in [
        vec!["--wake-url", "https://gateway/hooks/wake"],
        vec!["--wake-url", "gateway"],
        vec!["--wake-url", "http://user:token@gateway/"],
        vec!["--wake-url", "http://gateway/", "--wake-token-env", "NOT_SET"],
        vec!["--wake-url", "http://gateway/", "--wake-token-env", "TWO_LINES"],
        vec!["--wake-url", "http://gateway/", "--wake-token-env", "NO_TEXT"],
        // An invalid port would be ignored, and the token go to the server at port 80.
        vec!["--wake-url", "http://127.0.0.1:99999/hooks/wake"],
        vec!["--wake-url", "http://127.0.0.1:/hooks/wake"],
        vec!["--wake-url", "http://gateway/hooks/wake?token=s3cret"],
        vec!["--wake-url", "http://gateway/hooks/wake#s3cret"],
    ] {
        let refused = sandbox.run([&["start", "a", "--prompt", "x"], &wake[..]].concat());
        assert_eq!((refused.code, refused.text("code")), (1, "bad_wake_url"), "{wake:?}");
        assert!(!refused.stdout.contains("X-Other"), "{refused:?}");
        // The message is about the part that is wrong.
        let of_token = wake.contains(&"--wake-token-env");
        assert_eq!(refused.text("error").contains("invalid wake URL"), !of_token, "{refused:?}");
        assert_eq!(refused.text("hint").contains("--wake-token-env"), of_token, "{refused:?}");
    }
    assert!(!sandbox.job("a").exists());
}

#[test]
fn redeliver_leaves_the_holder_of_a_token_alone() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("HOOK_TOKEN", "s3cret-token");
    let address = address_of_nobody();
    let url = format!("http://{address}/hooks/wake");
    sandbox.run_job("a", &["--wake-url", &url, "--wake-token-env", "HOOK_TOKEN"]);
    eventually("a try", || {
        (sandbox.status("a")["undeliveredNotifications"][0]["tries"].as_u64() >= Some(1))
            .then_some(())
    });
    // As the hook of a gateway calls it, whose environment is another one.
    sandbox.unset("HOOK_TOKEN");
    let refused = sandbox.run(["redeliver"]);
    let left = &refused["failed"][0];
    assert_eq!((refused.code, &left["code"]), (1, &"busy".into()), "{refused:?}");
    assert!(left["error"].as_str().unwrap().contains("HOOK_TOKEN is not set here"), "{left}");
    let server = tiny_http::Server::http(address).unwrap();
    let answer = thread::spawn(move || {
        let request = server.recv().unwrap();
        let has_token =
            request.headers().iter().any(|header| header.value == "Bearer s3cret-token");
        request.respond(tiny_http::Response::from_string("{}")).unwrap();
        has_token
    });
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    assert!(answer.join().unwrap());
}

#[test]
fn redeliver_without_token_names_no_ended_holder() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("HOOK_TOKEN", "s3cret-token");
    let gateway = gateway(&[401]);
    let command = format!("[ -e {} ]", sandbox.path("up").display());
    let options = ["--wake-url", &gateway.url, "--wake-token-env", "HOOK_TOKEN"];
    sandbox.run_job("a", &[&options[..], &["--on-event", &command]].concat());
    let before = delivered(&sandbox, "a").to_string();
    assert!(before.contains("401") && before.contains("command 1"), "{before}");
    fs::write(sandbox.path("up"), "").unwrap();
    sandbox.unset("HOOK_TOKEN");
    // Nobody delivers any more, so that the other recipient is served.
    let answer = sandbox.run(["redeliver"]);
    let left = &answer["failed"][0];
    assert_eq!((&answer["delivered"], &left["code"]), (&1.into(), &Value::Null), "{answer:?}");
    let why = &left["undeliveredNotifications"][0]["error"];
    assert_eq!(why, "HOOK_TOKEN is not set", "{answer:?}");
}
