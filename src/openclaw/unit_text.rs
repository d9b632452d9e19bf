//! What the text of a service definition says: units of systemd and property lists of launchd.

use std::collections::BTreeMap;

/// The end of the name of the script that sets the variables of an agent of launchd.
const WRAPPER_SUFFIX: &str = "-env-wrapper.sh";

/// The program of a service and its variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UnitText {
    pub program: Vec<String>,
    pub variables: BTreeMap<String, String>,
    pub environment_files: Vec<String>,
}

impl UnitText {
    /// Returns the file from which a script sets the variables, and removes script and file from
    /// the program.
    pub(super) fn take_environment_file(&mut self) -> Option<String> {
        let at = self.program.iter().take(2).position(|arg| arg.ends_with(WRAPPER_SUFFIX))?;
        if self.program.len() < at + 2 {
            return None;
        }
        self.program.drain(..=at + 1).next_back()
    }

    /// Adds the variables of a file with lines such as `export NAME='value'`.
    pub(super) fn add_exports(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(assignment) = line.trim().strip_prefix("export ")
                && let Some((name, value)) = assignment.split_once('=')
            {
                let quoted = value.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
                let value = quoted.unwrap_or(value).replace("'\\''", "'");
                self.variables.insert(name.trim().to_owned(), value);
            }
        }
    }
}

/// Reads the texts of a unit and of the files that change it, in the order in which they count.
pub(super) fn systemd(texts: &[String], home: &str) -> UnitText {
    let mut unit = UnitText::default();
    for text in texts {
        let mut in_service = false;
        for line in logical_lines(text) {
            let line = line.trim();
            if line.starts_with('[') {
                in_service = line == "[Service]";
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            if !in_service || line.starts_with(['#', ';']) {
                continue;
            }
            // An empty value deletes what was set before.
            match key.trim() {
                "ExecStart" => unit.program = words(value, home),
                "Environment" if value.trim().is_empty() => unit.variables.clear(),
                "Environment" => {
                    for word in words(value, home) {
                        if let Some((name, value)) = word.split_once('=') {
                            unit.variables.insert(name.to_owned(), value.to_owned());
                        }
                    }
                }
                "EnvironmentFile" if value.trim().is_empty() => unit.environment_files.clear(),
                "EnvironmentFile" => {
                    for word in words(value, home) {
                        let file = word.strip_prefix('-').unwrap_or(&word);
                        unit.environment_files.push(file.to_owned());
                    }
                }
                _ => {}
            }
        }
    }
    unit
}

/// Reads a file of variables: lines such as `NAME=value` or `NAME="value"`.
pub(super) fn assignments(text: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if let Some((name, value)) = line.split_once('=')
            && !line.starts_with(['#', ';'])
        {
            let value = value.trim().trim_matches(['"', '\'']);
            variables.insert(name.trim().to_owned(), value.to_owned());
        }
    }
    variables
}

/// Returns the lines; one that ends in a backslash continues in the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut continued = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(start) => {
                continued.push_str(start);
                continued.push(' ');
            }
            None => lines.push(std::mem::take(&mut continued) + line),
        }
    }
    lines.push(continued);
    lines
}

/// Splits a value into words as systemd does: with quotes, backslashes, `%h` and `%%`.
fn words(value: &str, home: &str) -> Vec<String> {
    let mut words = Vec::new();
    // `None` between words.
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = value.trim().chars();
    while let Some(c) = chars.next() {
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
            word.get_or_insert_default();
        } else if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
        } else {
            let word = word.get_or_insert_default();
            match c {
                '\\' => word.extend(chars.next().map(unescaped)),
                '%' => match chars.next() {
                    Some('h') => word.push_str(home),
                    Some('%') => word.push('%'),
                    other => word.extend(std::iter::once('%').chain(other)),
                },
                c => word.push(c),
            }
        }
    }
    words.extend(word);
    words
}

fn unescaped(c: char) -> char {
    match c {
        'n' => '\n',
        's' => ' ',
        't' => '\t',
        c => c,
    }
}

/// Reads a property list in the form that OpenClaw writes: XML with keys and strings.
pub(super) fn launchd(text: &str) -> UnitText {
    let mut unit = UnitText::default();
    if let Some(array) = element_after_key(text, "ProgramArguments", "array") {
        unit.program = elements(array, "string");
    }
    if let Some(dict) = element_after_key(text, "EnvironmentVariables", "dict") {
        unit.variables = elements(dict, "key").into_iter().zip(elements(dict, "string")).collect();
    }
    unit
}

/// Returns the content of the element of this kind that follows a key.
fn element_after_key<'a>(text: &'a str, key: &str, kind: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<key>{key}</key>"))?;
    let content = rest.trim_start().strip_prefix(&format!("<{kind}>"))?;
    let (content, _) = content.split_once(&format!("</{kind}>"))?;
    Some(content)
}

/// Returns the texts of all elements of this kind.
fn elements(text: &str, kind: &str) -> Vec<String> {
    let (open, close) = (format!("<{kind}>"), format!("</{kind}>"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, start)) = rest.split_once(&open)
        && let Some((content, end)) = start.split_once(&close)
    {
        found.push(unescaped_xml(content));
        rest = end;
    }
    found
}

fn unescaped_xml(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit as OpenClaw 2026.9.6 writes it, shortened.
    const UNIT: &str = "[Unit]
Description=OpenClaw Gateway (v2026.9.6)

[Service]
ExecStart=/usr/bin/node \"/home/a b/\\\"x\\\".js\" gateway --port 18789
Restart=always
WorkingDirectory=/home/anna/.openclaw
EnvironmentFile=-/home/anna/.openclaw/gateway.systemd.env
Environment=HOME=/home/anna
Environment=PATH=/usr/local/bin:/usr/bin:/bin:/home/anna/.local/bin
Environment=NODE_OPTIONS=
Environment=\"OPENCLAW_WINDOWS_TASK_NAME=OpenClaw Gateway\"

[Install]
WantedBy=default.target
";

    #[test]
    fn reads_the_unit_that_openclaw_writes() {
        let unit = systemd(&[UNIT.to_owned()], "/home/anna");
        let program = ["/usr/bin/node", "/home/a b/\"x\".js", "gateway", "--port", "18789"];
        assert_eq!(unit.program, program);
        assert_eq!(unit.variables["PATH"], "/usr/local/bin:/usr/bin:/bin:/home/anna/.local/bin");
        assert_eq!(unit.variables["HOME"], "/home/anna");
        assert_eq!(unit.environment_files, ["/home/anna/.openclaw/gateway.systemd.env"]);
        assert_eq!(unit.variables["NODE_OPTIONS"], "");
        assert_eq!(unit.variables["OPENCLAW_WINDOWS_TASK_NAME"], "OpenClaw Gateway");
    }

    #[test]
    fn reads_variables_as_systemd_does() {
        for (text, expected) in [
            ("[Service]\nEnvironment=A=1 PATH=%h/bin B=2", Some("/h/bin")),
            ("[Service]\nEnvironment='PATH=/a b:%%x:%y'", Some("/a b:%x:%y")),
            ("[Service]\nEnvironment=PATH=/a \\\n  B=1", Some("/a")),
            ("[Service]\nEnvironment=PATH=/a\\x\\\\s", Some("/ax\\s")),
            ("[Service]\nEnvironment=PATH=/a\nEnvironment=PATH=/b", Some("/b")),
            ("[Service]\nEnvironment=PATH=/a\nEnvironment=\n", None),
            ("[Unit]\nEnvironment=PATH=/a", None),
            ("[Service]\n#Environment=PATH=/a\n ;Environment=PATH=/b", None),
            ("", None),
        ] {
            let unit = systemd(&[text.to_owned()], "/h");
            assert_eq!(unit.variables.get("PATH").map(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn reads_files_of_variables() {
        let text = "# A=0\nA=1\n B = \"two words\" \nexport C='x=y'\n;D=1\nno assignment\nE=\n";
        let found = assignments(text);
        let found: Vec<_> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, [("A", "1"), ("B", "two words"), ("C", "x=y"), ("E", "")]);
    }

    #[test]
    fn reads_the_agent_that_openclaw_writes() {
        let text = "<plist version=\"1.0\">
  <dict>
    <key>Label</key>
    <string>ai.openclaw.gateway</string>
    <key>RunAtLoad</key>
    <true/>
    <key>ProgramArguments</key>
    <array>
      <string>/opt/homebrew/bin/node</string>
      <string>/Users/anna/a &amp; b/index.js</string>
    </array>
    <key>EnvironmentVariables</key>
    <dict>
    <key>HOME</key>
    <string>/Users/anna</string>
    <key>PATH</key>
    <string>/opt/homebrew/bin:/usr/bin</string>
    </dict>
  </dict>
</plist>";
        let unit = launchd(text);
        assert_eq!(unit.program, ["/opt/homebrew/bin/node", "/Users/anna/a & b/index.js"]);
        assert_eq!(unit.variables["PATH"], "/opt/homebrew/bin:/usr/bin");
        assert_eq!(unit.variables.len(), 2);
        assert_eq!(launchd("nothing"), UnitText::default());
    }
}
