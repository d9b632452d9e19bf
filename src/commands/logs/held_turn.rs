//! The end of a turn that is held back until it is known whether the job's verdict follows, which
//! says the same and more.

use std::time::{Duration, Instant};

use super::LogsAnswer;
use crate::stream::transcript::{Speaker, TranscriptLine, append_verdict, may_precede_verdict};

/// Time after which no verdict is expected.
const HOLD_TIME: Duration = Duration::from_secs(1);

/// The end of a turn that was not shown yet.
#[derive(Debug, Default)]
pub(crate) struct HeldTurn {
    held: Option<(TranscriptLine, Instant)>,
}

impl HeldTurn {
    /// Puts the held turn before the next part of the log, or leaves it out before the verdict, and
    /// holds the end of a turn that ends the part.
    pub(crate) fn arrange(&mut self, part: &mut LogsAnswer) {
        let has_ended = part.has_verdict();
        let passages = &mut part.passages;
        if let Some((held, _)) = self.held.take() {
            passages.insert(0, held);
            if has_ended && let Some(verdict) = passages.pop() {
                append_verdict(passages, verdict);
            }
        }
        if !has_ended
            && passages.last().is_some_and(is_turn_end)
            && let Some(last) = passages.pop()
        {
            self.held = Some((last, Instant::now()));
        }
    }

    /// Returns the held turn, which is then shown.
    pub(crate) fn take(&mut self) -> Option<TranscriptLine> {
        self.held.take().map(|(held, _)| held)
    }

    /// Returns whether a turn is held and no verdict is expected any more.
    pub(super) fn is_due(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns when the held turn is to be shown if no more of the log appears.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, since)| *since + HOLD_TIME)
    }
}

fn is_turn_end(passage: &TranscriptLine) -> bool {
    passage.speaker == Speaker::End && may_precede_verdict(&passage.text)
}
