//! Where claude's stderr stands among its stdout: the lines of `stderr.marks`.

use std::fmt;

/// One line of `stderr.marks`: a part of stderr.log and the output that it came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StderrMark {
    /// Where that part of stderr.log ends.
    pub stderr: u64,
    /// The offset in output.log of what came after it.
    pub output: u64,
}

impl StderrMark {
    /// Reads a line without its line feed; `None` if it is no mark.
    pub fn parse(line: &[u8]) -> Option<Self> {
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
    fn a_line_that_is_no_mark_is_none() {
        let mark = StderrMark { stderr: 12, output: 0 };
        assert_eq!(StderrMark::parse(mark.to_string().as_bytes()), Some(mark));
        for line in ["", "12", "12 ", "12 3 -", "x 3", "-1 3", "1 99999999999999999999", "1\t2"] {
            assert_eq!(StderrMark::parse(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(StderrMark::parse(b"\xff 1"), None);
    }
}
