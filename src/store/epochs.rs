//! `epochs/`: which process owns a job with an [engine](crate::job::EngineOptions). Its machines share
//! the jobs directory, and locks are not trusted across machines.
//!
//! The entries `1.json`, `2.json`, … are a sequence. Each is made by link(2), so that one process makes
//! it, and never changes. It is either a claim, whose maker owns the job from then on, or the end of
//! the job: its final record. So an owner whose job was claimed by a successor cannot end it any
//! more, and after an end only a process that has read it can claim the job again.
//!
//! The owner by entry N writes only to the directory `N/`, which begins as a copy of that of its
//! predecessor, and appears when it is complete. An owner that revives after its successor has begun
//! can spoil nothing. Shared by all are the record and the prompt as `start` wrote them, the inbox,
//! the notifications and the engine's log.
//!
//! Who owns a job must renew its [lease](Lease) `N.lease`: a successor waits until it is not renewed.

mod copying;
mod latest;
mod lease;
#[cfg(test)]
mod model;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::job_dir::decode_record;
use super::notifications::is_notifications_name;
use super::owner::{OwnEpoch, Owner};
use super::{
    Context, ENGINE_LOG, EPOCHS, JobDir, LOCK, LoadError, Lock, PROMPT, RECORD, StoreError, files,
};
use crate::fault_point::fault_point;
use crate::job::{EngineRef, Record};
use crate::json;
use crate::process;
use crate::process::machine::MachineIdentity;

pub(crate) use lease::{Lease, LeaseTimes, LeaseWatch};

/// What the engine calls the job: an [`EngineRef`].
const ENGINE_REF: &str = "engine.json";
/// Name of a final record until it is linked as the end. No other file ever has it, so that a rename
/// which a file server carries out twice cannot publish it.
const END: &str = "end.json";
/// Files of the job's directory that do not belong to an owner. Names are a protocol.
const SHARED: [&str; 4] = [PROMPT, super::inbox::INBOX, EPOCHS, ENGINE_LOG];
const MAX_ENTRY_BYTES: u64 = 8 << 20;
/// Longer than network file systems keep the attributes of a file that is being written.
const MAX_STALENESS: Duration = Duration::from_secs(4);

/// A claim of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claim {
    pub kind: ClaimKind,
    /// Distinguishes the claim from every other one.
    token: String,
    /// What the engine calls the claiming worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineRef>,
    host: String,
    #[serde(default)]
    machine_id: Option<String>,
    #[serde(default)]
    boot_id: Option<String>,
}

/// Who claims a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClaimKind {
    /// A worker, which runs claude.
    Worker,
    /// A caller that ends the job. If it dies before that, its successor ends the job.
    Kill,
    /// A caller that continues an ended job: it prepares the record for the worker that the engine
    /// starts next.
    Submit,
    /// One that only a newer version knows.
    #[serde(other)]
    Unknown,
}

impl Claim {
    /// Returns a claim of this process.
    pub(crate) fn new(kind: ClaimKind, engine: Option<EngineRef>) -> Self {
        let own = MachineIdentity::own();
        Self {
            kind,
            token: uuid::Uuid::new_v4().to_string(),
            engine,
            host: own.host.clone(),
            machine_id: own.machine_id.clone(),
            boot_id: process::boot_id(),
        }
    }

    /// Whether a process of this machine has made it, of any boot.
    fn is_of_this_machine(&self) -> bool {
        let own = MachineIdentity::own();
        self.host == own.host && self.machine_id == own.machine_id
    }
}

/// The text of an entry that is a claim. A final record has no such field.
#[derive(Serialize, Deserialize)]
struct EntryText {
    claim: Claim,
}

/// An entry of the sequence.
#[derive(Clone, Debug)]
pub(crate) enum EpochEntry {
    Claim(Claim),
    /// The end of the job, with its final record.
    End(Box<Record>),
}

/// The last entry of a job.
#[derive(Clone, Debug)]
pub(crate) struct LastEntry {
    pub number: u32,
    pub entry: EpochEntry,
    /// Whether the directory of this entry is complete.
    pub has_files: bool,
}

/// What a listing shows. It may be out of date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Listing {
    /// Number of the last entry; 0 if there is none.
    last: u32,
    /// Number of the last complete directory; 0 if there is none.
    owner: u32,
}

/// What a process does that wants to own a job.
#[derive(Clone, Debug)]
pub(crate) enum NextStep {
    /// Claim the job by the entry with this number. `kills`: a caller of `kill` has claimed the job and
    /// not ended it.
    Claim { number: u32, kills: bool },
    /// Wait until the job ends, or the maker of this claim is known to be gone.
    Await { number: u32, claim: Claim },
    /// The job has ended for good.
    Over(Box<Record>),
}

impl NextStep {
    /// Decides by the last entry. The maker of a claim has no lease to wait for if it `has_ended`.
    pub(crate) fn after(last: Option<LastEntry>, has_ended: impl FnOnce(&Claim) -> bool) -> Self {
        let Some(LastEntry { number, entry, has_files }) = last else {
            return Self::Claim { number: 1, kills: false };
        };
        let claim = match entry {
            EpochEntry::End(record) if record.is_cut_off() => {
                return Self::Claim { number: number + 1, kills: false };
            }
            EpochEntry::End(record) => return Self::Over(record),
            EpochEntry::Claim(claim) => claim,
        };
        let is_prepared = claim.kind == ClaimKind::Submit && has_files;
        if is_prepared || has_ended(&claim) {
            return Self::Claim { number: number + 1, kills: claim.kind == ClaimKind::Kill };
        }
        Self::Await { number, claim }
    }
}

impl JobDir {
    /// Returns the directory of the owner's files; `None` if it is the job's own.
    fn owner_dir(&self) -> Option<PathBuf> {
        match &self.owner {
            Owner::Latest(number) => match number.load(Ordering::Relaxed) {
                0 => None,
                number => Some(self.epochs().join(number.to_string())),
            },
            Owner::Own(OwnEpoch { number, is_complete: true }) => {
                Some(self.epochs().join(number.to_string()))
            }
            Owner::Own(OwnEpoch { number, .. }) => Some(self.staged_epoch(*number)),
        }
    }

    /// Returns the path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        match self.owner_dir() {
            Some(dir) if !is_shared(name) => dir.join(name),
            _ => self.path.join(name),
        }
    }

    /// Returns the number of the epoch that this process owns.
    pub(super) fn own_epoch(&self) -> Option<u32> {
        match &self.owner {
            Owner::Own(own) => Some(own.number),
            Owner::Latest(_) => None,
        }
    }

    /// Whether this process owns the job by a claim.
    pub(crate) fn is_claimed(&self) -> bool {
        self.own_epoch().is_some()
    }

    /// Whether the job's files are those of an owner, or may be soon: then the inbox is shared, and its
    /// files stay until the job is removed.
    pub(super) fn has_owner(&self) -> bool {
        self.owner_dir().is_some()
    }

    /// How long the end of the job may be seen before the last lines of its files: with an owner on another
    /// machine, a file server lets this one keep the length of a file.
    pub(crate) fn max_staleness(&self) -> Duration {
        if self.has_owner() { MAX_STALENESS } else { Duration::ZERO }
    }

    fn epochs(&self) -> PathBuf {
        self.path.join(EPOCHS)
    }

    fn entry_path(&self, number: u32) -> PathBuf {
        self.epochs().join(format!("{number}.json"))
    }

    fn staged_epoch(&self, number: u32) -> PathBuf {
        self.epochs().join(format!(".{number}.new"))
    }

    fn lease_path(&self, number: u32) -> PathBuf {
        self.epochs().join(format!("{number}.lease"))
    }

    /// Lists the entries and the complete directories.
    fn list_epochs(&self) -> Result<Listing, StoreError> {
        let path = self.epochs();
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
            entries => entries.context("read", &path)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.context("read", &path)?.file_name());
        }
        Ok(Listing::from_names(names.iter().filter_map(|name| name.to_str())))
    }

    /// Finds the files of the present owner, which this value names from now on. Does nothing for a job
    /// of this machine.
    pub(crate) fn find_owner(&self) {
        if let Owner::Latest(latest) = &self.owner
            && let Ok(Listing { owner, .. }) = self.list_epochs()
        {
            latest.store(owner, Ordering::Relaxed);
        }
    }

    /// Reads an entry; `None` if there is none with this number.
    fn read_entry(&self, number: u32) -> Result<Option<EpochEntry>, LoadError> {
        let path = self.entry_path(number);
        let text = match files::read_bounded(&path, MAX_ENTRY_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.context("read", &path)?,
        };
        if let Ok(EntryText { claim }) = json::from_bytes(&text) {
            return Ok(Some(EpochEntry::Claim(claim)));
        }
        let record = decode_record(&text).map_err(|why| self.unreadable(path, why))?;
        Ok(Some(EpochEntry::End(Box::new(record))))
    }

    /// Returns the last entry; `None` if the job was never claimed.
    pub(crate) fn last_entry(&self) -> Result<Option<LastEntry>, LoadError> {
        let mut listing = self.list_epochs()?;
        let mut found = None;
        if listing.last > 0 {
            found = self.read_entry(listing.last)?;
        }
        // A listing of a file server may be out of date, and each entry has the next number.
        while let Some(next) = self.read_entry(listing.last + 1)? {
            listing.last += 1;
            found = Some(next);
        }
        let has_files = listing.owner == listing.last || self.epoch_dir(listing.last).is_dir();
        Ok(found.map(|entry| LastEntry { number: listing.last, entry, has_files }))
    }

    fn epoch_dir(&self, number: u32) -> PathBuf {
        self.epochs().join(number.to_string())
    }

    /// Claims the job by the entry with this number. The files of the predecessor are copied by
    /// [`copy_predecessor`](Self::copy_predecessor). Returns `None` if another process was faster.
    pub(crate) fn claim_epoch(
        &self,
        number: u32,
        claim: &Claim,
    ) -> Result<Option<Self>, StoreError> {
        let epochs = self.epochs();
        files::create_directory(&epochs, false)?;
        let source = epochs.join(format!(".{}.tmp", claim.token));
        let text = serde_json::to_vec(&EntryText { claim: claim.clone() });
        files::write_durably(&source, &text.context("write", &source)?)?;
        let is_made = link(&source, &self.entry_path(number));
        let _ = fs::remove_file(&source);
        if !is_made? {
            return Ok(None);
        }
        files::sync_directory(&epochs)?;
        let own = OwnEpoch { number, is_complete: false };
        Ok(Some(Self { id: self.id.clone(), path: self.path.clone(), owner: Owner::Own(own) }))
    }

    /// Claims the job, begins with a copy of the predecessor's files, and shows it to readers. Returns the
    /// lock of these files, too; `None` if another process was faster.
    pub(crate) fn begin_epoch(
        &self,
        number: u32,
        claim: &Claim,
    ) -> Result<Option<(Self, Lock)>, LoadError> {
        let Some(owner) = self.claim_epoch(number, claim)? else { return Ok(None) };
        owner.copy_predecessor()?;
        // Nobody else knows these files.
        let Some(lock) = owner.try_lock()? else { return Ok(None) };
        Ok(Some((owner.publish_epoch()?, lock)))
    }

    /// Shows readers the files of this process, which are complete.
    pub(crate) fn publish_epoch(self) -> Result<Self, StoreError> {
        let Owner::Own(OwnEpoch { number, .. }) = self.owner else { return Ok(self) };
        let (staged, path) = (self.staged_epoch(number), self.epoch_dir(number));
        files::sync_directory(&staged)?;
        fs::rename(&staged, &path).context("create", &path)?;
        files::sync_directory(&self.epochs())?;
        let owner = Owner::Own(OwnEpoch { number, is_complete: true });
        Ok(Self { owner, ..self })
    }

    /// Whether a successor has claimed the job of this process. The entry after its own claim can also be
    /// the end, which only this process can have made.
    pub(crate) fn is_superseded(&self) -> bool {
        let Some(number) = self.own_epoch() else { return false };
        matches!(self.read_entry(number + 1), Ok(Some(EpochEntry::Claim(_))))
    }

    /// Ends the job of this process by its final record.
    pub(super) fn link_end(&self, number: u32, text: &[u8]) -> Result<(), StoreError> {
        let (source, path) = (self.file(END), self.entry_path(number + 1));
        if self.has_own_end(&path) {
            // The end never changes.
            return Ok(());
        }
        files::write_durably(&source, text)?;
        if !link(&source, &path)? {
            let _ = fs::remove_file(&source);
            let why = io::Error::new(io::ErrorKind::AlreadyExists, LOST);
            return Err(why).context(END_OF_JOB, &path);
        }
        files::sync_directory(&self.epochs())?;
        fault_point("end:linked");
        // For those who read the directory of this epoch.
        self.publish_file(&source, RECORD)
    }

    /// Whether this process has linked its end already.
    fn has_own_end(&self, path: &Path) -> bool {
        let (Ok(own), Ok(end)) = (fs::metadata(self.file(RECORD)), fs::metadata(path)) else {
            return false;
        };
        (own.dev(), own.ino()) == (end.dev(), end.ino())
    }

    /// Writes what the engine calls the job. Not synced: its worker writes it as well.
    pub(crate) fn save_engine_ref(&self, reference: &EngineRef) -> Result<(), StoreError> {
        let path = self.file(ENGINE_REF);
        let text = serde_json::to_vec(reference).context("write", &path)?;
        let written = self.temporary(ENGINE_REF);
        files::write(&written, &text)?;
        self.publish_file(&written, ENGINE_REF)
    }

    /// Forgets what the engine calls the job.
    pub(crate) fn remove_engine_ref(&self) -> Result<(), StoreError> {
        let path = self.file(ENGINE_REF);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("remove", &path)
            }
            _ => Ok(()),
        }
    }

    /// Returns what the engine calls the job, if it is known.
    pub(crate) fn engine_ref(&self) -> Option<EngineRef> {
        self.find_owner();
        let text = files::read_bounded(&self.file(ENGINE_REF), MAX_ENTRY_BYTES).ok()?;
        json::from_bytes(&text).ok()
    }

    /// Whether the maker of this claim is known to have ended: its machine is this one, and has
    /// rebooted since, or nobody holds its lock here.
    pub(crate) fn claimer_has_ended(&self, number: u32, claim: &Claim) -> bool {
        if !claim.is_of_this_machine() {
            return false;
        }
        if claim.boot_id != process::boot_id() {
            return true;
        }
        let lock = self.epoch_dir(number).join(LOCK);
        matches!(super::flock::is_free(&lock), Ok(true))
    }

    /// Creates the lease of this process's epoch.
    pub(crate) fn create_lease(&self) -> Result<Lease, StoreError> {
        let path = self.lease_path(self.own_epoch().unwrap_or_default());
        Lease::create(&path)
    }

    /// Watches the lease of the owner with this number.
    pub(crate) fn watch_lease(&self, number: u32) -> LeaseWatch {
        LeaseWatch::new(self.lease_path(number))
    }
}

/// Fits after "could not".
const END_OF_JOB: &str = "end the job by";
const LOST: &str = "another process owns the job now";

impl StoreError {
    /// Whether a successor has claimed the job that was to be ended.
    pub(crate) fn is_lost_job(&self) -> bool {
        self.operation == END_OF_JOB && self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

impl Listing {
    fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut listing = Self::default();
        for name in names {
            match name.strip_suffix(".json") {
                Some(number) => listing.last = listing.last.max(parse_number(number)),
                None => listing.owner = listing.owner.max(parse_number(name)),
            }
        }
        listing
    }
}

/// Parses the number of an epoch; 0 for another name.
fn parse_number(text: &str) -> u32 {
    if text.bytes().all(|digit| digit.is_ascii_digit()) && !text.starts_with('0') {
        text.parse().unwrap_or_default()
    } else {
        0
    }
}

/// Whether a file of this name belongs to the job, and not to its owner.
fn is_shared(name: &str) -> bool {
    SHARED.contains(&name) || is_notifications_name(name)
}

/// Gives a complete file a second name, and returns whether that was made: false if another file has
/// it. The number of names decides, whatever the call returned: a file server may carry out a link,
/// lose its answer, and refuse the repetition.
fn link(source: &Path, target: &Path) -> Result<bool, StoreError> {
    let linked = fs::hard_link(source, target);
    let names = files::open_to_read(source).and_then(|file| file.metadata());
    match (linked, names) {
        (_, Ok(metadata)) if metadata.nlink() == 2 => Ok(true),
        // Some file systems do not count names.
        (Ok(()), _) => Ok(true),
        (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        (Err(error), _) => Err(error).context("create", target),
    }
}

#[cfg(test)]
mod tests;
