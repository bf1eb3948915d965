//! The client side of Tasklease: [`Client`] calls any scheduler replica that is alive.
//!
//! [`Endpoints`] holds the addresses of the replicas, [`Connector`] hands out a connection to one of them,
//! and [`Client`] repeats calls that are safe to repeat until a replica answers or the overall
//! deadline of its [`RetryPolicy`] has passed.
//!
//! ```no_run
//! use tasklease_client::{Client, Endpoints};
//! use tasklease_proto::v1::TaskSpec;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("127.0.0.1:7070,127.0.0.1:7071".parse::<Endpoints>()?);
//! let task = client.submit(TaskSpec { task_type: "greet".into(), ..TaskSpec::default() }).await?;
//! println!("submitted {}", task.id);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]
// Their macros panic when the line cannot be written.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod client;
mod connector;
mod ejection;
mod endpoints;
mod error;
mod retry;
mod watch;

pub use client::Client;
pub use connector::{ConnectError, Connector, ReplicaConnection};
pub use endpoints::{Address, AddressError, Endpoints};
pub use error::{ClientError, FieldViolation, is_transport_failure};
pub use retry::{Backoff, RetryPolicy};
pub use watch::WatchStream;
