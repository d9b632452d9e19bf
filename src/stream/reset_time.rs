//! The end of a limit as the CLI names it in a sentence, such as "You've hit your 5-hour limit ·
//! resets 7:49pm (UTC)".

use std::time::Duration;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveTime, TimeZone, Utc};

use crate::job::Timestamp;

/// The words before the time.
const RESETS: &str = "resets ";
/// What stands between the sentence and the epoch seconds where a release writes those.
const EPOCH: &str = "limit reached|";
/// A time of day that passed no longer ago than this may mean now or tomorrow.
const AMBIGUOUS: Duration = Duration::from_secs(600);
/// The longest limit lasts a week; a date further away was misread.
const FARTHEST_DAYS: i64 = 32;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Returns the time at which a limit ends by this sentence, said at `now`; `None` unless it can be
/// read beyond doubt: a time of day in UTC, or at an offset from it, with a date or without one.
/// The offset of a named zone changes over the year, so such a time is not read.
pub fn reset_time(sentence: &str, now: Timestamp) -> Option<Timestamp> {
    let now_utc = DateTime::from_timestamp_millis(now.epoch_ms())?;
    let end = match sentence.split_once(EPOCH) {
        Some((_, rest)) => {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            DateTime::from_timestamp(digits.parse().ok()?, 0)?
        }
        None => named_time(sentence, now_utc)?,
    };
    let days = end.signed_duration_since(now_utc).num_days();
    if end <= now_utc || days > FARTHEST_DAYS {
        return None;
    }
    Timestamp::from_epoch_ms(end.timestamp_millis())
}

fn named_time(sentence: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let (_, rest) = sentence.split_once(RESETS)?;
    let (time, rest) = rest.split_once('(')?;
    let (zone, _) = rest.split_once(')')?;
    let zone = offset_of(zone.trim())?;
    let mut words: Vec<&str> = time.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    words.retain(|word| *word != "at");
    let today = now.with_timezone(&zone).date_naive();
    match words.as_slice() {
        [clock] => {
            let clock = time_of_day(clock)?;
            let end = in_zone(zone, today, clock)?;
            if end > now {
                return Some(end);
            }
            let passed = now.signed_duration_since(end).to_std().ok()?;
            if passed < AMBIGUOUS {
                return None;
            }
            in_zone(zone, today.succ_opt()?, clock)
        }
        [month, day, clock] => {
            let (month, day, clock) = (month_of(month)?, day.parse().ok()?, time_of_day(clock)?);
            // A date without a year is the next one of that name.
            let in_year = |year| in_zone(zone, NaiveDate::from_ymd_opt(year, month, day)?, clock);
            let end = in_year(today.year())?;
            if end > now { Some(end) } else { in_year(today.year() + 1) }
        }
        [month, day, year, clock] => {
            let (month, day, year) = (month_of(month)?, day.parse().ok()?, year.parse().ok()?);
            in_zone(zone, NaiveDate::from_ymd_opt(year, month, day)?, time_of_day(clock)?)
        }
        _ => None,
    }
}

fn in_zone(zone: FixedOffset, date: NaiveDate, clock: NaiveTime) -> Option<DateTime<Utc>> {
    Some(zone.from_local_datetime(&date.and_time(clock)).single()?.to_utc())
}

/// The offset of a zone whose name tells it.
fn offset_of(zone: &str) -> Option<FixedOffset> {
    let plain = zone.strip_prefix("Etc/").unwrap_or(zone);
    if matches!(plain, "UTC" | "GMT" | "UCT" | "Z" | "Zulu" | "Universal" | "Greenwich") {
        return FixedOffset::east_opt(0);
    }
    // `Etc/GMT+5` lies five hours west of Greenwich (POSIX), and `UTC+5` five hours east of it.
    let (hours, sign) = match (zone.strip_prefix("Etc/GMT"), zone.strip_prefix("UTC")) {
        (Some(hours), _) => (hours, -1),
        (None, Some(hours)) => (hours, 1),
        (None, None) => return None,
    };
    if !hours.starts_with(['+', '-']) {
        return None;
    }
    let hours: i32 = hours.parse().ok()?;
    if hours.abs() > 14 {
        return None;
    }
    FixedOffset::east_opt(sign * hours * 3_600)
}

fn month_of(word: &str) -> Option<u32> {
    let word = word.to_ascii_lowercase();
    let at = MONTHS.iter().position(|month| *month == word)?;
    u32::try_from(at + 1).ok()
}

/// The time of `7:49pm`, `3pm` or `19:49`.
fn time_of_day(word: &str) -> Option<NaiveTime> {
    let word = word.to_ascii_lowercase();
    let (digits, half) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(0)),
        (None, Some(digits)) => (digits, Some(12)),
        (None, None) => (word.as_str(), None),
    };
    let (hour, minute): (u32, u32) = match digits.split_once(':') {
        Some((hour, minute)) => (hour.parse().ok()?, minute.parse().ok()?),
        // A number alone is no time of day.
        None if half.is_none() => return None,
        None => (digits.parse().ok()?, 0),
    };
    match half {
        None => NaiveTime::from_hms_opt(hour, minute, 0),
        Some(_) if !(1..=12).contains(&hour) => None,
        Some(half) => NaiveTime::from_hms_opt(hour % 12 + half, minute, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_ends_when_its_sentence_says_so_beyond_doubt() {
        let now = Timestamp::parse("2026-11-25T18:49:54Z").unwrap();
        for (sentence, expected) in [
            ("You've hit your 5-hour limit · resets 7:49pm (UTC)", "2026-11-25T19:49:00.000Z"),
            ("You've hit your limit · resets 3am (UTC)", "2026-11-26T03:00:00.000Z"),
            ("resets 12am (UTC)", "2026-11-26T00:00:00.000Z"),
            ("resets 12:30pm (Etc/UTC).", "2026-11-26T12:30:00.000Z"),
            ("resets 19:00 (GMT)", "2026-11-25T19:00:00.000Z"),
            ("resets Nov 27, 3pm (UTC)", "2026-11-27T15:00:00.000Z"),
            ("resets Nov 27 at 3:05pm (UTC)", "2026-11-27T15:05:00.000Z"),
            ("resets Nov 30, 2026, 3pm (UTC)", "2026-11-30T15:00:00.000Z"),
            ("resets 11pm (Etc/GMT+5)", "2026-11-26T04:00:00.000Z"),
            ("resets 11pm (UTC+2)", "2026-11-25T21:00:00.000Z"),
            ("Claude AI usage limit reached|1795636194", "2026-11-25T19:49:54.000Z"),
        ] {
            let end = reset_time(sentence, now).map(|end| end.to_string());
            assert_eq!(end.as_deref(), Some(expected), "{sentence}");
        }
        let new_year = Timestamp::parse("2026-12-30T12:00:00Z").unwrap();
        let end = reset_time("resets Jan 2, 3pm (UTC)", new_year).unwrap();
        assert_eq!(end.to_string(), "2027-01-02T15:00:00.000Z");
    }

    #[test]
    fn a_doubtful_time_is_not_read() {
        let now = Timestamp::parse("2026-11-25T18:49:54Z").unwrap();
        for sentence in [
            "",
            "You've hit your limit",
            "resets soon",
            "resets 7:49pm",
            "resets 7:49pm (America/New_York)",
            "resets Nov 27, 3pm (America/New_York)",
            "resets 7:49pm (CET)",
            "resets 6:49pm (UTC)",
            "resets Nov 24, 3pm (UTC)",
            "resets Feb 30, 3pm (UTC)",
            "resets 7 (UTC)",
            "resets 13pm (UTC)",
            "resets 0am (UTC)",
            "resets 25:00 (UTC)",
            "resets 3pm (UTC+99999999)",
            "resets tomorrow at 3pm (UTC)",
            "resets Nov 24, 2026, 3pm (UTC)",
            "limit reached|1",
            "limit reached|99999999999999999999",
            "limit reached|",
        ] {
            assert_eq!(reset_time(sentence, now), None, "{sentence}");
        }
    }
}
