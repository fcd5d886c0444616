//! `tenantry tenant import` of a file without this installation's signature: it assigns no
//! addresses to users, makes no existing user a member, and changes no organization.

use serde_json::{Value, json};

use crate::{
    support::{
        App,
        app::token_with,
        process::{Output, run},
    },
    tenant::{ACME, SECRET_KEY, command, failed, prepared, start, succeeded},
};

const WHO: &str = "{ viewer { id email memberships { slug role } } }";

/// An export of acme with a chief executive as member, taken before acme and its users were
/// deleted.
struct Backup {
    app: App,
    folder: tempfile::TempDir,
    text: String,
}

impl Backup {
    async fn take() -> Option<Self> {
        let app = start().await?;
        app.database
            .execute(&format!(
                "INSERT INTO auth.users (id, email, name) VALUES ('{ACME}', 'ceo@bigcorp.example', 'CEO');
                 INSERT INTO auth.identities (issuer, subject, user_id, email, updated_at)
                     VALUES ('', 'old-ceo', '{ACME}', 'ceo@bigcorp.example', now() - interval '1 hour');
                 INSERT INTO auth.organization_members (organization_id, id, user_id, role) VALUES ('{ACME}', gen_random_uuid(), '{ACME}', 'owner')"
            ))
            .await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("acme.jsonl");
        succeeded(
            &command(&app.database, &["tenant", "export", "acme", file.to_str().unwrap()]).await,
        );
        app.user("acme-owner")
            .data("mutation { deleteOrganization(input: { slug: \"acme\" }) { organization { id } } }")
            .await;
        let text = std::fs::read_to_string(file).unwrap();
        Some(Self { app, folder, text })
    }

    async fn import(&self, text: &str, options: &[&str]) -> Output {
        self.import_with(text, options, &[]).await
    }

    async fn import_with(&self, text: &str, options: &[&str], env: &[(&str, &str)]) -> Output {
        let file = self.folder.path().join("import.jsonl");
        std::fs::write(&file, text).unwrap();
        let mut command = prepared(&self.app.database, &["tenant", "import"]);
        command.arg(file).args(options).envs(env.iter().copied());
        tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
    }

    /// Deletes every user that the file names.
    async fn delete_users(&self) {
        let sql = "DELETE FROM auth.users WHERE email LIKE 'acme-%' OR name = 'CEO'";
        self.app.database.execute(sql).await;
    }

    /// Returns the user who signs in with this subject and verified address.
    async fn viewer(&self, subject: &str, email: &str) -> Value {
        let now = chrono::Utc::now().timestamp();
        let claims = json!({ "sub": subject, "email": email, "email_verified": true, "iat": now });
        let client = self.app.client(None, Some(token_with(&claims)));
        client.data(WHO).await["viewer"].clone()
    }
}

/// Edits the lines of the file, which are JSON.
fn edited(text: &str, edit: impl Fn(&mut Vec<Value>)) -> String {
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    edit(&mut lines);
    lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_file_is_rejected_and_changes_nothing() {
    let Some(backup) = Backup::take().await else { return };
    let before = backup.app.database.fingerprint().await;
    let planted = |lines: &mut Vec<Value>| {
        let of = |table| lines.iter().position(|line| line["table"] == table).unwrap();
        let mut member = lines[of("auth.organization_members")].clone();
        member["row"]["id"] = json!("00000000-0000-4000-8000-0000000000aa");
        let owner = "00000000-0000-4000-8000-0000000000ff";
        member["row"]["user_id"] = json!(owner);
        let mut user = lines[of("auth.users")].clone();
        (user["row"]["id"], user["row"]["email"]) = (json!(owner), json!("new@bigcorp.example"));
        let billing = of("billing.organization_billing");
        let (users, members) = (of("auth.users"), of("auth.organization_members"));
        lines[billing]["row"]["plan"] = json!("enterprise");
        lines.insert(members, member);
        lines.insert(users, user);
        for total in lines.iter_mut().find_map(|line| line["totals"].as_array_mut()).unwrap() {
            if ["auth.users", "auth.organization_members"]
                .contains(&total["table"].as_str().unwrap())
            {
                total["rows"] = json!(total["rows"].as_i64().unwrap() + 1);
            }
            total["checksum"] = Value::Null;
        }
    };
    let file = edited(&backup.text, planted);
    let unsigned = edited(&file, |lines| drop(lines.pop()));
    let renamed = edited(&backup.text, |lines| {
        let project = lines.iter_mut().find(|line| line["table"] == "app.projects").unwrap();
        project["row"]["name"] = json!("Rocket boots!");
    });
    let invalid = "the signature of the export is not valid";
    for (text, reason) in [
        (&file, invalid),
        (&renamed, invalid),
        (&unsigned, "the export is not signed"),
        (&format!("{}{{}}\n", backup.text), "continues after its end"),
    ] {
        failed(&backup.import(text, &[]).await, reason);
    }
    for key in ["EXPORT_KEY", "SECRET_KEY"] {
        let other = [(key, "another secret key for tests with thirty-two bytes")];
        failed(&backup.import_with(&backup.text, &[], &other).await, invalid);
    }
    failed(
        &backup.import_with(&backup.text, &[], &[("SECRET_KEY", "")]).await,
        "neither EXPORT_KEY nor SECRET_KEY is set",
    );
    // The row counts of an unsigned file are still checked for every table.
    let options = ["--unsigned", "--trust-members"];
    failed(&backup.import(&file, &options).await, "has no checksum");
    failed(&backup.import(&renamed, &options).await, "app.projects: the export has");
    assert_eq!(backup.app.database.fingerprint().await, before);
    succeeded(&backup.import(&backup.text, &[]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_user_returns_by_identity_and_never_by_address() {
    let Some(backup) = Backup::take().await else { return };
    backup.delete_users().await;
    let output = backup.import(&backup.text, &[]).await;
    assert!(!succeeded(&output).contains("cannot sign in"), "{}", output.stdout);
    // The address in the file proves nothing: its holder today is another user.
    let owner = backup.viewer("new-ceo", "ceo@bigcorp.example").await;
    assert_eq!(owner["memberships"], json!([]));
    let member = backup.viewer("old-ceo", "old.ceo@elsewhere.example").await;
    assert_eq!(member["id"].as_str().unwrap(), ACME);
    assert_eq!(member["email"], "old.ceo@elsewhere.example");
    assert_eq!(member["memberships"], json!([{ "slug": "acme", "role": "OWNER" }]));
    backup.app.user("acme-owner").data("{ organization { slug } }").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_now_has_another_user_stays_with_that_user() {
    let Some(backup) = Backup::take().await else { return };
    backup.delete_users().await;
    let again = backup.viewer("old-ceo", "ceo@bigcorp.example").await;
    let output = backup.import(&backup.text, &[]).await;
    assert!(succeeded(&output).contains("members without an identity cannot sign in: CEO (owner)"));
    let viewer = backup.viewer("old-ceo", "ceo@bigcorp.example").await;
    assert_eq!((&viewer["id"], &viewer["memberships"]), (&again["id"], &json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsigned_file_gives_users_neither_an_address_nor_an_identity() {
    let Some(backup) = Backup::take().await else { return };
    backup.delete_users().await;
    let output = backup.import(&backup.text, &["--unsigned"]).await;
    assert!(succeeded(&output).contains("CEO (owner)"), "{}", output.stdout);
    for subject in ["new-ceo", "old-ceo"] {
        let viewer = backup.viewer(subject, "ceo@bigcorp.example").await;
        assert_eq!(viewer["memberships"], json!([]), "{subject}");
    }
    let log =
        "SELECT metadata->>'signed' FROM audit.audit_logs WHERE action = 'organization.restored'";
    assert_eq!(backup.app.database.value::<String>(log).await, "false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsigned_file_makes_existing_users_members_only_with_the_option() {
    let Some(backup) = Backup::take().await else { return };
    let before = backup.app.database.fingerprint().await;
    let output = backup.import(&backup.text, &["--unsigned"]).await;
    failed(&output, "makes existing users members");
    failed(&output, "acme-owner@example.com (owner)");
    assert_eq!(backup.app.database.fingerprint().await, before);
    succeeded(&backup.import(&backup.text, &["--unsigned", "--trust-members"]).await);
    backup.app.user("acme-owner").data("{ organization { slug } }").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_outlives_the_rotation_of_its_key() {
    let Some(backup) = Backup::take().await else { return };
    let new = "a new secret key for tests with thirty-two bytes";
    failed(&backup.import_with(&backup.text, &[], &[("EXPORT_KEY", new)]).await, "not valid");
    let both = format!("{new},{SECRET_KEY}");
    succeeded(&backup.import_with(&backup.text, &[], &[("SECRET_KEY", &both)]).await);
}
