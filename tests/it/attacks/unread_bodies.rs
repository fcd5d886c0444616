//! Bodies that are announced but never sent, or sent in an encoding that may expand: rejected
//! before they are read.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{App, HANG, app};

const QUERY: &str = r#"{"query":"{ viewer { name } }"}"#;

/// Sends a request with only this part of its body, and returns the response.
async fn response(app: &App, headers: &str, body: &str) -> String {
    let to: SocketAddr = app.base.trim_start_matches("http://").parse().unwrap();
    let mut stream = TcpStream::connect(to).await.unwrap();
    let token = app::token("acme-owner");
    let request = format!(
        "POST /org/acme/graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    let mut part = [0; 4_096];
    while !response.contains("\r\n\r\n") {
        let count = timeout(HANG, stream.read(&mut part)).await.expect("no response").unwrap();
        assert!(count > 0, "closed without a response");
        response.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    response
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_announced_as_too_large_is_rejected_before_it_arrives() {
    let app = App::start().await;
    // Waiting for the missing body would end with 408.
    for length in [1024 * 1024 + 1, 1_u64 << 40] {
        for sent in ["", "{"] {
            let refused = response(&app, &format!("Content-Length: {length}\r\n"), sent).await;
            assert_eq!(status(&refused), "413", "{length}: {refused}");
        }
        let expecting = format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
        let refused = response(&app, &expecting, "").await;
        assert_eq!(status(&refused), "413", "the server asks the client to send it: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoded_body_is_rejected() {
    let app = App::start().await;
    let length = QUERY.len();
    for coding in ["gzip", "br", "deflate", "zstd", "x", "gzip, identity", "identity, gzip"] {
        let headers = format!("Content-Encoding: {coding}\r\nContent-Length: {length}\r\n");
        let refused = response(&app, &headers, QUERY).await;
        assert_eq!(status(&refused), "415", "{coding}: {refused}");
    }
    for coding in ["", "identity", "Identity", "identity, identity"] {
        let headers = format!("Content-Encoding: {coding}\r\nContent-Length: {length}\r\n");
        let taken = response(&app, &headers, QUERY).await;
        assert_eq!(status(&taken), "200", "{coding}: {taken}");
    }
}
