//! A TCP proxy between two parts of the system that can do to a connection what networks do.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What a proxy does with the bytes that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Passes them on.
    Pass,
    /// Holds up both directions; the connections stay.
    Hold,
    /// Holds up what goes to the server.
    HoldRequests,
    /// Holds up what comes from the server.
    HoldAnswers,
    /// Ends all connections, and takes no new one.
    Refuse,
    /// Passes them on later.
    Late(Duration),
    /// Passes on so many bytes a second in each direction.
    Narrow(u32),
    /// Passes on requests and throws the answers away. Refuse connections afterwards: theirs is torn.
    SwallowAnswers,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Traffic {
    fn holds(self, direction: Direction) -> bool {
        match self {
            Self::Hold => true,
            Self::HoldRequests => direction == Direction::ToServer,
            Self::HoldAnswers => direction == Direction::ToClient,
            _ => false,
        }
    }
}

/// A running proxy; it ends with its value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    server: watch::Sender<SocketAddr>,
    traffic: watch::Sender<Traffic>,
}

impl Proxy {
    /// Starts a proxy to this server on a free port of the loopback interface.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (traffic, heard) = watch::channel(Traffic::Pass);
        let (server, to) = watch::channel(server);
        tokio::spawn(listen(listener, to, heard));
        Ok(Self {
            address,
            server,
            traffic,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets new connections go to another server.
    pub fn lead_to(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }

    /// Changes what it does, also to the connections that it has.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

async fn listen(
    listener: TcpListener,
    server: watch::Receiver<SocketAddr>,
    mut heard: watch::Receiver<Traffic>,
) {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            // The proxy's value is gone.
            () = gone(&mut heard) => return,
        };
        if let Ok((client, _)) = client {
            let server = *server.borrow();
            tokio::spawn(serve(client, server, heard.clone()));
        }
    }
}

async fn gone(heard: &mut watch::Receiver<Traffic>) {
    while heard.changed().await.is_ok() {}
}

async fn serve(client: TcpStream, server: SocketAddr, heard: watch::Receiver<Traffic>) {
    let mut refused = heard.clone();
    let passing = async {
        let server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // When one side ends, so does the other.
        tokio::select! {
            ended = pump(from_client, to_server, heard.clone(), Direction::ToServer) => ended,
            ended = pump(from_server, to_client, heard, Direction::ToClient) => ended,
        }
    };
    tokio::select! {
        _ = passing => {}
        _ = refused.wait_for(|traffic| *traffic == Traffic::Refuse) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut heard: watch::Receiver<Traffic>,
    direction: Direction,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        pass(&mut heard, direction).await?;
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        // It may have changed while there was nothing to read.
        let pause = match pass(&mut heard, direction).await? {
            Traffic::Late(pause) => pause,
            Traffic::Narrow(bytes) => Duration::from_secs_f64(length as f64 / f64::from(bytes.max(1))),
            Traffic::SwallowAnswers if direction == Direction::ToClient => continue,
            _ => Duration::ZERO,
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        to.write_all(buffer.get(..length).unwrap_or_default()).await?;
    }
}

/// Waits until bytes may go this way.
async fn pass(heard: &mut watch::Receiver<Traffic>, direction: Direction) -> io::Result<Traffic> {
    let free = heard.wait_for(|traffic| !traffic.holds(direction)).await;
    free.map(|traffic| *traffic).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::{Proxy, Traffic};

    /// A server that says every byte again, and a connection to it through a proxy.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = Proxy::start(address).await.expect("a proxy");
        let stream = TcpStream::connect(proxy.address()).await.expect("a connection");
        (proxy, stream)
    }

    async fn say(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
        stream.write_u8(byte).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn bytes_pass_and_are_held_up() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(say(&mut stream, 1).await.expect("an answer"), 1);
        proxy.set(Traffic::HoldAnswers);
        stream.write_u8(2).await.expect("written");
        let read = stream.read_u8();
        tokio::pin!(read);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(100), &mut read).await;
        assert!(waited.is_err(), "nothing comes while answers are held up");
        proxy.set(Traffic::Pass);
        assert_eq!(read.await.expect("an answer"), 2);
    }

    #[tokio::test]
    async fn a_refused_connection_ends() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(say(&mut stream, 1).await.expect("an answer"), 1);
        proxy.set(Traffic::Refuse);
        assert!(say(&mut stream, 2).await.is_err());
    }

    #[tokio::test]
    async fn swallowed_answers_never_come() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(say(&mut stream, 1).await.expect("an answer"), 1);
        proxy.set(Traffic::SwallowAnswers);
        stream.write_u8(2).await.expect("written");
        let waited = tokio::time::timeout(std::time::Duration::from_millis(100), stream.read_u8()).await;
        assert!(waited.is_err(), "the answer is gone");
        proxy.set(Traffic::Refuse);
        assert!(stream.read_u8().await.is_err());
    }
    #[tokio::test]
    async fn new_connections_go_to_the_server_that_it_leads_to() {
        let (proxy, mut old) = echo().await;
        assert_eq!(say(&mut old, 1).await.expect("an answer"), 1);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        proxy.lead_to(listener.local_addr().expect("an address"));
        let mut new = TcpStream::connect(proxy.address()).await.expect("a connection");
        let (mut server, _) = listener.accept().await.expect("it reaches the other server");
        server.write_u8(9).await.expect("written");
        assert_eq!(new.read_u8().await.expect("a byte"), 9);
        assert_eq!(say(&mut old, 2).await.expect("an answer"), 2);
    }
}
