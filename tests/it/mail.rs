//! Mail: sent after the commit by one of several servers, repeated until accepted, and not sent for
//! a dead link.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::{clock::Clock, mail::Mailer};

use crate::support::{App, AppSettings, Client, HANG, app, database::Database, node::Script};

/// A mail server, and the clock of the servers that send through it.
pub struct MailServer {
    script: Script,
    url: String,
    pub minutes: Arc<AtomicI64>,
    pub database: Database,
}

impl MailServer {
    /// Returns `None` if npm is not installed.
    pub async fn open() -> Option<Self> {
        let mut script = Script::start("smtp.mjs").await?;
        let port = script.ask(&json!({ "do": "start" }));
        let url = format!("smtp://tenantry:a%20password@127.0.0.1:{port}");
        Some(Self { script, url, minutes: Arc::default(), database: Database::create().await })
    }

    pub async fn server(&self) -> App {
        self.server_with(NonZeroU32::MAX).await
    }

    /// Starts a server with a daily limit of invitation e-mails.
    pub async fn server_with(&self, most: NonZeroU32) -> App {
        let minutes = Arc::clone(&self.minutes);
        let clock = Clock::from_fn(move || {
            Utc::now() + TimeDelta::minutes(minutes.load(Ordering::Relaxed))
        });
        let mailer = Mailer::new(&self.url, "Tenantry <no-reply@tenantry.example>").unwrap();
        let mut settings = AppSettings { clock, mailer: Some(mailer), ..AppSettings::default() };
        settings.areas.invitation.sends_mail = true;
        settings.areas.invitation.max_mails = most;
        App::on(self.database.clone(), settings).await
    }

    pub fn emails(&mut self) -> Vec<Value> {
        self.script.ask(&json!({ "do": "emails" })).as_array().unwrap().clone()
    }

    /// Returns the attempts and errors in the outbox, once every entry is sent or delayed.
    pub async fn outbox(&self, attempts: i32) -> Vec<String> {
        let start = Instant::now();
        loop {
            let rows: Vec<String> = self
                .database
                .value(
                    "SELECT coalesce(array_agg(concat_ws(' ', attempts, CASE WHEN processed_at IS NULL THEN 'waits' ELSE 'done' END,
                         error) ORDER BY created_at), '{}') FROM app.outbox",
                )
                .await;
            let all = |row: &String| {
                row.starts_with(&attempts.to_string()) && (row.contains("done") || row.len() > 8)
            };
            if rows.iter().all(all) {
                return rows;
            }
            assert!(start.elapsed() < HANG, "{rows:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub async fn invite(client: &Client, email: &str) -> Value {
    let query = format!(
        "mutation {{ inviteMember(input: {{ email: \"{email}\", role: MEMBER }}) {{ link invitation {{ id }} }} }}"
    );
    client.query(&query).await.data()["inviteMember"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_reaches_its_recipient_by_mail_only() {
    let Some(mut mail) = MailServer::open().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    let (app, second) = (mail.server().await, mail.server().await);
    let invited = invite(&app.user("acme-admin"), "new.person@example.com").await;
    assert_eq!(invited["link"], Value::Null, "the inviter does not see the link");
    // A mutation that is rolled back sends nothing.
    let both =
        "mutation { inviteMember(input: { email: \"nobody@example.com\", role: VIEWER }) { link }
                  deleteProject(input: { id: \"none\" }) { project { id } } }";
    second.user("acme-admin").query(both).await.assert_failed("NOT_FOUND");
    assert_eq!(mail.outbox(1).await, ["1 done"]);
    let emails = mail.emails();
    assert_eq!(emails.len(), 1, "once, with two servers: {emails:?}");
    let message = &emails[0];
    assert_eq!(message["recipients"], json!(["new.person@example.com"]));
    assert_eq!(message["user"], "tenantry");
    assert_eq!(message["from"], "\"Tenantry\" <no-reply@tenantry.example>");
    assert_eq!(message["subject"], "You are invited to an organization");
    let text = message["text"].as_str().unwrap();
    let token = text.split("token=").nth(1).unwrap().split_whitespace().next().unwrap();
    let stored: String =
        mail.database.value("SELECT string_agg(o::text, '') FROM app.outbox o").await;
    assert!(!stored.contains(token), "the database does not store the token");
    let claims = json!({ "sub": "new", "email": "new.person@example.com", "email_verified": true });
    let guest = app.client(None, Some(app::token_with(&claims)));
    let accept = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { organization { slug } } }";
    let data = guest.query_with(accept, json!({ "token": token })).await.data();
    assert_eq!(data["acceptInvitation"]["organization"]["slug"], "acme");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_international_domain_is_mailed_in_ascii() {
    let Some(mut mail) = MailServer::open().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    let app = mail.server().await;
    invite(&app.user("acme-owner"), "a@b\u{fc}cher.example").await;
    assert_eq!(mail.outbox(1).await, ["1 done"]);
    let emails = mail.emails();
    // The mail server of the tests decodes the domain of the envelope, which is the address below.
    assert_eq!(emails[0]["recipients"], json!(["a@b\u{fc}cher.example"]));
    let text = emails[0]["text"].as_str().unwrap();
    assert!(text.contains("sign in as a@xn--bcher-kva.example:"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_whose_inviter_was_demoted_meanwhile_is_not_sent() {
    let Some(mut mail) = MailServer::open().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    mail.script.ask(&json!({ "do": "refuse", "times": 1 }));
    let app = mail.server().await;
    invite(&app.user("acme-admin"), "a@example.com").await;
    mail.outbox(1).await;
    let members =
        app.user("acme-owner").data("{ organization { members { nodes { id role } } } }").await;
    let members = members["organization"]["members"]["nodes"].as_array().unwrap();
    let admin = &members.iter().find(|member| member["role"] == "ADMIN").unwrap()["id"];
    let demote = "mutation ($id: ID!) { updateMemberRole(input: { id: $id, role: VIEWER }) { member { id } } }";
    app.user("acme-owner").query_with(demote, json!({ "id": admin })).await.data();
    mail.minutes.store(5, Ordering::Relaxed);
    let rows = mail.outbox(2).await;
    assert_eq!(rows, ["2 done the invitation is no longer valid"]);
    assert!(mail.emails().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_whose_address_cannot_be_mailed_is_given_up_at_once() {
    let Some(mut mail) = MailServer::open().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    mail.script.ask(&json!({ "do": "refuse", "times": 1 }));
    let app = mail.server().await;
    invite(&app.user("acme-owner"), "a@example.com").await;
    mail.outbox(1).await;
    // As a version without this check accepted it.
    mail.database.execute("UPDATE auth.invitations SET email = 'a..b@example.com'").await;
    mail.minutes.store(5, Ordering::Relaxed);
    assert_eq!(mail.outbox(2).await, ["2 done no e-mail can be sent to this address"]);
    assert!(mail.emails().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_email_is_sent_later() {
    let Some(mut mail) = MailServer::open().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    mail.script.ask(&json!({ "do": "refuse", "times": 2 }));
    let app = mail.server().await;
    invite(&app.user("acme-owner"), "a@example.com").await;
    let rows = mail.outbox(1).await;
    assert!(rows[0].starts_with("1 waits") && rows[0].contains("busy"), "{rows:?}");
    mail.minutes.store(1, Ordering::Relaxed);
    mail.outbox(2).await;
    assert!(mail.emails().is_empty());
    mail.minutes.store(2, Ordering::Relaxed);
    assert_eq!(mail.outbox(3).await[0].split(' ').take(2).collect::<Vec<_>>(), ["3", "done"]);
    assert_eq!(mail.emails().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_with_a_dead_link_is_not_sent() {
    let Some(mut mail) = MailServer::open().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    mail.script.ask(&json!({ "do": "refuse", "times": 2 }));
    let app = mail.server().await;
    let owner = app.user("acme-owner");
    let (gone, again) =
        (invite(&owner, "gone@example.com").await, invite(&owner, "again@example.com").await);
    mail.outbox(1).await;
    let with = |mutation: &str, invited: &Value| {
        let id = invited["invitation"]["id"].as_str().unwrap();
        format!("mutation {{ {mutation}(input: {{ id: \"{id}\" }}) {{ invitation {{ id }} }} }}")
    };
    owner.query(&with("revokeInvitation", &gone)).await.data();
    owner.query(&with("resendInvitation", &again)).await.data();
    let start = Instant::now();
    while mail.emails().is_empty() {
        assert!(start.elapsed() < HANG, "the resent e-mail is sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    mail.minutes.store(1, Ordering::Relaxed);
    let sql = "SELECT count(*) FROM app.outbox WHERE error LIKE '%no longer valid%' AND processed_at IS NOT NULL";
    while mail.database.value::<i64>(sql).await < 2 {
        assert!(start.elapsed() < HANG, "both first e-mails are dropped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let emails = mail.emails();
    assert_eq!(emails.len(), 1);
    assert_eq!(emails[0]["recipients"], json!(["again@example.com"]));
}
