//! Limits of the API, and retries of the CLI.

use std::time::Duration;

use super::{Digest, DigestChange, MAX_SILENCE};
use crate::job::Timestamp;

impl Digest {
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
                self.rate_limited = true;
                self.retry_at = Some(now.after(delay));
                change.rate_limited = Some(error.to_owned());
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

    pub(super) fn expect_silence(&mut self, delay: Duration) {
        self.retry_in = delay.min(MAX_SILENCE);
    }

    pub(super) fn end_limit(&mut self, change: &mut DigestChange) {
        change.rate_limit_over |= std::mem::take(&mut self.rate_limited);
        self.retry_at = None;
        self.resets_at = None;
        self.limited_model = None;
    }
}
