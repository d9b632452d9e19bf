//! Leaves the tables for unwinding out of the release program, which are a thirteenth of it. A
//! panic aborts the program, and without symbols a backtrace names no function.

fn main() {
    const SCRIPT: &str = "packaging/without-unwinding.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    let variable = |name| std::env::var(name).unwrap_or_default();
    // A build with debug information keeps the tables.
    let is_release = variable("PROFILE") == "release" && variable("DEBUG") == "false";
    if is_release && variable("CARGO_CFG_TARGET_OS") == "linux" {
        let script = format!("{}/{SCRIPT}", variable("CARGO_MANIFEST_DIR"));
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
    }
}
