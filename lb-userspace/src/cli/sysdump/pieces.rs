//! Carries out what [`sources`](super::sources) lists, several at a time and none for long.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::archive::File;
use super::reading::{file, limited, only};
use super::redact::redacted;
use super::sources::{Source, Way};
use crate::check::gather::tool;
use crate::cli::at_once::at_once;

/// A command or a request that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(15);
/// At the same time: the node has other work.
const AT_ONCE: usize = 3;

/// What one source has given.
struct Piece {
    /// The text, or why it is missing.
    text: Result<String, String>,
    millis: u128,
}

/// All files, an index first.
pub(super) fn gather(sources: &[Source], program: &Path) -> Vec<File> {
    let done = at_once(sources, AT_ONCE, |source| {
        let begun = Instant::now();
        let text = read(&source.way, program).map(|text| redacted(&text));
        Piece { text, millis: begun.elapsed().as_millis() }
    });
    let mut index = format!("{:<34} {:>9} {:>7}  what it is\n", "file", "bytes", "ms");
    let mut files = Vec::new();
    for (source, piece) in sources.iter().zip(done) {
        let Piece { text, millis } = piece;
        let what = match &text {
            Ok(_) => source.way.to_string(),
            Err(why) => format!("{}: not there: {why}", source.way),
        };
        let bytes = text.as_ref().map_or(0, String::len);
        let _never_fails = writeln!(index, "{:<34} {bytes:>9} {millis:>7}  {what}", source.file);
        if let Ok(text) = text {
            files.push((source.file.to_owned(), text.into_bytes()));
        }
    }
    files.insert(0, ("index.txt".to_owned(), redacted(&index).into_bytes()));
    files
}

fn read(way: &Way, program: &Path) -> Result<String, String> {
    match way {
        Way::Sluice(args) => {
            let mut command = Command::new(program);
            command.args(args);
            run(command)
        }
        Way::Tool(name, args) => {
            let mut command = tool(name);
            command.args(*args);
            run(command)
        }
        Way::Lines(name, args, words) => {
            let mut command = tool(name);
            command.args(*args);
            run(command).map(|text| only(&text, words))
        }
        Way::File(path) => file(Path::new(path)),
        Way::Asked(address, path) => ask(address, path),
        Way::Made(_, make) => make(),
    }
}

/// What a command prints; a command that fails has said something, too.
fn run(mut command: Command) -> Result<String, String> {
    let name = command.get_program().to_owned();
    let name = Path::new(&name).file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no {name} here"),
        _ => error.to_string(),
    })?;
    // Both are read while it runs: it would wait on a full pipe.
    let out = child.stdout.take().map(|out| thread::spawn(move || limited(out)));
    let err = child.stderr.take().map(|err| thread::spawn(move || limited(err)));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let killed = child.kill().and_then(|()| child.wait());
                break Err(format!("[given up after {} s: {killed:?}]", PATIENCE.as_secs()));
            }
            Err(error) => break Err(error.to_string()),
        }
    };
    let text = |reader: Option<thread::JoinHandle<std::io::Result<String>>>| {
        reader.and_then(|reader| reader.join().ok()?.ok()).unwrap_or_default()
    };
    let (out, err) = (text(out), text(err));
    let end = match status {
        Ok(status) if status.success() => String::new(),
        Ok(status) => format!("[{status}]\n"),
        Err(why) => why + "\n",
    };
    Ok(out + &err + &end)
}

/// What the agent answers to a request.
fn ask(address: &str, path: &str) -> Result<String, String> {
    if address == "off" {
        return Err("the agent does not answer there".to_owned());
    }
    let failed = |error: std::io::Error| format!("{address}{path}: {error}");
    let addr = address.to_socket_addrs().map_err(failed)?.next().ok_or_else(|| format!("{address}: no address"))?;
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(failed)?;
    let answer = limited(stream).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{address}{path}: no answer of HTTP"))?;
    let status = head.lines().next().unwrap_or_default();
    Ok(if status.contains(" 200 ") { body.to_owned() } else { format!("{status}\n{body}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<Source> {
        vec![
            Source { file: "echo.txt", way: Way::Sluice(vec!["-c".into(), "echo password: abcdefgh; exit 3".into()]) },
            Source { file: "none.txt", way: Way::Tool("no-such-program", &[]) },
            Source { file: "closed.txt", way: Way::Asked("127.0.0.1:1".into(), "/metrics") },
            Source { file: "off.txt", way: Way::Asked("off".into(), "/metrics") },
            Source { file: "version.txt", way: Way::File("/proc/version") },
            Source { file: "lines.txt", way: Way::Lines("printf", &["a\\nb\\nc"], &["b"]) },
        ]
    }

    #[test]
    fn what_fails_is_in_the_index_and_costs_the_others_nothing() {
        let files = gather(&sources(), Path::new("/bin/sh"));
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["index.txt", "echo.txt", "version.txt", "lines.txt"]);
        let text = |name: &str| {
            let (_, content) = files.iter().find(|(file, _)| file == name).unwrap();
            String::from_utf8(content.clone()).unwrap()
        };
        assert_eq!(text("echo.txt"), "password: [left out]\n[exit status: 3]\n");
        assert_eq!(text("lines.txt"), "b\n");
        let index = text("index.txt");
        for line in ["none.txt", "closed.txt", "off.txt"] {
            let line = index.lines().find(|found| found.starts_with(line)).unwrap();
            assert!(line.contains("not there: "), "{line}");
        }
        assert_eq!(index.lines().count(), 7, "{index}");
    }
}
