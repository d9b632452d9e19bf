//! Whether an output is the one in the page, apart from what differs each time.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What differs each time, in this order.
const VARIABLE: [(&str, &str); 16] = [
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
    (r"\b\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"\b(\d{1,2} [A-Z][a-z]{2} (\d{4} )?|\d{4}-\d\d-\d\d )?\d\d:\d\d(:\d\d)?\b", "CLOCK"),
    (r"\b20\d\d-\d\d-\d\d\b", "DAY"),
    (GENERATED, "ID"),
    (r"[<≥]?\$\d+(\.\d+)?", "COST"),
    (r"\b\d+(\.\d+)?(ms|[smhd])( \d\d[smh])?\b", "DURATION"),
    (r"\b\d+(\.\d+)? ([kMGT]?B)\b", "SIZE"),
    (
        r#"("(?:pid|bytes|[a-zA-Z]*[mM]s|duration_ms|[a-z_]*cost[a-zA-Z_]*)"): ?-?\d+(\.\d+)?"#,
        "$1:NUMBER",
    ),
    (r#"("host"): ?"[^"]*""#, "$1:HOST"),
    (r"^( *host) .*", "$1 HOST"),
    (r"\b(pid|process) \d+", "$1 NUMBER"),
    (r"\b[0-9a-f]{40}\b", "COMMIT"),
    (r"\b(?:[0-9a-f]{0,6}[0-9][a-f]|[0-9a-f]{0,6}[a-f][0-9])[0-9a-f]{3,10}\b", "COMMIT"),
    (r"\b\d+\.\d+\.\d+\b", "VERSION"),
    (r"[█▉▊▋▌▍▎▏]+", "BAR"),
];
const GENERATED: &str = r"\b\d{6}-[bdhjklmnprstvwyz](?:[aiou][bdhjklmnprstvwyz]){3}\b";

static RULES: LazyLock<Vec<(Regex, &str)>> =
    LazyLock::new(|| VARIABLE.map(|(from, to)| (Regex::new(from).unwrap(), to)).to_vec());
static GENERATED_ID: LazyLock<Regex> = LazyLock::new(|| Regex::new(GENERATED).unwrap());

/// Returns a line without the values that differ each time, and with single spaces.
fn normalized(line: &str) -> String {
    let mut line = line.to_owned();
    for (rule, replacement) in RULES.iter() {
        line = rule.replace_all(&line, *replacement).into_owned();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line of output is the one in the page, in which `…` stands for any text.
fn is_same(expected: &str, actual: &str) -> bool {
    matches_pattern(&normalized(expected), &normalized(actual))
}

fn matches_pattern(expected: &str, actual: &str) -> bool {
    let pieces: Vec<&str> = expected.split('…').map(str::trim).collect();
    let [first, .., last] = pieces.as_slice() else { return expected == actual };
    let rest = actual.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
    let Some(mut rest) = rest else { return false };
    for piece in &pieces[1..pieces.len() - 1] {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

/// Whether an output is the one in the page, in which a line of `…` stands for any lines. Where
/// lines are wrapped depends on the length of the paths of this machine.
pub(crate) fn are_same(expected: &[&str], actual: &[String]) -> bool {
    let joined = |lines: &mut dyn Iterator<Item = &str>| -> String {
        lines.map(normalized).collect::<Vec<_>>().join(" ")
    };
    lines_are_same(expected, actual)
        || matches_pattern(
            &joined(&mut expected.iter().copied()),
            &joined(&mut actual.iter().map(String::as_str)),
        )
}

fn lines_are_same(expected: &[&str], actual: &[String]) -> bool {
    match (expected.split_first(), actual.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => {
            (0..=actual.len()).any(|skip| lines_are_same(rest, &actual[skip..]))
        }
        (Some((line, rest)), Some((first, others))) => {
            is_same(line, first) && lines_are_same(rest, others)
        }
        _ => false,
    }
}

/// Returns the output as the page shows it: lines of the page that are still right are kept.
pub(crate) fn updated(expected: &[&str], actual: &[String]) -> Vec<String> {
    let mut left = expected;
    let mut lines = Vec::new();
    for line in actual {
        match left.iter().position(|old| *old != "…" && is_same(old, line)) {
            Some(at) => {
                lines.push(left[at].to_owned());
                left = &left[at + 1..];
            }
            None => lines.push(line.clone()),
        }
    }
    lines
}

/// The ids that jobs without a given id have in the page, and those that they have this time.
#[derive(Debug, Default)]
pub(crate) struct Ids(BTreeMap<String, String>);

impl Ids {
    /// Takes the ids of two lines that are the same apart from them.
    pub(crate) fn learn(&mut self, expected: &[&str], actual: &[String]) {
        let ids = |text: &str| -> Vec<String> {
            GENERATED_ID.find_iter(text).map(|found| found.as_str().to_owned()).collect()
        };
        let (in_page, now) = (ids(&expected.join("\n")), ids(&actual.join("\n")));
        if in_page.len() == now.len() {
            for (old, new) in in_page.into_iter().zip(now) {
                self.0.entry(old).or_insert(new);
            }
        }
    }

    /// Returns a command of the page with the ids of this time. The word alone names a job, too.
    pub(crate) fn of_this_time(&self, command: &str) -> String {
        let mut command = command.to_owned();
        for (old, new) in &self.0 {
            command = command.replace(old, new);
            if let (Some((_, old)), Some((_, new))) = (old.split_once('-'), new.split_once('-')) {
                command = command.replace(old, new);
            }
        }
        command
    }

    /// Returns a line of output with the ids of the page.
    pub(crate) fn of_the_page(&self, line: &str) -> String {
        let replace = |found: &Captures<'_>| {
            let old = self.0.iter().find(|(_, new)| new.as_str() == &found[0]);
            old.map_or(found[0].to_owned(), |(old, _)| old.clone())
        };
        GENERATED_ID.replace_all(line, replace).into_owned()
    }
}

#[test]
fn compares_what_does_not_differ_each_time() {
    let same = [
        ("= completed · 5 turns · 5.5s · $0.05", "= completed · 5 turns · 0.1s · <$0.01"),
        ("job 261126-popokok · ~/app", "job 261127-zuzator   · ~/app"),
        (r#"{"jobId":"a","pid":1,…}"#, r#"{"jobId":"a","pid":23,"status":"running"}"#),
        ("started 21:59:31 (took 1m 02s)", "started 26 Nov 22:00:00 (took 0.0s)"),
        (" 1 file changed, 2f9a1c0", "1 file changed, abc1234"),
    ];
    for (expected, actual) in same {
        assert!(is_same(expected, actual), "{} / {}", normalized(expected), normalized(actual));
    }
    let other = [
        ("= completed · 5 turns", "= completed · 4 turns"),
        (r#"{"jobId":"a",…}"#, r#"{"jobId":"b","pid":23}"#),
        ("added decade", "added facade"),
        ("one", "one more"),
    ];
    for (expected, actual) in other {
        assert!(!is_same(expected, actual), "{} / {}", normalized(expected), normalized(actual));
    }
    let actual = ["a", "b", "c"].map(str::to_owned);
    assert!(are_same(&["a", "…", "c"], &actual) && are_same(&["a", "b", "c", "…"], &actual));
    assert!(!are_same(&["a", "c"], &actual) && !are_same(&["a", "…", "b"], &actual));
    let wrapped = ["error: in a long", "  line"].map(str::to_owned);
    assert!(are_same(&["error: in", "  a long line"], &wrapped));
    assert_eq!(updated(&["a", "x", "c"], &actual), ["a", "b", "c"]);
}
