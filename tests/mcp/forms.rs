//! Questions of jobs as forms of the client.

use std::fs;

use serde_json::{Value, json};

use crate::support::Sandbox;
use crate::{McpClient, PERMISSION, QUESTION};

/// Returns a sandbox whose jobs ask once.
fn asking(request: &str) -> Sandbox {
    Sandbox::new(&format!("read\ninit\n{request}\nread $DIR/answer\nresult ok\neof"))
}

/// Returns what claude received as the answer.
fn received(sandbox: &Sandbox) -> Value {
    let line: Value = serde_json::from_slice(&fs::read(sandbox.path("answer")).unwrap()).unwrap();
    line["response"]["response"].clone()
}

fn arguments() -> Value {
    json!({"jobId": "j", "prompt": "work", "ask": true, "wait": true})
}

/// Starts a job and waits for its form. Returns the id of the call and the request of the form.
#[track_caller]
fn await_form(client: &mut McpClient) -> (u64, Value) {
    let call = client.begin_tool("start_coding_job", arguments());
    loop {
        let message = client.read();
        if message["method"] == "elicitation/create" {
            return (call, message);
        }
        assert_eq!(message["method"], "notifications/progress", "{message}");
    }
}

#[test]
fn an_accepted_form_answers_and_the_wait_goes_on() {
    for (request, content, expected) in [
        (QUESTION, json!({"answer1": "Postgres"}), "Postgres"),
        (QUESTION, json!({"answer1other": "a file = it"}), "a file = it"),
        (PERMISSION, json!({"decision": "allow"}), "allow"),
        (PERMISSION, json!({"decision": "deny", "reason": "not there"}), "not there"),
    ] {
        let sandbox = asking(request);
        let mut client = McpClient::legacy(&sandbox, &json!({"elicitation": {}}));
        let (call, form) = await_form(&mut client);
        let properties = &form["params"]["requestedSchema"]["properties"];
        let message = form["params"]["message"].as_str().unwrap();
        if request == QUESTION {
            assert_eq!(properties["answer1"]["enum"], json!(["SQLite", "Postgres"]));
            assert!(message.contains("Which database?"), "{message}");
        } else {
            assert_eq!(properties["decision"]["enum"], json!(["allow", "deny"]));
            assert!(message.contains("/etc/x"), "{message}");
        }
        let result = json!({ "action": "accept", "content": content });
        client.send(&json!({ "jsonrpc": "2.0", "id": form["id"], "result": result }));
        let answer = client.answer(call);
        let waited = &answer["result"]["structuredContent"];
        assert_eq!(waited["jobs"][0]["status"], "completed", "{waited}");
        let received = received(&sandbox);
        let found = match request {
            QUESTION => &received["updatedInput"]["answers"]["Which database?"],
            _ if expected == "allow" => &received["behavior"],
            _ => &received["message"],
        };
        assert_eq!(found, expected, "{received}");
        client.finish();
    }
}

#[test]
fn several_questions_are_one_form() {
    let options = json!([{"label": "Linux", "description": ""}, {"label": "BSD"}]);
    let questions = json!([
        {"question": "Which\nsystems?", "header": "OS", "options": options, "multiSelect": true},
        {"question": "Why?", "header": "", "options": [], "multiSelect": false},
    ]);
    let mut request = json!({ "subtype": "can_use_tool", "tool_name": "AskUserQuestion" });
    request["input"] = json!({ "questions": questions });
    let request = json!({ "type": "control_request", "request_id": "q2", "request": request });
    let sandbox = asking(&format!("json {request}"));
    let mut client = McpClient::legacy(&sandbox, &json!({"elicitation": {}}));
    let (call, form) = await_form(&mut client);
    let properties = &form["params"]["requestedSchema"]["properties"];
    assert_eq!(form["params"]["message"], "Job j asks 2 questions");
    assert_eq!(properties["answer1"]["items"]["enum"], json!(["Linux", "BSD"]));
    assert_eq!(properties["answer1"]["description"], "Which systems?");
    assert_eq!(properties["answer2other"]["description"], "Why?");
    let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
    assert_eq!(names, ["answer1", "answer1other", "answer2other"]);
    assert!(properties.get("answer2").is_none(), "{form}");
    let content =
        json!({ "answer1": ["Linux", "BSD"], "answer1other": "Plan 9", "answer2other": "-" });
    let result = json!({ "action": "accept", "content": content });
    client.send(&json!({ "jsonrpc": "2.0", "id": form["id"], "result": result }));
    let answer = client.answer(call);
    let waited = &answer["result"]["structuredContent"];
    assert_eq!(waited["jobs"][0]["status"], "completed", "{waited}");
    let answers = &received(&sandbox)["updatedInput"]["answers"];
    assert_eq!(answers["Which\nsystems?"], "Linux, BSD, Plan 9", "{answers}");
    assert_eq!(answers["Why?"], "-");
    client.finish();
}

#[test]
fn a_form_without_an_answer_denies_nothing() {
    for request in [QUESTION, PERMISSION] {
        for response in [
            json!({"result": {"action": "cancel"}}),
            json!({"result": {"action": "decline"}}),
            json!({"result": {"action": "accept", "content": {}}}),
            json!({"error": {"code": -32603, "message": "no user"}}),
        ] {
            let sandbox = asking(request);
            let mut client = McpClient::legacy(&sandbox, &json!({"elicitation": {"form": {}}}));
            let (call, form) = await_form(&mut client);
            let mut answer = json!({ "jsonrpc": "2.0", "id": form["id"] });
            answer.as_object_mut().unwrap().extend(response.as_object().unwrap().clone());
            client.send(&answer);
            let waited = client.answer(call)["result"]["structuredContent"].take();
            assert_eq!(waited["jobs"][0]["status"], "blocked", "{response}: {waited}");
            assert!(waited["jobs"][0]["blocked"]["requestId"].is_string(), "{waited}");
            assert_eq!(waited["stillRunning"], false);
            assert!(!sandbox.path("answer").exists());
            client.finish();
        }
    }
}

#[test]
fn without_forms_the_question_is_the_answer() {
    for capabilities in [json!({}), json!({"elicitation": {"url": {}}})] {
        let sandbox = asking(QUESTION);
        let mut client = McpClient::legacy(&sandbox, &capabilities);
        let waited = client.data("start_coding_job", arguments());
        let asked = &waited["jobs"][0]["blocked"]["questions"][0];
        assert_eq!(asked["question"], "Which database?", "{waited}");
        let answered = client.data("answer_job", json!({"jobId": "j", "choice": "SQLite"}));
        assert_eq!(answered["answered"], true);
        let waited = client.data("wait_for_jobs", json!({"jobIds": ["j"]}));
        assert_eq!(waited["jobs"][0]["status"], "completed", "{waited}");
        client.finish();
    }
}

#[test]
fn a_question_answered_elsewhere_withdraws_the_form() {
    let sandbox = asking(QUESTION);
    let mut client = McpClient::legacy(&sandbox, &json!({"elicitation": {}}));
    let (call, form) = await_form(&mut client);
    assert_eq!(sandbox.run(["answer", "j", "--choice", "SQLite"]).code, 0);
    let answer = client.answer(call);
    assert_eq!(answer["result"]["structuredContent"]["jobs"][0]["status"], "completed");
    let withdrawn = client.notices.iter().find(|it| it["method"] == "notifications/cancelled");
    assert_eq!(withdrawn.unwrap()["params"]["requestId"], form["id"]);
    client.finish();
}

#[test]
fn the_newest_clients_repeat_the_call_with_the_answer() {
    for (action, status) in [("accept", "completed"), ("decline", "blocked")] {
        let sandbox = asking(QUESTION);
        let mut client = McpClient::modern(&sandbox, &json!({"elicitation": {"form": {}}}));
        let asked = client.call("start_coding_job", arguments());
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let (key, request) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(request["method"], "elicitation/create");
        let response = json!({ "action": action, "content": { "answer1": "SQLite" } });
        let repeated = json!({
            "name": "start_coding_job",
            "arguments": arguments(),
            "inputResponses": { key: response },
            "requestState": asked["requestState"],
        });
        let result = client.request("tools/call", repeated);
        client.check("start_coding_job", &result);
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["structuredContent"]["jobs"][0]["status"], status, "{result}");
        assert_eq!(sandbox.path("answer").exists(), status == "completed");
        assert_eq!(client.data("list_jobs", json!({}))["jobs"].as_array().unwrap().len(), 1);
        client.finish();
    }
}

#[test]
fn an_answer_that_cannot_be_given_is_not_asked_again() {
    let sandbox = asking(PERMISSION);
    let mut client = McpClient::legacy(&sandbox, &json!({"elicitation": {}}));
    let (call, form) = await_form(&mut client);
    let inbox = sandbox.job("j").join("inbox");
    fs::rename(&inbox, sandbox.path("inbox")).unwrap();
    fs::write(&inbox, "").unwrap();
    let result = json!({ "action": "accept", "content": { "decision": "allow" } });
    client.send(&json!({ "jsonrpc": "2.0", "id": form["id"], "result": result }));
    let answer = client.answer(call);
    let waited = &answer["result"]["structuredContent"];
    assert_eq!(waited["jobs"][0]["status"], "blocked", "{answer}");
    client.finish();
    fs::remove_file(&inbox).unwrap();
    fs::rename(sandbox.path("inbox"), &inbox).unwrap();
}

#[test]
fn a_form_shows_no_hostile_text() {
    let (hostile, label) = ("\u{1b}]0;x\u{7}Red\u{202e}evil\n\nSign in:", "A\u{1b}[31m\nB");
    let input = json!({ "questions": [{
        "question": format!("{hostile}{}", "long ".repeat(10_000)),
        "header": hostile,
        "options": [{ "label": label, "description": hostile }, { "label": label }],
        "multiSelect": false,
    }] });
    let request = json!({ "subtype": "can_use_tool", "tool_name": "AskUserQuestion",
        "input": input, "tool_use_id": "t1" });
    let asked = json!({ "type": "control_request", "request_id": "q1", "request": request });
    let sandbox = asking(&format!("json {asked}"));
    let mut client = McpClient::legacy(&sandbox, &json!({"elicitation": {}}));
    let (call, form) = await_form(&mut client);
    let text = form["params"].to_string();
    assert!(!text.contains("\\u001b") && !text.contains('\u{202e}'), "{text}");
    assert!(!text.contains("\\n") && text.len() < 5_000, "{text}");
    let choice = &form["params"]["requestedSchema"]["properties"]["answer1"]["enum"];
    assert_eq!(choice, &json!(["A\u{fffd}[31m B"]));
    let result = json!({ "action": "accept", "content": { "answer1": choice[0] } });
    client.send(&json!({ "jsonrpc": "2.0", "id": form["id"], "result": result }));
    assert_eq!(
        client.answer(call)["result"]["structuredContent"]["jobs"][0]["status"],
        "completed"
    );
    let answers = received(&sandbox)["updatedInput"]["answers"].as_object().unwrap().clone();
    assert_eq!(answers.values().collect::<Vec<_>>(), [label]);
    client.finish();
}

#[test]
fn a_whole_request_is_shortened_for_its_reader() {
    let input = json!({ "file_path": "/etc/x", "content": "word ".repeat(100_000) });
    let request = json!({ "subtype": "can_use_tool", "tool_name": "Write", "input": input,
        "tool_use_id": "t1" });
    let asked = json!({ "type": "control_request", "request_id": "p1", "request": request });
    let sandbox = asking(&format!("json {asked}"));
    let mut client = McpClient::legacy(&sandbox, &json!({}));
    client.call("start_coding_job", arguments());
    for (arguments, max) in
        [(json!({"jobId": "j"}), 8_000), (json!({"jobId": "j", "full": true}), 60_000)]
    {
        let status = client.call("job_status", arguments);
        let text = status["content"][0]["text"].as_str().unwrap();
        assert!(text.chars().count() <= max, "{}", text.len());
        assert!(text.contains("word word"), "{text}");
    }
    client.finish();
}
