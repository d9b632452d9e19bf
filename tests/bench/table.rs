//! The Markdown table: a row is printed as soon as it is measured, so that an interrupted run has
//! still printed its results.

use std::fmt;
use std::io::Write as _;

use crate::Outcome;

/// The unit of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    BytesPerSecond,
    Times,
    Fraction,
}

/// The median and the bad end of a series.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    p90: Option<f64>,
}

impl Spread {
    /// A figure that is read once.
    pub(crate) fn single(value: f64) -> Spread {
        Spread { median: value, p90: None }
    }

    /// A series of times.
    pub(crate) fn of(mut times: Vec<f64>) -> Spread {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        let middle = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0;
        Spread { median: middle, p90: Some(at(0.9)) }
    }

    /// The same series as a rate: its bad end is the slow one.
    pub(crate) fn rate(times: Vec<f64>, bytes: u64) -> Spread {
        let times = Spread::of(times);
        let rate = |seconds: f64| bytes as f64 / seconds;
        Spread { median: rate(times.median), p90: times.p90.map(rate) }
    }
}

/// The target of the design.
pub(crate) enum Target {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    AtMost(f64),
    /// At most this much above the reference.
    AtMostAbove(f64),
    None,
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) ours: Spread,
    pub(crate) reference: Option<(String, Spread)>,
    pub(crate) target: Target,
    /// The same by other programs, if they are installed.
    pub(crate) peers: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        let shown = |value: Option<f64>| value.map(|value| unit.show(value)).unwrap_or_default();
        let (name, theirs) = match &self.reference {
            Some((name, spread)) => (name.as_str(), Some(spread.median)),
            None => ("", None),
        };
        let ratio = theirs.map(|theirs| self.ours.median / theirs);
        let said = |holds: Option<bool>| match holds {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let (target, met) = match self.target {
            Target::RatioAtMost(limit) => {
                (format!("≤ {limit:.1} ×"), ratio.map(|ratio| ratio <= limit))
            }
            Target::RatioAtLeast(limit) => {
                (format!("≥ {limit:.1} ×"), ratio.map(|ratio| ratio >= limit))
            }
            Target::AtMost(limit) => {
                let is_known = !self.ours.median.is_nan();
                (format!("≤ {}", unit.show(limit)), is_known.then_some(self.ours.median <= limit))
            }
            Target::AtMostAbove(limit) => {
                let above = theirs.map(|theirs| self.ours.median - theirs);
                (format!("≤ {} above", unit.show(limit)), above.map(|above| above <= limit))
            }
            Target::None => (String::new(), None),
        };
        write!(
            f,
            "| {} | {} | {} | {name} | {} | {} | {target} | {} | {} |",
            self.what,
            shown(Some(self.ours.median)),
            shown(self.ours.p90),
            shown(theirs),
            ratio.map(|ratio| format!("{ratio:.2} ×")).unwrap_or_default(),
            said(met),
            self.peers,
        )
    }
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "–".to_owned(),
            Unit::Seconds if value >= 1.0 => format!("{value:.2} s"),
            Unit::Seconds => format!("{:.2} ms", value * 1e3),
            Unit::Bytes => format!("{:.2} MB", value / 1e6),
            Unit::BytesPerSecond => format!("{:.0} MB/s", value / 1e6),
            Unit::Times => format!("{value:.0}"),
            Unit::Fraction => format!("{value:.2}"),
        }
    }
}

/// The table that is being printed.
pub(crate) struct Table {
    out: std::io::Stdout,
}

impl Table {
    /// Prints the head, below a line that describes the machine.
    pub(crate) fn begin(machine: &str) -> Outcome<Table> {
        let mut out = std::io::stdout();
        writeln!(out, "{machine}; MB are 10^6 bytes.\n")?;
        writeln!(
            out,
            "| what | median | p90 | reference | its median | ratio | target | met | peers |"
        )?;
        writeln!(out, "|---|--:|--:|---|--:|--:|--:|---|---|")?;
        Ok(Table { out })
    }

    pub(crate) fn add(&mut self, row: &Row) -> Outcome<()> {
        writeln!(self.out, "{row}")?;
        Ok(self.out.flush()?)
    }
}
