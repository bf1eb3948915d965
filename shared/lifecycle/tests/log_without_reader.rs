//! Real processes that log while nobody reads, or while nothing can be written.

#![expect(clippy::expect_used, reason = "tests may fail loudly")]

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _, pipe},
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use tasklease_lifecycle::{
    Shutdown,
    logging::{self, LogFormat},
};

/// Says to the child what it is: the tests start their own program once more.
const CHILD: &str = "TASKLEASE_TEST_CHILD";
/// No step of a test takes longer unless something is broken.
const DEADLINE: Duration = Duration::from_secs(30);
/// Four times what a pipe holds.
const MANY: usize = 2_000;

/// Not a test but the process that the tests start.
#[test]
fn child() {
    let Ok(format) = std::env::var(CHILD) else { return };
    logging::init(if format == "json" {
        LogFormat::Json
    } else {
        LogFormat::Text
    });
    for number in 0..MANY {
        tracing::info!(number, padding = "x".repeat(100), "a line");
        logging::print_line("a line for people");
    }
    let panicked = thread::spawn(|| panic!("a fault")).join();
    assert!(panicked.is_err());

    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let shutdown = Shutdown::manual();
    runtime.expect("a runtime").block_on(async {
        shutdown.vital("loop", async { panic!("another fault") }).await;
    });
    assert_eq!(shutdown.failure(), Some("loop"));

    let mut out = std::io::stdout();
    out.write_all(b"\nsurvived\n")
        .and_then(|()| out.flush())
        .expect("the test reads");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the test writes");
    tracing::info!("the last line");
}

fn command(format: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// The child; killed if the test ends before it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended, as it should.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the child, waits until it has survived, calls `then`, and lets it end in order.
fn survives(mut command: Command, then: impl FnOnce()) {
    let mut child = Running(command.spawn().expect("starts"));
    // Its copy of the pipe's end must not keep the pipe open.
    drop(command);
    let out = BufReader::new(child.0.stdout.take().expect("piped"));
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in out.lines() {
            let _ = send.send(line.expect("text"));
        }
    });
    while lines.recv_timeout(DEADLINE).expect("the child did not survive") != "survived" {}
    then();
    let mut input = child.0.stdin.take().expect("piped");
    input.write_all(b"\n").expect("it waits");
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("the child did not end"),
        }
    }
    assert!(child.0.wait().expect("ends").success());
}

#[test]
fn a_process_whose_log_has_no_reader_any_more_goes_on() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let mut command = command("text");
    command.stderr(writer);
    survives(command, || {});
}

#[test]
fn a_process_whose_log_is_on_a_full_disk_goes_on() {
    let full = File::options().write(true).open("/dev/full").expect("opens");
    let mut command = command("json");
    command.stderr(full);
    survives(command, || {});
}

#[test]
fn a_process_whose_log_is_not_read_goes_on_and_says_later_what_it_dropped() {
    let (mut reader, writer) = pipe().expect("a pipe");
    let mut command = command("json");
    command.stderr(writer);
    let mut log = None;
    survives(command, || {
        // Makes room before the child writes again.
        let mut first = vec![0; 1 << 16];
        let read = reader.read(&mut first).expect("reads");
        first.truncate(read);
        log = Some(thread::spawn(move || {
            reader.read_to_end(&mut first).map(|_| first)
        }));
    });
    let bytes = log.expect("read").join().expect("reads").expect("bytes");
    let text = String::from_utf8_lossy(&bytes);
    let mut end = text.lines().rev();
    assert!(
        end.next().is_some_and(|line| line.contains("the last line")),
        "{text}"
    );
    let note = end.next().unwrap_or_default();
    assert!(note.contains("log lines were dropped here"), "{note}");
}
