//! Accepts and serves client connections, and limits how long each may keep the server waiting.
//! `connection_limits.rs` limits their number.
//!
//! Bodies (`request_body.rs`) and streams have their own time limits.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderValue, StatusCode, Version, header},
    response::{IntoResponse, Response},
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
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;

use super::{
    App, Server,
    activity::Activity,
    connection_limits::{ClientLimits, ConnectionSlot, ConnectionSlots},
};

/// Largest size of the request line and headers. Tokens of identity providers have some kilobytes.
const HEADER_BYTES: u32 = 64 * 1024;

/// The server closes a connection if its client accepts no bytes for this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for a connection that several responses share. Longer than the keep-alive interval of a
/// live event stream.
pub const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// How often the server pings an HTTP/2 client, and how long the client may take to respond.
const PING: Duration = Duration::from_secs(20);

/// Concurrent requests on one HTTP/2 connection.
const STREAMS: u32 = 100;

/// The pause after the system refused a connection, for example for lack of file descriptors.
const REFUSED_WAIT: Duration = Duration::from_millis(100);

/// The body of the response when the limit of connections is reached.
const NO_PLACE: &str = r#"{"errors":[{"message":"The server has too many connections. Try again in 1 s.","extensions":{"code":"UNAVAILABLE","retryAfter":1}}]}"#;

/// Serves until `stop` resolves. Then finishes requests in progress, but waits at most `grace`.
///
/// # Errors
///
/// If the socket fails.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    stop: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> std::io::Result<()> {
    let limits = server.client_limits;
    let (streams, mutations) = (server.stop.clone(), server.service.mutations.clone());
    let places = ConnectionSlots::new(limits, server.trusted_proxies.clone());
    let (builder, app) = (builder(limits), App::new(server));
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = places.take(peer.ip(), connections.watcher()) else { continue };
                let client = Client { stream, peer, place, limits };
                tokio::spawn(client.serve(builder.clone(), app.clone(), connections.watcher()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                places.close_longest_idle();
                sleep(REFUSED_WAIT).await;
            }
        }
    }
    drop(listener);
    streams.send_replace(true);
    let finished = async {
        connections.shutdown().await;
        // Mutations continue without their clients and are awaited too.
        mutations.close();
        mutations.wait().await;
    };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!("requests did not finish in time: their connections are closed");
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

/// Refuses several `Host` headers (RFC 9112, section 3.2): a proxy may have used another one.
fn has_one_host(request: &Request) -> bool {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    match request.version() {
        Version::HTTP_11 => hosts == 1,
        _ => hosts <= 1,
    }
}

/// Responds to a connection beyond the limit: health checks are served, and all other requests are
/// refused. The connection is closed after the response.
async fn answer_in_reserved_place(app: App, request: Request) -> Response {
    let closes = request.version() != Version::HTTP_2;
    let mut response = if matches!(request.uri().path(), "/healthz" | "/readyz") {
        app.respond(request).await
    } else {
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::RETRY_AFTER, "1")];
        (StatusCode::SERVICE_UNAVAILABLE, headers, NO_PLACE).into_response()
    };
    if closes {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A client connection.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    place: ConnectionSlot,
    limits: ClientLimits,
}

impl Client {
    async fn serve(self, builder: Builder<TokioExecutor>, app: App, watcher: Watcher) {
        let Self { stream, peer, place, limits } = self;
        // Responses are written as a whole, so Nagle's algorithm would only delay them.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let activity = Activity::default();
        let asking = activity.clone();
        let answering = place.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (running, busy) = (asking.begin(request.version()), answering.busy());
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            if request.headers().contains_key(header::UPGRADE) {
                request.extensions_mut().insert(answering.clone());
            }
            let is_reserved = answering.is_reserved();
            let app = app.clone();
            async move {
                let response = if !has_one_host(&request) {
                    StatusCode::BAD_REQUEST.into_response()
                } else if is_reserved {
                    answer_in_reserved_place(app, request).await
                } else {
                    app.respond(request).await
                };
                let response = match running {
                    Some(running) => running.until_taken(response),
                    None => response,
                };
                // The body owns this closure, and the closure owns `busy`. So the connection counts
                // as busy until the body is sent.
                let keep_busy = move |error: axum::Error| {
                    let _ = &busy;
                    error
                };
                Ok::<_, Infallible>(response.map(|body| body.map_err(keep_busy)))
            }
        });
        // An HTTP/2 stream could occupy a reserved slot for as long as its client wants.
        let builder = if place.is_reserved() { builder.http1_only() } else { builder };
        let io = TokioIo::new(Box::pin(stream));
        let connection = builder.serve_connection_with_upgrades(io, service).into_owned();
        let mut connection = pin!(watcher.watch(connection));
        tokio::select! {
            // Protocol errors of a client affect only its own connection.
            _ = &mut connection => {}
            () = activity.ceased(limits) => {}
            () = place.given_away() => {}
        }
    }
}
