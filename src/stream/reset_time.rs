//! Reads the end of a limit from a sentence of the CLI, such as "You've hit your 5-hour limit ·
//! resets 7:49pm (UTC)".

use jiff::SignedDuration;
use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::job::Timestamp;

/// Text before a time of day, whose time zone follows in parentheses. The second one is from claude
/// 1.
const RESETS: [&str; 2] = ["resets ", "reset at "];
/// Text before the end date of a spend limit that is set in the Console, in an error of the API.
const REGAIN: &str = "You will regain access on ";
/// Text before the epoch seconds that some releases write.
const EPOCH: &str = "limit reached|";
/// A time of day that passed more recently than this may mean today or tomorrow.
const AMBIGUOUS: SignedDuration = SignedDuration::from_mins(10);
/// The longest limit lasts a month; a later date was misread.
const FARTHEST: SignedDuration = SignedDuration::from_hours(32 * 24);

/// Returns the end of a limit by a sentence that was written at `now`; `None` unless it is
/// unambiguous: a time of day, with or without a date, in a named time zone.
pub(crate) fn reset_time(sentence: &str, now: Timestamp) -> Option<Timestamp> {
    let now = jiff::Timestamp::from_millisecond(now.epoch_ms()).ok()?;
    let end = named_time(sentence, now)?;
    if end <= now || end.duration_since(now) > FARTHEST {
        return None;
    }
    Timestamp::from_epoch_ms(end.as_millisecond())
}

/// Whether the sentence is about a spend limit that is set in the Console. The API answers it with
/// status 400, like an invalid request.
pub(crate) fn is_spend_limit(sentence: &str) -> bool {
    sentence.contains("reached your specified API usage limits")
}

fn named_time(sentence: &str, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
    if let Some((_, rest)) = sentence.split_once(EPOCH) {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        return jiff::Timestamp::from_second(digits.parse().ok()?).ok();
    }
    if let Some((_, rest)) = sentence.split_once(REGAIN) {
        let mut words = rest.split_whitespace();
        let date = words.next()?.parse().ok()?;
        let clock = words.find(|word| *word != "at").and_then(time_of_day)?;
        return in_zone(&zone(words.next()?.trim_end_matches('.'))?, date, clock);
    }
    let (_, rest) = RESETS.iter().find_map(|prefix| sentence.split_once(prefix))?;
    let (time, rest) = rest.split_once('(')?;
    let zone = zone(rest.split_once(')')?.0.trim())?;
    let today = zone.to_datetime(now).date();
    let mut words: Vec<&str> = time.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    words.retain(|word| *word != "at");
    match words.as_slice() {
        [clock] => {
            let clock = time_of_day(clock)?;
            let end = in_zone(&zone, today, clock)?;
            if end > now {
                return Some(end);
            }
            if now.duration_since(end) < AMBIGUOUS {
                return None;
            }
            in_zone(&zone, today.tomorrow().ok()?, clock)
        }
        [month, day, clock] => {
            // A date without a year means its next occurrence.
            for year in [today.year(), today.year() + 1] {
                let date = day_of(month, day, &year.to_string())?;
                let end = in_zone(&zone, date, time_of_day(clock)?)?;
                if end > now {
                    return Some(end);
                }
            }
            None
        }
        [month, day, year, clock] => in_zone(&zone, day_of(month, day, year)?, time_of_day(clock)?),
        _ => None,
    }
}

/// Returns the time zone of this name from the built-in database, because the machine may have
/// none.
fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Returns the time at which clocks of the zone show this; `None` if they do so twice or never,
/// when daylight saving time begins or ends.
fn in_zone(zone: &TimeZone, date: Date, clock: Time) -> Option<jiff::Timestamp> {
    zone.to_ambiguous_timestamp(date.to_datetime(clock)).unambiguous().ok()
}

/// Returns the day of a month by its name, such as `Dec`.
fn day_of(month: &str, day: &str, year: &str) -> Option<Date> {
    Date::strptime("%b %d %Y", format!("{month} {day} {year}")).ok()
}

/// Returns the time of `7:49pm`, `3pm` or `19:49`. A number alone is not a time of day.
fn time_of_day(word: &str) -> Option<Time> {
    for format in ["%I:%M%p", "%I%p", "%H:%M"] {
        if let Ok(time) = Time::strptime(format, word) {
            return Some(time);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_unambiguous_limit_ends() {
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
            ("resets 7:49pm (America/New_York)", "2026-11-26T00:49:00.000Z"),
            ("resets Nov 27, 3pm (Asia/Kolkata)", "2026-11-27T09:30:00.000Z"),
            ("Your limit will reset at 1pm (Europe/Berlin).", "2026-11-26T12:00:00.000Z"),
            (
                "API Error: 400 You have reached your specified API usage limits. You will \
                 regain access on 2026-12-01 at 00:00 UTC.",
                "2026-12-01T00:00:00.000Z",
            ),
            ("Claude AI usage limit reached|1795636194", "2026-11-25T19:49:54.000Z"),
        ] {
            let end = reset_time(sentence, now).map(|end| end.to_string());
            assert_eq!(end.as_deref(), Some(expected), "{sentence}");
        }
        // Summer time ends there between the two.
        let autumn = Timestamp::parse("2026-10-31T12:00:00Z").unwrap();
        let end = reset_time("resets Nov 2, 3am (America/New_York)", autumn).unwrap();
        assert_eq!(end.to_string(), "2026-11-02T08:00:00.000Z");
        assert_eq!(reset_time("resets Nov 1, 1:30am (America/New_York)", autumn), None);
        let new_year = Timestamp::parse("2026-12-30T12:00:00Z").unwrap();
        let end = reset_time("resets Jan 2, 3pm (UTC)", new_year).unwrap();
        assert_eq!(end.to_string(), "2027-01-02T15:00:00.000Z");
    }

    #[test]
    fn ignores_ambiguous_times() {
        let now = Timestamp::parse("2026-11-25T18:49:54Z").unwrap();
        for sentence in [
            "",
            "You've hit your limit",
            "resets soon",
            "resets 7:49pm",
            "resets 7:49pm (Middle/Nowhere)",
            "resets 7:49pm (local time)",
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
            "You will regain access on 2026-12-01",
            "You will regain access on 2026-12-01 at 00:00",
            "You will regain access on 2026-13-01 at 00:00 UTC",
            "You will regain access on 2027-12-01 at 00:00 UTC",
            "You will regain access on 2026-11-01 at 00:00 UTC",
            "limit reached|1",
            "limit reached|99999999999999999999",
            "limit reached|",
        ] {
            assert_eq!(reset_time(sentence, now), None, "{sentence}");
        }
    }
}
