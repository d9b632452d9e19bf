//! Limits of the API, and retries of the CLI.

use std::time::Duration;

use super::{Digest, DigestChange, MAX_SILENCE};
use crate::job::{ModelFamily, Timestamp};

/// A limit of the API, as far as the API describes it.
#[derive(Debug, Default)]
pub(super) struct ApiLimit {
    /// When it ends.
    resets_at: Option<Timestamp>,
    /// The models to which it applies; `None` for all.
    model: Option<ModelFamily>,
}

/// Change of the state of a limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LimitChange {
    /// The CLI's name of the limit that was met, for the first time or again.
    Met(String),
    Over,
}

impl Digest {
    /// Whether a limit of the API blocks claude.
    pub(crate) fn is_rate_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Returns when the limit ends, if the API says so.
    pub(crate) fn resets_at(&self) -> Option<Timestamp> {
        self.limit.as_ref()?.resets_at
    }

    /// Returns the models to which the limit applies, if the API says so.
    pub(crate) fn limited_model(&self) -> Option<ModelFamily> {
        self.limit.as_ref()?.model
    }

    pub(super) fn limit_met(
        &mut self,
        resets_at: Option<Timestamp>,
        model: Option<ModelFamily>,
        now: Timestamp,
        change: &mut DigestChange,
    ) {
        self.limit = Some(ApiLimit { resets_at, model });
        self.retry_at = resets_at;
        if let Some(at) = resets_at {
            self.expect_silence(at.since(now));
        }
        change.limit = Some(LimitChange::Met("rate_limit".to_owned()));
    }

    /// Opens the turn whose request is retried. After a turn it may be background work that retries,
    /// and that ends without a result.
    pub(super) fn open_turn_of_retry(&mut self) {
        if self.results == 0 || self.outstanding() == 0 {
            self.open_turn();
        }
    }

    pub(super) fn api_retry(
        &mut self,
        error: &str,
        status: Option<u16>,
        delay_ms: f64,
        now: Timestamp,
        change: &mut DigestChange,
    ) {
        let delay = Duration::try_from_secs_f64(delay_ms / 1_000.0).unwrap_or_default();
        self.expect_silence(delay);
        // A service that is unavailable for a while is overloaded, whatever the CLI calls it.
        let error = if status == Some(503) { "overloaded" } else { error };
        match error {
            "rate_limit" | "overloaded" => {
                self.auth_failures = 0;
                self.limit.get_or_insert_default();
                self.retry_at = Some(now.after(delay));
                change.limit = Some(LimitChange::Met(error.to_owned()));
            }
            "authentication_failed" => {
                self.auth_failures += 1;
                self.end_limit(change);
            }
            _ => {
                self.auth_failures = 0;
                self.end_limit(change);
            }
        }
    }

    fn expect_silence(&mut self, delay: Duration) {
        self.retry_in = delay.min(MAX_SILENCE);
    }

    pub(super) fn end_limit(&mut self, change: &mut DigestChange) {
        if self.limit.take().is_some() {
            change.limit = Some(LimitChange::Over);
        }
        self.retry_at = None;
    }
}
