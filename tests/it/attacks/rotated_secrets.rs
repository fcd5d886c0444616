//! Rotation of a leaked secret while servers run, without rejecting anything that the old secret
//! made.

use serde_json::{Value, json};
use tenantry::{mail::Mailer, tenancy::SecretKeys};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};

use crate::support::{
    App, AppSettings, Client, HANG, Reply,
    app::{now, token_with},
    database::Database,
    process::{run, tenantry},
    server_process::ServerProcess,
};

const OLD: &str = "the old secret of thirty-two bytes or more";
const NEW: &str = "the new secret of thirty-two bytes or more";
const INVITE: &str =
    "mutation { inviteMember(input: { email: \"guest@example.com\", role: MEMBER }) { link } }";

#[test]
fn serve_refuses_to_start_without_a_secret_key_or_with_a_short_one() {
    for (key, expected) in [
        (
            None,
            "SECRET_KEY is not set. Set it to at least 32 bytes, for example from openssl rand -hex 32",
        ),
        (Some("short".to_owned()), "SECRET_KEY has 5 bytes"),
        (Some(format!("{NEW},short")), "SECRET_KEY: secret 2 of 2 has 5 bytes"),
        (Some(format!("{NEW},")), "SECRET_KEY: secret 2 of 2 has 0 bytes"),
    ] {
        let mut command = tenantry();
        command
            .arg("serve")
            .env("DATABASE_URL", "postgres://a@127.0.0.1:1/b")
            .env("JWT_SECRET", OLD);
        let output = run(command.envs(key.map(|key| ("SECRET_KEY", key))));
        assert_eq!(output.code, Some(1));
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(output.stderr.contains(expected), "{}", output.stderr);
        assert!(!output.stderr.contains(NEW), "{}", output.stderr);
    }
}

fn signed_with(secret: &str) -> String {
    let claims = json!({ "sub": "acme-owner", "exp": now() + 3_600.0 });
    tenantry::auth::sign(secret, &claims).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_both_secrets_are_accepted_during_a_rotation() {
    let database = Database::create().await;
    let both = format!("{NEW},{OLD}");
    for (secret, old, new) in [(OLD, 200, 401), (&both, 200, 200), (NEW, 401, 200)] {
        let (url, secret) = (database.url("tenantry_app"), secret.to_owned());
        let served = tokio::task::spawn_blocking(move || {
            ServerProcess::start(&url, &[("JWT_SECRET", &secret)])
        });
        let served = served.await.unwrap();
        for (by, expected) in [(OLD, old), (NEW, new)] {
            let client = Client::new(format!("{}/graphql", served.base), Some(signed_with(by)));
            assert_eq!(client.query("{ viewer { id } }").await.status.as_u16(), expected, "{by}");
        }
    }
    // The first secret signs.
    let output = tokio::task::spawn_blocking(move || {
        run(tenantry().args(["token", "--subject", "acme-owner"]).env("JWT_SECRET", both))
    });
    let printed = output.await.unwrap().stdout;
    let claims = printed.trim().split('.').nth(1).unwrap().to_owned();
    let decoded = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&decoded).unwrap();
    assert_eq!(tenantry::auth::sign(NEW, &claims).unwrap(), printed.trim());
}

fn settings(keys: &[&str]) -> AppSettings {
    let secret_keys = SecretKeys::new(keys.iter().map(|key| key.as_bytes().to_vec()).collect());
    AppSettings { secret_keys, ..AppSettings::default() }
}

async fn repeat(app: &App, key: &str) -> Reply {
    let request = app.user("acme-owner").post().header("idempotency-key", key);
    Reply::of(request.json(&json!({ "query": INVITE }))).await
}

async fn accept(app: &App, link: &str) -> Reply {
    let accept = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { member { id } } }";
    let claims = json!({ "sub": "guest", "email": "guest@example.com", "email_verified": true });
    let token = link.split_once("token=").unwrap().1;
    let guest = app.client(None, Some(token_with(&claims)));
    guest.query_with(accept, json!({ "token": token })).await
}

#[tokio::test]
async fn stored_responses_and_links_outlive_the_key_that_made_them() {
    let database = Database::create().await;
    let first = App::on(database.clone(), settings(&[OLD])).await;
    let response = repeat(&first, "once").await;
    let link = response.body["data"]["inviteMember"]["link"].as_str().unwrap().to_owned();
    let rotating = App::on(database.clone(), settings(&[NEW, OLD])).await;
    let again = repeat(&rotating, "once").await;
    assert_eq!((again.status, &again.text), (response.status, &response.text));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    // New responses are sealed with the new key only.
    let conflict =
        "mutation { updateOrganization(input: { name: \"Acme\" }) { organization { name } } }";
    let keep = async |app: &App| {
        let request = app.user("acme-owner").post().header("idempotency-key", "later");
        Reply::of(request.json(&json!({ "query": conflict }))).await
    };
    keep(&rotating).await.data();
    let rotated = App::on(database, settings(&[NEW])).await;
    assert_eq!(keep(&rotated).await.headers["idempotency-replayed"], "true");
    keep(&first).await.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    repeat(&rotated, "once").await.assert_refused(409, "IDEMPOTENCY_CONFLICT");
    // The link itself does not depend on a key.
    accept(&rotated, &link).await.data();
}

/// A mail server that accepts everything and returns the text of each e-mail.
async fn mail_server() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let (send, receive) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let send = send.clone();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                let mut email: Option<String> = None;
                write.write_all(b"220 here\r\n").await.unwrap();
                while let Ok(Some(line)) = lines.next_line().await {
                    let response = match &mut email {
                        Some(text) if line == "." => {
                            send.send(std::mem::take(text)).unwrap();
                            email = None;
                            "250 taken\r\n"
                        }
                        Some(text) => {
                            text.push_str(&line);
                            text.push('\n');
                            continue;
                        }
                        None if line == "DATA" => {
                            email = Some(String::new());
                            "354 go on\r\n"
                        }
                        None if line == "QUIT" => break,
                        None => "250 fine\r\n",
                    };
                    write.write_all(response.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url, receive)
}

/// Decodes quoted-printable: a trailing `=` continues a line, and `=3D` is an equals sign.
fn link_in(email: &str) -> String {
    let text = email.replace("=\n", "").replace("=3D", "=");
    let link = text.split_whitespace().find(|word| word.contains("/accept-invitation?token="));
    link.unwrap_or_else(|| panic!("{email}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_in_queued_mail_survive_the_rotation() {
    let database = Database::create().await;
    let mailing = |keys: &[&str]| {
        let mut settings = settings(keys);
        settings.areas.invitation.sends_mail = true;
        settings
    };
    // No server sends mail yet.
    let first = App::on(database.clone(), mailing(&[OLD])).await;
    let data = first.user("acme-owner").data(INVITE).await;
    assert_eq!(data["inviteMember"]["link"], Value::Null);
    drop(first);
    let (url, mut emails) = mail_server().await;
    let mailer = || Some(Mailer::new(&url, "no-reply@tenantry.example").unwrap());
    // Without the key that made it, the link would be invalid, so the e-mail waits.
    let early =
        App::on(database.clone(), AppSettings { mailer: mailer(), ..mailing(&[NEW]) }).await;
    let tried = async {
        let tried = "SELECT count(*) FROM app.outbox WHERE attempts > 0 AND processed_at IS NULL";
        while database.value::<i64>(tried).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(HANG, tried).await.unwrap();
    assert!(emails.try_recv().is_err());
    early.background.stop().await;
    database.execute("UPDATE app.outbox SET due_at = now()").await;
    let rotating =
        App::on(database.clone(), AppSettings { mailer: mailer(), ..mailing(&[NEW, OLD]) }).await;
    let email = tokio::time::timeout(HANG, emails.recv()).await.unwrap().unwrap();
    rotating.background.stop().await;
    let rotated = App::on(database, mailing(&[NEW])).await;
    accept(&rotated, &link_in(&email)).await.data();
}
