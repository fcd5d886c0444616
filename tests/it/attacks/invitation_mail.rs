//! Invitations are e-mails to strangers in the operator's name. A user can neither choose their
//! text nor have an unlimited number sent.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tenantry::clock::Clock;

use crate::{
    mail::{MailServer, invite},
    support::{
        App, AppSettings, Reply, app::token_with, database::Database,
        placement::organizations_in_eu,
    },
};

const LIMIT: u32 = 3;

/// Starts a server that sends invitations, with a clock that `hours` moves.
async fn server(database: &Database, hours: &Arc<AtomicI64>) -> App {
    let hours = Arc::clone(hours);
    let clock =
        Clock::from_fn(move || Utc::now() + TimeDelta::hours(hours.load(Ordering::Relaxed)));
    let mut settings = AppSettings { clock, ..AppSettings::default() };
    settings.areas.invitation.sends_mail = true;
    settings.areas.invitation.max_mails = NonZeroU32::new(LIMIT).unwrap();
    App::on(database.clone(), settings).await
}

async fn unlimited_seats() -> Database {
    let database = Database::create().await;
    database.execute("UPDATE billing.plan_features SET limit_value = NULL").await;
    database
}

fn invitation(number: u32) -> String {
    format!(
        "mutation {{ inviteMember(input: {{ email: \"victim-{number}@example.com\", role: VIEWER }}) {{ invitation {{ id }} }} }}"
    )
}

fn with(mutation: &str, id: &str) -> String {
    format!("mutation {{ {mutation}(input: {{ id: \"{id}\" }}) {{ invitation {{ id }} }} }}")
}

#[track_caller]
fn is_refused(reply: &Reply) {
    assert_eq!(reply.codes(), ["RATE_LIMITED"], "{reply:?}");
    let wait = reply.body["errors"][0]["extensions"]["retryAfter"].as_i64().unwrap();
    assert!((1..=86_400).contains(&wait), "{reply:?}");
}

async fn emails(database: &Database) -> i64 {
    database.value("SELECT count(*) FROM app.outbox WHERE kind = 'invitation_mail'").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_adds_neither_a_subject_nor_a_link_nor_a_message() {
    let Some(mut mail) = MailServer::open().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    let app = mail.server().await;
    let name =
        "Your bank” account is locked: open https://evil.example/login or www.evil.example now";
    let rename = "mutation ($name: String!) { updateOrganization(input: { name: $name }) { organization { name } } }";
    app.user("acme-owner").query_with(rename, json!({ "name": name })).await.data();
    // A dedicated database of acme has a copy of the user.
    let tables: &[&str] = if organizations_in_eu().is_empty() {
        &["auth.users"]
    } else {
        &["auth.users", "eu.users"]
    };
    for table in tables {
        let inviter = format!(
            "UPDATE {table} SET name = E'Support\\r\\nBcc: all@evil.example\\r\\n\\r\\nPay at evil.example'
             WHERE email = 'acme-admin@example.com'"
        );
        mail.database.execute(&inviter).await;
    }
    invite(&app.user("acme-admin"), "victim@example.com").await;
    mail.outbox(1).await;
    let emails = mail.emails();
    assert_eq!(emails.len(), 1);
    assert_eq!(emails[0]["subject"], "You are invited to an organization");
    assert_eq!(emails[0]["recipients"], json!(["victim@example.com"]));
    let text = emails[0]["text"].as_str().unwrap();
    let opening = text.lines().next().unwrap();
    assert!(
        opening.starts_with("“Support Bcc: all at evil. example Pay at evil. example” invites")
    );
    assert!(
        opening.contains("the organization “Your bank' account is locked: open https: //evil. e")
    );
    assert_eq!(opening.matches(['“', '”']).count(), 4, "{opening}");
    assert!(!text.contains("evil.example"), "{text}");
    let links: Vec<_> = text.split_whitespace().filter(|word| word.contains("://")).collect();
    assert_eq!(links.len(), 1, "{text}");
    assert!(links[0].starts_with("https://app.example/accept-invitation?token="), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daily_limit_of_an_organization_includes_resent_invitations() {
    let (database, hours) = (unlimited_seats().await, Arc::new(AtomicI64::new(0)));
    let app = server(&database, &hours).await;
    let admin = app.user("acme-admin");
    let first = admin.query(&invitation(1)).await.data();
    let first = first["inviteMember"]["invitation"]["id"].as_str().unwrap().to_owned();
    admin.query(&invitation(2)).await.data();
    admin.query(&with("resendInvitation", &first)).await.data();
    // Neither a revocation nor another server nor another user raises the limit.
    admin.query(&with("revokeInvitation", &first)).await.data();
    let before = database.fingerprint().await;
    let second = server(&database, &hours).await;
    for client in [&admin, &app.user("acme-owner"), &second.user("acme-admin")] {
        is_refused(&client.query(&invitation(3)).await);
    }
    let open = "{ organization { invitations { nodes { id } } } }";
    let open = admin.data(open).await["organization"]["invitations"]["nodes"][0]["id"].clone();
    is_refused(
        &second.user("acme-owner").query(&with("resendInvitation", open.as_str().unwrap())).await,
    );
    assert_eq!(database.fingerprint().await, before);
    assert_eq!(emails(&database).await, i64::from(LIMIT));
    // Each organization has a separate count, which a new day resets.
    app.user("globex-owner").query(&invitation(1)).await.data();
    hours.store(25, Ordering::Relaxed);
    let claims = json!({ "sub": "acme-admin", "exp": 4_000_000_000_i64 });
    let admin = app.client(Some("acme"), Some(token_with(&claims)));
    admin.query(&invitation(3)).await.data();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_invitations_keep_to_the_limit() {
    let (database, hours) = (unlimited_seats().await, Arc::new(AtomicI64::new(0)));
    let servers = [server(&database, &hours).await, server(&database, &hours).await];
    let clients = servers.each_ref().map(|app| app.user("acme-admin"));
    let calls = (0..12_u32).map(|number| {
        let client = &clients[usize::try_from(number % 2).unwrap()];
        async move { client.query(&invitation(number)).await }
    });
    let replies = futures_util::future::join_all(calls).await;
    let sent = replies.iter().filter(|reply| reply.codes().is_empty()).count();
    assert_eq!(sent, usize::try_from(LIMIT).unwrap(), "{replies:?}");
    assert_eq!(emails(&database).await, i64::from(LIMIT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_cannot_exceed_the_limit() {
    let (database, hours) = (unlimited_seats().await, Arc::new(AtomicI64::new(0)));
    let app = server(&database, &hours).await;
    let many = (0..=LIMIT).map(|number| {
        format!("i{number}: inviteMember(input: {{ email: \"v{number}@example.com\", role: VIEWER }}) {{ link }} ")
    });
    let many = format!("mutation {{ {} }}", many.collect::<String>());
    is_refused(&app.user("acme-admin").query(&many).await);
    assert_eq!(emails(&database).await, 0, "all or nothing");
}
