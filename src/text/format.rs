//! One format each for counts, durations, money, sizes and times.

use std::time::Duration;

use jiff::civil::DateTime;

/// Returns a count with its noun: `1 task`, `2 tasks`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Formats a measured duration in its two largest units: `1h 01m`. A limit is shown exactly, in the
/// form that its option accepts: [`humantime::format_duration`].
pub(crate) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 if seconds < 10 => format!("{:.1}s", duration.as_secs_f64()),
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Formats a duration in milliseconds.
pub(crate) fn format_ms(ms: u64) -> String {
    format_duration(Duration::from_millis(ms))
}

/// Formats a period for use after "the last": `day`, `30 days`, `90 minutes`.
pub(crate) fn format_window(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let is_whole = duration.subsec_nanos() == 0 && seconds > 0;
    match units.into_iter().find(|(unit, _)| is_whole && seconds.is_multiple_of(*unit)) {
        Some((unit, name)) if seconds == unit => name.to_owned(),
        Some((unit, name)) => format!("{} {name}s", seconds / unit),
        None => format_duration(duration),
    }
}

/// Formats US dollars with two decimals, and with more for small amounts that need them.
pub(crate) fn dollars(usd: f64) -> String {
    for digits in 2..6 {
        let text = format!("{usd:.digits$}");
        let rounded = text.parse().unwrap_or(usd);
        if usd >= 1.0 || (usd - rounded).abs() < 5e-7 {
            return format!("${text}");
        }
    }
    format!("${usd:.6}")
}

/// Formats measured costs in US dollars with two decimals. Small costs are not shown as none:
/// `<$0.01`.
pub(crate) fn format_usd(usd: f64) -> String {
    if usd > 0.0 && usd < 0.005 { "<$0.01".to_owned() } else { cents(usd) }
}

/// Formats costs, which may be a lower bound: `≥$0.05`.
pub(crate) fn format_cost(usd: f64, is_lower_bound: bool) -> String {
    if is_lower_bound { format!("≥{}", cents(usd)) } else { format_usd(usd) }
}

fn cents(usd: f64) -> String {
    // Half a cent is rounded up, although the binary fraction may be a little less.
    format!("${:.2}", (usd * 100.0).round() / 100.0)
}

/// Formats a number of bytes in its largest unit of 1,000: `512 B`, `12 kB`, `4.1 MB`.
pub(crate) fn format_bytes(bytes: u64) -> String {
    // Rounded up to a unit, a size is shown in that unit.
    match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..999_500 => return format!("{:.0} kB", bytes as f64 / 1e3),
        _ => {}
    }
    let mut amount = bytes as f64 / 1e6;
    for unit in ["MB", "GB"] {
        if amount < 999.95 {
            return format!("{amount:.1} {unit}");
        }
        amount /= 1_000.0;
    }
    format!("{amount:.1} TB")
}

/// Formats a time as it is read at `now`: `14:03`, on another day `26 Nov 14:03`, in another year
/// `26 Nov 2025 14:03`. Both are in the same time zone.
pub(crate) fn format_time(at: DateTime, now: DateTime) -> String {
    format!("{}{}", day_before_time(at, now), at.strftime("%H:%M"))
}

/// Like [`format_time`], with seconds.
pub(crate) fn format_second(at: DateTime, now: DateTime) -> String {
    format!("{}{}", day_before_time(at, now), at.strftime("%H:%M:%S"))
}

fn day_before_time(at: DateTime, now: DateTime) -> String {
    if at.date() == now.date() {
        return String::new();
    }
    let form = if at.year() == now.year() { "%-d %b " } else { "%-d %b %Y " };
    at.strftime(form).to_string()
}

/// Formats a number with thousands separators: `1,234,567`.
pub(crate) fn format_number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_two_decimals() {
        for (usd, shown, bound) in [
            (0.0, "$0.00", "≥$0.00"),
            (0.0049, "<$0.01", "≥$0.00"),
            (0.005, "$0.01", "≥$0.01"),
            (0.0450, "$0.05", "≥$0.05"),
            (12.3, "$12.30", "≥$12.30"),
            (1234.567, "$1234.57", "≥$1234.57"),
        ] {
            assert_eq!(format_cost(usd, false), shown);
            assert_eq!(format_cost(usd, true), bound);
        }
    }

    #[test]
    fn limits_of_money_are_exact() {
        for (usd, shown) in [
            (0.0, "$0.00"),
            (0.0072, "$0.0072"),
            (0.000_012, "$0.000012"),
            (0.5, "$0.50"),
            (0.02175, "$0.02175"),
            (2.251, "$2.25"),
            (20.0, "$20.00"),
        ] {
            assert_eq!(dollars(usd), shown);
        }
    }

    #[test]
    fn sizes_have_one_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (12_345, "12 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (4_123_456, "4.1 MB"),
            (999_949_999, "999.9 MB"),
            (999_950_000, "1.0 GB"),
            (43_400_000_000, "43.4 GB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(format_bytes(bytes), shown);
        }
    }

    #[test]
    fn times_name_the_day_if_it_is_another() {
        let now: DateTime = "2026-11-26T14:03:59".parse().unwrap();
        for (at, shown) in [
            ("2026-11-26T01:00:00", "01:00"),
            ("2026-11-25T23:59:59", "25 Nov 23:59"),
            ("2026-06-01T09:00:00", "1 Jun 09:00"),
            ("2025-12-31T23:30:00", "31 Dec 2025 23:30"),
        ] {
            let at: DateTime = at.parse().unwrap();
            assert_eq!(format_time(at, now), shown);
            assert_eq!(format_second(at, now).len(), shown.len() + 3);
        }
    }

    #[test]
    fn periods_have_one_unit() {
        for (seconds, text) in [
            (86_400, "day"),
            (3_600, "hour"),
            (30 * 86_400, "30 days"),
            (5_400, "90 minutes"),
            (1, "second"),
            (61, "61 seconds"),
        ] {
            assert_eq!(format_window(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format_window(Duration::from_millis(1_500)), "1.5s");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in
            [(0, "0.0s"), (59, "59s"), (61, "1m 01s"), (3_661, "1h 01m"), (90_000, "1d 01h")]
        {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(format_number(n), text);
        }
    }
}
