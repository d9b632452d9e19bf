//! The parts of SKILL.md.

pub(crate) const SKILL: &str = include_str!("../../SKILL.md");

/// Returns the lines of the front matter and those of the body.
pub(crate) fn parts() -> (Vec<&'static str>, Vec<&'static str>) {
    let mut lines = SKILL.lines();
    assert_eq!(lines.next(), Some("---"));
    let front: Vec<&str> = lines.by_ref().take_while(|line| *line != "---").collect();
    (front, lines.collect())
}

fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```")
}

/// Returns the text of each code block without its indentation.
pub(crate) fn code_blocks() -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for line in parts().1 {
        let indent = line.len() - line.trim_start().len();
        if let Some((outer, mut text)) = block.take() {
            if is_fence(line) {
                blocks.push(text);
            } else {
                text += line.get(outer..).unwrap_or_default();
                text.push('\n');
                block = Some((outer, text));
            }
        } else if is_fence(line) {
            block = Some((indent, String::new()));
        }
    }
    assert!(block.is_none(), "a block is not closed");
    blocks
}

/// Returns the text between each pair of backticks outside of the code blocks.
pub(crate) fn spans() -> Vec<String> {
    let mut prose = String::new();
    let mut in_block = false;
    for line in parts().1 {
        if is_fence(line) {
            in_block = !in_block;
        } else if !in_block {
            prose += line.trim();
            prose.push(' ');
        }
    }
    let pieces: Vec<&str> = prose.split('`').collect();
    assert!(pieces.len() % 2 == 1, "a backtick has no partner");
    pieces.into_iter().skip(1).step_by(2).map(str::to_owned).collect()
}
