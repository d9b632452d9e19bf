//! A fake `claude` program that performs the steps of a script, one a line, so that a test
//! determines every byte and signal and their times. The script is the file named by
//! `FAKE_CLAUDE`; in the path of a step `$DIR` is replaced by `FAKE_DIR` and `$JOB` by the job's
//! id. Blank lines and `#` comments are skipped, and after the last step it exits 0.
//!
//! | step | what it does |
//! |---|---|
//! | `read [FILE]` | reads one line from stdin, and writes it to FILE |
//! | `hear [FILE]` | reads the next line of stdin: a message is accepted with the CLI's confirmation (and its text appended to FILE), an interrupt ends the turn |
//! | `hear-all FILE` | the same to the end of stdin, with a result for each message |
//! | `eof` | reads stdin to its end |
//! | `args FILE`, `env FILE`, `fds FILE` | writes its arguments (a JSON array), its environment, its open descriptors (JSON objects) |
//! | `print TEXT`, `write TEXT`, `hex BYTES` | writes a line, or text without its end, or bytes in hexadecimal |
//! | `json TEXT` | the same as `print`; says that the line is JSON |
//! | `play FILE [BYTES]` | copies a file, or its first BYTES |
//! | `line BYTES` | one `assistant` line of about BYTES bytes, in constant memory |
//! | `fill BYTES SEED` | `assistant` lines determined by SEED, until BYTES are reached (see `filler.rs`) |
//! | `init`, `say TEXT`, `tool NAME TEXT`, `tool-result TEXT`, `result TEXT` | the CLI's own events; a `tool` runs until its `tool-result` |
//! | `stderr TEXT` | a line to stderr |
//! | `ignore SIGNAL` | ignores `INT`, `TERM`, `HUP`, … from now on |
//! | `close-stdin`, `close-stdout` | closes it and continues |
//! | `touch FILE`, `wait-file FILE` | creates a file; waits until it exists |
//! | `spawn FILE` | starts a child in a session of its own that holds stdout, hangs, and writes its PID to FILE |
//! | `spawn-clean FILE` | the same with an empty environment |
//! | `spawn-stubborn FILE` | the same, ignoring INT and TERM, its parent already gone |
//! | `spawn-headless FILE` | a child in a session of its own whose main thread has ended while another hangs, its parent already gone |
//! | `spawn-large FILE` | a child in a session of its own that needs some milliseconds to end, because it has many pages |
//! | `spawn-chain FILE MODE` | a chain in a session of its own: each process starts the next one and ends, for at most 60 s; `setsid`: each in a session of its own, `exec`: each with an empty environment, else `fork` |
//! | `spawn-marked FILE DIR` | as `spawn`, with the environment variable `CLAUDEJOB_DIR` of its own |
//! | `spawn-root FILE` | as `spawn`, by the program `$DIR/setuid-root`, a copy of this one with the set-user-ID bit, with root as real and effective user |
//! | `session` | stores its conversation in `$DIR/sessions` from now on; refuses to resume one that does not exist, as the real CLI does |
//! | `work STEPS` | performs the steps that are not in its conversation yet: for each step a `tool`, a line in `$DIR/work/JOB`, a line in the conversation, and the `tool-result` |
//! | `append FILE TEXT` | appends a line to a file |
//! | `count-running DIR` | appends the number of fakes that run at the same time, and perform this step, to `DIR/counts` |
//! | `nap MAX` | sleeps for up to MAX milliseconds, always the same time for the same job |
//! | `rest [message]` | waits until `$DIR/go/$JOB` exists, which it removes, or for a message, and meanwhile hears messages and interrupts; in `$DIR/resting/$JOB` is then the last text or the argument of the last tool |
//! | `sh COMMAND` | runs a command in a shell, without its output |
//! | `fresh STEP`, `resumed STEP` | performs the step if the conversation is new, or resumed |
//! | `once FILE STEP` | performs the step if FILE does not exist, and creates it first |
//! | `limit SECONDS` | the event of a subscription's limit that ends in this many seconds |
//! | `refused STATUS` | the end of a turn that the API refused |
//! | `hang` | waits for a signal |
//! | `exit N`, `die SIGNAL` | ends |

mod children;
mod events;
#[path = "../support/filler.rs"]
mod filler;
#[path = "../support/naps.rs"]
mod naps;
mod presence;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs};

use events::Conversation;
use naps::nap_of;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{self, SigHandler, Signal};

const CHUNK: usize = 64 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let outcome = match children::Role::from_arguments(&arguments) {
        Some(role) => role.play(),
        None if arguments.get(1).is_some_and(|argument| argument == "--version") => {
            Stdout.write_all(b"2.1.197 (Claude Code)\n")
        }
        None if arguments.get(1).is_some_and(|argument| argument == "--help") => {
            Stdout.write_all(env::var("FAKE_HELP").unwrap_or_default().as_bytes())
        }
        None => perform(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("fake-claude: {error}"));
            ExitCode::from(70)
        }
    }
}

fn perform(arguments: &[String]) -> io::Result<()> {
    let script = env::var_os("FAKE_CLAUDE")
        .ok_or_else(|| io::Error::other("FAKE_CLAUDE names no script"))?;
    let script = fs::read_to_string(script)?;
    let mut conversation = Conversation::new(arguments);
    for (number, line) in script.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        step(verb, rest, arguments, &mut conversation).map_err(|error| {
            io::Error::other(format!("line {} of the script, `{line}`: {error}", number + 1))
        })?;
    }
    Ok(())
}

fn step(verb: &str, rest: &str, arguments: &[String], talk: &mut Conversation) -> io::Result<()> {
    match verb {
        "read" => read_line(rest),
        "hear" => hear(rest, talk).map(drop),
        "hear-all" => {
            while let Some(text) = hear(rest, talk)? {
                Stdout.write_all(talk.result(&format!("heard {text}")).as_bytes())?;
            }
            Ok(())
        }
        "eof" => io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop),
        "args" => write_atomically(&path(rest), serde_json::to_string(arguments)?.as_bytes()),
        "env" => write_atomically(&path(rest), serde_json::to_string(&environment())?.as_bytes()),
        "fds" => write_atomically(&path(rest), serde_json::to_string(&descriptors()?)?.as_bytes()),
        "print" | "json" => Stdout.write_all(format!("{rest}\n").as_bytes()),
        "write" => Stdout.write_all(rest.as_bytes()),
        "hex" => Stdout.write_all(&unhex(rest)?),
        "play" => play_file(rest),
        "line" => long_line(number(rest)?),
        "fill" => {
            let (bytes, seed) = rest.split_once(' ').unwrap_or((rest, "0"));
            let mut out = BufWriter::with_capacity(CHUNK, Stdout);
            filler::fill(number(bytes)?, number(seed)?, &mut out)?;
            out.flush()
        }
        "init" => Stdout.write_all(talk.init().as_bytes()),
        "say" => Stdout.write_all(talk.say(rest).as_bytes()),
        "tool" => {
            let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
            Stdout.write_all(talk.tool(name, text).as_bytes())
        }
        "tool-result" => Stdout.write_all(talk.tool_result(rest).as_bytes()),
        "result" => Stdout.write_all(talk.result(rest).as_bytes()),
        "stderr" => {
            print_error(rest);
            Ok(())
        }
        "ignore" => ignore(signal_named(rest)?),
        "close-stdin" => Ok(nix::unistd::dup2_stdin(fs::File::open("/dev/null")?)?),
        // Replaced, not closed: the next file to be opened would otherwise get descriptor 1, and
        // later output would go into it.
        "close-stdout" => {
            Ok(nix::unistd::dup2_stdout(fs::OpenOptions::new().write(true).open("/dev/null")?)?)
        }
        "touch" => write_atomically(&path(rest), b""),
        "wait-file" => {
            wait_for_file(&path(rest));
            Ok(())
        }
        "spawn" => children::spawn(&path(rest)),
        "spawn-clean" => children::spawn_clean(&path(rest)),
        "spawn-stubborn" => children::spawn_stubborn(&path(rest)),
        "spawn-headless" => children::spawn_headless(&path(rest)),
        "spawn-large" => children::spawn_large(&path(rest)),
        "spawn-chain" => {
            let (file, mode) = rest.split_once(' ').unwrap_or((rest, "fork"));
            children::spawn_chain(&path(file), mode)
        }
        "spawn-marked" => {
            let (file, mark) = rest.split_once(' ').unwrap_or((rest, ""));
            children::spawn_marked(&path(file), &path(mark))
        }
        "spawn-root" => children::spawn_root(&path(rest), &path("$DIR/setuid-root")),
        "append" => {
            let (file, text) = rest.split_once(' ').unwrap_or((rest, ""));
            append(&path(file), &format!("{}\n", expand(text)))
        }
        "count-running" => presence::count(&path(rest)),
        "nap" => {
            let max = number(rest)?;
            std::thread::sleep(Duration::from_millis(nap_of(&expand("$JOB"), max)));
            Ok(())
        }
        "rest" => rest_until_go(talk, rest == "message"),
        "sh" => run_silently(rest),
        "fresh" | "resumed" => {
            let is_resumed = arguments.iter().any(|argument| argument == "--resume");
            if is_resumed != (verb == "resumed") {
                return Ok(());
            }
            let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            step(verb, rest, arguments, talk)
        }
        "once" => {
            let (file, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let file = path(file);
            if file.exists() {
                return Ok(());
            }
            write_atomically(&file, b"")?;
            let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            step(verb, rest, arguments, talk)
        }
        "limit" => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let at = now.map_err(io::Error::other)?.as_secs() + number(rest)?;
            let info = serde_json::json!({"status": "rejected", "resetsAt": at});
            let event = serde_json::json!({"type": "rate_limit_event", "rate_limit_info": info});
            Stdout.write_all(format!("{event}\n").as_bytes())
        }
        "refused" => {
            let result = serde_json::json!({
                "type": "result", "subtype": "success", "is_error": true, "num_turns": 1,
                "api_error_status": number(rest)?, "result": format!("API Error: {rest}"),
                "session_id": talk.session_id(),
            });
            Stdout.write_all(format!("{result}\n").as_bytes())
        }
        "session" => session(arguments, talk),
        "work" => work(number(rest)?, talk),
        "hang" => hang(),
        "exit" => std::process::exit(number(rest)? as i32),
        "die" => die(signal_named(rest)?),
        _ => Err(io::Error::other("unknown step")),
    }
}

/// Descriptor 1 without a buffer. A closed pipe is ignored, as the real CLI ignores it.
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(CHUNK)];
        match nix::unistd::write(io::stdout().as_fd(), piece) {
            Err(Errno::EPIPE) => Ok(piece.len()),
            outcome => Ok(outcome?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_line(file: &str) -> io::Result<()> {
    let mut line = Vec::new();
    io::stdin().lock().read_until(b'\n', &mut line)?;
    if file.is_empty() { Ok(()) } else { write_atomically(&path(file), &line) }
}

/// Returns the text of the next message; `None` at the end of stdin.
fn hear(file: &str, talk: &mut Conversation) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let line: serde_json::Value = serde_json::from_slice(&line)?;
    if line["type"] == "control_request" {
        Stdout.write_all(talk.interrupted(&line["request_id"]).as_bytes())?;
        return Ok(Some("interrupt".to_owned()));
    }
    let text = line["message"]["content"].as_str().unwrap_or_default().to_owned();
    if !file.is_empty() {
        append(&path(file), &format!("{text}\n"))?;
    }
    Stdout.write_all(talk.confirmation(&line).as_bytes())?;
    Ok(Some(text))
}

/// Messages must come one by one: a second one in the buffer of stdin would stay there.
fn rest_until_go(talk: &mut Conversation, ends_with_message: bool) -> io::Result<()> {
    let (resting, go) = (path("$DIR/resting"), path("$DIR/go/$JOB"));
    fs::create_dir_all(&resting)?;
    let resting = resting.join(expand("$JOB"));
    write_atomically(&resting, talk.last_text().as_bytes())?;
    let stdin = io::stdin();
    while !go.exists() {
        let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut ready, 5_u16)? == 0 {
            continue;
        }
        match hear("", talk)?.as_deref() {
            None => return Ok(()),
            Some("interrupt") => {
                io::copy(&mut io::stdin().lock(), &mut io::sink())?;
                std::process::exit(0);
            }
            Some(_) if ends_with_message => break,
            Some(_) => {}
        }
    }
    let _ = fs::remove_file(&go);
    fs::remove_file(&resting)
}

fn run_silently(command: &str) -> io::Result<()> {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.status().map(drop)
}

fn play_file(rest: &str) -> io::Result<()> {
    let (file, limit) = match rest.rsplit_once(' ') {
        Some((file, limit)) if limit.bytes().all(|byte| byte.is_ascii_digit()) => {
            (file, number(limit)?)
        }
        _ => (rest, u64::MAX),
    };
    let mut out = BufWriter::with_capacity(CHUNK, Stdout);
    io::copy(&mut fs::File::open(path(file))?.take(limit), &mut out)?;
    out.flush()
}

fn long_line(bytes: u64) -> io::Result<()> {
    let (head, tail) = events::frame_of_a_long_text();
    let piece = [b'x'; CHUNK];
    let mut left = bytes.saturating_sub((head.len() + tail.len()) as u64) as usize;
    Stdout.write_all(head.as_bytes())?;
    while left > 0 {
        let now = left.min(CHUNK);
        Stdout.write_all(&piece[..now])?;
        left -= now;
    }
    Stdout.write_all(tail.as_bytes())
}

fn session(arguments: &[String], talk: &Conversation) -> io::Result<()> {
    let file = session_file(talk)?;
    if arguments.iter().any(|argument| argument == "--resume") && !file.exists() {
        print_error(&format!("No conversation found with session ID: {}", talk.session_id()));
        std::process::exit(1);
    }
    append(&file, "")
}

fn session_file(talk: &Conversation) -> io::Result<PathBuf> {
    let folder = path("$DIR/sessions");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(talk.session_id()))
}

fn work(steps: u64, talk: &mut Conversation) -> io::Result<()> {
    let file = session_file(talk)?;
    let done = fs::read_to_string(&file)?.lines().count() as u64;
    let folder = path("$DIR/work");
    fs::create_dir_all(&folder)?;
    let deeds = folder.join(env::var("CLAUDEJOB_ID").unwrap_or_default());
    for step in done + 1..=steps {
        Stdout.write_all(talk.tool("Bash", &format!("step {step}")).as_bytes())?;
        // It can be killed in each of these pauses.
        pause();
        append(&deeds, &format!("{step}\n"))?;
        pause();
        append(&file, &format!("{step}\n"))?;
        pause();
        Stdout.write_all(talk.tool_result(&format!("done {step}")).as_bytes())?;
    }
    Ok(())
}

fn pause() {
    std::thread::sleep(Duration::from_millis(4));
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    fs::OpenOptions::new().append(true).create(true).open(file)?.write_all(line.as_bytes())
}

/// Writes under another name first, so that a process that waits for the file finds all of it. Fakes
/// of other jobs may write the same file.
fn write_atomically(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    fs::write(&partial, bytes)?;
    fs::rename(&partial, file)
}

fn path(text: &str) -> PathBuf {
    PathBuf::from(expand(text.trim()))
}

fn expand(text: &str) -> String {
    let variable = |name| env::var(name).unwrap_or_default();
    text.replace("$DIR", &variable("FAKE_DIR")).replace("$JOB", &variable("CLAUDEJOB_ID"))
}

fn number(text: &str) -> io::Result<u64> {
    text.trim().parse().map_err(io::Error::other)
}

fn unhex(text: &str) -> io::Result<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| {
            u8::from_str_radix(&pair.iter().collect::<String>(), 16).map_err(io::Error::other)
        })
        .collect()
}

fn environment() -> BTreeMap<String, String> {
    env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect()
}

/// The open descriptors and their targets. The descriptor that reads the list is closed by the time
/// its own link is followed, and so is left out.
fn descriptors() -> io::Result<BTreeMap<String, String>> {
    let directory = Path::new("/proc/self/fd");
    let names: Vec<_> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    Ok(names
        .into_iter()
        .filter_map(|name| {
            let target = fs::read_link(directory.join(&name)).ok()?;
            Some((name.to_string_lossy().into_owned(), target.to_string_lossy().into_owned()))
        })
        .collect())
}

fn wait_for_file(file: &Path) {
    while !file.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal_named(name: &str) -> io::Result<Signal> {
    let name = name.trim();
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    full.parse().map_err(|_| io::Error::other(format!("unknown signal {name}")))
}

fn ignore(signal: Signal) -> io::Result<()> {
    dispose(signal, SigHandler::SigIgn)
}

fn dispose(signal: Signal, handler: SigHandler) -> io::Result<()> {
    // SAFETY: ignoring a signal and restoring its default run no code of ours in a signal handler.
    unsafe { signal::signal(signal, handler) }?;
    Ok(())
}

fn die(signal: Signal) -> io::Result<()> {
    if signal != Signal::SIGKILL {
        dispose(signal, SigHandler::SigDfl)?;
    }
    signal::raise(signal)?;
    hang()
}

fn hang() -> ! {
    loop {
        nix::unistd::pause();
    }
}

fn print_error(text: &str) {
    // Nothing can report that stderr is closed.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
