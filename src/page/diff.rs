//! Line-by-line differences of an edit.

use std::ops::Range;

use imara_diff::{Algorithm, InternedInput, Token};
use maud::{Markup, html};

use super::excerpt::{Excerpt, omitted_note};
use crate::text::harmless;

/// Lines compared of each side. The time of a comparison grows with their product.
const MAX_COMPARED_LINES: usize = 400;
/// Characters compared of each side.
const MAX_COMPARED_CHARS: usize = 20_000;
/// Unchanged lines shown around each change.
const CONTEXT_LINES: u32 = 3;

/// The differences between two versions of a text.
#[derive(Debug, Default)]
pub(crate) struct Diff {
    lines: Vec<(LineChange, String)>,
    /// Characters of both sides that were not compared.
    omitted_chars: u64,
}

/// How a line of a text changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineChange {
    Same,
    Added,
    Removed,
    /// Omitted unchanged lines.
    Gap,
}

impl Diff {
    /// Compares `old` with `new`.
    pub(crate) fn new(old: &str, new: &str) -> Self {
        let (old, new) = (compared_part(old), compared_part(new));
        let input = InternedInput::new(old.text.as_str(), new.text.as_str());
        let mut compared = imara_diff::Diff::compute(Algorithm::Histogram, &input);
        compared.postprocess_lines(&input);
        let mut shown = ShownLines { input: &input, lines: Vec::new() };
        // The line of the old text after the last change; none before the first one.
        let mut next = None;
        for hunk in compared.hunks() {
            let context = hunk.before.start.saturating_sub(CONTEXT_LINES);
            let begin = match next {
                None => context,
                Some(next) if context <= next + CONTEXT_LINES => next,
                Some(next) => {
                    shown.push_same(next..next + CONTEXT_LINES);
                    shown.lines.push((LineChange::Gap, String::new()));
                    context
                }
            };
            shown.push_same(begin..hunk.before.start);
            shown.push(LineChange::Removed, &input.before, hunk.before.clone());
            shown.push(LineChange::Added, &input.after, hunk.after);
            next = Some(hunk.before.end);
        }
        if let Some(next) = next {
            let end = (next + CONTEXT_LINES).min(input.before.len() as u32);
            shown.push_same(next..end);
        }
        Self { lines: shown.lines, omitted_chars: old.omitted_chars + new.omitted_chars }
    }

    /// Returns the lines around the changes, harmless for a terminal.
    pub(crate) fn lines(&self) -> &[(LineChange, String)] {
        &self.lines
    }

    /// Returns whether parts of the texts were not compared.
    pub(crate) fn is_cut(&self) -> bool {
        self.omitted_chars > 0
    }

    /// Returns the approximate size of the markup, in characters.
    pub(super) fn weight(&self) -> usize {
        self.lines.iter().map(|(_, line)| line.len() + 40).sum()
    }

    /// Renders the differences, legible without colours.
    pub(super) fn markup(&self) -> Markup {
        html! {
            pre.diff {
                @for (kind, line) in &self.lines {
                    @match kind {
                        LineChange::Same => { span { "  " (line) "\n" } }
                        LineChange::Added => { ins { "+ " (line) "\n" } }
                        LineChange::Removed => { del { "- " (line) "\n" } }
                        LineChange::Gap => { span.gap { "⋯\n" } }
                    }
                }
            }
            (omitted_note(self.omitted_chars))
        }
    }
}

/// The lines of a difference, while they are collected.
struct ShownLines<'a> {
    input: &'a InternedInput<&'a str>,
    lines: Vec<(LineChange, String)>,
}

impl ShownLines<'_> {
    fn push_same(&mut self, range: Range<u32>) {
        self.push(LineChange::Same, &self.input.before, range);
    }

    fn push(&mut self, kind: LineChange, tokens: &[Token], range: Range<u32>) {
        for token in &tokens[range.start as usize..range.end as usize] {
            let line = self.input.interner[*token].trim_end_matches(['\n', '\r']);
            self.lines.push((kind, harmless(line)));
        }
    }
}

fn compared_part(text: &str) -> Excerpt {
    let mut line_feeds = memchr::memchr_iter(b'\n', text.as_bytes());
    let end = match line_feeds.nth(MAX_COMPARED_LINES - 1) {
        Some(at) => at + 1,
        None => text.len(),
    };
    let excerpt = Excerpt::raw(&text[..end], MAX_COMPARED_CHARS);
    let omitted_chars = excerpt.omitted_chars + text[end..].chars().count() as u64;
    Excerpt { omitted_chars, ..excerpt }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(old: &str, new: &str) -> Vec<String> {
        let line = |(kind, line): (LineChange, String)| match kind {
            LineChange::Same => format!(" {line}"),
            LineChange::Added => format!("+{line}"),
            LineChange::Removed => format!("-{line}"),
            LineChange::Gap => "⋯".to_owned(),
        };
        Diff::new(old, new).lines.into_iter().map(line).collect()
    }

    #[test]
    fn shows_changes_with_context() {
        for (old, new, expected) in [
            ("", "a\nb\n", &["+a", "+b"][..]),
            ("a\n", "", &["-a"]),
            ("a\nb\nc\n", "a\nx\nc\n", &[" a", "-b", "+x", " c"]),
            // A missing line feed at the end is not shown as a change.
            ("a\nb", "a\nc", &[" a", "-b", "+c"]),
            ("same\n", "same\n", &[]),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n",
                "x\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\ny\n",
                &["-1", "+x", " 2", " 3", " 4", "⋯", " 9", " 10", " 11", "-12", "+y"],
            ),
            // Changes whose contexts touch are shown without a gap.
            (
                "0\n1\n2\n3\n4\n5\n6\n7\n",
                "x\n1\n2\n3\n4\n5\n6\ny\n",
                &["-0", "+x", " 1", " 2", " 3", " 4", " 5", " 6", "-7", "+y"],
            ),
            ("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\n5\n", &[" 3", " 4", " 5", "-6"]),
            ("1\n2\n3\n4\n5\n", "0\n1\n2\n3\n4\n5\n", &["+0", " 1", " 2", " 3"]),
        ] {
            assert_eq!(shown(old, new), expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn escapes_markup_in_lines() {
        let page = Diff::new("<b>\n", "</pre><script>alert(1)</script>\n").markup().0;
        assert!(page.contains("<ins>+ &lt;/pre&gt;&lt;script&gt;alert(1)"), "{page}");
        assert!(page.contains("<del>- &lt;b&gt;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn limits_huge_changes_with_note() {
        let (old, new) = ("a\n".repeat(90_000), "b\n".repeat(90_000));
        let diff = Diff::new(&old, &new);
        assert_eq!(diff.lines.len(), 2 * MAX_COMPARED_LINES);
        assert_eq!(diff.omitted_chars, 4 * (90_000 - MAX_COMPARED_LINES as u64));
        let wide = Diff::new("", &"ä".repeat(90_000));
        assert_eq!(wide.omitted_chars, 70_000);
    }
}
