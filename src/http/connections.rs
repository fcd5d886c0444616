//! Connections of clients: how many there may be, and how long one may keep the server waiting.
//!
//! Bodies have a time limit of their own (`incoming.rs`), and so has what goes on for ever.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::{StatusCode, Version, header},
    response::IntoResponse,
};
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

use super::{Server, activity::Activity, router};

/// Bytes of a request's line and headers; tokens of identity providers have some thousands.
const HEADER_BYTES: u32 = 64 * 1024;

/// A client that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The same where a connection is shared by many answers; longer than the longest silence of a stream that lives.
pub const STALL_TIMEOUT: Duration = Duration::from_mins(1);

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
    /// For a client of HTTP/2 that takes nothing of an answer.
    pub stall_timeout: Duration,
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

/// RFC 9112, section 3.2: whoever is in front may have read another one of several.
fn has_one_host(request: &Request) -> bool {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    match request.version() {
        Version::HTTP_11 => hosts == 1,
        _ => hosts <= 1,
    }
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
        let activity = Activity::default();
        let asking = activity.clone();
        let answering = place.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let running = asking.begin(request.version());
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            if request.headers().contains_key(header::UPGRADE) {
                request.extensions_mut().insert(answering.clone());
            }
            let app = app.clone();
            async move {
                if !has_one_host(&request) {
                    return Ok::<_, Infallible>(StatusCode::BAD_REQUEST.into_response());
                }
                let response = app.oneshot(request).await.unwrap_or_else(|never| match never {});
                Ok(match running {
                    Some(running) => running.until_taken(response),
                    None => response,
                })
            }
        });
        let io = TokioIo::new(Box::pin(stream));
        let connection = builder.serve_connection_with_upgrades(io, service).into_owned();
        let mut connection = pin!(watcher.watch(connection));
        tokio::select! {
            // Whatever a client does wrong to its own connection is its own affair.
            _ = &mut connection => {}
            () = activity.ceased(limits) => {}
        }
        drop(place);
    }
}
