//! Leaves the tables for unwinding out of the release program, which are a thirteenth of it. A
//! panic aborts the program, and without symbols a backtrace names no function.

use std::path::Path;

const SCRIPT: &str = include_str!("packaging/without-unwinding.ld");

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=packaging/without-unwinding.ld");
    let variable = |name| std::env::var(name).unwrap_or_default();
    // A build with debug information keeps the tables.
    let is_release = variable("PROFILE") == "release" && variable("DEBUG") == "false";
    if is_release && variable("CARGO_CFG_TARGET_OS") == "linux" {
        // A copy: several checkouts may share a target directory, and one of them may be gone.
        let script = Path::new(&variable("OUT_DIR")).join("without-unwinding.ld");
        match std::fs::write(&script, SCRIPT) {
            Ok(()) => println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display()),
            Err(error) => println!("cargo::warning={}: {error}", script.display()),
        }
    }
}
