//! Arguments after `--`, which are passed to claude. Those that cannot work in a job are refused
//! before anything is created.

/// The advice instead of an option.
type Instead = &'static str;

const SET_ALREADY: Instead = "claudejob sets it itself";
const INTERACTIVE: Instead = "it needs a terminal, or leaves the work to another program; a job \
    runs without one";
const BACKGROUND: Instead = "a job runs in the background already";
const RESUME: Instead = "use --resume SESSION or --resume-job ID before --";
const PRINTS: Instead = "claude would print something and end; call claude itself";

/// Options with which claude would not do the job's work, or not in a way that can be tracked.
/// Taken from the help of 2.1.332; some are older or hidden.
const REFUSED: [(&str, Instead); 30] = [
    ("-p", SET_ALREADY),
    ("--print", SET_ALREADY),
    ("--input-format", SET_ALREADY),
    ("--output-format", SET_ALREADY),
    ("--verbose", SET_ALREADY),
    ("--replay-user-messages", SET_ALREADY),
    ("--permission-prompt-tool", "use --ask before --"),
    ("--session-id", "claudejob names the session; to continue one use --resume or --resume-job"),
    ("-r", RESUME),
    ("--resume", RESUME),
    ("-c", RESUME),
    ("--continue", RESUME),
    ("--from-pr", RESUME),
    ("--fork-session", "use --fork before --"),
    ("--bg", BACKGROUND),
    ("--background", BACKGROUND),
    ("--cloud", INTERACTIVE),
    ("--remote", INTERACTIVE),
    ("--environment", INTERACTIVE),
    ("--teleport", INTERACTIVE),
    ("--desktop", INTERACTIVE),
    ("--tmux", INTERACTIVE),
    ("--remote-control", INTERACTIVE),
    ("--sdk-url", INTERACTIVE),
    ("--init-only", PRINTS),
    ("-h", PRINTS),
    ("--help", PRINTS),
    ("-v", PRINTS),
    ("-V", PRINTS),
    ("--version", PRINTS),
];

/// Options without a value, or only with one that does not begin with a dash. After any other
/// option follows its value, whatever it looks like.
const WITHOUT_VALUE: [&str; 23] = [
    "--allow-dangerously-skip-permissions",
    "--ax-screen-reader",
    "--bare",
    "--brief",
    "--chrome",
    "--dangerously-skip-permissions",
    "-d",
    "--debug",
    "--disable-slash-commands",
    "--exclude-dynamic-system-prompt-sections",
    "--forward-subagent-text",
    "--ide",
    "--include-hook-events",
    "--include-partial-messages",
    "--mcp-debug",
    "--no-chrome",
    "--no-session-persistence",
    "--prompt-suggestions",
    "--restricted",
    "--safe-mode",
    "--strict-mcp-config",
    "-w",
    "--worktree",
];

/// Returns why the arguments cannot be passed on to claude, and what to use instead.
pub(crate) fn refusal_reason(args: &[String]) -> Option<String> {
    let mut is_value = false;
    for (index, arg) in args.iter().enumerate() {
        if std::mem::take(&mut is_value) {
            continue;
        }
        if arg == "--" {
            return Some("a second -- has no effect: give the prompt by --prompt".to_owned());
        }
        let Some(flag) = option_name(arg) else {
            // A word after an option may be one of its values.
            if index == 0 {
                return Some(format!(
                    "{arg:?} directly after -- is not an option of claude: quote a prompt of \
                     several words, and give it by --prompt"
                ));
            }
            continue;
        };
        if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == flag) {
            return Some(format!("{flag} cannot be passed on to claude: {instead}"));
        }
        let has_value = arg.contains('=') || (!arg.starts_with("--") && arg.len() > flag.len());
        is_value = !has_value && !WITHOUT_VALUE.contains(&flag);
    }
    None
}

/// Returns the name of an option without its value, and only the first of combined short options.
/// `None` if the word is not an option.
fn option_name(arg: &str) -> Option<&str> {
    if arg.starts_with("--") {
        return arg.split('=').next();
    }
    let letter = arg.strip_prefix('-')?.chars().next()?;
    Some(&arg[..1 + letter.len_utf8()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &str) -> Option<String> {
        let args: Vec<String> = words.split(' ').map(str::to_owned).collect();
        refusal_reason(&args)
    }

    #[test]
    fn refuses_arguments_that_cannot_work() {
        for (line, instead) in [
            ("--bg", "background already"),
            ("--background", "background already"),
            ("--continue", "--resume-job"),
            ("-c", "--resume-job"),
            ("-r=x", "--resume-job"),
            ("-pc", "itself"),
            ("--debug --output-format=text", "itself"),
            ("--resume=x", "--resume SESSION"),
            ("--betas x --session-id y", "names the session"),
            ("--fork-session", "--fork"),
            ("--permission-prompt-tool x", "--ask"),
            ("--debug --bg", "background already"),
            ("--debug api --bg", "background already"),
            ("--name=x --tmux=classic", "terminal"),
            ("--cloud", "terminal"),
            ("--version", "call claude itself"),
            ("the tests", "quote"),
            ("", "quote"),
            ("--bare -- x", "--prompt"),
        ] {
            let why = refused(line).unwrap_or_default();
            assert!(why.contains(instead), "{line}: {why}");
        }
    }

    #[test]
    fn accepts_any_word_after_an_option() {
        for line in [
            "--betas x",
            "--betas x y z",
            "--agent reviewer",
            "--append-system-prompt --bg",
            "--name -p",
            "-n --continue",
            "--option-of-a-later-version --bg",
            "--debug api",
            "--worktree fix-login",
            "--dangerously-skip-permissions --model opus",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
        assert_eq!(refusal_reason(&[]), None);
    }
}
