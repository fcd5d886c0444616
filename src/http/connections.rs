//! Connections of clients: how many there may be, and how long one may keep the server waiting.
//!
//! Bodies have a time limit of their own (`incoming.rs`), and so has what goes on for ever.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::{Version, header},
    response::Response,
};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

use super::{Server, router};

/// Bytes of a request's line and headers; tokens of identity providers have some thousands.
const HEADER_BYTES: u32 = 64 * 1024;

/// A client that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a client of HTTP/2 is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// Requests that a client of HTTP/2 may have at the same time on one connection.
const STREAMS: u32 = 100;

/// After the system has refused a connection, for lack of file descriptors perhaps.
const REFUSED_WAIT: Duration = Duration::from_millis(100);

/// What clients may cost before they have asked for anything.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Connections at the same time; more wait in the system's queue.
    pub connections: usize,
    /// For the headers of a connection's first request.
    pub header_timeout: Duration,
    /// Between two requests, until the headers of the next have come.
    pub idle_timeout: Duration,
}

/// A connection's place among those that there may be, and among those that a stopping server waits for; kept by whoever takes the
/// connection over.
#[derive(Clone)]
#[expect(dead_code, reason = "held")]
pub(super) struct Place(Arc<(OwnedSemaphorePermit, Watcher)>);

/// Serves until `stop` resolves, then finishes what was begun, but waits no longer than `grace` for clients.
///
/// # Errors
///
/// When the socket fails.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    stop: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> std::io::Result<()> {
    let limits = server.client_limits;
    let (streams, mutations) = (server.stop.clone(), server.engine.mutations.clone());
    let (builder, app) = (builder(limits), router(server));
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, peer))) => {
                let place = Place(Arc::new((place, connections.watcher())));
                let client = Client { stream, peer, place, limits };
                tokio::spawn(client.serve(builder.clone(), app.clone(), connections.watcher()));
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(REFUSED_WAIT).await;
            }
            (Err(closed), _) => return Err(std::io::Error::other(closed)),
        }
    }
    drop(listener);
    streams.send_replace(true);
    let finished = async {
        connections.shutdown().await;
        // Those whose clients have gone.
        mutations.close();
        mutations.wait().await;
    };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!("clients did not finish in time: their connections are closed");
    }
    Ok(())
}

fn builder(limits: ClientLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES);
    builder
}

/// A connection.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    limits: ClientLimits,
}

impl Client {
    async fn serve(self, builder: Builder<TokioExecutor>, app: Router, watcher: Watcher) {
        let Self { stream, peer, place, limits } = self;
        // Answers are written whole; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let progress = Arc::new(Progress::begin());
        let (moving, answering) = (Arc::clone(&progress), place.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            moving.note(request.version());
            let progress = Arc::clone(&moving);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            if request.headers().contains_key(header::UPGRADE) {
                request.extensions_mut().insert(answering.clone());
            }
            let app = app.clone();
            async move {
                let response = app.oneshot(request).await.unwrap_or_else(|never| match never {});
                Ok::<_, Infallible>(progress.watch(response))
            }
        });
        let io = TokioIo::new(Box::pin(stream));
        let connection = builder.serve_connection_with_upgrades(io, service).into_owned();
        let mut connection = pin!(watcher.watch(connection));
        let silent = async {
            sleep(limits.header_timeout).await;
            progress.end(limits.idle_timeout).await;
        };
        tokio::select! {
            // Whatever a client does wrong to its own connection is its own affair.
            _ = &mut connection => {}
            () = silent => {}
        }
        drop(place);
    }
}

/// When something last moved on a connection. HTTP/1 has time limits of its own; with HTTP/2 a client can keep a connection without
/// asking for anything, and answers without taking them.
struct Progress {
    begun: Instant,
    asked: AtomicBool,
    is_http2: AtomicBool,
    last: AtomicU64,
}

impl Progress {
    fn begin() -> Self {
        Self {
            begun: Instant::now(),
            asked: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            last: AtomicU64::new(0),
        }
    }

    fn note(&self, version: Version) {
        self.asked.store(true, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            self.is_http2.store(true, Ordering::Relaxed);
            self.moved();
        }
    }

    fn moved(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    /// Sees the parts of an answer leave.
    fn watch(self: Arc<Self>, response: Response) -> Response {
        if !self.is_http2.load(Ordering::Relaxed) {
            return response;
        }
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                self.moved();
                frame
            }))
        })
    }

    /// Resolves when the connection is to be closed: nothing was asked, or nothing moves.
    async fn end(&self, idle_timeout: Duration) {
        if !self.asked.load(Ordering::Relaxed) {
            return;
        }
        if !self.is_http2.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let left = (last + idle_timeout).saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}
