use std::fs;
use std::io::Error;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode};
use tasklease_files::{FileError, FileErrorKind, FilePath, Files, RunName, Staged};

use crate::workspace::Workspace;

fn path(text: &str) -> FilePath {
    FilePath::parse("file", text).unwrap()
}

fn lease(lease_token: u64) -> RunName {
    RunName {
        task_id: "0190f3c4-0000-7000-8000-00000000000a".to_owned(),
        lease_token,
    }
}

async fn stage(files: &Files, name: &str, token: u64) -> Result<Staged, FileError> {
    files
        .stage(&path(name), lease(token), |out| out.write_all(b"new"))
        .await
}

#[tokio::test]
async fn symbolic_links_are_followed_neither_out_of_the_root_nor_inside_it() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let workspace = Workspace::new();
    workspace.write("inside", "inside");
    symlink(outside.path(), workspace.path("out")).unwrap();
    symlink(outside.path().join("secret"), workspace.path("leak")).unwrap();
    symlink("../", workspace.path("up")).unwrap();
    symlink("inside", workspace.path("alias")).unwrap();
    symlink("/dev/zero", workspace.path("zero")).unwrap();
    symlink("gone", workspace.path("dangling")).unwrap();
    for name in ["out/secret", "leak", "up/etc", "alias", "zero", "dangling"] {
        let error = workspace.files.read(&path(name)).await.unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::PathRefused, "{name}: {error}");
        let error = stage(&workspace.files, name, 1).await.unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::PathRefused, "{name}: {error}");
    }
    let error = stage(&workspace.files, "out/new/file", 1).await.unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::PathRefused);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn only_regular_files_are_read_or_replaced() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("folder")).unwrap();
    workspace.write("file", "");
    let fifo = workspace.path("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(workspace.path("socket")).unwrap();
    for name in ["folder", "fifo", "socket", "file/below"] {
        let error = workspace.files.read(&path(name)).await.unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::PathRefused, "{name}: {error}");
        let error = stage(&workspace.files, name, 1).await.unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::PathRefused, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_staged_file_is_invisible_until_committed_and_vanishes_otherwise() {
    let workspace = Workspace::new();
    workspace.write("out", "old");
    let staged = stage(&workspace.files, "out", 1).await.unwrap();
    assert_eq!(workspace.read("out"), b"old");
    drop(staged);
    assert_eq!(workspace.read("out"), b"old");
    assert_eq!(workspace.all_files(), ["out"]);

    stage(&workspace.files, "out", 1)
        .await
        .unwrap()
        .commit()
        .await
        .unwrap();
    assert_eq!(workspace.read("out"), b"new");
    assert_eq!(workspace.all_files(), ["out"]);
}

#[tokio::test]
async fn a_failed_write_leaves_the_old_version_and_may_be_tried_again() {
    let workspace = Workspace::new();
    workspace.write("out", "old");
    let error = workspace
        .files
        .stage(&path("out"), lease(1), |out| {
            out.write_all(b"half")?;
            Err(Error::other("disk trouble"))
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Io);
    assert!(error.kind().is_retryable());
    assert_eq!(workspace.read("out"), b"old");
    assert_eq!(workspace.all_files(), ["out"]);
}

#[tokio::test]
async fn a_later_run_removes_what_a_killed_one_left_and_the_killed_one_cannot_commit() {
    let workspace = Workspace::new();
    workspace.write(".tasklease-another-task-1.part", "not ours");
    let killed = stage(&workspace.files, "out", 1).await.unwrap();
    let later = stage(&workspace.files, "out", 2).await.unwrap();
    let error = killed.commit().await.unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Io);
    later.commit().await.unwrap();
    assert_eq!(workspace.all_files(), [".tasklease-another-task-1.part", "out"]);
}

#[tokio::test]
async fn an_earlier_run_does_not_disturb_a_later_one() {
    let workspace = Workspace::new();
    let later = stage(&workspace.files, "out", 2).await.unwrap();
    let earlier = stage(&workspace.files, "out", 1).await.unwrap();
    drop(earlier);
    later.commit().await.unwrap();
    assert_eq!(workspace.all_files(), ["out"]);
}

#[test]
fn a_root_must_be_a_folder_that_exists() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for root in [
        file.path().to_str().unwrap(),
        "/does/not/exist",
        "ftp://host/x",
        "nonsense://",
    ] {
        assert!(Files::open(root, 1).is_err(), "{root}");
    }
    let folder = tempfile::tempdir().unwrap();
    Files::open(&format!("file://{}", folder.path().display()), 1).unwrap();
}
