//! The keys, as the screen shows them.

/// The keys that the last line names, the most important first.
pub(super) const SHORT: [(&str, &str); 10] = [
    ("?", "keys"),
    ("q", "quit"),
    ("Enter", "attach"),
    ("a", "answer"),
    ("s", "send"),
    ("/", "filter"),
    ("i", "interrupt"),
    ("K", "kill"),
    ("r", "resume"),
    ("d", "diff"),
];

/// All keys.
pub(super) const KEYS: [(&str, &str); 16] = [
    ("j k, arrows", "choose a job; PgUp PgDn g G: further"),
    ("[ ]", "scroll the conversation"),
    ("Enter", "attach: read and talk"),
    ("a", "answer the open request"),
    ("s", "send a message"),
    ("i", "interrupt the turn"),
    ("K, x", "kill the job (asks once)"),
    ("r", "resume or recover an ended job"),
    ("p", "pause the job, or let it continue"),
    ("d", "show what the job changed"),
    ("o", "open the session in claude"),
    ("/", "show the jobs with these words"),
    ("Esc", "show all jobs again"),
    ("Ctrl-Z", "stop top for a while"),
    ("q", "quit; all jobs continue"),
    ("?", "show or hide the keys"),
];
