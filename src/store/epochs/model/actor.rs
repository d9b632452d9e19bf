//! The state of the model: the entries, and the processes that make them.

use super::Faults;

/// An entry of `epochs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LogEntry {
    pub by: u8,
    pub kind: EntryKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum EntryKind {
    Claim,
    /// A caller's, which will end the job.
    KillClaim,
    End(EndKind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum EndKind {
    Completed,
    /// The job may be continued by the engine.
    CutOff,
    Killed,
}

impl LogEntry {
    /// Whether no entry may follow.
    pub(super) fn is_final(self) -> bool {
        matches!(self.kind, EntryKind::End(EndKind::Completed | EndKind::Killed))
    }
}

/// A worker, or a caller of `kill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Actor {
    pub stage: ActorStage,
    /// Number of the entries that it has seen.
    pub seen: u8,
    pub has_read: bool,
    pub link: LinkState,
    /// The stage in which the present link was requested.
    pub linked: ActorStage,
    pub life: ActorLife,
    pub is_partitioned: bool,
    pub is_revived: bool,
    pub has_claude: bool,
    pub kill_requested: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ActorStage {
    /// It reads the entries, and waits until it may claim the next.
    Watching,
    Claiming(u8),
    /// It owns the entry, and copies the files of the predecessor.
    Copying(u8),
    Working(u8),
    Ending(u8, EndKind),
    /// It has exited, after it has reported this end.
    Done(Option<EndKind>),
}

impl ActorStage {
    /// Returns the number of the claim that the actor has made, or may have made.
    pub(super) fn claimed(self) -> Option<u8> {
        match self {
            Self::Claiming(number)
            | Self::Copying(number)
            | Self::Working(number)
            | Self::Ending(number, _) => Some(number),
            Self::Watching | Self::Done(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LinkState {
    None,
    Pending,
    Applied,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ActorLife {
    Active,
    /// The machine is suspended, with its claude.
    Frozen,
    Crashed,
}

impl Actor {
    /// Whether it has ended, or something else keeps it from that.
    pub(super) fn waits_for_nobody(&self) -> bool {
        self.life != ActorLife::Active
            || self.is_partitioned
            || matches!(self.stage, ActorStage::Done(_))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub log: Vec<LogEntry>,
    /// Whether the record in the directory of each epoch says that the job has ended.
    pub finals: Vec<bool>,
    pub actors: Vec<Actor>,
    pub left: Faults,
    /// A claude was launched after a caller of `kill` had claimed the job.
    pub launched_killed: bool,
}

impl World {
    pub(super) fn new(actors: usize, left: Faults) -> Self {
        let actor = Actor {
            stage: ActorStage::Watching,
            seen: 0,
            has_read: false,
            link: LinkState::None,
            linked: ActorStage::Watching,
            life: ActorLife::Active,
            is_partitioned: false,
            is_revived: false,
            has_claude: false,
            kill_requested: false,
        };
        Self {
            log: Vec::new(),
            finals: Vec::new(),
            actors: vec![actor; actors],
            left,
            launched_killed: false,
        }
    }

    /// Returns the last entry that the actor has seen.
    pub(super) fn seen_by(&self, actor: &Actor) -> Option<LogEntry> {
        let index = (actor.seen as usize).checked_sub(1)?;
        self.log.get(index).copied()
    }

    /// Returns the worker that a caller of `kill` sees and has not signalled yet.
    pub(super) fn owner_to_signal(&self, caller: &Actor) -> Option<usize> {
        let entry = self.seen_by(caller)?;
        let owner = entry.by as usize;
        let is_live = entry.kind == EntryKind::Claim
            && self.actors[owner].life == ActorLife::Active
            && matches!(self.actors[owner].stage, ActorStage::Working(_));
        if is_live && !self.actors[owner].kill_requested { Some(owner) } else { None }
    }

    /// Whether a caller of `kill` has claimed the job before this entry, and has not ended it.
    pub(super) fn has_kill_claim(&self, before: u8) -> bool {
        self.log[..before as usize - 1].iter().any(|entry| entry.kind == EntryKind::KillClaim)
    }

    /// Publishes the directory of an epoch.
    pub(super) fn publish(&mut self, number: u8) {
        self.finals.resize(self.finals.len().max(number as usize), false);
    }

    /// Notes which link a pending request is about: its sender may go on.
    pub(super) fn note_requests(&mut self) {
        for actor in &mut self.actors {
            if actor.link == LinkState::Pending && !matches!(actor.stage, ActorStage::Done(_)) {
                actor.linked = actor.stage;
            }
        }
    }

    pub(super) fn has_single_end(&self) -> bool {
        let last = self.log.len().saturating_sub(1);
        self.log.iter().take(last).all(|entry| !entry.is_final())
    }

    /// Whether each reported end is an entry of its reporter.
    pub(super) fn reports_only_its_ends(&self) -> bool {
        self.actors.iter().enumerate().all(|(me, actor)| match actor.stage {
            ActorStage::Done(Some(end)) => {
                self.log.contains(&LogEntry { by: me as u8, kind: EntryKind::End(end) })
            }
            // Who reports nothing has made no end, or was ended before it knew.
            ActorStage::Done(None) => {
                actor.link != LinkState::None
                    || !self.log.iter().any(|entry| entry.by == me as u8 && entry.is_final())
            }
            _ => true,
        })
    }

    /// Returns the number of claudes that run, of these owners.
    pub(super) fn claudes_of(&self, of: impl Fn(&Actor) -> bool) -> usize {
        self.actors
            .iter()
            .filter(|actor| actor.has_claude && actor.life == ActorLife::Active && of(actor))
            .count()
    }

    /// Whether each record that says that the job has ended is followed by its end.
    pub(super) fn shows_no_early_end(&self) -> bool {
        self.finals.iter().enumerate().all(|(index, is_final)| {
            !is_final
                || matches!(self.log.get(index + 1), Some(LogEntry { kind: EntryKind::End(_), by })
                    if self.log[index].by == *by)
        })
    }
}
