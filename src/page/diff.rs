//! What an edit changes, line by line.

use maud::{Markup, html};
use similar::{ChangeTag, TextDiff};

use super::conversation::Cut;
use crate::text::{grouped, harmless};

/// Lines of either side that are compared: the time that it takes grows with their product.
const LINES_COMPARED: usize = 400;
/// Characters of either side that are compared.
const COMPARED: usize = 20_000;
/// Lines that did not change, shown beside those that did.
const CONTEXT: usize = 3;

/// A change of one text.
#[derive(Debug, Default)]
pub(super) struct Diff {
    lines: Vec<(Kind, String)>,
    /// Characters of both sides that were not compared.
    more: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Same,
    Added,
    Removed,
    /// Lines that did not change were left out.
    Gap,
}

impl Diff {
    /// What makes `new` of `old`.
    pub(super) fn of(old: &str, new: &str) -> Self {
        let (old, new) = (beginning(old), beginning(new));
        let diff = TextDiff::from_lines(old.text.as_str(), new.text.as_str());
        let mut lines = Vec::new();
        for (n, ops) in diff.grouped_ops(CONTEXT).iter().enumerate() {
            if n > 0 {
                lines.push((Kind::Gap, String::new()));
            }
            for change in ops.iter().flat_map(|op| diff.iter_changes(op)) {
                let kind = match change.tag() {
                    ChangeTag::Equal => Kind::Same,
                    ChangeTag::Insert => Kind::Added,
                    ChangeTag::Delete => Kind::Removed,
                };
                let line = change.value().trim_end_matches(['\n', '\r']);
                lines.push((kind, harmless(line)));
            }
        }
        Self { lines, more: old.more + new.more }
    }

    /// How many characters it holds.
    pub(super) fn weight(&self) -> usize {
        self.lines.iter().map(|(_, line)| line.len() + 40).sum()
    }

    /// Coloured, and legible without colours.
    pub(super) fn markup(&self) -> Markup {
        html! {
            pre.diff {
                @for (kind, line) in &self.lines {
                    @match kind {
                        Kind::Same => { span { "  " (line) "\n" } }
                        Kind::Added => { ins { "+ " (line) "\n" } }
                        Kind::Removed => { del { "- " (line) "\n" } }
                        Kind::Gap => { span.gap { "⋯\n" } }
                    }
                }
            }
            @if self.more > 0 {
                p.more { "… " (grouped(self.more)) " more characters in output.log" }
            }
        }
    }
}

fn beginning(text: &str) -> Cut {
    let lines = memchr::memchr_iter(b'\n', text.as_bytes()).nth(LINES_COMPARED - 1);
    let end = lines.map_or(text.len(), |at| at + 1);
    let cut = Cut::raw(&text[..end], COMPARED);
    let more = cut.more + text[end..].chars().count() as u64;
    Cut { more, ..cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(old: &str, new: &str) -> Vec<String> {
        let line = |(kind, line): (Kind, String)| match kind {
            Kind::Same => format!(" {line}"),
            Kind::Added => format!("+{line}"),
            Kind::Removed => format!("-{line}"),
            Kind::Gap => "⋯".to_owned(),
        };
        Diff::of(old, new).lines.into_iter().map(line).collect()
    }

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        for (old, new, expected) in [
            ("", "a\nb\n", &["+a", "+b"][..]),
            ("a\n", "", &["-a"]),
            ("a\nb\nc\n", "a\nx\nc\n", &[" a", "-b", "+x", " c"]),
            // An end of line that is missing is no change to be seen.
            ("a\nb", "a\nc", &[" a", "-b", "+c"]),
            ("same\n", "same\n", &[]),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n",
                "x\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\ny\n",
                &["-1", "+x", " 2", " 3", " 4", "⋯", " 9", " 10", " 11", "-12", "+y"],
            ),
        ] {
            assert_eq!(shown(old, new), expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn markup_in_a_line_stays_text() {
        let page = Diff::of("<b>\n", "</pre><script>alert(1)</script>\n").markup().0;
        assert!(page.contains("<ins>+ &lt;/pre&gt;&lt;script&gt;alert(1)"), "{page}");
        assert!(page.contains("<del>- &lt;b&gt;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn a_huge_change_is_cut_and_says_so() {
        let (old, new) = ("a\n".repeat(90_000), "b\n".repeat(90_000));
        let diff = Diff::of(&old, &new);
        assert_eq!(diff.lines.len(), 2 * LINES_COMPARED);
        assert_eq!(diff.more, 4 * (90_000 - LINES_COMPARED as u64));
        let wide = Diff::of("", &"ä".repeat(90_000));
        assert_eq!(wide.more, 70_000);
    }
}
