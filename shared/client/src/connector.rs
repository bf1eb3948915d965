//! A connection to one live replica.
//!
//! tonic's balanced channel keeps sending calls to an endpoint that is gone, so each replica has a
//! channel of its own here, and this module chooses among them.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use rand::seq::SliceRandom as _;
use tonic::transport::{Channel, Endpoint};

use crate::{
    ejection::Ejections,
    endpoints::{Address, Endpoints},
};

/// How long a connection may take before the next replica is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long resolved addresses are used before they are looked up again.
const RESOLVE_EVERY: Duration = Duration::from_secs(15);
/// A peer that is silent for this long gets a ping.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer to the ping may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Flow-control window of one stream; the protocol's default of 64 KiB would stall batches.
const STREAM_WINDOW: u32 = 2 << 20;
/// Flow-control window of a connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Largest HTTP/2 frame to receive; the default of 16 KiB would cut a batch of tasks into dozens.
const FRAME: u32 = 1 << 20;

/// Hands out connections to the scheduler replicas; clones share them.
#[derive(Debug, Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Endpoints,
    state: Mutex<State>,
    /// Held while connecting, so that many calls at once do not open many connections.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    targets: Vec<Target>,
    resolved_at: Option<Instant>,
    channels: HashMap<SocketAddr, Connection>,
    ejections: Ejections,
    next_serial: u64,
}

#[derive(Debug, Clone)]
struct Connection {
    serial: u64,
    channel: Channel,
}

#[derive(Debug, Clone, PartialEq)]
struct Target {
    socket: SocketAddr,
    address: Address,
}

/// A channel, and which replica it leads to.
#[derive(Clone)]
pub struct ReplicaConnection {
    channel: Channel,
    socket: SocketAddr,
    serial: u64,
}

impl ReplicaConnection {
    /// The channel; clones share its connection.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The address of the replica.
    pub fn socket(&self) -> SocketAddr {
        self.socket
    }

    /// True if both use the same connection.
    pub fn same_connection(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl fmt::Debug for ReplicaConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaConnection")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// Why no replica could be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address could be looked up.
    #[error("cannot look up scheduler at {endpoints}: {source}")]
    Resolve {
        /// The addresses as given.
        endpoints: Endpoints,
        /// The last error of the resolver.
        source: std::io::Error,
    },
    /// Every address refused the connection or did not answer.
    #[error("no scheduler reachable at {endpoints}: {why}; is it running?")]
    Unreachable {
        /// The addresses as given.
        endpoints: Endpoints,
        /// The error of the last attempt.
        why: String,
    },
}

impl Connector {
    /// A connector for these replicas; it connects at the first use.
    pub fn new(endpoints: Endpoints) -> Self {
        let shared = Shared {
            endpoints,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The addresses that this connector was made for.
    pub fn endpoints(&self) -> &Endpoints {
        &self.shared.endpoints
    }

    /// A channel to one of the replicas.
    ///
    /// # Errors
    /// No replica can be reached now.
    pub async fn channel(&self) -> Result<Channel, ConnectError> {
        self.pick().await.map(|picked| picked.channel)
    }

    /// Chooses a replica at random among those that did not fail lately.
    ///
    /// # Errors
    /// No replica can be reached now.
    pub async fn pick(&self) -> Result<ReplicaConnection, ConnectError> {
        self.choose(None).await
    }

    /// Like [`pick`](Self::pick), but another replica than `last` if there is one.
    ///
    /// # Errors
    /// No replica can be reached now.
    pub async fn pick_other(&self, last: &ReplicaConnection) -> Result<ReplicaConnection, ConnectError> {
        self.choose(Some(last.socket)).await
    }

    /// Leaves a replica alone for a while, because a call to it failed.
    pub fn failed(&self, picked: &ReplicaConnection) {
        let mut state = self.state();
        let is_current = state
            .channels
            .get(&picked.socket)
            .is_none_or(|known| known.serial == picked.serial);
        // A newer connection to the same address may work.
        if is_current {
            state.channels.remove(&picked.socket);
            state.ejections.failed(picked.socket, Instant::now());
            state.resolved_at = None;
        }
    }

    /// Clears the record of a replica that answered.
    pub fn succeeded(&self, picked: &ReplicaConnection) {
        self.state().ejections.succeeded(picked.socket);
    }

    /// Opens a new connection next time, because this one is about to end; the replica behind the
    /// same address may be another one then.
    pub fn retire(&self, picked: &ReplicaConnection) {
        let mut state = self.state();
        if state
            .channels
            .get(&picked.socket)
            .is_some_and(|known| known.serial == picked.serial)
        {
            state.channels.remove(&picked.socket);
        }
    }

    async fn choose(&self, avoid: Option<SocketAddr>) -> Result<ReplicaConnection, ConnectError> {
        self.resolve().await?;
        if let Some(picked) = self
            .order(avoid)
            .first()
            .and_then(|target| self.connected(target))
        {
            return Ok(picked);
        }
        let _one_at_a_time = self.shared.connecting.lock().await;
        let mut why = String::from("no address");
        for target in self.order(avoid) {
            if let Some(picked) = self.connected(&target) {
                return Ok(picked);
            }
            match connect(&target).await {
                Ok(channel) => return Ok(self.store(&target, channel)),
                Err(error) => {
                    why = format!("{}: {error}", target.address);
                    tracing::debug!(address = %target.address, error = %error, "cannot connect");
                    self.state().ejections.failed(target.socket, Instant::now());
                }
            }
        }
        self.state().resolved_at = None;
        Err(ConnectError::Unreachable {
            endpoints: self.shared.endpoints.clone(),
            why,
        })
    }

    async fn resolve(&self) -> Result<(), ConnectError> {
        let fresh = self
            .state()
            .resolved_at
            .is_some_and(|at| at.elapsed() < RESOLVE_EVERY);
        if fresh {
            return Ok(());
        }
        let (mut targets, mut failure) = (Vec::<Target>::new(), None);
        for address in self.shared.endpoints.addresses() {
            match tokio::net::lookup_host((address.host(), address.port())).await {
                Ok(sockets) => {
                    for socket in sockets {
                        if !targets.iter().any(|target| target.socket == socket) {
                            targets.push(Target {
                                socket,
                                address: address.clone(),
                            });
                        }
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        let mut state = self.state();
        if targets.is_empty() {
            // The replicas known before stay usable while the resolver fails.
            if !state.targets.is_empty() {
                return Ok(());
            }
            let source = failure.unwrap_or_else(|| std::io::Error::other("no address found"));
            return Err(ConnectError::Resolve {
                endpoints: self.shared.endpoints.clone(),
                source,
            });
        }
        let State {
            channels, ejections, ..
        } = &mut *state;
        let known = |socket: &SocketAddr| targets.iter().any(|target| target.socket == *socket);
        channels.retain(|socket, _| known(socket));
        ejections.keep_only(known);
        state.targets = targets;
        state.resolved_at = Some(Instant::now());
        Ok(())
    }

    /// The replicas in the order to try them: usable ones at random, then `avoid`, then ejected ones
    /// by how soon they may be used again, because with all of them ejected one must still be tried.
    fn order(&self, avoid: Option<SocketAddr>) -> Vec<Target> {
        let now = Instant::now();
        let state = self.state();
        let mut targets = state.targets.clone();
        targets.shuffle(&mut rand::rng());
        targets.sort_by_key(|target| {
            (
                state.ejections.until(target.socket, now),
                avoid == Some(target.socket),
            )
        });
        targets
    }

    fn connected(&self, target: &Target) -> Option<ReplicaConnection> {
        let state = self.state();
        let known = state.channels.get(&target.socket)?;
        Some(ReplicaConnection {
            channel: known.channel.clone(),
            socket: target.socket,
            serial: known.serial,
        })
    }

    fn store(&self, target: &Target, channel: Channel) -> ReplicaConnection {
        let mut state = self.state();
        state.next_serial += 1;
        let serial = state.next_serial;
        state.channels.insert(
            target.socket,
            Connection {
                serial,
                channel: channel.clone(),
            },
        );
        ReplicaConnection {
            channel,
            socket: target.socket,
            serial,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }
}

async fn connect(target: &Target) -> Result<Channel, String> {
    let origin = format!("http://{}", target.address);
    let endpoint = Endpoint::from_shared(format!("http://{}", target.socket))
        .map_err(|error| error.to_string())?
        // Proxies route by the name that was asked for, not by the address behind it.
        .origin(
            origin
                .parse()
                .map_err(|_| format!("`{origin}` is not a valid origin"))?,
        )
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEP_ALIVE_INTERVAL))
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME);
    // Bounds the HTTP/2 handshake too, which `connect_timeout` does not.
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(innermost(&error)),
        Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

/// The first cause says what happened ("connection refused"); the layers above only wrap it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().to_lowercase()
}
