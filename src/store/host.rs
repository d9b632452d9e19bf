//! Jobs of other machines in a jobs directory that several machines share.
//!
//! On a local file system a free lock proves that a job has no worker, whatever the name of the
//! machine. On a network file system a lock of another machine need not be visible here.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::{Context, JobDir, StoreError};
use crate::job::Record;
use crate::process;
use crate::process::machine::{self, MachineIdentity};

impl Record {
    /// Records that the job's worker is started on this machine.
    pub(crate) fn set_host(&mut self) {
        let own = MachineIdentity::own();
        self.worker.host = Some(own.host.clone());
        self.worker.machine_id.clone_from(&own.machine_id);
        self.worker.boot_id = process::boot_id();
    }

    /// Returns the name of the machine, for people.
    pub(super) fn host_name(&self) -> &str {
        self.worker.host.as_deref().unwrap_or("an unknown host")
    }

    /// Whether the record names this machine. Cloned machines share an id, and so do containers of
    /// one image, so the name has to be the same as well.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        let own = MachineIdentity::own();
        match &self.worker.host {
            Some(host) => *host == own.host && self.worker.machine_id == own.machine_id,
            // A record of an earlier version has only the boot id.
            None => self.worker.boot_id.is_some() && self.worker.boot_id == process::boot_id(),
        }
    }
}

impl JobDir {
    /// Whether other machines may use the directory at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        machine::is_shared(self.path())
    }

    /// Whether the job's worker was started on another machine that shares the directory. Needs no
    /// system call for a job of this machine.
    pub(crate) fn is_elsewhere(&self, record: &Record) -> bool {
        !record.is_of_this_machine() && self.is_shared()
    }

    /// Claims the launch of an attempt where the lock does not exclude other machines: only one of
    /// them can create the file. Returns the host that was first, if it is another one.
    pub(crate) fn claim_attempt(&self, attempt: u32) -> Result<Option<String>, StoreError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let path = self.claim(attempt);
        let own = MachineIdentity::own();
        let claim = format!("{}\n{}\n", own.host, own.machine_id.as_deref().unwrap_or_default());
        // O_EXCL holds between machines, also on NFS.
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match created {
            Ok(mut file) => {
                file.write_all(claim.as_bytes()).context("write", &path)?;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let first = std::fs::read_to_string(&path).context("read", &path)?;
                if first == claim {
                    // The launcher that created it died: on one machine the lock excludes others, and
                    // the caller holds it.
                    return Ok(None);
                }
                Ok(Some(first.lines().next().unwrap_or("an unknown host").to_owned()))
            }
            Err(error) => Err(error).context("create", &path),
        }
    }

    /// Removes a claim: the launch failed, or the machine is gone permanently.
    pub(crate) fn revoke_claim(&self, attempt: u32) {
        let _ = std::fs::remove_file(self.claim(attempt));
    }

    fn claim(&self, attempt: u32) -> PathBuf {
        self.file(&format!(".attempt-{attempt}"))
    }
}
