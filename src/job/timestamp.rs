//! Points in time, as answers and files show them.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time: written as RFC 3339 in UTC with milliseconds (`2026-11-20T21:45:12.118Z`),
/// read from any RFC 3339 text. Only for display and rough comparison: durations are measured by
/// the monotonic clock and computed from two timestamps only where that cannot be avoided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

/// The times that RFC 3339 can express: the years from 0 to 9999. The text of other times cannot
/// be parsed.
const WRITABLE: RangeInclusive<DateTime<Utc>> = at(-62_167_219_200_000)..=at(253_402_300_799_999);

const fn at(ms: i64) -> DateTime<Utc> {
    match DateTime::from_timestamp_millis(ms) {
        Some(time) => time,
        None => DateTime::UNIX_EPOCH,
    }
}

/// Returns a duration in milliseconds, at most `u64::MAX`.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Timestamp {
    /// Returns the timestamp of a `chrono` time, or the nearest one that can be written.
    pub fn new(time: DateTime<Utc>) -> Self {
        Self(time.clamp(*WRITABLE.start(), *WRITABLE.end()))
    }

    /// Returns the time `ms` milliseconds after 1970; `None` beyond the years that can be written.
    pub fn from_epoch_ms(ms: i64) -> Option<Self> {
        Self::writable(DateTime::from_timestamp_millis(ms)?)
    }

    /// Returns the milliseconds since 1970.
    pub fn epoch_ms(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Parses an RFC 3339 text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::writable(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
    }

    fn writable(time: DateTime<Utc>) -> Option<Self> {
        if WRITABLE.contains(&time) { Some(Self(time)) } else { None }
    }

    /// Returns this time plus `delay`, at most the end of the year 9999.
    pub fn after(self, delay: Duration) -> Self {
        let delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        Self::new(self.0.checked_add_signed(delay).unwrap_or(DateTime::<Utc>::MAX_UTC))
    }

    /// Returns this time minus `delay`, at least the beginning of 1970.
    pub fn before(self, delay: Duration) -> Self {
        let delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        let earlier = self.0.checked_sub_signed(delay).unwrap_or(DateTime::UNIX_EPOCH);
        Self(earlier.max(DateTime::UNIX_EPOCH))
    }

    /// Returns the time since `earlier`; zero if that is later than this time.
    pub fn since(self, earlier: Self) -> Duration {
        (self.0 - earlier.0).to_std().unwrap_or_default()
    }

    /// Returns the day in UTC: `2026-11-20`.
    pub fn day(self) -> String {
        self.0.format("%Y-%m-%d").to_string()
    }

    /// Returns the time of day in UTC: `21:45:12`.
    pub fn time_of_day(self) -> String {
        self.0.format("%H:%M:%S").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_in_utc_with_milliseconds() {
        let time = Timestamp::parse("2026-11-20T23:45:12+02:00").unwrap();
        assert_eq!(time.to_string(), "2026-11-20T21:45:12.000Z");
        assert_eq!(time.after(Duration::from_millis(7)).to_string(), "2026-11-20T21:45:12.007Z");
        assert_eq!(time.before(Duration::from_secs(72)).to_string(), "2026-11-20T21:44:00.000Z");
    }

    #[test]
    fn a_clock_that_went_back_gives_no_negative_age() {
        let time = Timestamp::from_epoch_ms(1_000).unwrap();
        assert_eq!(time.since(time.after(Duration::from_secs(5))), Duration::ZERO);
    }

    #[test]
    fn a_delay_ends_with_the_calendar() {
        let time = Timestamp::from_epoch_ms(1_000).unwrap();
        for delay in [Duration::MAX, Duration::from_secs(300_000_000_000)] {
            assert_eq!(time.after(delay).to_string(), "9999-12-31T23:59:59.999Z");
            assert_eq!(time.before(delay), Timestamp::from_epoch_ms(0).unwrap());
        }
    }

    #[test]
    fn parses_what_it_writes() {
        for ms in [-62_167_219_200_000, -1, 0, 1_795_204_010_000, 253_402_300_799_999] {
            let time = Timestamp::from_epoch_ms(ms).unwrap();
            assert_eq!(Timestamp::parse(&time.to_string()), Some(time), "{time}");
        }
        for ms in [i64::MIN, -62_167_219_200_001, 253_402_300_800_000, 1_795_204_010_000_000] {
            assert_eq!(Timestamp::from_epoch_ms(ms), None, "{ms}");
        }
        for text in
            ["9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00", "+10000-01-01T00:00:00Z"]
        {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        for time in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            let time = Timestamp::new(time);
            assert_eq!(Timestamp::parse(&time.to_string()), Some(time), "{time}");
        }
    }
}
