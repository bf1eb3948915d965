//! Which folders become a new cluster, and which are left as they are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail at once")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tasklease_postgres::{Cluster, ClusterOptions, Error};
use tempfile::TempDir;

/// A case: its name, and what it does to a folder or file.
type Case<'a> = (&'a str, &'a dyn Fn(&Path));

/// Every file below a folder with its content; links are not followed.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(contents(&path));
        } else if kind.is_file() {
            found.insert(path.clone(), fs::read(&path).unwrap());
        } else {
            found.insert(path, Vec::new());
        }
    }
    found
}

/// A cluster that was stopped, with one database of its own.
async fn stopped_cluster(folder: &Path) {
    let mut cluster = Cluster::start(ClusterOptions::durable(folder)).await.unwrap();
    cluster.create_database("notes").await.unwrap();
    cluster.stop().await.unwrap();
}

async fn has_notes(folder: &Path) -> bool {
    let cluster = Cluster::start(ClusterOptions::durable(folder)).await.unwrap();
    let connected = tokio_postgres::connect(&cluster.url("notes"), tokio_postgres::NoTls).await;
    connected.is_ok()
}

#[tokio::test]
async fn a_cluster_whose_version_cannot_be_read_is_refused_and_kept() {
    let folder = TempDir::new().unwrap();
    stopped_cluster(folder.path()).await;
    let version = folder.path().join("data/PG_VERSION");
    let whole = fs::read(&version).unwrap();
    let damages: [Case; 5] = [
        ("empty", &|version| fs::write(version, "").unwrap()),
        ("zeros after a power failure", &|version| {
            fs::write(version, [0; 3]).unwrap()
        }),
        ("no number", &|version| fs::write(version, "fifteen\n").unwrap()),
        ("gone", &|version| fs::remove_file(version).unwrap()),
        ("not a file", &|version| {
            fs::remove_file(version).unwrap();
            fs::create_dir(version).unwrap();
        }),
    ];
    for (name, damage) in damages {
        damage(&version);
        let before = contents(folder.path());

        let error = Cluster::start(ClusterOptions::durable(folder.path()))
            .await
            .unwrap_err();

        assert!(matches!(error, Error::DamagedData { .. }), "{name}: {error}");
        assert!(error.to_string().contains("data/PG_VERSION"), "{name}: {error}");
        assert_eq!(contents(folder.path()), before, "{name}");
        let _ = fs::remove_dir(&version);
        fs::write(&version, &whole).unwrap();
    }
    assert!(has_notes(folder.path()).await);
}

#[tokio::test]
async fn what_is_in_the_place_of_the_data_is_refused_and_kept() {
    let elsewhere = TempDir::new().unwrap();
    let missing = elsewhere.path().join("volume that is not mounted");
    let places: [Case; 4] = [
        ("a file", &|data| fs::write(data, "mine").unwrap()),
        ("a folder with one file", &|data| {
            fs::create_dir(data).unwrap();
            fs::write(data.join("letter.txt"), "mine").unwrap();
        }),
        ("a link to nothing", &|data| symlink(&missing, data).unwrap()),
        ("a link to an empty folder", &|data| {
            symlink(elsewhere.path(), data).unwrap();
        }),
    ];
    for (name, place) in places {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        place(&data);
        let before = contents(folder.path());

        let error = Cluster::start(ClusterOptions::throw_away(folder.path()))
            .await
            .unwrap_err();

        assert!(matches!(error, Error::DamagedData { .. }), "{name}: {error}");
        assert!(
            error.to_string().contains(data.to_str().unwrap()),
            "{name}: {error}"
        );
        let mut after = contents(folder.path());
        after.remove(&folder.path().join("lock"));
        assert_eq!(after, before, "{name}");
    }
}

#[tokio::test]
async fn a_creation_that_was_interrupted_at_any_stage_is_begun_again_and_removes_nothing() {
    let stages: [Case; 7] = [
        ("nothing yet", &|_| {}),
        ("an empty folder of data", &|root| {
            fs::create_dir(root.join("data")).unwrap()
        }),
        ("an empty password", &|root| {
            fs::write(root.join("password"), "").unwrap()
        }),
        ("a password without data", &|root| {
            fs::write(root.join("password"), "of-old-data").unwrap()
        }),
        ("a password under way", &|root| {
            fs::write(root.join("password.unfinished-1"), "half").unwrap();
        }),
        ("an empty unfinished folder", &|root| {
            fs::create_dir(root.join("data.unfinished-1")).unwrap();
        }),
        ("unfinished folders with files in them", &|root| {
            for name in ["data.unfinished", "data.unfinished-1"] {
                fs::create_dir(root.join(name)).unwrap();
                fs::write(root.join(name).join("PG_VERSION"), "15\n").unwrap();
                fs::write(root.join(name).join("letter.txt"), "mine").unwrap();
            }
        }),
    ];
    for (name, stage) in stages {
        let folder = TempDir::new().unwrap();
        stage(folder.path());
        let mut before = contents(folder.path());
        before.retain(|_, content| !content.is_empty());

        let cluster = Cluster::start(ClusterOptions::durable(folder.path())).await;

        drop(cluster.unwrap_or_else(|error| panic!("{name}: {error}")));
        let after = contents(folder.path());
        for (path, content) in before {
            assert_eq!(after.get(&path), Some(&content), "{name}: {}", path.display());
        }
    }
}

#[tokio::test]
async fn a_creation_that_fails_leaves_no_folder_behind_and_can_be_repeated() {
    let folder = TempDir::new().unwrap();
    // A password that initdb cannot read: the creation fails after its folder was made.
    let password = folder.path().join("password");
    fs::create_dir(&password).unwrap();
    let failed = Cluster::start(ClusterOptions::durable(folder.path())).await;
    assert!(failed.is_err());
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "lock" && name != "password")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    fs::remove_dir(&password).unwrap();
    stopped_cluster(folder.path()).await;
}

#[tokio::test]
async fn a_cluster_whose_password_is_lost_says_so_at_once_and_is_kept() {
    let folder = TempDir::new().unwrap();
    stopped_cluster(folder.path()).await;
    let path = folder.path().join("password");
    let password = fs::read_to_string(&path).unwrap();

    fs::write(&path, "").unwrap();
    let empty = Cluster::start(ClusterOptions::durable(folder.path())).await;
    assert!(matches!(empty, Err(Error::NoPassword { .. })), "{empty:?}");

    fs::write(&path, "another").unwrap();
    let wrong = Cluster::start(ClusterOptions::durable(folder.path())).await;
    assert!(matches!(wrong, Err(Error::WrongPassword { .. })), "{wrong:?}");

    fs::remove_file(&path).unwrap();
    let none = Cluster::start(ClusterOptions::durable(folder.path())).await;
    assert!(matches!(none, Err(Error::WrongPassword { .. })), "{none:?}");

    fs::write(&path, password).unwrap();
    assert!(has_notes(folder.path()).await);
}
