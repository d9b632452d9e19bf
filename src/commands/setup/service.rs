//! The service of OpenClaw's gateway, and what jobs need in its environment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::super::check::{Check, Level};
use super::super::gateway::Installation;
use crate::claude::{VersionOutput, is_executable, own_executable, version};
use crate::clock;
use crate::json;
use crate::launch::lingers;
use crate::openclaw::{FILES, GatewayUnit, dot_env};
use crate::process;
use crate::text::{one_line, shell_word};

/// Time limit of `doctor` in the environment of the service.
const DOCTOR_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of `claudejob --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of `systemctl`.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_OUTPUT_BYTES: usize = 256 << 10;
/// Variables of a login, which a service of the user has as well.
const LOGIN_VARIABLES: [&str; 6] =
    ["HOME", "USER", "LOGNAME", "LANG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"];

/// Checks the service, the programs that it finds, and the login of claude that it sees.
pub(super) fn checks(installation: &Installation) -> Vec<Check> {
    let mut checks = vec![service(installation), program(installation)];
    checks.extend(jobs(installation));
    if let Some(unit) = &installation.unit {
        let uid = nix::unistd::geteuid().as_raw();
        if is_systemd(unit) && unit.is_of_user(&installation.home) {
            checks.push(linger(lingers(uid)));
        }
        checks.extend(restart(installation, unit));
    }
    checks
}

fn service(installation: &Installation) -> Check {
    let Some(unit) = &installation.unit else {
        let detail = format!("no service runs a gateway with {}", installation.state_dir.display());
        return Check::warning("service", detail, "openclaw gateway install");
    };
    let path = unit.path.display();
    for program in unit.program.iter().take(1) {
        if !is_executable(Path::new(program)) {
            let detail = format!("{path} runs {program}, which is no program");
            return Check::warning("service", detail, "openclaw gateway install --force");
        }
    }
    Check::ok("service", path.to_string())
}

/// Checks the program that the gateway finds, which may be another version.
fn program(installation: &Installation) -> Check {
    let check = installation.check_program("claudejob", Level::Error);
    let Some(found) = installation.find_program("claudejob") else { return check };
    if found.canonicalize().ok() == own_executable().canonicalize().ok() {
        return check;
    }
    let own = env!("CARGO_PKG_VERSION");
    let version = match version(&found, VERSION_TIMEOUT) {
        Ok(VersionOutput::Printed(output)) => one_line(&output, 80),
        Ok(_) | Err(_) => String::new(),
    };
    if version == format!("claudejob {own}") {
        return check;
    }
    let detail = format!("{}: '{version}' is not version {own}", found.display());
    Check::warning("claudejob", detail, "install the same version there")
}

/// Returns the call of `doctor` in the environment of the gateway.
fn doctor(installation: &Installation) -> Command {
    let mut doctor = Command::new(own_executable());
    doctor.args(["doctor", "--json"]).current_dir(&installation.home);
    if let Some(unit) = &installation.unit {
        doctor.env_clear();
        for name in LOGIN_VARIABLES {
            doctor.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        doctor.envs(unit.environment(&installation.state_dir));
    } else {
        let mut variables = dot_env(&installation.state_dir);
        // A gateway that is started here reads the file, but keeps the variables that it has.
        variables.retain(|name, _| std::env::var_os(name).is_none());
        doctor.envs(variables);
    }
    doctor
}

/// Returns what `doctor` finds in the environment of the gateway: claude, its login, and whether it
/// refuses the user.
fn jobs(installation: &Installation) -> Vec<Check> {
    let doctor = doctor(installation);
    let answer: Value =
        match process::run_with_timeout(doctor, None, DOCTOR_TIMEOUT, MAX_OUTPUT_BYTES) {
            Ok((output, Some(_))) => match json::from_bytes(&output) {
                Ok(answer) => answer,
                Err(_) => {
                    let output = one_line(&String::from_utf8_lossy(&output), 200);
                    return vec![Check::unknown("claude", output)];
                }
            },
            Ok((_, None)) => return vec![Check::unknown("claude", "doctor did not end")],
            Err(error) => return vec![Check::unknown("claude", error)],
        };
    let env_file = installation.state_dir.join(".env");
    let mut checks = Vec::new();
    for found in answer["checks"].as_array().into_iter().flatten() {
        let text = |field: &str| found[field].as_str().unwrap_or_default();
        let level = if found["level"] == "ok" { Level::Ok } else { Level::Error };
        match text("name") {
            "claude" => {
                let link = match level {
                    Level::Error => installation.link_to("claude"),
                    Level::Ok | Level::Warning => None,
                };
                let hint = link.as_deref().unwrap_or(text("hint"));
                checks.push(Check::with_level("claude", level, text("detail"), hint));
            }
            // It could be in OpenClaw's own configuration, too.
            "login" if level == Level::Error => {
                let hint = format!(
                    "run claude and /login once as this user, or put ANTHROPIC_API_KEY or \
                     CLAUDE_CODE_OAUTH_TOKEN into {}",
                    env_file.display()
                );
                checks.push(Check::warning("login", text("detail"), hint));
            }
            "login" => checks.push(Check::ok("login", text("detail"))),
            "root" if level == Level::Error => {
                let hint = format!(
                    "run the gateway as another user, or put IS_SANDBOX=1 into {} if this machine \
                     is a sandbox",
                    env_file.display()
                );
                checks.push(Check::error("root", text("detail"), hint));
            }
            _ => {}
        }
    }
    checks
}

fn linger(lingers: bool) -> Check {
    if lingers {
        return Check::ok("linger", "the gateway and the jobs go on when the user logs out");
    }
    let detail = "the gateway and the jobs end when the user logs out";
    Check::warning("linger", detail, "loginctl enable-linger")
}

/// A gateway that systemd runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RunningGateway {
    since: SystemTime,
    /// Its definition was changed, and systemd has not read it again.
    needs_reload: bool,
}

/// Checks whether the gateway must be restarted; `None` if it is not known whether it runs.
fn restart(installation: &Installation, unit: &GatewayUnit) -> Option<Check> {
    if !is_systemd(unit) {
        return None;
    }
    let user = if unit.is_of_user(&installation.home) { "--user " } else { "" };
    let sudo = if user.is_empty() { "sudo " } else { "" };
    let name = unit.path.file_name()?.to_string_lossy().into_owned();
    let mut show = Command::new("systemctl");
    show.args(user.split_whitespace()).args(["show", "--property"]);
    show.arg("ActiveState,NeedDaemonReload,ActiveEnterTimestampMonotonic").arg(&name);
    let output = process::run_with_timeout(show, None, SYSTEMCTL_TIMEOUT, MAX_OUTPUT_BYTES).ok()?.0;
    let boot = SystemTime::now().checked_sub(Duration::from_millis(clock::monotonic_ms()))?;
    let Some(running) = running_gateway(&String::from_utf8_lossy(&output), boot)? else {
        return Some(Check::ok("restart", "the gateway does not run"));
    };
    let Some(why) = restart_reason(installation, unit, running) else {
        return Some(Check::ok("restart", "not needed"));
    };
    let name = shell_word(&name);
    let hint =
        format!("{sudo}systemctl {user}daemon-reload && {sudo}systemctl {user}restart {name}");
    Some(Check::warning("restart", why, hint))
}

/// Returns why the gateway must be restarted.
fn restart_reason(
    installation: &Installation,
    unit: &GatewayUnit,
    running: RunningGateway,
) -> Option<&'static str> {
    if running.needs_reload || unit.changed_at().is_some_and(|at| at > running.since) {
        return Some("the service's definition was changed after the gateway's start");
    }
    let Some(program) = installation.find_program("claudejob") else {
        return Some(
            "when the gateway finds claudejob, only a restart shows the skill to sessions",
        );
    };
    // OpenClaw looks again whether the program is there only when the text of the skill changes.
    let skill = FILES[0].path(&installation.state_dir);
    match (appeared_at(&program), appeared_at(&skill)) {
        (Some(program), Some(skill)) if program > running.since && program > skill => {
            Some("claudejob was installed after the gateway's start: no session sees the skill")
        }
        _ => None,
    }
}

/// Returns when a file or link got its name.
fn appeared_at(path: &Path) -> Option<SystemTime> {
    let seconds = fs::symlink_metadata(path).ok()?.ctime();
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// Reads the output of `systemctl show`: the outer `None` if it says nothing, the inner one if the
/// gateway does not run. `boot` is the zero of the monotonic clock: systemd's other times have a form
/// that its versions and languages change.
fn running_gateway(output: &str, boot: SystemTime) -> Option<Option<RunningGateway>> {
    let value = |name: &str| output.lines().find_map(|line| line.strip_prefix(name));
    if value("ActiveState=")? != "active" {
        return Some(None);
    }
    let micros = value("ActiveEnterTimestampMonotonic=")?.parse().ok()?;
    let since = boot.checked_add(Duration::from_micros(micros))?;
    let needs_reload = value("NeedDaemonReload=") == Some("yes");
    Some(Some(RunningGateway { since, needs_reload }))
}

fn is_systemd(unit: &GatewayUnit) -> bool {
    unit.path.extension().is_some_and(|extension| extension == "service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_systemd_says() {
        let boot = UNIX_EPOCH + Duration::from_secs(1_000);
        let after = |seconds| boot + Duration::from_secs(seconds);
        for (output, expected) in [
            (
                "ActiveState=active\nNeedDaemonReload=no\nActiveEnterTimestampMonotonic=7000000\n",
                Some(Some(RunningGateway { since: after(7), needs_reload: false })),
            ),
            (
                "NeedDaemonReload=yes\nActiveEnterTimestampMonotonic=0\nActiveState=active\n",
                Some(Some(RunningGateway { since: boot, needs_reload: true })),
            ),
            ("ActiveState=inactive\nActiveEnterTimestampMonotonic=0\n", Some(None)),
            ("ActiveState=active\nActiveEnterTimestampMonotonic=\n", None),
            ("Failed to connect to bus: No such file or directory\n", None),
            ("", None),
        ] {
            assert_eq!(running_gateway(output, boot), expected, "{output}");
        }
    }
}
