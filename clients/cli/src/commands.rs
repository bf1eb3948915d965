//! One file per command.

pub(crate) mod cancel;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod queue;
pub(crate) mod retry;
pub(crate) mod stats;
pub(crate) mod submit;
pub(crate) mod watch;
pub(crate) mod workers;

use std::time::Duration;

use tasklease_client::{Client, Endpoints, RetryPolicy};

use crate::arguments::{Arguments, Command, DEFAULT_ADDRESS};
use crate::failure::Failure;
use crate::screen::Screen;

/// How long a call looks for a scheduler that answers: long enough for a restart, and
/// short enough for somebody who waits.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Does what the command line says.
pub(crate) async fn run(arguments: Arguments, screen: &Screen) -> Result<(), Failure> {
    if let Command::Dev(dev) = arguments.command {
        return dev.run(screen).await;
    }
    // An empty variable is how scripts and unit files unset it.
    let address = match arguments.addr.trim() {
        "" => DEFAULT_ADDRESS,
        address => address,
    };
    let endpoints = Endpoints::parse(address).map_err(|error| Failure::usage(format!("--addr: {error}")))?;
    let client = Client::new(endpoints).with_policy(RetryPolicy {
        deadline: CALL_DEADLINE,
        ..RetryPolicy::default()
    });
    match arguments.command {
        // Needs no server: it starts one.
        Command::Dev(_) => Ok(()),
        Command::Submit(submit) => submit.run(&client, screen).await,
        Command::Get(get) => get.run(&client, screen).await,
        Command::List(list) => list.run(&client, screen).await,
        Command::Watch(watch) => watch.run(&client, screen).await,
        Command::Cancel(cancel) => cancel.run(&client, screen).await,
        Command::Retry(retry) => retry.run(&client, screen).await,
        Command::Delete(delete) => delete.run(&client, screen).await,
        Command::Stats(stats) => stats.run(&client, screen).await,
        Command::Workers(workers) => workers.run(&client, screen).await,
        Command::Queue(queue) => queue.run(&client, screen).await,
    }
}
