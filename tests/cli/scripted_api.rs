//! The scripted API of the tests as a program.
//!
//! `scripted-api STEPS [ADDRESS]` takes a JSON array of steps, listens at a free port of this machine or
//! at the address, prints the URL and then obeys the lines on its
//! stdin until that is closed: `wait N` prints `arrived` when N requests have arrived, `requests`
//! prints how many have, and `release` lets a held step continue.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a part of the tests")]
#![allow(clippy::print_stdout, reason = "this program's answers")]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../support/scripted_api.rs"]
mod scripted_api;

use scripted_api::{ScriptedApi, Step};

fn main() {
    let steps = std::env::args().nth(1).expect("usage: scripted-api STEPS");
    let steps: Vec<Step> = serde_json::from_str(&steps).expect("STEPS is a JSON array of steps");
    let address = std::env::args().nth(2).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let api = ScriptedApi::start_at(&address, steps);
    println!("{}", api.url());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            Some(("wait", number)) => {
                api.wait_for_request(number.parse().unwrap());
                println!("arrived");
            }
            _ if line == "requests" => println!("{}", api.requests()),
            _ if line == "release" => api.release(),
            _ => panic!("unknown command: {line}"),
        }
    }
}
