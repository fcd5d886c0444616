//! A network between the server and PostgreSQL that can be made to fail: it falls silent, refuses
//! connections, cuts them, or loses the response to a COMMIT.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
};

/// The behaviour of the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Network {
    /// Forwards everything.
    Whole,
    /// Accepts and keeps connections, but forwards nothing.
    Silent,
    /// Has cut every connection, and refuses new ones.
    Refusing,
    /// Cuts a connection in the middle of one of this number of responses.
    Ragged(u32),
    /// Cuts a connection at one of this number of COMMITs: before PostgreSQL receives it, or after
    /// PostgreSQL has responded.
    LosingCommits(u32),
}

/// Forwards from a TCP port to the socket of a PostgreSQL.
pub struct Forwarder {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    network: watch::Sender<Network>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    target: Mutex<PathBuf>,
    /// Existing connections fall silent permanently when this grows.
    frozen: watch::Sender<u32>,
    /// COMMITs that PostgreSQL never received, and those whose response was lost.
    unsent: AtomicU32,
    unanswered: AtomicU32,
}

impl Forwarder {
    pub async fn start(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(socket.to_owned()),
            frozen: watch::Sender::new(0),
            unsent: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
        });
        let network = watch::Sender::new(Network::Whole);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), network.subscribe()));
        Self { address, shared, network, accepting }
    }

    /// Returns the value for `DATABASE_URL`.
    pub fn url(&self) -> String {
        format!("postgres://tenantry_app@{}/app?sslmode=disable", self.address)
    }

    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Silences every existing connection permanently, as if the machine behind it had disappeared.
    /// New connections work.
    pub fn freeze(&self) {
        self.shared.frozen.send_modify(|frozen| *frozen += 1);
    }

    /// Leads new connections to another socket.
    pub fn lead_to(&self, socket: &Path) {
        socket.clone_into(&mut self.shared.target.lock().unwrap());
    }

    /// Returns the COMMITs that PostgreSQL never received, and those whose response was lost.
    pub fn lost_commits(&self) -> (u32, u32) {
        (self.shared.unsent.load(Ordering::Relaxed), self.shared.unanswered.load(Ordering::Relaxed))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    mut listener: TcpListener,
    shared: Arc<Shared>,
    mut network: watch::Receiver<Network>,
) {
    let address = listener.local_addr().unwrap();
    let mut connections = JoinSet::new();
    loop {
        if *network.borrow_and_update() == Network::Refusing {
            drop(listener);
            connections.shutdown().await;
            // Bound but not listening, so that no other process gets the port.
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).unwrap();
            if network.wait_for(|network| *network != Network::Refusing).await.is_err() {
                return;
            }
            listener = socket.listen(128).unwrap();
        }
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    let line = ForwardedConnection { shared: Arc::clone(&shared), network: network.clone() };
                    connections.spawn(line.forward(client));
                }
            }
            changed = network.changed() => if changed.is_err() { return },
        }
    }
}

/// One connection.
struct ForwardedConnection {
    shared: Arc<Shared>,
    network: watch::Receiver<Network>,
}

impl ForwardedConnection {
    async fn forward(mut self, mut client: TcpStream) {
        let mut frozen = self.shared.frozen.subscribe();
        tokio::select! {
            _ = frozen.changed() => {}
            // Either side has closed the connection, or the network has cut it.
            _ = self.pass(&mut client) => return,
        }
        std::future::pending::<()>().await;
    }

    async fn pass(&mut self, client: &mut TcpStream) -> std::io::Result<()> {
        // Dead connections end with a reset, as after the loss of a machine.
        let _ = client.set_zero_linger();
        let _ = client.set_nodelay(true);
        self.speaking().await;
        let target = self.shared.target.lock().unwrap().clone();
        let mut server = UnixStream::connect(target).await?;
        let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        loop {
            self.speaking().await;
            tokio::select! {
                read = client.read(&mut up) => {
                    let bytes = &up[..ended(read?)?];
                    self.speaking().await;
                    if is_commit(bytes) && self.loses_commit() {
                        return self.lose_commit(bytes, &mut server).await;
                    }
                    server.write_all(bytes).await?;
                }
                read = server.read(&mut down) => {
                    let bytes = &down[..ended(read?)?];
                    self.speaking().await;
                    let network = *self.network.borrow();
                    if let Network::Ragged(one_of) = network
                        && fastrand::u32(0..one_of) == 0
                    {
                        let part = fastrand::usize(0..bytes.len());
                        return client.write_all(&bytes[..part]).await;
                    }
                    client.write_all(bytes).await?;
                }
                _ = self.network.changed() => {}
            }
        }
    }

    async fn speaking(&mut self) {
        if self.network.wait_for(|network| *network != Network::Silent).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn loses_commit(&self) -> bool {
        match *self.network.borrow() {
            Network::LosingCommits(one_of) => fastrand::u32(0..one_of) == 0,
            _ => false,
        }
    }

    async fn lose_commit(&self, bytes: &[u8], server: &mut UnixStream) -> std::io::Result<()> {
        // Alternately, so that few losses cover both kinds.
        let (unsent, unanswered) = (&self.shared.unsent, &self.shared.unanswered);
        if unsent.load(Ordering::Relaxed) <= unanswered.load(Ordering::Relaxed) {
            unsent.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        server.write_all(bytes).await?;
        let mut response = vec![0; 16 * 1024];
        // PostgreSQL has responded, so it has committed. A moment later the whole response is
        // there.
        ended(server.read(&mut response).await?)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        unanswered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn ended(read: usize) -> std::io::Result<usize> {
    if read == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
}

/// Returns whether the bytes end with the last message of a transaction.
fn is_commit(bytes: &[u8]) -> bool {
    bytes.ends_with(b"COMMIT\0")
}
