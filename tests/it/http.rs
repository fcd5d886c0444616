//! GraphQL over HTTP: the specification's audits, and what they leave out.

use std::{net::SocketAddr, process::Command};

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::support::{App, AppSettings, HANG, Reply, app, node};

/// Runs the audits of the npm package `graphql-http`, the reference for the specification's draft.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_audits_of_graphql_http_pass() {
    let Some(folder) = node::packages().await else {
        eprintln!("SKIPPED all_audits_of_graphql_http_pass: npm is not installed");
        return;
    };
    let app = App::start().await;
    let (url, token) = (app.user("acme-owner").url, app::token("acme-owner"));
    let output = tokio::task::spawn_blocking(move || {
        Command::new("node").args(["audit.mjs", &url, &token]).current_dir(folder).output().unwrap()
    })
    .await
    .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("61 of 61 audits passed"), "{report}");
}

#[tokio::test]
async fn the_status_of_errors_follows_the_requested_media_type() {
    let app = App::start().await;
    let client = app.user("acme-owner");
    // 100 rows, each with 26 users of 3 fields.
    let users: Vec<_> = (0..26).map(|n| format!("p{n}: createdBy {{ id name email }}")).collect();
    let too_complex = format!(
        "{{ organization {{ projects(first: 100) {{ nodes {{ {} }} }} }} }}",
        users.join(" ")
    );
    for (query, code) in [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "query ($x: Int!) { organization { projects(first: $x) { totalCount } } }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
        ("subscription { x }", "GRAPHQL_VALIDATION_FAILED"),
        (too_complex.as_str(), "QUERY_TOO_COMPLEX"),
    ] {
        let modern = client.query(query).await;
        modern.assert_refused(400, code);
        let older = Reply::of(
            client.post().header(ACCEPT, "application/json").json(&json!({ "query": query })),
        )
        .await;
        // Two Accept headers form one list. The client names both types and gets the newer one.
        assert_eq!(older.status, 400, "{older:?}");
    }
    let request = reqwest::Client::new()
        .post(&client.url)
        .bearer_auth(app::token("acme-owner"))
        .header(ACCEPT, "application/json")
        .json(&json!({ "query": "{ nothing }" }));
    let older = Reply::of(request).await;
    older.assert_refused(200, "GRAPHQL_VALIDATION_FAILED");
    assert!(older.headers[CONTENT_TYPE].to_str().unwrap().starts_with("application/json"));
}

#[tokio::test]
async fn requests_that_are_not_graphql_over_http_get_an_error() {
    let app = App::with(AppSettings { max_body_bytes: 10_000, ..AppSettings::default() }).await;
    let client = app.user("acme-owner");
    let post =
        |body: &'static str| client.post().header(CONTENT_TYPE, "application/json").body(body);
    for request in [
        post(""),
        post("{"),
        post("[]"),
        post("7"),
        post("{}"),
        post("{\"query\":7}"),
        post("{\"query\":\"{ __typename }\",\"variables\":[]}"),
        post("{\"query\":\"{ __typename }\",\"operationName\":7}"),
        post("{\"query\":\"{ __typename }\",\"extensions\":\"x\"}"),
        client.get(),
        client.get().query(&[("query", "{ __typename }"), ("variables", "[")]),
    ] {
        Reply::of(request).await.assert_refused(400, "UNSUPPORTED_REQUEST");
    }
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
    ] {
        let request =
            client.post().header(CONTENT_TYPE, kind).body("{\"query\":\"{ __typename }\"}");
        Reply::of(request).await.assert_refused(415, "UNSUPPORTED_REQUEST");
    }
    let large = json!({ "query": format!("{{ __typename }} # {}", "x".repeat(10_000)) });
    client.send(&large).await.assert_refused(413, "UNSUPPORTED_REQUEST");
    let http = reqwest::Client::new();
    let reply = Reply::of(http.put(&client.url).bearer_auth(app::token("acme-owner"))).await;
    reply.assert_refused(405, "UNSUPPORTED_REQUEST");
    assert_eq!(reply.headers["allow"], "GET, POST, OPTIONS");
    let reply = Reply::of(http.get(&client.url).header(ACCEPT, "text/plain")).await;
    reply.assert_refused(406, "UNSUPPORTED_REQUEST");
}

#[tokio::test]
async fn a_mutation_over_get_is_rejected() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    let client = app.user("acme-owner");
    let mutation = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    let reply = Reply::of(client.get().query(&[("query", mutation)])).await;
    reply.assert_refused(405, "UNSUPPORTED_REQUEST");
    assert_eq!(reply.headers["allow"], "GET, POST, OPTIONS");
    let two = format!("query a {{ __typename }} {}", mutation.replace("mutation", "mutation b"));
    let reply =
        Reply::of(client.get().query(&[("query", two.as_str()), ("operationName", "b")])).await;
    reply.assert_refused(405, "UNSUPPORTED_REQUEST");
    let reply =
        Reply::of(client.get().query(&[("query", two.as_str()), ("operationName", "a")])).await;
    reply.data();
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn a_batch_is_answered_in_order_with_independent_operations() {
    let app = App::start().await;
    let client = app.user("acme-owner");
    let reply = client
        .send(&json!([
            { "query": "mutation { createProject(input: { name: \"first\" }) { project { name } } }" },
            { "query": "mutation { createProject(input: { name: \"\" }) { project { name } } }" },
            { "query": "{ organization { projects(first: 1) { nodes { name } } } }" },
        ]))
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body[0]["data"]["createProject"]["project"]["name"], "first");
    assert_eq!(reply.body[1]["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    assert_eq!(reply.body[2]["data"]["organization"]["projects"]["nodes"][0]["name"], "first");
    let many: Vec<Value> = (0..11).map(|_| json!({ "query": "{ __typename }" })).collect();
    client.send(&Value::Array(many)).await.assert_refused(400, "UNSUPPORTED_REQUEST");
}

#[tokio::test]
async fn fields_come_in_the_order_of_the_document() {
    let app = App::start().await;
    let reply = app
        .user("acme-owner")
        .query("{ organization { slug z: name id a: name } viewer { name email } }")
        .await;
    let places: Vec<_> =
        ["\"slug\"", "\"z\"", "\"id\"", "\"a\"", "\"viewer\"", "\"name\"", "\"email\""]
            .iter()
            .map(|key| reply.text.find(key).unwrap())
            .collect();
    assert!(places.is_sorted(), "{}", reply.text);
}

#[tokio::test]
async fn the_audit_log_has_the_client_s_real_address() {
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    for (trusted, expected) in
        [(vec![], "127.0.0.1/32"), (vec!["127.0.0.0/8".parse().unwrap()], "203.0.113.7/32")]
    {
        let app =
            App::with(AppSettings { trusted_proxies: trusted, ..AppSettings::default() }).await;
        let request =
            app.user("acme-owner").post().header("x-forwarded-for", "6.6.6.6, 203.0.113.7");
        Reply::of(request.json(&json!({ "query": create }))).await.data();
        let address: String = app
            .database
            .value("SELECT ip_address::text FROM audit.audit_logs ORDER BY created_at DESC LIMIT 1")
            .await;
        assert_eq!(address, expected);
    }
}

#[tokio::test]
async fn health_checks_need_no_token_and_report_a_lost_database() {
    let app = App::start().await;
    let status = |path: &'static str| {
        let url = format!("{}/{path}", app.base);
        async move { reqwest::get(url).await.unwrap().status().as_u16() }
    };
    assert_eq!(status("healthz").await, 200);
    assert_eq!(status("readyz").await, 200);
    assert_eq!(status("graphiql").await, 200);
    assert_eq!(status("org/acme/graphiql").await, 200);
    assert_eq!(status("nowhere").await, 404);
    app.database.execute("REVOKE USAGE ON SCHEMA migration FROM tenantry_app").await;
    // An expensive check is cached for longer.
    let start = std::time::Instant::now();
    while status("readyz").await != 503 {
        assert!(start.elapsed().as_secs() < 60);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(status("healthz").await, 200);
}

#[tokio::test]
async fn a_server_stays_ready_after_a_newer_version_has_migrated() {
    let app = App::start().await;
    app.database
        .execute("INSERT INTO migration.seaql_migrations VALUES ('core/9999_future', 0)")
        .await;
    let ready = || async { reqwest::get(format!("{}/readyz", app.base)).await.unwrap().status() };
    assert_eq!(ready().await, 200);
    let behind = "DELETE FROM migration.seaql_migrations";
    app.database.execute(behind).await;
    // An expensive check is cached for longer.
    let start = std::time::Instant::now();
    while ready().await != 503 {
        assert!(start.elapsed().as_secs() < 60);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_path_is_not_inserted_into_the_page() {
    let app = App::start().await;
    let url = format!("{}/org/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E/graphiql", app.base);
    let page = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert!(!page.contains("<script>alert"), "{page}");
}

#[tokio::test]
async fn a_client_that_sends_half_a_request_affects_no_other() {
    use tokio::io::AsyncWriteExt;
    let app = App::start().await;
    let address: SocketAddr = app.base.trim_start_matches("http://").parse().unwrap();
    for bytes in [
        "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n",
        "\u{0}\u{1}nonsense\r\n\r\n",
        "GET",
    ] {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes.as_bytes()).await.unwrap();
    }
    app.user("acme-owner").data("{ viewer { id } }").await;
}

#[tokio::test]
async fn every_path_gets_a_graphql_response() {
    let app = App::start().await;
    for path in ["/org/%ff/graphql", "/org/%00/graphql", "/org/%20/graphql", "/org/..%2f/graphql"] {
        let mut client = app.user("acme-owner");
        client.url = format!("{}{path}", app.base);
        client.query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_has_the_headers_of_one_response() {
    let app = App::start().await;
    let mut client = app.user("acme-owner");
    client.url = format!("{}/org/nowhere/graphql", app.base);
    let query = json!({ "query": "{ organization { id } }" });
    let reply = client.send(&json!([query, query])).await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.body[1]["errors"][0]["extensions"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn malicious_documents_are_rejected_at_once() {
    let app = App::start().await;
    let client = app.user("acme-owner");
    let chain: Vec<_> =
        (0..8_000).map(|n| format!("fragment f{n} on Query{{...f{}}}", n + 1)).collect();
    let bomb: Vec<_> =
        (0..40).map(|n| format!("fragment f{n} on Query{{...f{m} ...f{m}}}", m = n + 1)).collect();
    let many: Vec<_> = (0..250).map(|n| format!("query q{n}{{...f}}")).collect();
    let unknown: Vec<_> = (0..1_200).map(|n| format!("a{n}: node(id: $v{n}) {{ id }}")).collect();
    let interfaces = (0..9)
        .fold("name".to_owned(), |inner, _| format!("possibleTypes{{interfaces{{{inner}}}}}"));
    let lists: Vec<_> =
        (0..28).map(|n| format!("m{n}: members(first: 100) {{ nodes {{ id }} }}")).collect();
    let ids = vec!["\"00000000-0000-4000-8000-00000000000a\""; 100].join(",");
    for document in [
        format!("#\r{{__typename}}{} fragment f8000 on Query{{__typename}}", chain.join("")),
        format!("{{...f0}}{} fragment f40 on Query{{...missing}}", bomb.join("")),
        format!("{{__typename}}{} fragment f40 on Query{{...missing}}", bomb.join("")),
        format!("{} fragment f on Query{{{}}}", many.join(" "), unknown.join(" ")),
        format!("{{__type(name:\"Node\"){{{interfaces}}}}}"),
        format!("{{{}}}", "n".repeat(900_000)),
        format!(
            "{{ nodes(ids:[{ids}]) {{ ...f }} }} fragment f on Organization {{ {} }}",
            lists.join(" ")
        ),
        format!("{{a(b:{})}}", "[".repeat(100_000)),
        "{".repeat(500_000),
    ] {
        let start = std::time::Instant::now();
        let reply = client.query(&document).await;
        assert_eq!(reply.status, 400, "{}", &document[..60]);
        assert!(reply.text.len() < 10_000, "a response of {} bytes", reply.text.len());
        assert!(start.elapsed() < HANG, "{} took {:?}", &document[..60], start.elapsed());
    }
    client.data("{ viewer { id } }").await;
}

#[tokio::test]
async fn a_cached_document_is_validated_against_every_limit_again() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let list =
        |n| format!("p{n}: projects(first: $n) {{ nodes {{ id name description createdAt }} }}");
    let lists = (0..30).map(list).collect::<Vec<_>>().join(" ");
    let pages = format!("query ($n: Int!) {{ organization {{ {lists} }} }}");
    let find = "query ($id: ID!) { organization { project(id: $id) { name } } }";
    let two = "query A { viewer { name } } query B { organization { slug } }";
    for _ in 0..2 {
        assert!(owner.query_with(&pages, json!({ "n": 1 })).await.codes().is_empty());
        let costly = owner.query_with(&pages, json!({ "n": 100 })).await;
        assert_eq!(costly.codes(), ["QUERY_TOO_COMPLEX"]);
        let missing = owner.query_with(&pages, json!({})).await;
        assert_eq!(missing.codes(), ["GRAPHQL_VALIDATION_FAILED"]);

        let unknown = owner.query_with(find, json!({ "id": "x" })).await;
        assert_eq!(unknown.data()["organization"]["project"], Value::Null);
        let wrong = owner.query_with(find, json!({ "id": ["x"] })).await;
        assert_eq!(wrong.codes(), ["GRAPHQL_VALIDATION_FAILED"]);

        let a = owner.send(&json!({ "query": two, "operationName": "A" })).await.data();
        assert_eq!((a["viewer"]["name"].as_str(), a.get("organization")), (Some("Olivia"), None));
        let b = owner.send(&json!({ "query": two, "operationName": "B" })).await.data();
        assert_eq!(b, json!({ "organization": { "slug": "acme" } }));
        let neither = owner.send(&json!({ "query": two, "operationName": "C" })).await;
        assert_eq!(neither.codes(), ["GRAPHQL_VALIDATION_FAILED"]);
    }
    // The cache is shared by all users, and each operation acts in its own organization.
    let other = app.user("globex-owner");
    let b = other.send(&json!({ "query": two, "operationName": "B" })).await.data();
    assert_eq!(b, json!({ "organization": { "slug": "globex" } }));
}
