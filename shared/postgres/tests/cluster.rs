//! A real server on a temporary folder.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail at once")]

use std::path::Path;
use std::process::{Command, Stdio};

use tasklease_postgres::{Cluster, ClusterOptions, Error};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn count_notes(cluster: &Cluster) -> i64 {
    let client = connect(&cluster.url("notes")).await;
    client
        .query_one("SELECT count(*) FROM note", &[])
        .await
        .unwrap()
        .get(0)
}

async fn cluster_with_a_note(options: ClusterOptions) -> Cluster {
    let cluster = Cluster::start(options).await.unwrap();
    cluster.create_database("notes").await.unwrap();
    let client = connect(&cluster.url("notes")).await;
    client
        .batch_execute("CREATE TABLE note (t text); INSERT INTO note VALUES ('kept')")
        .await
        .unwrap();
    cluster
}

fn process_exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_restart_keeps_the_data_and_the_address() {
    let folder = TempDir::new().unwrap();
    let mut cluster = cluster_with_a_note(ClusterOptions::durable(folder.path())).await;
    let (url, pid) = (cluster.url("notes"), cluster.pid());
    cluster.restart().await.unwrap();
    assert_eq!(cluster.url("notes"), url);
    assert_ne!(cluster.pid(), pid);
    assert_eq!(count_notes(&cluster).await, 1);
}

#[tokio::test]
async fn a_second_start_finds_what_the_first_one_left() {
    let folder = TempDir::new().unwrap();
    let mut cluster = cluster_with_a_note(ClusterOptions::durable(folder.path())).await;
    cluster.stop().await.unwrap();
    drop(cluster);
    let cluster = Cluster::start(ClusterOptions::durable(folder.path()))
        .await
        .unwrap();
    cluster.create_database("notes").await.unwrap();
    assert_eq!(count_notes(&cluster).await, 1);
}

#[tokio::test]
async fn a_durable_cluster_recovers_what_it_committed_before_an_immediate_stop() {
    let folder = TempDir::new().unwrap();
    let mut cluster = cluster_with_a_note(ClusterOptions::durable(folder.path())).await;
    cluster.stop_immediate().await.unwrap();
    assert_eq!(cluster.pid(), None);
    assert!(matches!(
        cluster.create_database("x").await,
        Err(Error::Stopped { .. })
    ));
    cluster.restart().await.unwrap();
    assert_eq!(count_notes(&cluster).await, 1);
}

#[tokio::test]
async fn a_durable_cluster_asks_for_its_password_and_keeps_it_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let cluster = Cluster::start(ClusterOptions::durable(folder.path()))
        .await
        .unwrap();
    let without = format!("postgres://postgres@127.0.0.1:{}/postgres", cluster.port());
    assert!(tokio_postgres::connect(&without, NoTls).await.is_err());
    let mode = folder
        .path()
        .join("password")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = connect(&cluster.url("postgres")).await;
    let fsync: String = client.query_one("SHOW fsync", &[]).await.unwrap().get(0);
    assert_eq!(fsync, "on");
}

#[tokio::test]
async fn the_server_listens_on_loopback_alone() {
    let folder = TempDir::new().unwrap();
    let cluster = Cluster::start(ClusterOptions::throw_away(folder.path()))
        .await
        .unwrap();
    let client = connect(&cluster.url("postgres")).await;
    let addresses: String = client
        .query_one("SHOW listen_addresses", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(addresses, "127.0.0.1");
    let encoding: String = client
        .query_one("SHOW server_encoding", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(encoding, "UTF8");
}

#[tokio::test]
async fn a_folder_with_a_long_path_is_no_obstacle() {
    let folder = TempDir::new().unwrap();
    let long = folder.path().join("a".repeat(120));
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let cluster = Cluster::start(ClusterOptions::throw_away(long)).await.unwrap();
    let socket = cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()));
    assert!(socket.exists() && socket.as_os_str().len() < 100);
}

#[tokio::test]
async fn a_second_owner_of_the_same_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let _first = Cluster::start(ClusterOptions::throw_away(folder.path()))
        .await
        .unwrap();
    let second = Cluster::start(ClusterOptions::throw_away(folder.path())).await;
    assert!(matches!(second, Err(Error::InUse { .. })));
}

#[tokio::test]
async fn a_folder_with_other_things_in_it_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("letter.txt"), "hello").unwrap();
    let started = Cluster::start(ClusterOptions::throw_away(folder.path())).await;
    assert!(matches!(started, Err(Error::ForeignFolder { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_its_log() {
    let folder = TempDir::new().unwrap();
    let mut cluster = Cluster::start(ClusterOptions::throw_away(folder.path()))
        .await
        .unwrap();
    cluster.stop().await.unwrap();
    std::fs::write(
        folder.path().join("data/postgresql.conf"),
        "no_such_setting = 1\n",
    )
    .unwrap();
    let message = cluster.restart().await.unwrap_err().to_string();
    assert!(message.contains("no_such_setting"), "{message}");
}

#[tokio::test]
async fn dropping_a_cluster_ends_its_server() {
    let folder = TempDir::new().unwrap();
    let cluster = Cluster::start(ClusterOptions::throw_away(folder.path()))
        .await
        .unwrap();
    let pid = cluster.pid().unwrap();
    drop(cluster);
    assert!(!process_exists(pid));
}

#[tokio::test]
async fn a_server_that_was_killed_is_noticed_and_started_again() {
    let folder = TempDir::new().unwrap();
    let mut cluster = cluster_with_a_note(ClusterOptions::durable(folder.path())).await;
    let pid = cluster.pid().unwrap().to_string();
    assert!(cluster.is_running());
    assert!(
        Command::new("kill")
            .args(["-KILL", &pid])
            .status()
            .unwrap()
            .success()
    );
    while cluster.is_running() {
        tokio::task::yield_now().await;
    }
    cluster.restart().await.unwrap();
    assert_eq!(count_notes(&cluster).await, 1);
}

#[test]
fn with_postgres_hands_the_url_to_the_command_and_its_exit_code_back() {
    let output = Command::new(env!("CARGO_BIN_EXE_with-postgres"))
        .args(["sh", "-c", "echo $TASKLEASE_TEST_DATABASE_URL; exit 7"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("postgres://postgres@127.0.0.1:"));
}

#[test]
fn the_server_does_not_outlive_an_owner_that_is_killed() {
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::fs::PermissionsExt;
    // Holds what the killed owner cannot remove; the server's user must reach it.
    let left_over = TempDir::new().unwrap();
    std::fs::set_permissions(left_over.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The command tells the server's pid, then holds its end of the pipe open.
    let script = "echo \"$TASKLEASE_TEST_DATABASE_URL\"; read -r _";
    let mut owner = Command::new(env!("CARGO_BIN_EXE_with-postgres"))
        .args(["sh", "-c", script])
        .env("TMPDIR", left_over.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap());
    let mut url = String::new();
    output.read_line(&mut url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url.trim(), NoTls).await.unwrap();
        owner.kill().unwrap();
        owner.wait().unwrap();
        // The server ends our connection when it shuts down; this waits for that.
        assert!(
            tokio::time::timeout(std::time::Duration::from_secs(30), connection)
                .await
                .is_ok()
        );
        drop(client);
    });
    drop(owner.stdin.take());
    output.read_to_string(&mut url).unwrap();
}
