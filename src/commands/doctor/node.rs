//! The checks of `doctor --on slurm --probe` that run on nodes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::Check;
use crate::claude::{self, Env, LoginSource};
use crate::job::Spec;
use crate::process::machine::MachineIdentity;

/// Time limit of a connection to an address of the API.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Beginning of the names of the variables that select a provider other than Anthropic.
const PROVIDER_PREFIX: &str = "CLAUDE_CODE_USE_";
const API_URL: &str = "https://api.anthropic.com";

/// Returns the check that names the node.
pub(super) fn name() -> Check {
    let node = std::env::var("SLURMD_NODENAME");
    Check::ok(NODE, node.unwrap_or_else(|_| MachineIdentity::own().host.clone()))
}

/// Name of the check that names the node.
pub(super) const NODE: &str = "node";
/// Name of the check of the API.
pub(super) const API: &str = "api";
/// Name of the check of locks.
pub(super) const LOCKS: &str = "locks";

/// Checks that the API can be reached: connects to its address, or to that of the proxy, and sends
/// nothing.
pub(super) fn api(env: &Env) -> Check {
    if let Some(LoginSource::Variable(name)) = claude::login(env, &Spec::default())
        && name.starts_with(PROVIDER_PREFIX)
    {
        return Check::ok(API, format!("not tried: {name} selects another provider"));
    }
    let variable = |name: &str| env.get(name).map(|value| value.to_string_lossy().into_owned());
    let url = variable("ANTHROPIC_BASE_URL").unwrap_or_else(|| API_URL.to_owned());
    let proxies = if url.starts_with("https:") {
        ["HTTPS_PROXY", "https_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy"]
    };
    let proxy = proxies.into_iter().find_map(variable);
    let Some(address) = address(proxy.as_deref().unwrap_or(&url)) else {
        return Check::unknown(API, "its URL names no host");
    };
    let what = if proxy.is_some() { "its proxy " } else { "" };
    match connect(&address) {
        Ok(()) => Check::ok(API, format!("{what}{address} accepts connections")),
        Err(error) => {
            let hint = "ask the administrator how nodes reach it, such as by a proxy: HTTPS_PROXY=… in the \
                        file of --env-file";
            Check::error(API, format!("cannot connect to {what}{address}: {error}"), hint)
        }
    }
}

/// Returns the host and the port of a URL.
fn address(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (host, scheme) {
        ("", _) => None,
        (host, _) if has_port => Some(host.to_owned()),
        (host, "https") => Some(format!("{host}:443")),
        (host, _) => Some(format!("{host}:80")),
    }
}

fn connect(address: &str) -> io::Result<()> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for address in address.to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map(drop);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// What one node takes and another one must not get.
#[derive(Debug)]
pub(super) struct Taken {
    /// By flock(2) and fcntl(2), while the files are open.
    locks: [(&'static str, io::Result<bool>); 2],
    _files: Vec<File>,
    link: io::Result<bool>,
}

impl Taken {
    /// Takes the locks of files in this directory, as far as they are free, and makes a file by link(2).
    pub(super) fn take(dir: &Path) -> io::Result<Self> {
        let open = |name: &str| {
            OpenOptions::new().write(true).create(true).truncate(false).open(dir.join(name))
        };
        let (by_flock, by_fcntl) = (open("flock")?, open("fcntl")?);
        let flock = match by_flock.try_lock() {
            Err(TryLockError::Error(error)) => Err(error),
            locked => Ok(locked.is_ok()),
        };
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let fcntl = match fcntl(&by_fcntl, FcntlArg::F_SETLK(&whole)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        };
        let own = dir.join(uuid::Uuid::new_v4().to_string());
        File::create(&own)?;
        let link = match fs::hard_link(&own, dir.join("link")) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            made => Ok(made.is_ok()),
        };
        let locks = [("flock", flock), ("fcntl", fcntl)];
        Ok(Self { locks, _files: vec![by_flock, by_fcntl], link })
    }

    /// Checks whether what another node has taken was refused to this one.
    pub(super) fn check(self) -> Check {
        let mut found = Vec::new();
        for (name, result) in &self.locks {
            found.push(match result {
                Ok(false) => format!("{name} locks exclude each other"),
                Ok(true) => format!("{name} locks do not exclude each other"),
                Err(error) => format!("{name} locks fail ({error})"),
            });
        }
        let locks = found.join(", ");
        match self.link {
            Ok(false) => {
                Check::ok(LOCKS, format!("{locks}; link(2) excludes, by which jobs are claimed"))
            }
            Ok(true) => Check::error(
                LOCKS,
                format!("two nodes have made the same file by link(2); {locks}"),
                "use a file system with hard links that all nodes share, with --jobs-dir",
            ),
            Err(error) => Check::error(
                LOCKS,
                format!("link(2) fails: {error}"),
                "use a file system with hard links, with --jobs-dir",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address_of_a_url() {
        for (url, expected) in [
            ("https://api.anthropic.com", Some("api.anthropic.com:443")),
            ("http://gateway/v1?x", Some("gateway:80")),
            ("http://user:secret@proxy:3128/", Some("proxy:3128")),
            ("proxy:3128", Some("proxy:3128")),
            ("https://[::1]:8443", Some("[::1]:8443")),
            ("https:///path", None),
        ] {
            assert_eq!(address(url).as_deref(), expected, "{url}");
        }
    }
}
