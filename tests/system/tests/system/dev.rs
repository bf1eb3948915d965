//! `tasklease dev`: everything from one command, on real files, and nothing left behind.

use std::{collections::HashSet, fs, path::Path};

use serde_json::Value;
use tasklease_tests::{Finished, Process, Signal, eventually, program, run_with};
use tempfile::TempDir;

/// A `tasklease dev` that is ready.
struct Dev {
    process: Process,
    address: String,
}

impl Dev {
    async fn start(data: &Path, files: &Path) -> Self {
        let arguments = ["dev", "--listen", "127.0.0.1:0", "--data-dir"];
        let mut arguments: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
        arguments.extend([data.as_os_str(), "--files".as_ref(), files.as_os_str()]);
        let mut process = Process::spawn("tasklease dev", &program("tasklease"), arguments, &[]);
        let line = process.first_line().await;
        let address = line
            .split_once("ready on ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("not ready: {line}"));
        let address = address.to_owned();
        Self { process, address }
    }

    async fn tasklease(&self, arguments: &[&str]) -> Finished {
        run_with(
            &program("tasklease"),
            arguments,
            &[("TASKLEASE_ADDR", &self.address)],
        )
        .await
    }

    /// Stops it as Ctrl-C does, and waits until none of its processes is left.
    async fn interrupt(mut self) {
        let family = descendants(self.process.pid());
        assert!(
            family.len() >= 3,
            "Postgres, a scheduler and a worker, not {family:?}"
        );
        self.process.signal(Signal::INT);
        let status = self.process.ended().await;
        assert_eq!(status.code(), Some(0), "{status}");
        eventually("the end of every process", async || {
            family.iter().all(|process| !is_alive(process)).then_some(())
        })
        .await;
    }
}

/// A process and when it started, which tells it from a later one of the same id.
type Identity = (u32, String);

/// Parent and start of a process, from the kernel.
fn look_at(pid: u32) -> Option<(u32, Identity)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    if fields[0] == "Z" {
        return None;
    }
    Some((fields[1].parse().ok()?, (pid, fields[19].to_owned())))
}

fn is_alive(process: &Identity) -> bool {
    look_at(process.0).is_some_and(|(_, now)| now == *process)
}

/// All processes below this one.
fn descendants(root: u32) -> Vec<Identity> {
    let all: Vec<(u32, Identity)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| look_at(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut family = HashSet::from([root]);
    let mut found = Vec::new();
    loop {
        let before = found.len();
        for (parent, identity) in &all {
            if family.contains(parent) && family.insert(identity.0) {
                found.push(identity.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn write_picture(path: &Path) {
    image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 4, y as u8 * 5, 128]))
        .save(path)
        .unwrap();
}

#[tokio::test]
async fn one_command_runs_real_tasks_on_real_files_and_keeps_everything_for_the_next_start() {
    let home = TempDir::new().unwrap();
    let (data, files) = (home.path().join("data"), home.path().join("files"));
    fs::create_dir(&files).unwrap();
    // Postgres runs as another user where the tests run as root, and must get through.
    fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(files.join("text.txt"), "Grüße, world! 🦀\r\n".repeat(50)).unwrap();
    write_picture(&files.join("picture.png"));
    let dev = Dev::start(&data, &files).await;

    let tokens = dev
        .tasklease(&[
            "submit",
            "tokenize",
            "--param",
            "input_file=text.txt",
            "--param",
            "output_file=out/tokens.json",
            "--param",
            "sleep_duration=0",
            "--wait",
            "-o",
            "json",
        ])
        .await
        .well()
        .json();
    assert_eq!(tokens["task"]["state"], "TASK_STATE_SUCCEEDED");
    let written: Value = serde_json::from_slice(&fs::read(files.join("out/tokens.json")).unwrap()).unwrap();
    let count = written["tokens"].as_array().unwrap().len();
    assert!(count > 50);
    assert_eq!(tokens["task"]["result"]["token_count"], count);

    dev.tasklease(&[
        "submit",
        "image_process",
        "--param",
        "input_file=picture.png",
        "--param",
        "output_file=out/picture.jpg",
        "--param",
        "width=32",
        "--param",
        "height=20",
        "--wait",
    ])
    .await
    .well();
    let picture = image::open(files.join("out/picture.jpg")).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 20));

    let dummy = dev
        .tasklease(&[
            "submit",
            "dummy_short",
            "--param",
            "duration=0.2",
            "--param",
            "steps=4",
            "--watch",
        ])
        .await
        .well();
    assert!(
        dummy.stdout.contains("100%") || dummy.stdout.contains("75%"),
        "{}",
        dummy.stdout
    );

    let missing = dev
        .tasklease(&[
            "submit",
            "tokenize",
            "--param",
            "input_file=../escape.txt",
            "--param",
            "output_file=x.json",
            "--param",
            "sleep_duration=0",
            "--wait",
        ])
        .await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let waiting = dev
        .tasklease(&["submit", "for.later", "-o", "json"])
        .await
        .well()
        .json();
    let before = dev.tasklease(&["list", "-o", "json"]).await.well().json();
    dev.interrupt().await;

    let dev = Dev::start(&data, &files).await;
    let after = dev.tasklease(&["list", "-o", "json"]).await.well().json();
    assert_eq!(after, before);
    let id = waiting["task"]["id"].as_str().unwrap();
    let kept = dev.tasklease(&["get", id, "-o", "json"]).await.well().json();
    assert_eq!(kept["task"]["state"], "TASK_STATE_PENDING");
    // Under load, too.
    dev.tasklease(&["submit", "dummy_long"]).await.well();
    dev.interrupt().await;
}

#[tokio::test]
async fn files_that_cannot_be_a_folder_are_refused_before_anything_starts() {
    let home = TempDir::new().unwrap();
    let data = home.path().join("data");
    let missing = home.path().join("file/missing");
    fs::write(home.path().join("file"), "x").unwrap();
    let arguments = ["dev", "--listen", "127.0.0.1:0", "--data-dir"];
    let mut arguments: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
    arguments.extend([data.as_os_str(), "--files".as_ref(), missing.as_os_str()]);

    let refused = run_with(&program("tasklease"), arguments, &[]).await;

    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("--files"), "{refused:?}");
    assert!(!data.join("postgres").exists());
}
