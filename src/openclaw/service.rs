//! The service that runs OpenClaw's gateway: how it is started, and where it searches programs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::state_dir::state_dir;
use super::unit_text::{self, UnitText};

/// Longest file that is read: a unit is a few kilobytes long.
const MAX_UNIT_BYTES: u64 = 1 << 20;
/// Directories of the units of the system manager.
const SYSTEM_UNIT_DIRS: [&str; 3] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];
/// Directory of the daemons of the whole machine on macOS.
const SYSTEM_DAEMON_DIR: &str = "/Library/LaunchDaemons";
/// The node host, which has the same prefix as the gateways, but runs no agent.
const NODE_HOST: &str = "ai.openclaw.node";

/// The definition of a gateway's service: a unit of systemd or an agent of launchd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayUnit {
    /// The file that defines the service.
    pub path: PathBuf,
    /// The program with its arguments.
    pub program: Vec<String>,
    /// The `PATH` that the definition sets; `None` if it sets none.
    pub search_path: Option<OsString>,
    /// The variables that the definition sets.
    variables: BTreeMap<String, String>,
    /// The files with more variables.
    environment_files: Vec<PathBuf>,
}

impl GatewayUnit {
    /// Returns the gateway's service of the user with this home directory. The services of the user
    /// come first, and that without a profile before those with one.
    pub(crate) fn find(home: &Path) -> Option<Self> {
        Self::find_all(home).into_iter().next()
    }

    /// Returns the service whose gateway has this state directory.
    pub(crate) fn with_state_dir(home: &Path, state: &Path) -> Option<Self> {
        Self::find_all(home).into_iter().find(|unit| {
            let get = |name: &str| match unit.variables.get(name) {
                None if name == "HOME" => Some(home.as_os_str().to_owned()),
                value => value.map(OsString::from),
            };
            state_dir(get).is_some_and(|dir| dir == state)
        })
    }

    /// Returns the services of gateways in the order of [`Self::find`].
    fn find_all(home: &Path) -> Vec<Self> {
        let mut units = Self::in_dir(&home.join(".config/systemd/user"), home);
        units.extend(Self::in_dir(&home.join("Library/LaunchAgents"), home));
        for dir in SYSTEM_UNIT_DIRS {
            units.extend(Self::in_dir(Path::new(dir), home));
        }
        units.extend(Self::in_dir(Path::new(SYSTEM_DAEMON_DIR), home));
        units
    }

    /// Returns the search path of the service: its own, or that of the manager that starts it.
    pub(crate) fn search_path(&self) -> OsString {
        let default = if self.path.extension().is_some_and(|extension| extension == "plist") {
            "/usr/bin:/bin:/usr/sbin:/sbin"
        } else {
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        };
        self.search_path.clone().unwrap_or_else(|| default.into())
    }

    fn in_dir(dir: &Path, home: &Path) -> Vec<Self> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if is_gateway(&entry.file_name().to_string_lossy()) {
                paths.push(entry.path());
            }
        }
        // By the name without its extension: '-' sorts before '.'.
        paths.sort_by_key(|path| path.file_stem().map(ToOwned::to_owned));
        paths.iter().filter_map(|path| Self::read(path, home)).collect()
    }

    /// Reads a definition; `None` if it cannot be read or starts nothing.
    fn read(path: &Path, home: &Path) -> Option<Self> {
        let text = read_text(path)?;
        let unit = if path.extension().is_some_and(|extension| extension == "plist") {
            let mut unit = unit_text::launchd(&text);
            // The values are in a file beside it: the agent starts a script that reads them.
            if let Some(file) = unit.take_environment_file()
                && let Some(text) = read_text(Path::new(&file))
            {
                unit.add_exports(&text);
            }
            unit
        } else {
            let mut texts = vec![text];
            for file in drop_ins(path) {
                texts.extend(read_text(&file));
            }
            unit_text::systemd(&texts, &home.to_string_lossy())
        };
        let UnitText { program, variables, environment_files } = unit;
        if program.is_empty() {
            return None;
        }
        let search_path = variables.get("PATH").map(OsString::from);
        let environment_files = environment_files.into_iter().map(PathBuf::from).collect();
        Some(Self { path: path.to_owned(), program, search_path, variables, environment_files })
    }

    /// Returns the environment of the gateway: that of the service, and the variables of its files
    /// and of `.env` in its state directory.
    pub(crate) fn environment(&self, state: &Path) -> BTreeMap<String, String> {
        let mut environment = dot_env(state);
        environment.extend(self.variables.clone());
        for file in &self.environment_files {
            environment.extend(unit_text::assignments(&read_text(file).unwrap_or_default()));
        }
        environment.insert("PATH".to_owned(), self.search_path().to_string_lossy().into_owned());
        environment
    }

    /// Whether the manager of the user starts the service, not that of the machine.
    pub(crate) fn is_of_user(&self, home: &Path) -> bool {
        self.path.starts_with(home)
    }

    /// Returns the time at which the definition, or a file that changes it, was changed last.
    pub(crate) fn changed_at(&self) -> Option<SystemTime> {
        let mut files = drop_ins(&self.path);
        files.push(self.path.clone());
        files.iter().filter_map(|file| fs::metadata(file).and_then(|it| it.modified()).ok()).max()
    }
}

/// Returns the variables that each gateway reads from `.env` in its state directory.
pub(crate) fn dot_env(state: &Path) -> BTreeMap<String, String> {
    unit_text::assignments(&read_text(&state.join(".env")).unwrap_or_default())
}

fn is_gateway(name: &str) -> bool {
    if let Some(unit) = name.strip_suffix(".service") {
        return unit == "openclaw-gateway" || unit.starts_with("openclaw-gateway-");
    }
    match name.strip_suffix(".plist") {
        Some(label) => label.starts_with("ai.openclaw.") && label != NODE_HOST,
        None => false,
    }
}

/// Returns the files that change a unit, in the order of their names.
fn drop_ins(unit: &Path) -> Vec<PathBuf> {
    let mut dir = unit.as_os_str().to_owned();
    dir.push(".d");
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "conf") {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

fn read_text(path: &Path) -> Option<String> {
    let about = fs::metadata(path).ok()?;
    if !about.is_file() || about.len() > MAX_UNIT_BYTES {
        return None;
    }
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "[Service]\n\
        ExecStart=/usr/bin/node /o/index.js gateway --port 18789\n\
        Environment=PATH=/usr/bin:/home/a/.local/bin\n";

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn finds_the_services_of_the_user() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(GatewayUnit::in_dir(&home.path().join("none"), home.path()), []);
        let units = home.path().join(".config/systemd/user");
        write(&units.join("openclaw-gateway-work.service"), UNIT);
        write(&units.join("openclaw-gateway.service"), UNIT);
        write(&units.join("openclaw-gateways.service"), UNIT);
        write(&units.join("openclaw-node.service"), UNIT);
        write(&units.join("openclaw-gateway-empty.service"), "[Service]\n");
        let found = GatewayUnit::find_all(home.path());
        let names: Vec<_> = found.iter().filter_map(|unit| unit.path.file_name()).collect();
        assert_eq!(names, ["openclaw-gateway.service", "openclaw-gateway-work.service"]);
        let first = GatewayUnit::find(home.path()).unwrap();
        assert_eq!(first.program[..2], ["/usr/bin/node", "/o/index.js"]);
        assert_eq!(first.search_path, Some("/usr/bin:/home/a/.local/bin".into()));
    }

    #[test]
    fn reads_what_changes_a_unit() {
        let home = tempfile::tempdir().unwrap();
        let unit = home.path().join(".config/systemd/user/openclaw-gateway.service");
        write(&unit, UNIT);
        let dir = unit.with_extension("service.d");
        write(&dir.join("20-path.conf"), "[Service]\nEnvironment=PATH=/b\n");
        write(&dir.join("10-path.conf"), "[Service]\nEnvironment=PATH=/a\n");
        write(&dir.join("30-path.conf~"), "[Service]\nEnvironment=PATH=/c\n");
        let found = GatewayUnit::find(home.path()).unwrap();
        assert_eq!(found.search_path, Some("/b".into()));
    }

    #[test]
    fn reads_the_file_of_an_agent() {
        let home = tempfile::tempdir().unwrap();
        let (state, agents) = (home.path().join("s"), home.path().join("Library/LaunchAgents"));
        let values = state.join("service-env/ai.openclaw.gateway.env");
        write(&values, "export PATH='/opt/homebrew/bin:/it'\\''s'\n");
        let plist = format!(
            "<dict><key>ProgramArguments</key><array><string>/bin/sh</string>\
             <string>/s/service-env/ai.openclaw.gateway-env-wrapper.sh</string>\
             <string>{}</string><string>/n/node</string><string>/o.js</string></array></dict>",
            values.display()
        );
        write(&agents.join("ai.openclaw.gateway.plist"), &plist);
        write(&agents.join("ai.openclaw.node.plist"), &plist);
        let [found] = &GatewayUnit::find_all(home.path())[..] else { panic!() };
        assert_eq!(found.program, ["/n/node", "/o.js"]);
        assert_eq!(found.search_path, Some("/opt/homebrew/bin:/it's".into()));
    }
}
