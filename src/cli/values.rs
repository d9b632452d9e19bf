//! Parsers for option values: durations, amounts, labels.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime};

use super::{GroupByArg, Since};

/// Parses a duration: `90s`, `10m`, `1h 30m`, `500ms`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    let positive = duration(text).map(|duration| Some(duration).filter(|d| !d.is_zero()));
    positive?.ok_or_else(|| "expected a duration above 0".to_owned())
}

/// Parses a number of bytes, with or without a unit: `800M`, `2G`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| !c.is_ascii_digit()).len());
    let factor = match unit.to_ascii_uppercase().trim_end_matches('B') {
        "" => Some(1),
        "K" => Some(1 << 10),
        "M" => Some(1 << 20),
        "G" => Some(1 << 30),
        "T" => Some(1 << 40),
        _ => None,
    };
    let bytes = digits.parse().ok().zip(factor).and_then(|(n, by): (u64, u64)| n.checked_mul(by));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "expected a number of bytes, such as 800M or 2G".to_owned())
}

/// Parses an amount per period: `20/day`, `1.50/hour`, `100/30d`.
pub(super) fn budget(text: &str) -> Result<(f64, Duration), String> {
    let expected =
        || "expected an amount and a period, such as 20/day, 1.50/hour or 100/30d".to_owned();
    let (usd, time) = text.split_once('/').ok_or_else(expected)?;
    let time = match time {
        "hour" => "1h",
        "day" => "1d",
        "week" => "7d",
        "month" => "30d",
        other => other,
    };
    let usd = dollars(usd).map_err(|_| expected())?;
    let time = positive_duration(time).map_err(|_| expected())?;
    Ok((usd, time))
}

pub(super) fn group(text: &str) -> Result<String, String> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let ok = (1..=40).contains(&text.len())
        && text.chars().all(is_valid)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let expected = "expected a letter or digit, then at most 39 letters, digits, '_' or '-'";
    if ok { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

pub(super) fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Since::Ago(ago));
    }
    let day = || text.parse().ok().map(|day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc());
    let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let at = time().or_else(day).map(Since::At);
    at.ok_or_else(|| {
        "expected a duration (12h, 7d), a day (2026-11-20) or an RFC 3339 time".to_owned()
    })
}

pub(super) fn by(text: &str) -> Result<GroupByArg, String> {
    match text {
        "day" => Ok(GroupByArg::Day),
        "model" => Ok(GroupByArg::Model),
        "group" => Ok(GroupByArg::Group),
        "status" => Ok(GroupByArg::Status),
        _ => match text.strip_prefix("label:") {
            Some(key) if !key.is_empty() => Ok(GroupByArg::Label(key.to_owned())),
            _ => Err("expected day, model, group, status or label:KEY".to_owned()),
        },
    }
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.len() <= 64 && value.len() <= 256 => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err("expected KEY=VALUE, with at most 64 and 256 bytes".to_owned()),
    }
}

pub(super) fn dollars(text: &str) -> Result<f64, String> {
    let amount = text.parse().ok().filter(|usd: &f64| usd.is_finite() && *usd > 0.0);
    amount.ok_or_else(|| "expected an amount of US dollars above 0".to_owned())
}

pub(super) fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor >= 0.0);
    factor.ok_or_else(|| "expected a number of at least 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
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
        for bad in ["20", "20/", "/day", "0/day", "x/day", "20/0s"] {
            assert!(budget(bad).is_err(), "{bad}");
        }
        assert!(group("my-app_2").is_ok());
        for bad in ["", "-", "a.b", "ä", "a b", &"a".repeat(41)] {
            assert!(group(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parses_times_and_group_keys() {
        let at = |text: &str| Ok(Since::At(text.parse().unwrap()));
        assert_eq!(since("7d"), Ok(Since::Ago(Duration::from_secs(604_800))));
        assert_eq!(since("2026-11-20"), at("2026-11-20T00:00:00Z"));
        assert_eq!(since("2026-11-20T23:45:00+02:00"), at("2026-11-20T21:45:00Z"));
        assert!(since("yesterday").is_err());
        assert_eq!(by("label:a"), Ok(GroupByArg::Label("a".to_owned())));
        assert!(by("label:").is_err());
    }
}
