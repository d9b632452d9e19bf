//! Parsers for option values: durations, amounts, labels.

use std::time::Duration;

use chrono::{NaiveDate, NaiveTime};

use crate::clock;
use crate::job::{NotifyEvent, Status, Timestamp};

/// Parses a duration: `90s`, `10m`, `1h 30m`, `500ms`, or a bare `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if is_number(text) {
        return Err(format!("say {text}s"));
    }
    humantime::parse_duration(text)
        .map_err(|_| "expected a number and a unit, such as 90s, 10m or 2h".to_owned())
}

/// Whether the text has digits alone: a duration without its unit.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("expected a duration above 0".to_owned()) } else { Ok(duration) }
}

/// Parses a number of bytes, with or without a unit: `800M`, `2G`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| !c.is_ascii_digit()).len());
    let factor = match unit.to_ascii_uppercase().trim_end_matches('B') {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => 0,
    };
    match digits.parse::<u64>().unwrap_or(0).checked_mul(factor) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("expected a number of bytes, such as 800M or 2G".to_owned()),
    }
}

/// Parses an amount per period: `20/day`, `1.50/hour`, `100/30d`.
pub(crate) fn budget(text: &str) -> Result<(f64, Duration), String> {
    // Without a slash there is no period.
    let (usd, time) = text.split_once('/').unwrap_or((text, ""));
    let time = match time {
        "hour" => "1h",
        "day" => "1d",
        "week" => "7d",
        "month" => "30d",
        other => other,
    };
    match (dollars(usd), positive_duration(time)) {
        (Ok(usd), Ok(time)) => Ok((usd, time)),
        _ => {
            Err("expected an amount and a period, such as 20/day, 1.50/hour or 100/30d".to_owned())
        }
    }
}

pub(crate) fn group(text: &str) -> Result<String, String> {
    let is_valid = (1..=40).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if is_valid {
        return Ok(text.to_owned());
    }
    Err("expected a letter or digit, then at most 39 letters, digits, '_' or '-'".to_owned())
}

/// Parses a point in time: a time, a day (UTC) or a duration before now.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    since_at(text, clock::now())
}

fn since_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    match duration(text) {
        Ok(ago) => return Ok(now.before(ago)),
        Err(why) if is_number(text) => return Err(why),
        Err(_) => {}
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(Timestamp::new(day.and_time(NaiveTime::MIN).and_utc()));
    }
    match Timestamp::parse(text) {
        Some(time) => Ok(time),
        None => Err(format!(
            "expected a duration (12h, 7d), a day (2026-11-20) or a time, such as {now}"
        )),
    }
}

/// Parses the name of a status.
pub(crate) fn status(name: &str) -> Result<Status, String> {
    for status in Status::ALL {
        if status.as_str() == name {
            return Ok(status);
        }
    }
    Err(format!("expected {}", Status::ALL.map(Status::as_str).join(", ")))
}

/// Parses the name of an event.
pub(crate) fn notify_event(name: &str) -> Result<NotifyEvent, String> {
    for event in NotifyEvent::ALL {
        if event.as_str() == name {
            return Ok(event);
        }
    }
    Err(format!("expected {}", NotifyEvent::ALL.map(NotifyEvent::as_str).join(", ")))
}

pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.len() <= 64 && value.len() <= 256 => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err("expected KEY=VALUE, with at most 64 and 256 bytes".to_owned()),
    }
}

pub(crate) fn dollars(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(usd) if usd.is_finite() && usd > 0.0 => Ok(usd),
        _ => Err("expected an amount of US dollars above 0".to_owned()),
    }
}

pub(crate) fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 0.0 => Ok(factor),
        _ => Err("expected a number of at least 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30"), Err("say 30s".to_owned()));
        assert_eq!(positive_duration("007"), Err("say 007s".to_owned()));
        assert!(duration("").is_err());
        assert!(duration("soon").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn parses_amounts() {
        assert_eq!(bytes("800M"), Ok(800 << 20));
        assert_eq!(bytes("2GB"), Ok(2 << 30));
        assert_eq!(bytes("5"), Ok(5));
        for bad in ["", "G", "0", "2X", "-1", "1.5G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(budget("20/day"), Ok((20.0, Duration::from_secs(86_400))));
        assert_eq!(budget("1.5/90m"), Ok((1.5, Duration::from_secs(5_400))));
        for bad in ["20", "20/", "/day", "0/day", "x/day", "20/0s", "20/3600"] {
            assert!(budget(bad).is_err(), "{bad}");
        }
        assert!(group("my-app_2").is_ok());
        for bad in ["", "-", "a.b", "ä", "a b", &"a".repeat(41)] {
            assert!(group(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parses_times() {
        let now = Timestamp::parse("2026-11-20T21:45:12Z").unwrap();
        for (text, time) in [
            ("72s", Some("2026-11-20T21:44:00.000Z")),
            ("0", Some("2026-11-20T21:45:12.000Z")),
            ("72", None),
            ("1h 45m", Some("2026-11-20T20:00:12.000Z")),
            ("7d", Some("2026-11-13T21:45:12.000Z")),
            ("2026-11-20", Some("2026-11-20T00:00:00.000Z")),
            ("2026-11-20T01:00:00+02:00", Some("2026-11-19T23:00:00.000Z")),
            ("1000years", Some("1970-01-01T00:00:00.000Z")),
            ("yesterday", None),
            ("-1h", None),
            ("", None),
        ] {
            let parsed = since_at(text, now).map(|time| time.to_string()).ok();
            assert_eq!(parsed.as_deref(), time, "{text:?}");
        }
        assert_eq!(since_at("7", now), Err("say 7s".to_owned()));
        let error = since_at("soon", now).unwrap_err();
        assert!(error.contains("12h, 7d") && error.contains("2026-11-20T"), "{error}");
    }
}
