//! Account linking: an attacker tries to be linked to another user's account by an address that
//! changed hands, by another issuer that vouches for it, or unnoticed.

use std::time::Duration;

use futures_util::future::join;
use serde_json::{Value, json};
use tenantry::tenancy::AccountLinking;

use crate::{
    databases::acme_in_eu,
    support::{
        App, AppSettings, Client, HANG, Reply,
        app::{now, token_with},
        database::Database,
        dedicated::DedicatedDatabase,
        placement::{self, ACME},
    },
};

const VIEWER: &str = "{ viewer { id email identities { id issuer subject email linkedAt } } }";
const UNLINK: &str = "mutation ($id: ID!) { unlinkIdentity(input: { id: $id }) { viewer { identities { subject } } } }";

async fn app(linking: AccountLinking) -> App {
    App::with(settings(linking)).await
}

fn settings(linking: AccountLinking) -> AppSettings {
    AppSettings { account_linking: linking, ..AppSettings::default() }
}

/// Returns a client whose token has a verified address and is `age` seconds old.
fn identity(app: &App, issuer: &str, subject: &str, email: &str, age: f64) -> Client {
    let claims = json!({ "iss": issuer, "sub": subject, "email": email, "email_verified": true, "iat": now() - age });
    app.client(None, Some(token_with(&claims)))
}

async fn viewer(client: &Client) -> Value {
    client.data(VIEWER).await["viewer"].clone()
}

async fn invite(app: &App, email: &str) -> String {
    let invite = "mutation ($email: String!) { inviteMember(input: { email: $email, role: MEMBER }) { link } }";
    let reply = app.user("acme-owner").query_with(invite, json!({ "email": email })).await.data();
    let link = reply["inviteMember"]["link"].as_str().unwrap();
    link.split_once("token=").unwrap().1.to_owned()
}

async fn accept(client: &Client, token: &str) -> Reply {
    let accept = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { member { id } } }";
    client.query_with(accept, json!({ "token": token })).await
}

/// Returns the entries about identities in acme's audit log, oldest first.
async fn recorded(app: &App) -> Vec<Value> {
    let log = "{ organization { auditLogs(filter: { resourceType: \"user\" }, first: 10) {
        nodes { action actorName metadata } } } }";
    let data = app.user("acme-owner").data(log).await;
    let mut entries = data["organization"]["auditLogs"]["nodes"].as_array().unwrap().clone();
    entries.reverse();
    entries
}

fn entry(action: &str, actor: &str, issuer: &str, email: &str) -> Value {
    json!({ "action": action, "actorName": actor, "metadata": { "issuer": issuer, "email": email } })
}

#[tokio::test]
async fn an_older_token_neither_reclaims_an_address_nor_uses_it() {
    let app = app(AccountLinking::VerifiedEmail).await;
    let older = identity(&app, "i", "alice", "shared@corp.example", 300.0);
    let alice = viewer(&older).await;
    let newer = identity(&app, "i", "alice", "alice@corp.example", 200.0);
    assert_eq!(viewer(&newer).await["email"], "alice@corp.example");
    for _ in 0..2 {
        let seen = viewer(&older).await;
        assert_eq!((&seen["id"], &seen["email"]), (&alice["id"], &json!("alice@corp.example")));
    }
    // The next holder of the address is another user and stays one, regardless of the older token.
    let next = identity(&app, "i", "alan", "shared@corp.example", 100.0);
    let alan = viewer(&next).await;
    assert_ne!(alan["id"], alice["id"]);
    assert_eq!(viewer(&older).await["email"], "alice@corp.example");
    assert_eq!(viewer(&next).await, alan);
    let invitation = invite(&app, "shared@corp.example").await;
    accept(&older, &invitation).await.assert_failed("WRONG_ACCOUNT");
    accept(&next, &invitation).await.data();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_takes_no_address_back_that_a_newer_one_changes_meanwhile() {
    let database = Database::create().await;
    // The request waits until the test continues, even on a slow machine.
    let name = &database.name;
    let patient = format!("ALTER ROLE tenantry_app IN DATABASE {name} SET lock_timeout = 0");
    database.execute(&patient).await;
    let app = App::on(database, settings(AccountLinking::Never)).await;
    viewer(&identity(&app, "i", "alice", "alice@corp.example", 300.0)).await;
    // Does what auth.provision_user does for a token that is a hundred seconds old.
    let newer = app.database.connect_admin().await;
    newer
        .batch("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended(E'i\\nalice', 0));
             UPDATE auth.identities SET email = 'new@corp.example', issued_at = now() - interval '100 s'
                 WHERE (issuer, subject) = ('i', 'alice');
             UPDATE auth.users SET email = 'new@corp.example' WHERE email = 'alice@corp.example'")
        .await
        .unwrap();
    // Newer than everything that was committed when its request began.
    let older = identity(&app, "i", "alice", "old@corp.example", 200.0);
    let asking = tokio::spawn(async move { viewer(&older).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND usename = 'tenantry_app' AND wait_event = 'advisory'";
    while app.database.exactly::<i64>(waiting).await == 0 {
        assert!(!asking.is_finished(), "the request does not wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    newer.batch("COMMIT").await.unwrap();
    // A query that waits too long is answered without the token being recorded.
    let seen = tokio::time::timeout(HANG, asking).await.unwrap().unwrap();
    assert_ne!(seen["email"], "old@corp.example");
    let stored = "SELECT email FROM auth.identities WHERE (issuer, subject) = ('i', 'alice')";
    assert_eq!(app.database.value::<String>(stored).await, "new@corp.example");
}

#[tokio::test]
async fn a_token_older_than_the_last_one_seen_changes_nothing() {
    let app = app(AccountLinking::Never).await;
    let first = identity(&app, "i", "alice", "alice@corp.example", 300.0);
    for _ in 0..2 {
        viewer(&first).await;
    }
    // The same address, so that the session that is cached for the first token fits as well.
    let newest = identity(&app, "i", "alice", "alice@corp.example", 100.0);
    let alice = viewer(&newest).await;
    let between = identity(&app, "i", "alice", "former@corp.example", 200.0);
    for _ in 0..2 {
        assert_eq!(viewer(&between).await, alice);
    }
    let invitation = invite(&app, "former@corp.example").await;
    accept(&between, &invitation).await.assert_failed("WRONG_ACCOUNT");
    // A token that was seen before, or one of the same minute, writes nothing.
    let seen = "SELECT xmin::text FROM auth.identities WHERE subject = 'alice'";
    let before = app.database.value::<String>(seen).await;
    for age in [100.0, 70.0, 100.0] {
        viewer(&identity(&app, "i", "alice", "alice@corp.example", age)).await;
    }
    assert_eq!(app.database.value::<String>(seen).await, before);
    // A token without an address counts as well.
    let claims = json!({ "iss": "i", "sub": "alice", "iat": now() });
    viewer(&app.client(None, Some(token_with(&claims)))).await;
    let late = identity(&app, "i", "alice", "former@corp.example", 30.0);
    assert_eq!(viewer(&late).await, alice);
}

#[tokio::test]
async fn a_newer_token_reads_while_the_database_takes_no_changes() {
    let app = app(AccountLinking::Never).await;
    let alice = viewer(&identity(&app, "i", "alice", "alice@corp.example", 300.0)).await;
    // The user came back after an erasure, so the time of each token counts.
    let erased =
        "UPDATE auth.identities SET not_before = now() - interval '400 s' WHERE subject = 'alice'";
    app.database.execute(erased).await;
    let name = &app.database.name;
    let read_only = |value: &str| {
        format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = {value};
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND usename = 'tenantry_app'"
        )
    };
    app.database.execute(&read_only("on")).await;
    let newer = identity(&app, "i", "alice", "former@corp.example", 100.0);
    for _ in 0..2 {
        assert_eq!(viewer(&newer).await, alice, "it changes nothing");
    }
    let admin = app.database.connect_admin().await;
    for sql in ["SET default_transaction_read_only = off", &read_only("off")] {
        admin.batch(sql).await.unwrap();
    }
    assert_eq!(viewer(&newer).await["email"], "former@corp.example");
}

#[tokio::test]
async fn an_old_token_of_a_new_identity_is_not_linked_to_the_address_holder() {
    let app = app(AccountLinking::VerifiedEmail).await;
    let holder = viewer(&identity(&app, "i", "alan", "shared@corp.example", 100.0)).await;
    let old = viewer(&identity(&app, "i", "alice", "shared@corp.example", 200.0)).await;
    assert_ne!(old["id"], holder["id"]);
    let newer = viewer(&identity(&app, "i", "alan-2", "shared@corp.example", 0.0)).await;
    assert_eq!(newer["id"], holder["id"]);
}

#[tokio::test]
async fn a_token_without_iat_changes_no_address_and_links_nothing() {
    let app = app(AccountLinking::VerifiedEmail).await;
    let timeless = |subject: &str, email: &str| {
        let claims = json!({ "iss": "i", "sub": subject, "email": email, "email_verified": true, "exp": now() + 3_600.0 });
        app.client(None, Some(token_with(&claims)))
    };
    let first = viewer(&timeless("alice", "a@corp.example")).await;
    assert_eq!(first["email"], "a@corp.example");
    let changed = viewer(&timeless("alice", "b@corp.example")).await;
    assert_eq!((&changed["id"], &changed["email"]), (&first["id"], &first["email"]));
    assert_ne!(viewer(&timeless("alan", "a@corp.example")).await["id"], first["id"]);
}

#[tokio::test]
async fn by_default_each_identity_is_a_separate_user() {
    assert_eq!(AppSettings::default().account_linking, AccountLinking::Never);
    let app = App::start().await;
    let email = "shared@corp.example";
    let clients = [("i", "one"), ("i", "two"), ("other", "one")]
        .map(|(issuer, subject)| identity(&app, issuer, subject, email, 0.0));
    let mut ids = Vec::new();
    for client in &clients {
        let viewer = viewer(client).await;
        assert_eq!(viewer["email"], email, "of the token");
        assert_eq!(viewer["identities"].as_array().unwrap().len(), 1);
        assert!(!ids.contains(&viewer["id"]), "{viewer}");
        ids.push(viewer["id"].clone());
    }
    // Others see the address at its first holder. Invitations follow the token.
    let invitation = invite(&app, email).await;
    accept(&clients[1], &invitation).await.data();
    let members = "{ organization { members(first: 1) { nodes { user { id email } } } } }";
    let newest = &app.user("acme-owner").data(members).await["organization"]["members"]["nodes"][0];
    assert_eq!(newest["user"], json!({ "id": ids[1], "email": null }));
}

#[tokio::test]
async fn linking_within_an_issuer_does_not_cross_issuers() {
    let app = app(AccountLinking::SameIssuer).await;
    let email = "alice@corp.example";
    let alice = viewer(&identity(&app, "i", "one", email, 100.0)).await;
    let foreign = viewer(&identity(&app, "evil", "one", email, 0.0)).await;
    assert_ne!(foreign["id"], alice["id"]);
    let again = viewer(&identity(&app, "i", "two", email, 0.0)).await;
    assert_eq!(again["id"], alice["id"]);
    // Another issuer vouches for another user's address, so no identity of this issuer is linked to
    // it.
    let bob = viewer(&identity(&app, "other", "bob", "bob@corp.example", 100.0)).await;
    assert_ne!(viewer(&identity(&app, "i", "bob", "bob@corp.example", 0.0)).await["id"], bob["id"]);
}

#[tokio::test]
async fn a_link_is_recorded_listed_and_can_be_undone() {
    let app = app(AccountLinking::VerifiedEmail).await;
    let email = "alice@corp.example";
    let first = identity(&app, "i", "one", email, 100.0);
    accept(&first, &invite(&app, email).await).await.data();
    assert_eq!(recorded(&app).await, Vec::<Value>::new());
    let second = identity(&app, "other", "two", email, 0.0);
    let seen = viewer(&second).await;
    let identities = seen["identities"].as_array().unwrap();
    let entries: Vec<_> =
        identities.iter().map(|one| (&one["issuer"], &one["subject"], &one["email"])).collect();
    assert_eq!(
        entries,
        [
            (&json!("i"), &json!("one"), &json!(email)),
            (&json!("other"), &json!("two"), &json!(email))
        ]
    );
    let linked = entry("user.identity_linked", email, "other", email);
    assert_eq!(recorded(&app).await, std::slice::from_ref(&linked));

    // A user can unlink neither the identity in use, which is always the last one, nor another
    // user's identity.
    let [first_id, second_id] = [0, 1].map(|at| identities[at]["id"].clone());
    let outsider = identity(&app, "i", "outsider", "outsider@corp.example", 0.0);
    let before = app.database.fingerprint().await;
    second.query_with(UNLINK, json!({ "id": second_id })).await.assert_failed("CONFLICT");
    for id in [&first_id, &json!("nonsense")] {
        outsider.query_with(UNLINK, json!({ "id": id })).await.assert_failed("NOT_FOUND");
    }
    let after = app.database.fingerprint().await;
    let changed = after.iter().filter(|digest| !before.contains(digest));
    let changed: Vec<_> = changed.map(|(table, _)| table.as_str()).collect();
    assert_eq!(changed, ["auth.identities", "auth.users"], "the outsider is a new user");

    let left = first.query_with(UNLINK, json!({ "id": second_id })).await.data();
    assert_eq!(left["unlinkIdentity"]["viewer"]["identities"], json!([{ "subject": "one" }]));
    let unlinked = entry("user.identity_unlinked", email, "other", email);
    assert_eq!(recorded(&app).await, [linked, unlinked]);
    // The unlinked identity loses access with the next request: its older token creates a new user
    // without memberships.
    let now = viewer(&second).await;
    assert_ne!(now["id"], seen["id"]);
    let claims = json!({ "iss": "other", "sub": "two" });
    let inside = app.client(Some("acme"), Some(token_with(&claims)));
    inside.query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_identities_that_unlink_each_other_leave_one() {
    let app = app(AccountLinking::SameIssuer).await;
    let email = "alice@corp.example";
    let clients =
        [identity(&app, "i", "one", email, 100.0), identity(&app, "i", "two", email, 0.0)];
    viewer(&clients[0]).await;
    let seen = viewer(&clients[1]).await;
    let ids = [0, 1].map(|at| seen["identities"][at]["id"].clone());
    let (one, other) = join(
        clients[0].query_with(UNLINK, json!({ "id": ids[1] })),
        clients[1].query_with(UNLINK, json!({ "id": ids[0] })),
    )
    .await;
    let done = [&one, &other].iter().filter(|reply| reply.codes().is_empty()).count();
    assert_eq!(done, 1, "{one:?} {other:?}");
    let left = format!(
        "SELECT count(*) FROM auth.identities WHERE user_id = '{}'",
        seen["id"].as_str().unwrap()
    );
    assert_eq!(app.database.value::<i64>(&left).await, 1);
}

/// A command that moves an organization holds its placement, then locks its members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unlinking_and_linking_wait_for_a_move_without_a_lock_in_hand() {
    if !placement::all_are_shared() {
        return;
    }
    let app = app(AccountLinking::SameIssuer).await;
    let email = "alice@corp.example";
    let first = identity(&app, "i", "one", email, 200.0);
    accept(&first, &invite(&app, email).await).await.data();
    let seen = viewer(&identity(&app, "i", "two", email, 100.0)).await;
    let user = seen["id"].as_str().unwrap();
    let unlink = first
        .post()
        .json(&json!({ "query": UNLINK, "variables": { "id": seen["identities"][1]["id"] } }));
    let link = identity(&app, "i", "three", email, 0.0);
    let link = link.post().json(&json!({ "query": VIEWER }));
    for request in [unlink, link] {
        let mover = app.database.connect_admin().await;
        let run = async |sql: String| {
            mover.batch(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        };
        run("BEGIN; SET LOCAL lock_timeout = '30s'".to_owned()).await;
        run(format!("SELECT pg_advisory_xact_lock(app.placement_lock('{ACME}'))")).await;
        let waiting = tokio::spawn(Reply::of(request));
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND usename = 'tenantry_app' AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
        while app.database.value::<i64>(waits).await == 0 {
            assert!(!waiting.is_finished(), "it does not wait");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A waiting session here could deadlock with the one that waits for this one, so NOWAIT.
        run(format!("SELECT FROM auth.users WHERE id = '{user}' FOR SHARE NOWAIT")).await;
        run("COMMIT".to_owned()).await;
        waiting.await.unwrap().data();
    }
    let actions: Vec<_> =
        recorded(&app).await.iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["user.identity_linked", "user.identity_unlinked", "user.identity_linked"]);
}

#[tokio::test]
async fn a_link_is_recorded_in_a_dedicated_schema() {
    if !placement::all_are_shared() {
        return;
    }
    let app = app(AccountLinking::SameIssuer).await;
    placement::move_to_schema(&app.database.connect_admin().await, ACME.parse().unwrap()).await;
    let email = "alice@corp.example";
    accept(&identity(&app, "i", "one", email, 100.0), &invite(&app, email).await).await.data();
    viewer(&identity(&app, "i", "two", email, 0.0)).await;
    assert_eq!(recorded(&app).await, [entry("user.identity_linked", email, "i", email)]);
    let shared = "SELECT count(*) FROM audit.audit_logs WHERE action LIKE 'user.%'";
    assert_eq!(app.database.exactly::<i64>(shared).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_recorded_in_a_dedicated_database_before_it_takes_effect_there() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let app = App::on(
        control,
        AppSettings { dedicated: vec![eu.clone()], ..settings(AccountLinking::SameIssuer) },
    )
    .await;
    let email = "alice@corp.example";
    accept(&identity(&app, "i", "one", email, 100.0), &invite(&app, email).await).await.data();
    let inside = |subject: &str| {
        let claims = json!({ "iss": "i", "sub": subject, "email": email, "email_verified": true });
        app.client(Some("acme"), Some(token_with(&claims)))
    };
    let seen = inside("two").data(VIEWER).await["viewer"].clone();
    assert_eq!(seen["identities"].as_array().unwrap().len(), 2);
    let linked = entry("user.identity_linked", email, "i", email);
    assert_eq!(recorded(&app).await, std::slice::from_ref(&linked));
    // The request acts in the organization, whose database is another one.
    let id = &seen["identities"][1]["id"];
    let data = inside("one").query_with(UNLINK, json!({ "id": id })).await.data();
    assert_eq!(data["unlinkIdentity"]["viewer"]["identities"], json!([{ "subject": "one" }]));
    // Directory sync copies the change to the other database at once, not at its next poll, which
    // is every ten seconds.
    let entries = async {
        while recorded(&app).await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        recorded(&app).await
    };
    let at_once = Duration::from_secs(8);
    let entries = tokio::time::timeout(at_once, entries).await.unwrap();
    assert_eq!(entries, [linked, entry("user.identity_unlinked", email, "i", email)]);
    inside("two").query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
}

/// What the databases know of an identity, and the transaction that wrote it.
async fn known(app: &App, eu: &DedicatedDatabase) -> [(String, String); 2] {
    let sql =
        "SELECT concat(issued_at, email) || ';' || xmin FROM auth.identities WHERE subject = 'one'";
    let mut known = Vec::new();
    for database in [&app.database, &eu.database] {
        let text = database.exactly::<String>(sql).await;
        let (identity, written) = text.split_once(';').unwrap();
        known.push((identity.to_owned(), written.to_owned()));
    }
    known.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dedicated_database_tells_older_tokens_apart_as_well() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let settings =
        AppSettings { dedicated: vec![eu.clone()], ..settings(AccountLinking::SameIssuer) };
    let app = App::on(control, settings).await;
    let email = "alice@corp.example";
    accept(&identity(&app, "i", "one", email, 300.0), &invite(&app, email).await).await.data();
    let inside = |email: &str, age: f64| {
        let claims = json!({ "iss": "i", "sub": "one", "email": email, "email_verified": true, "iat": now() - age });
        app.client(Some("acme"), Some(token_with(&claims)))
    };
    let newest = inside(email, 100.0);
    let alice = viewer(&newest).await;
    let before = known(&app, &eu).await;
    assert_eq!(before[0].0, before[1].0);
    // Nothing is written again.
    for client in [&newest, &inside(email, 70.0), &newest] {
        assert_eq!(viewer(client).await, alice);
    }
    assert_eq!(known(&app, &eu).await, before);
    for client in [
        inside("former@corp.example", 200.0),
        identity(&app, "i", "one", "former@corp.example", 200.0),
    ] {
        assert_eq!(viewer(&client).await, alice);
    }
    assert_eq!(known(&app, &eu).await, before);
    // While the control database cannot be reached a newer token changes nothing, and reads.
    let name = "{ viewer { email } organization { slug } }";
    let reads = newest.data(name).await;
    let gone = |allowed: bool| {
        format!(
            "ALTER DATABASE {0} ALLOW_CONNECTIONS {allowed};
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}'",
            app.database.name
        )
    };
    eu.database.execute(&gone(false)).await;
    assert_eq!(inside("new@corp.example", 0.0).data(name).await, reads);
    eu.database.execute(&gone(true)).await;
    assert_eq!(
        inside("new@corp.example", 0.0).data(name).await["viewer"]["email"],
        "new@corp.example"
    );
}
