//! What a person sees of the output of a program on a terminal: the lines after all control
//! sequences for the cursor. Colours are ignored.

/// The lines that output leaves on a terminal, which never scrolls.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The lines behind the alternate screen.
    behind: Vec<Vec<char>>,
}

impl Screen {
    /// Returns the lines that are shown after this output.
    pub(crate) fn after(output: &str) -> Vec<String> {
        let mut screen = Self::default();
        let mut rest = output.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => screen.column = 0,
                '\n' => screen.row += 1,
                '\u{1b}' => {
                    let mut sequence = String::new();
                    for c in rest.by_ref() {
                        sequence.push(c);
                        if c.is_ascii_alphabetic() {
                            break;
                        }
                    }
                    // The rest of the last one may not have arrived yet.
                    if sequence.ends_with(|c: char| c.is_ascii_alphabetic()) {
                        screen.obey(&sequence);
                    }
                }
                c => screen.put(c),
            }
        }
        let mut lines: Vec<String> =
            screen.lines.iter().map(|line| line.iter().collect::<String>()).collect();
        for line in &mut lines {
            line.truncate(line.trim_end().len());
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    fn put(&mut self, c: char) {
        let line = self.line();
        let at = line.1;
        line.0.resize(line.0.len().max(at + 1), ' ');
        line.0[at] = c;
        self.column += 1;
    }

    fn line(&mut self) -> (&mut Vec<char>, usize) {
        let height = self.lines.len().max(self.row + 1);
        self.lines.resize(height, Vec::new());
        (&mut self.lines[self.row], self.column)
    }

    fn obey(&mut self, sequence: &str) {
        match sequence {
            "[H" => (self.row, self.column) = (0, 0),
            "[K" => {
                let (line, at) = self.line();
                line.truncate(at);
            }
            "[2K" => self.line().0.clear(),
            "[J" => {
                let (line, at) = self.line();
                line.truncate(at);
                self.lines.truncate(self.row + 1);
            }
            "[?1049h" => self.behind = std::mem::take(&mut self.lines),
            "[?1049l" => self.lines = std::mem::take(&mut self.behind),
            "[?25h" | "[?25l" | "[?2004h" | "[?2004l" => {}
            "[2J" => self.lines.clear(),
            _ if sequence.ends_with('H') => {
                let (row, column) = sequence[1..sequence.len() - 1].split_once(';').unwrap();
                self.row = row.parse::<usize>().unwrap() - 1;
                self.column = column.parse::<usize>().unwrap() - 1;
            }
            _ if sequence.ends_with('C') => {
                self.column += sequence[1..sequence.len() - 1].parse::<usize>().unwrap();
            }
            _ if sequence.ends_with('m') => {}
            _ => {
                let up = sequence.strip_prefix('[').and_then(|rest| rest.strip_suffix('A'));
                let up: usize = up.and_then(|up| up.parse().ok()).unwrap_or_else(|| {
                    panic!("an unexpected sequence: {sequence:?}");
                });
                self.row -= up;
            }
        }
    }
}
