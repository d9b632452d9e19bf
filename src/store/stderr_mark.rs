//! Positions of claude's stderr within its stdout: the lines of `stderr.marks`.

use std::fmt;

/// One line of `stderr.marks`: a part of stderr.log and the output that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StderrMark {
    /// Offset in stderr.log where the part ends.
    pub stderr: u64,
    /// Offset in output.log of the output that follows.
    pub output: u64,
}

impl StderrMark {
    /// Parses a line without its line feed; returns `None` if it is invalid.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let (stderr, output) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        Some(Self { stderr: stderr.parse().ok()?, output: output.parse().ok()? })
    }
}

impl fmt::Display for StderrMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.stderr, self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_lines() {
        let mark = StderrMark { stderr: 12, output: 0 };
        assert_eq!(StderrMark::parse(mark.to_string().as_bytes()), Some(mark));
        for line in ["", "12", "12 ", "12 3 -", "x 3", "-1 3", "1 99999999999999999999", "1\t2"] {
            assert_eq!(StderrMark::parse(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(StderrMark::parse(b"\xff 1"), None);
    }
}
