//! A model of the ownership of a job with an engine, checked exhaustively for a few processes: every
//! order of their steps, with machines that crash, freeze, revive or lose the file server between any
//! two of them.
//!
//! The entries of `epochs/` are a sequence, each made by link(2): a claim, or the end. A link is a
//! request to a server: it takes effect some time later, also after the crash of its sender, and its
//! answer may be wrong. A listing is an earlier state of the directory. Time is not modelled: a
//! successor may find that a lease stands still if its owner cannot renew it, and an owner without
//! the file server ends its claude before that ([`Assumptions::fence`]). A revived owner continues
//! with any number of steps before it notices.
//!
//! To change the protocol, first change the step here and run
//! `cargo test --bin claudejob epochs::model -- --nocapture`. Each rule on which it relies has a flag
//! in [`Assumptions`], and `finds_the_error_of_each_missing_rule` shows that its absence is found.

mod actor;

use stateright::{Checker, Model, Property};

use actor::{Actor, ActorLife, ActorStage, EndKind, EntryKind, LinkState, LogEntry, World};

/// The rules of the protocol that can be left out, to show that they are needed.
#[derive(Clone, Copy, Debug)]
struct Assumptions {
    /// The number of links decides whether a link was made, not the answer of the call.
    count_links: bool,
    /// A successor waits until the lease stands still.
    await_lease: bool,
    /// An owner that cannot renew its lease, or finds a successor, ends its claude. Its time begins
    /// with the request for its claim, whose answer it may wait for.
    fence: bool,
    /// The end is linked to the name of the next claim.
    end_by_link: bool,
    /// A worker that takes over from a caller of `kill` ends the job.
    finish_kill: bool,
    /// The final record has a temporary name of its own.
    own_end_name: bool,
}

const ALL: Assumptions = Assumptions {
    count_links: true,
    await_lease: true,
    fence: true,
    end_by_link: true,
    finish_kill: true,
    own_end_name: true,
};

/// A configuration to check.
#[derive(Clone, Debug)]
struct Ownership {
    workers: usize,
    /// The last actor is a caller of `kill`.
    kills: bool,
    /// How often each of these happens.
    faults: Faults,
    rules: Assumptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Faults {
    freezes: u8,
    crashes: u8,
    partitions: u8,
    /// The engine ends the job, and starts it again.
    terminations: u8,
    /// A link succeeds, and reports a failure.
    wrong_answers: u8,
    /// A rename is carried out twice.
    repeats: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// Lists the entries, and sees as many as the number says.
    Read(usize, u8),
    Claim(usize),
    /// The server carries out the link.
    Serve(usize),
    Answer(usize),
    WrongAnswer(usize),
    /// The copy is complete, and claude starts.
    Launch(usize),
    Finish(usize, EndKind),
    Fence(usize),
    SignalKill(usize),
    Freeze(usize),
    Revive(usize),
    Crash(usize),
    Partition(usize),
    Heal(usize),
    RepeatRename(usize),
}

impl Move {
    /// Whether the step happens by itself.
    fn is_automatic(&self) -> bool {
        use Move::{Answer, Claim, Fence, Finish, Launch, Read, Serve};
        matches!(
            self,
            Read(..) | Claim(_) | Serve(_) | Answer(_) | Launch(_) | Finish(..) | Fence(_)
        )
    }
}

impl Ownership {
    fn is_killer(&self, me: usize) -> bool {
        self.kills && me == self.workers
    }

    /// Whether the lease of this owner can stand still for the whole time.
    fn is_still(&self, owner: &Actor) -> bool {
        !self.rules.await_lease
            || owner.life != ActorLife::Active
            || matches!(owner.stage, ActorStage::Done(_))
            || (owner.is_partitioned && !self.rules.fence)
    }

    /// Whether an actor may claim the entry after those that it has seen.
    fn may_claim(&self, world: &World, me: &Actor) -> bool {
        match world.seen_by(me) {
            None => true,
            Some(LogEntry { kind: EntryKind::End(end), .. }) => end == EndKind::CutOff,
            Some(LogEntry { by, .. }) => self.is_still(&world.actors[by as usize]),
        }
    }

    fn moves_of(&self, world: &World, me: usize, moves: &mut Vec<Move>) {
        let actor = &world.actors[me];
        let has_server = !actor.is_partitioned;
        match actor.stage {
            ActorStage::Watching if has_server => {
                for seen in actor.seen..=world.log.len() as u8 {
                    if seen > actor.seen || !actor.has_read {
                        moves.push(Move::Read(me, seen));
                    }
                }
                if actor.has_read {
                    if world.seen_by(actor).is_some_and(LogEntry::is_final)
                        || self.may_claim(world, actor)
                    {
                        moves.push(Move::Claim(me));
                    }
                    if self.is_killer(me) && world.owner_to_signal(actor).is_some() {
                        moves.push(Move::SignalKill(me));
                    }
                }
            }
            ActorStage::Claiming(_) | ActorStage::Ending(..) if has_server => {
                if matches!(actor.link, LinkState::Applied | LinkState::Refused) {
                    moves.push(Move::Answer(me));
                }
                if actor.link == LinkState::Applied
                    && world.left.wrong_answers > 0
                    && !self.rules.count_links
                {
                    moves.push(Move::WrongAnswer(me));
                }
                if matches!(actor.stage, ActorStage::Ending(..))
                    && world.left.repeats > 0
                    && !self.rules.own_end_name
                {
                    moves.push(Move::RepeatRename(me));
                }
            }
            ActorStage::Copying(_) if has_server => moves.push(Move::Launch(me)),
            ActorStage::Working(_) => {
                if actor.kill_requested {
                    moves.push(Move::Finish(me, EndKind::Killed));
                } else {
                    moves.push(Move::Finish(me, EndKind::Completed));
                }
                if world.left.terminations > 0 {
                    moves.push(Move::Finish(me, EndKind::CutOff));
                }
            }
            _ => {}
        }
        if let Some(number) = actor.stage.claimed()
            && self.rules.fence
            && (actor.is_partitioned || (actor.is_revived && world.log.len() > number as usize))
        {
            moves.push(Move::Fence(me));
        }
    }

    fn faults_of(world: &World, me: usize, moves: &mut Vec<Move>) {
        let (actor, left) = (&world.actors[me], world.left);
        if actor.life == ActorLife::Frozen {
            moves.push(Move::Revive(me));
        }
        if actor.life != ActorLife::Active || matches!(actor.stage, ActorStage::Done(_)) {
            return;
        }
        if left.freezes > 0 {
            moves.push(Move::Freeze(me));
        }
        if left.crashes > 0 {
            moves.push(Move::Crash(me));
        }
        if left.partitions > 0 && !actor.is_partitioned {
            moves.push(Move::Partition(me));
        }
        if actor.is_partitioned {
            moves.push(Move::Heal(me));
        }
    }

    fn launch(&self, world: &mut World, me: usize, number: u8) {
        let is_killed = world.has_kill_claim(number);
        let ends = self.is_killer(me) || (is_killed && self.rules.finish_kill);
        world.publish(number);
        if ends {
            return Self::finish(world, me, number, EndKind::Killed);
        }
        // A revived owner may launch late; it is fenced then.
        world.launched_killed |= is_killed;
        world.actors[me].stage = ActorStage::Working(number);
        world.actors[me].has_claude = true;
    }

    fn finish(world: &mut World, me: usize, number: u8, end: EndKind) {
        let actor = &mut world.actors[me];
        actor.has_claude = false;
        actor.stage = ActorStage::Ending(number, end);
        actor.link = LinkState::Pending;
    }

    /// Carries out the link of an actor, which may have crashed.
    fn serve(&self, world: &mut World, me: usize) {
        let stage = world.actors[me].linked;
        let (number, kind) = match stage {
            ActorStage::Claiming(number) if self.is_killer(me) => (number, EntryKind::KillClaim),
            ActorStage::Claiming(number) => (number, EntryKind::Claim),
            ActorStage::Ending(number, end) => (number + 1, EntryKind::End(end)),
            _ => return,
        };
        let is_end = matches!(kind, EntryKind::End(_));
        let is_free = world.log.len() + 1 == number as usize;
        world.actors[me].link = if is_free || (is_end && !self.rules.end_by_link) {
            world.log.push(LogEntry { by: me as u8, kind });
            LinkState::Applied
        } else {
            LinkState::Refused
        };
    }

    fn answer(world: &mut World, me: usize, is_made: bool) {
        let actor = &mut world.actors[me];
        actor.link = LinkState::None;
        match actor.stage {
            ActorStage::Claiming(number) if is_made => actor.stage = ActorStage::Copying(number),
            ActorStage::Claiming(number) => {
                actor.stage = ActorStage::Watching;
                actor.seen = actor.seen.max(number);
            }
            ActorStage::Ending(number, end) if is_made => {
                actor.stage = ActorStage::Done(Some(end));
                world.finals[number as usize - 1] = true;
            }
            ActorStage::Ending(..) => actor.stage = ActorStage::Done(None),
            _ => {}
        }
    }
}

impl Model for Ownership {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        let count = self.workers + usize::from(self.kills);
        vec![World::new(count, self.faults)]
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        for (me, actor) in world.actors.iter().enumerate() {
            // The server has the request, whatever happens to its sender.
            if actor.link == LinkState::Pending && !actor.is_partitioned {
                moves.push(Move::Serve(me));
            }
            if actor.life == ActorLife::Active {
                self.moves_of(world, me, moves);
            }
            Self::faults_of(world, me, moves);
        }
    }

    fn next_state(&self, last: &World, step: Move) -> Option<World> {
        let mut world = last.clone();
        match step {
            Move::Read(me, seen) => {
                world.actors[me].seen = seen;
                world.actors[me].has_read = true;
            }
            Move::Claim(me) => {
                let number = world.actors[me].seen + 1;
                let is_over = world.seen_by(&world.actors[me]).is_some_and(LogEntry::is_final);
                let actor = &mut world.actors[me];
                actor.stage =
                    if is_over { ActorStage::Done(None) } else { ActorStage::Claiming(number) };
                actor.link = if is_over { LinkState::None } else { LinkState::Pending };
            }
            Move::Serve(me) => self.serve(&mut world, me),
            Move::Answer(me) => {
                let is_made = world.actors[me].link == LinkState::Applied;
                Self::answer(&mut world, me, is_made);
            }
            Move::WrongAnswer(me) => {
                world.left.wrong_answers -= 1;
                Self::answer(&mut world, me, false);
            }
            Move::Launch(me) => {
                let ActorStage::Copying(number) = world.actors[me].stage else { return None };
                self.launch(&mut world, me, number);
            }
            Move::Finish(me, end) => {
                let ActorStage::Working(number) = world.actors[me].stage else { return None };
                if end == EndKind::CutOff {
                    world.left.terminations -= 1;
                }
                Self::finish(&mut world, me, number, end);
            }
            Move::Fence(me) => {
                world.actors[me].has_claude = false;
                world.actors[me].stage = ActorStage::Done(None);
            }
            Move::SignalKill(me) => {
                let owner = world.owner_to_signal(&world.actors[me])?;
                world.actors[owner].kill_requested = true;
            }
            Move::Freeze(me) => {
                world.left.freezes -= 1;
                world.actors[me].life = ActorLife::Frozen;
            }
            Move::Revive(me) => {
                world.actors[me].life = ActorLife::Active;
                world.actors[me].is_revived = true;
            }
            Move::Crash(me) => {
                world.left.crashes -= 1;
                world.actors[me].life = ActorLife::Crashed;
                world.actors[me].has_claude = false;
            }
            Move::Partition(me) => {
                world.left.partitions -= 1;
                world.actors[me].is_partitioned = true;
            }
            Move::Heal(me) => world.actors[me].is_partitioned = false,
            Move::RepeatRename(me) => {
                world.left.repeats -= 1;
                let number = world.actors[me].stage.claimed()?;
                world.finals[number as usize - 1] = true;
            }
        }
        world.note_requests();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the end is single", |_, world: &World| world.has_single_end()),
            Property::always("what is reported counts", |_, world: &World| {
                world.reports_only_its_ends()
            }),
            Property::always("two claudes only beside a revived owner", |_, world: &World| {
                world.claudes_of(|_| true) < 2 || world.claudes_of(|actor| !actor.is_revived) < 2
            }),
            Property::always("no claude starts after a kill", |_, world: &World| {
                !world.launched_killed
            }),
            Property::always("readers see no end before it counts", |_, world: &World| {
                world.shows_no_early_end()
            }),
            Property::always("no one waits forever", |model: &Self, world: &World| {
                let mut moves = Vec::new();
                model.actions(world, &mut moves);
                moves.iter().any(Move::is_automatic)
                    || world.actors.iter().all(Actor::waits_for_nobody)
            }),
            Property::sometimes("a successor completes the job", |_, world: &World| {
                world.log.len() > 2
                    && world.actors.iter().any(|actor| {
                        actor.stage == ActorStage::Done(Some(EndKind::Completed)) && actor.seen > 0
                    })
            }),
        ]
    }
}

#[cfg(test)]
mod tests;
