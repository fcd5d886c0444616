//! Invitations: valid once, for a limited time and for one address, and never beyond the member
//! limit.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use tenantry::clock::Clock;

use crate::{
    databases::acme_in_eu,
    support::{App, AppSettings, Client, Reply, app, database::Database},
};

const INVITE: &str = "mutation ($email: String!, $role: Role!) { inviteMember(input: { email: $email, role: $role }) {
    link invitation { id email role expired invitedBy { name } } } }";
const RESEND: &str = "mutation ($id: ID!) { resendInvitation(input: { id: $id }) { link invitation { id expired } } }";
const REVOKE: &str =
    "mutation ($id: ID!) { revokeInvitation(input: { id: $id }) { invitation { email } } }";
const ACCEPT: &str = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) {
    organization { slug viewerRole } member { role user { email } invitedBy { name } } } }";

async fn invite(client: &Client, email: &str, role: &str) -> Reply {
    client.query_with(INVITE, json!({ "email": email, "role": role })).await
}

/// Returns the id and the token of a new invitation.
async fn invite_with_token(client: &Client, email: &str) -> (String, String) {
    let data = invite(client, email, "MEMBER").await.data();
    let issued = &data["inviteMember"];
    (issued["invitation"]["id"].as_str().unwrap().to_owned(), token(issued))
}

fn token(issued: &Value) -> String {
    let link = issued["link"].as_str().unwrap();
    link.strip_prefix("https://app.example/accept-invitation?token=").unwrap().to_owned()
}

/// A new user with a verified address.
fn guest(app: &App, email: &str) -> Client {
    let claims = json!({ "sub": email, "email": email, "email_verified": true });
    app.client(None, Some(app::token_with(&claims)))
}

/// The server's clock, which is ahead by a number of days that can be set.
fn ahead() -> (Arc<AtomicI64>, Clock) {
    let days = Arc::new(AtomicI64::new(0));
    let read = Arc::clone(&days);
    let clock = Clock::from_fn(move || Utc::now() + TimeDelta::days(read.load(Ordering::Relaxed)));
    (days, clock)
}

/// A guest whose token is still valid when the server's clock is eight days ahead.
fn later(app: &App, email: &str) -> Client {
    let claims = json!({ "sub": email, "email": email, "email_verified": true,
                         "exp": Utc::now().timestamp() + 9 * 24 * 3_600 });
    app.client(None, Some(app::token_with(&claims)))
}

async fn accept(client: &Client, token: &str) -> Reply {
    client.query_with(ACCEPT, json!({ "token": token })).await
}

#[tokio::test]
async fn an_invited_user_becomes_a_member() {
    let app = App::start().await;
    let data = invite(&app.user("acme-admin"), " New.Person@Example.com ", "VIEWER").await.data();
    let issued = &data["inviteMember"];
    assert_eq!(issued["invitation"]["email"], "new.person@example.com");
    assert_eq!(issued["invitation"]["invitedBy"]["name"], "Adam");
    let stored: String = app.database.value("SELECT i::text FROM auth.invitations i").await;
    assert!(!stored.contains(&token(issued)), "only a hash is stored");

    let guest = guest(&app, "New.Person@example.com");
    let data = accept(&guest, &token(issued)).await.data();
    assert_eq!(
        data["acceptInvitation"],
        json!({ "organization": { "slug": "acme", "viewerRole": "VIEWER" },
                "member": { "role": "VIEWER", "user": { "email": "new.person@example.com" }, "invitedBy": { "name": "Adam" } } })
    );
    accept(&guest, &token(issued)).await.assert_failed("NOT_FOUND");
    let logs = app.user("acme-owner")
        .data("{ organization { invitations { totalCount } auditLogs(first: 2) { nodes { action metadata } } } }")
        .await;
    let metadata = json!({ "email": "new.person@example.com", "role": "viewer" });
    assert_eq!(
        logs["organization"],
        json!({ "invitations": { "totalCount": 0 }, "auditLogs": { "nodes": [
            { "action": "invitation.accepted", "metadata": metadata },
            { "action": "invitation.created", "metadata": metadata },
        ] } })
    );
}

#[tokio::test]
async fn a_token_is_found_however_the_document_passes_it() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    for (n, document) in [
        "mutation ($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { organization { slug } } }",
        "mutation { acceptInvitation(input: { token: \"TOKEN\" }) { organization { slug } } }",
        "mutation ($token: String!) { ...Accept } fragment Accept on Mutation { acceptInvitation(input: { token: $token }) { organization { slug } } }",
        "mutation ($token: String!, $yes: Boolean!) { acceptInvitation: acceptInvitation(input: { token: $token }) @include(if: $yes) { organization { slug } } }",
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("guest-{n}@example.com");
        let (_, token) = invite_with_token(&owner, &email).await;
        let mut variables = json!({ "token": token, "input": { "token": token }, "yes": true });
        variables.as_object_mut().unwrap().retain(|name, _| document.contains(&format!("${name}")));
        let document = document.replace("TOKEN", &token);
        let data = guest(&app, &email).query_with(&document, variables).await.data();
        assert_eq!(data["acceptInvitation"]["organization"]["slug"], "acme", "{document}");
    }
}

#[tokio::test]
async fn an_invalid_token_gets_the_same_response_for_every_reason() {
    let (days, clock) = ahead();
    let app = App::with(AppSettings { clock, ..AppSettings::default() }).await;
    let owner = app.user("acme-owner");
    let (_, foreign) = invite_with_token(&owner, "other@example.com").await;
    let (revoked_id, revoked) = invite_with_token(&owner, "me@example.com").await;
    owner.query_with(REVOKE, json!({ "id": revoked_id })).await.data();
    let (rotated_id, rotated) = invite_with_token(&owner, "me@example.com").await;
    let data = owner.query_with(RESEND, json!({ "id": rotated_id })).await.data();
    let current = token(&data["resendInvitation"]);
    let me = || guest(&app, "me@example.com");
    me().data("{ viewer { id } }").await;
    let unverified = json!({ "sub": "unverified", "email": "me@example.com" });
    let unverified = app.client(None, Some(app::token_with(&unverified)));
    unverified.data("{ viewer { id } }").await;

    let before = app.database.fingerprint().await;
    let mut responses = Vec::new();
    for token in [revoked.as_str(), &rotated, "nonsense", "", "\u{0}"] {
        responses.push(accept(&me(), token).await);
    }
    // The holder of a valid token learns why it does not work with this account.
    accept(&me(), &foreign).await.assert_failed("WRONG_ACCOUNT");
    accept(&unverified, &current).await.assert_failed("ADDRESS_NOT_VERIFIED");
    days.store(8, Ordering::Relaxed);
    responses.push(accept(&later(&app, "me@example.com"), &current).await);
    for reply in &responses {
        reply.assert_failed("NOT_FOUND");
        assert_eq!(reply.text, responses[0].text);
    }
    assert_eq!(app.database.fingerprint().await, before);
    days.store(0, Ordering::Relaxed);
    accept(&me(), &current).await.data();
}

#[tokio::test]
async fn a_refused_acceptance_copies_nobody_to_a_dedicated_database() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let (days, clock) = ahead();
    let settings = AppSettings { clock, dedicated: vec![eu.clone()], ..AppSettings::default() };
    let app = App::on(control, settings).await;
    let (owner, admin) = (app.user("acme-owner"), app.user("acme-admin"));
    let (_, expired) = invite_with_token(&owner, "late@example.com").await;
    let (_, by_admin) = invite_with_token(&admin, "orphan@example.com").await;
    let members = "{ organization { members { nodes { id role } } } }";
    let members = owner.data(members).await["organization"]["members"]["nodes"].clone();
    let mut members = members.as_array().unwrap().iter();
    let id = &members.find(|member| member["role"] == "ADMIN").unwrap()["id"];
    let demote = "mutation ($id: ID!) { updateMemberRole(input: { id: $id, role: VIEWER }) { member { id } } }";
    owner.query_with(demote, json!({ "id": id })).await.data();
    let (late, orphan) = (later(&app, "late@example.com"), guest(&app, "orphan@example.com"));
    for guest in [&late, &orphan] {
        guest.data("{ viewer { id } }").await;
    }

    let before = rows(&eu.database).await;
    accept(&orphan, &by_admin).await.assert_failed("NOT_FOUND");
    days.store(8, Ordering::Relaxed);
    accept(&late, &expired).await.assert_failed("NOT_FOUND");
    assert_eq!(rows(&eu.database).await, before);
    days.store(0, Ordering::Relaxed);
    accept(&late, &expired).await.data();
    assert_ne!(rows(&eu.database).await, before);
}

/// All that a database has, except what is on its way to another one.
async fn rows(database: &Database) -> Vec<(String, String)> {
    let mut digests = database.fingerprint().await;
    digests.retain(|(table, _)| !table.ends_with("_changes"));
    digests
}

#[tokio::test]
async fn an_expired_invitation_takes_no_seat_and_can_be_renewed() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let (id, old) = invite_with_token(&owner, "late@example.com").await;
    app.database.execute("UPDATE auth.invitations SET expires_at = now() - interval '1 s'").await;
    let listed = owner.data("{ organization { invitations { nodes { id expired } } entitlements { feature { key } used } } }").await;
    assert_eq!(
        listed["organization"]["invitations"]["nodes"],
        json!([{ "id": id, "expired": true }])
    );
    assert_eq!(
        listed["organization"]["entitlements"][1],
        json!({ "feature": { "key": "team_members" }, "used": 4 })
    );
    // A second invitation renews the row: an address has at most one open invitation.
    let (again, fresh) = invite_with_token(&owner, "late@example.com").await;
    assert_eq!(again, id);
    assert_ne!(fresh, old);
    invite(&owner, "late@example.com", "MEMBER").await.assert_failed("CONFLICT");
    invite(&owner, "acme-viewer@example.com", "ADMIN").await.assert_failed("CONFLICT");
    accept(&guest(&app, "late@example.com"), &fresh).await.data();
}

#[tokio::test]
async fn only_owners_invite_admins_and_owners() {
    let app = App::start().await;
    let (owner, admin) = (app.user("acme-owner"), app.user("acme-admin"));
    let data = invite(&owner, "boss@example.com", "ADMIN").await.data();
    let id = data["inviteMember"]["invitation"]["id"].clone();
    let before = app.database.fingerprint().await;
    for role in ["ADMIN", "OWNER"] {
        invite(&admin, "x@example.com", role).await.assert_failed("FORBIDDEN");
    }
    admin.query_with(RESEND, json!({ "id": id })).await.assert_failed("FORBIDDEN");
    admin.query_with(REVOKE, json!({ "id": id })).await.assert_failed("FORBIDDEN");
    for email in ["", "x", "x@", "a b@c", "a@b@c"] {
        let reply = invite(&owner, email, "VIEWER").await;
        reply.assert_failed("BAD_USER_INPUT");
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], "input.email");
    }
    app.user("globex-owner")
        .query_with(REVOKE, json!({ "id": id }))
        .await
        .assert_failed("NOT_FOUND");
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_member_limit_holds_at_invitation() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    // Pro has 10 seats, of which 4 are taken.
    let invitations = (0..20).map(|n| {
        let owner = owner.clone();
        async move { invite(&owner, &format!("guest-{n}@example.com"), "MEMBER").await }
    });
    let replies = futures_util::future::join_all(invitations).await;
    assert_eq!(replies.iter().filter(|reply| reply.codes().is_empty()).count(), 6);
    for reply in replies.iter().filter(|reply| !reply.codes().is_empty()) {
        reply.assert_failed("PLAN_LIMIT_EXCEEDED");
        assert_eq!(reply.body["errors"][0]["extensions"]["feature"], "team_members");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_member_limit_holds_at_acceptance_after_a_downgrade() {
    let app = App::with(AppSettings { max_connections: 20, ..AppSettings::default() }).await;
    let set_member_limit = |limit: u32| {
        format!(
            "UPDATE billing.plan_features SET limit_value = {limit} WHERE plan = 'pro' AND feature = 'team_members'"
        )
    };
    app.database.execute(&set_member_limit(50)).await;
    let owner = app.user("acme-owner");
    let mut guests = Vec::new();
    for n in 0..40 {
        let email = format!("guest-{n}@example.com");
        let (_, token) = invite_with_token(&owner, &email).await;
        guests.push((guest(&app, &email), token));
    }
    // Room for two more members.
    app.database.execute(&set_member_limit(6)).await;
    let accepting = guests.iter().map(|(guest, token)| accept(guest, token));
    let replies = futures_util::future::join_all(accepting).await;
    assert_eq!(replies.iter().filter(|reply| reply.codes().is_empty()).count(), 2);
    for reply in replies.iter().filter(|reply| !reply.codes().is_empty()) {
        reply.assert_failed("PLAN_LIMIT_EXCEEDED");
    }
    let members: i64 = app
        .database
        .value("SELECT count(*) FROM auth.organization_members m JOIN app.organizations o ON o.id = organization_id WHERE slug = 'acme'")
        .await;
    assert_eq!(members, 6);
    let accepted: i64 = app
        .database
        .value("SELECT count(*) FROM auth.invitations WHERE accepted_at IS NOT NULL")
        .await;
    assert_eq!(accepted, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_used_twice_concurrently_creates_one_member() {
    let app = App::start().await;
    let (_, token) = invite_with_token(&app.user("acme-owner"), "twin@example.com").await;
    let guest = guest(&app, "twin@example.com");
    let replies = futures_util::future::join_all((0..5).map(|_| accept(&guest, &token))).await;
    assert_eq!(replies.iter().filter(|reply| reply.codes().is_empty()).count(), 1, "{replies:?}");
    for reply in replies.iter().filter(|reply| !reply.codes().is_empty()) {
        reply.assert_failed("NOT_FOUND");
    }
}

#[tokio::test]
async fn inviting_a_member_s_other_address_is_a_conflict() {
    let app = App::start().await;
    let (_, token) = invite_with_token(&app.user("acme-owner"), "second@example.com").await;
    let claims =
        json!({ "sub": "acme-viewer", "email": "second@example.com", "email_verified": true });
    let viewer = app.client(None, Some(app::token_with(&claims)));
    viewer.data("{ viewer { email } }").await;
    let before = app.database.fingerprint().await;
    accept(&viewer, &token).await.assert_failed("CONFLICT");
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn an_invitation_is_a_node_for_members_who_may_see_it() {
    let app = App::start().await;
    let (id, _) = invite_with_token(&app.user("acme-owner"), "node@example.com").await;
    let query = format!("{{ node(id: \"{id}\") {{ __typename ... on Invitation {{ email }} }} }}");
    assert_eq!(
        app.user("acme-admin").data(&query).await["node"],
        json!({ "__typename": "Invitation", "email": "node@example.com" })
    );
    for other in ["acme-member", "globex-owner"] {
        assert_eq!(app.user(other).data(&query).await["node"], Value::Null);
    }
}

#[tokio::test]
async fn invitations_of_an_inviter_who_lost_the_permission_are_invalid() {
    let app = App::start().await;
    let (owner, admin) = (app.user("acme-owner"), app.user("acme-admin"));
    let data = invite(&owner, "second@example.com", "OWNER").await.data();
    let by_owner = token(&data["inviteMember"]);
    let (_, by_admin) = invite_with_token(&admin, "third@example.com").await;
    let change = |email: &str, role: &str| {
        format!(
            "UPDATE auth.organization_members m SET role = '{role}' FROM auth.users u
             WHERE u.id = m.user_id AND u.email = '{email}'"
        )
    };
    app.database.execute(&change("acme-admin@example.com", "owner")).await;
    app.database.execute(&change("acme-owner@example.com", "admin")).await;
    let second = guest(&app, "second@example.com");
    second.data("{ viewer { id } }").await;
    accept(&second, &by_owner).await.assert_failed("NOT_FOUND");
    app.database
        .execute("DELETE FROM auth.organization_members m USING auth.users u WHERE u.id = m.user_id AND u.email = 'acme-admin@example.com'")
        .await;
    accept(&guest(&app, "third@example.com"), &by_admin).await.assert_failed("NOT_FOUND");
    let members: i64 = app
        .database
        .value("SELECT count(*) FROM auth.organization_members WHERE organization_id = '00000000-0000-4000-8000-00000000000a'")
        .await;
    assert_eq!(members, 3);
}

#[tokio::test]
async fn an_admin_cannot_change_an_owner_s_invitation() {
    let app = App::start().await;
    invite(&app.user("acme-owner"), "boss@example.com", "OWNER").await.data();
    app.database
        .execute("UPDATE auth.invitations SET expires_at = now() - interval '1 hour'")
        .await;
    let before = app.database.fingerprint().await;
    invite(&app.user("acme-admin"), "boss@example.com", "VIEWER").await.assert_failed("FORBIDDEN");
    assert_eq!(app.database.fingerprint().await, before);
    invite(&app.user("acme-owner"), "boss@example.com", "VIEWER").await.data();
}

const PREVIEW: &str = "query ($token: String!) { invitation(token: $token) {
    organizationName inviterName role emailHint expiresAt obstacle } }";
const RECEIVED: &str = "{ viewer { invitations { id organizationName inviterName role email } } }";
const ACCEPT_ID: &str =
    "mutation ($id: ID!) { acceptInvitation(input: { id: $id }) { organization { slug } } }";
const DECLINE: &str =
    "mutation ($input: DeclineInvitationInput!) { declineInvitation(input: $input) {
    invitation { organizationName } } }";

async fn preview(client: &Client, token: &str) -> Value {
    client.query_with(PREVIEW, json!({ "token": token })).await.data()["invitation"].clone()
}

async fn received(client: &Client) -> Vec<Value> {
    client.data(RECEIVED).await["viewer"]["invitations"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_holder_of_a_link_sees_who_invites_and_why_an_account_cannot_accept() {
    let app = App::start().await;
    let admin = app.user("acme-admin");
    let (id, token) = invite_with_token(&admin, "new.person@example.com").await;
    let invited = guest(&app, "new.person@example.com");
    let mut seen = preview(&invited, &token).await;
    let expires = seen["expiresAt"].take();
    assert!(expires.as_str().is_some_and(|text| text > Utc::now().to_rfc3339().as_str()));
    let expected = json!({ "organizationName": "Acme", "inviterName": "Adam", "role": "MEMBER",
                           "emailHint": "n•••@example.com", "expiresAt": null, "obstacle": null });
    assert_eq!(seen, expected);
    let unverified = |email: &str| {
        app.client(
            None,
            Some(app::token_with(&json!({ "sub": format!("u-{email}"), "email": email }))),
        )
    };
    let changed = {
        // A verified address of another account, and the invited one unverified.
        let claims =
            json!({ "sub": "changed", "email": "old@example.com", "email_verified": true });
        app.client(None, Some(app::token_with(&claims))).data("{ viewer { id } }").await;
        let claims =
            json!({ "sub": "changed", "email": "new.person@example.com", "iat": app::now() + 1.0 });
        app.client(None, Some(app::token_with(&claims)))
    };
    for (client, obstacle, code) in [
        (guest(&app, "other@example.com"), "WRONG_ACCOUNT", "WRONG_ACCOUNT"),
        (app.user("acme-viewer"), "WRONG_ACCOUNT", "WRONG_ACCOUNT"),
        (unverified("other@example.com"), "WRONG_ACCOUNT", "WRONG_ACCOUNT"),
        (unverified("new.person@example.com"), "ADDRESS_NOT_VERIFIED", "ADDRESS_NOT_VERIFIED"),
        (changed, "ADDRESS_NOT_VERIFIED", "ADDRESS_NOT_VERIFIED"),
        (app.outsider("nameless"), "ADDRESS_NOT_VERIFIED", "ADDRESS_NOT_VERIFIED"),
    ] {
        assert_eq!(preview(&client, &token).await["obstacle"], obstacle);
        let before = app.database.fingerprint().await;
        accept(&client, &token).await.assert_failed(code);
        let by_token = json!({ "input": { "token": token } });
        client.query_with(DECLINE, by_token).await.assert_failed(code);
        // By its id, the invitation does not exist for another account.
        client.query_with(ACCEPT_ID, json!({ "id": id })).await.assert_failed("NOT_FOUND");
        assert_eq!(received(&client).await, Vec::<Value>::new());
        assert_eq!(app.database.fingerprint().await, before);
    }
    for unknown in ["none", "", "\u{0}", &format!("{token}x"), &id] {
        assert_eq!(preview(&invited, unknown).await, Value::Null, "{unknown:?}");
    }
    app.client(None, None)
        .query_with(PREVIEW, json!({ "token": token }))
        .await
        .assert_refused(401, "UNAUTHENTICATED");
    // The same from inside another organization, and after the acceptance.
    let elsewhere = app.client(Some("globex"), Some(app::token("globex-owner")));
    assert_eq!(preview(&elsewhere, &token).await["organizationName"], "Acme");
    accept(&invited, &token).await.data();
    assert_eq!(preview(&invited, &token).await, Value::Null, "a token works once");
}

#[tokio::test]
async fn a_preview_counts_as_an_attempt_wherever_it_is_selected() {
    let attempts = std::num::NonZeroU32::new(4).unwrap();
    let app = App::with(AppSettings { attempts, ..AppSettings::default() }).await;
    let one = "{ invitation(token: \"x\") { role } }";
    let two = "{ a: invitation(token: \"x\") { role } ...F } fragment F on Query { b: invitation(token: \"y\") { role } }";
    let client = app.outsider("guesser");
    client.data(two).await;
    let after_nothing = "mutation { query { a: invitation(token: \"x\") { role } b: invitation(token: \"y\") { role } } }";
    client.data(after_nothing).await;
    assert_eq!(client.query(one).await.codes(), ["RATE_LIMITED"]);
    client.data("{ viewer { id invitations { id } } }").await;
    app.outsider("another").data(one).await;
}

#[tokio::test]
async fn a_user_answers_their_invitations_without_the_links() {
    let app = App::start().await;
    // Room for more than one member of globex.
    app.database
        .execute("UPDATE billing.plan_features SET limit_value = 10 WHERE feature = 'team_members'")
        .await;
    let (acme, _) = invite_with_token(&app.user("acme-owner"), "me@example.com").await;
    let data = invite(&app.user("globex-owner"), "me@example.com", "VIEWER").await.data();
    let globex = data["inviteMember"]["invitation"]["id"].clone();
    let me = guest(&app, "me@example.com");
    let entry = |id: &Value, name: &str, inviter: &str, role: &str| json!({ "id": id, "organizationName": name, "inviterName": inviter, "role": role, "email": "me@example.com" });
    assert_eq!(
        received(&me).await,
        [
            entry(&globex, "Globex", "Omar", "VIEWER"),
            entry(&json!(acme), "Acme", "Olivia", "MEMBER")
        ]
    );
    // Another user's id, an unknown one, and both or neither of the two names.
    let other = guest(&app, "other@example.com");
    for id in [globex.clone(), json!("x"), json!("67e55044-10b1-426f-9247-bb680e5fe0c8")] {
        other
            .query_with(DECLINE, json!({ "input": { "id": id } }))
            .await
            .assert_failed("NOT_FOUND");
    }
    for input in [json!({}), json!({ "id": globex, "token": "x" })] {
        me.query_with(DECLINE, json!({ "input": input })).await.assert_failed("BAD_USER_INPUT");
    }
    let declined = me.query_with(DECLINE, json!({ "input": { "id": globex } })).await.data();
    assert_eq!(declined["declineInvitation"]["invitation"]["organizationName"], "Globex");
    me.query_with(ACCEPT_ID, json!({ "id": globex })).await.assert_failed("NOT_FOUND");
    let seen = "{ organization { invitations { totalCount } entitlements { feature { key } used }
                auditLogs(first: 1) { nodes { action actorName metadata } } } }";
    let seen = app.user("globex-owner").data(seen).await["organization"].clone();
    assert_eq!(seen["invitations"]["totalCount"], 0);
    assert_eq!(seen["entitlements"][1], json!({ "feature": { "key": "team_members" }, "used": 4 }));
    let metadata = json!({ "email": "me@example.com", "role": "viewer" });
    let declined = json!({ "action": "invitation.declined", "actorName": "me@example.com", "metadata": metadata });
    assert_eq!(seen["auditLogs"]["nodes"], json!([declined]));
    let data = me.query_with(ACCEPT_ID, json!({ "id": acme })).await.data();
    assert_eq!(data["acceptInvitation"]["organization"]["slug"], "acme");
    assert_eq!(received(&me).await, Vec::<Value>::new());
    app.client(Some("globex"), Some(app::token("me@example.com")))
        .query("{ organization { id } }")
        .await
        .assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn nothing_of_an_organization_is_readable_beside_declining_in_the_same_request() {
    let app = App::start().await;
    let (_, token) = invite_with_token(&app.user("acme-owner"), "me@example.com").await;
    let me = guest(&app, "me@example.com");
    let query =
        "query { organization { name projects { nodes { id } } } viewer { memberships { slug } } }";
    let document = format!(
        "mutation {{ before: {query}
                     declineInvitation(input: {{ token: \"{token}\" }}) {{ invitation {{ role }} }}
                     after: {query} }}"
    );
    let data = me.data(&document).await;
    assert_eq!(data["declineInvitation"]["invitation"]["role"], "MEMBER");
    let nothing = json!({ "organization": null, "viewer": { "memberships": [] } });
    assert_eq!((&data["before"], &data["after"]), (&nothing, &nothing));
}

#[tokio::test]
async fn a_dedicated_database_takes_answers_of_invited_users() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let app = App::on(control, AppSettings { dedicated: vec![eu], ..AppSettings::default() }).await;
    let owner = app.user("acme-owner");
    let (_, token) = invite_with_token(&owner, "one@example.com").await;
    let (id, _) = invite_with_token(&owner, "two@example.com").await;
    let (one, two) = (guest(&app, "one@example.com"), guest(&app, "two@example.com"));
    assert_eq!(preview(&one, &token).await["organizationName"], "Acme");
    assert_eq!(received(&two).await[0]["id"], id);
    one.query_with(DECLINE, json!({ "input": { "token": token } })).await.data();
    two.query_with(ACCEPT_ID, json!({ "id": id })).await.data();
    let seen =
        "{ organization { invitations { totalCount } auditLogs(first: 2) { nodes { action } } } }";
    let seen = owner.data(seen).await["organization"].clone();
    assert_eq!(seen["invitations"]["totalCount"], 0);
    assert_eq!(
        seen["auditLogs"]["nodes"],
        json!([{ "action": "invitation.accepted" }, { "action": "invitation.declined" }])
    );
}

#[tokio::test]
async fn invitations_of_a_removed_or_demoted_inviter_hold_no_seat_and_are_not_open() {
    let app = App::start().await;
    let (owner, admin) = (app.user("acme-owner"), app.user("acme-admin"));
    let seats =
        "{ organization { invitations { totalCount nodes { id email } } entitlements { used } } }";
    let counted = async || {
        let data = owner.data(seats).await["organization"].clone();
        let emails: Vec<_> = data["invitations"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["email"].clone())
            .collect();
        assert_eq!(data["invitations"]["totalCount"], emails.len());
        (json!(emails), data["entitlements"][1]["used"].clone())
    };
    let change = async |mutation: &str| {
        let membership: String = app
            .database
            .value("SELECT m.id::text FROM auth.organization_members m JOIN auth.users u ON u.id = m.user_id WHERE u.email = 'acme-admin@example.com'")
            .await;
        owner.data(&mutation.replace("$id", &format!("\"{membership}\""))).await;
    };
    let demote =
        "mutation { updateMemberRole(input: { id: $id, role: MEMBER }) { member { id } } }";
    let promote =
        "mutation { updateMemberRole(input: { id: $id, role: ADMIN }) { member { id } } }";
    let remove = "mutation { removeMember(input: { id: $id }) { member { id } } }";
    let (_, by_owner) = invite_with_token(&owner, "kept@example.com").await;
    let (id, token) = invite_with_token(&admin, "lost@example.com").await;
    invite_with_token(&admin, "other@example.com").await;
    assert_eq!(counted().await.1, 7);
    change(demote).await;
    let only = (json!(["kept@example.com"]), json!(5));
    assert_eq!(counted().await, only);
    let lost = guest(&app, "lost@example.com");
    accept(&lost, &token).await.assert_failed("NOT_FOUND");
    assert_eq!((preview(&lost, &token).await, received(&lost).await), (Value::Null, vec![]));
    let node = format!("{{ node(id: \"{id}\") {{ id }} }}");
    assert_eq!(owner.data(&node).await["node"], Value::Null);
    // The permission back does not bring them back: others may have taken the seats.
    change(promote).await;
    assert_eq!(counted().await, only);
    accept(&lost, &token).await.assert_failed("NOT_FOUND");
    // The same address can be invited again, and an owner can renew the former invitation.
    let (again, fresh) = invite_with_token(&admin, "lost@example.com").await;
    assert_eq!(again, id);
    assert_eq!(counted().await.1, 6);
    change(remove).await;
    assert_eq!(counted().await, (json!(["kept@example.com"]), json!(4)));
    accept(&lost, &fresh).await.assert_failed("NOT_FOUND");
    let data = owner.query_with(RESEND, json!({ "id": id })).await.data();
    accept(&lost, &token_of_resent(&data)).await.data();
    accept(&guest(&app, "kept@example.com"), &by_owner).await.data();
}

fn token_of_resent(data: &Value) -> String {
    token(&data["resendInvitation"])
}

#[tokio::test]
async fn an_address_is_the_same_in_every_spelling() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    for (invited, signed_in, stored) in [
        ("a@b\u{fc}cher.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("b@xn--bcher-kva.example", "b@BU\u{308}CHER.example", "b@xn--bcher-kva.example"),
        ("jose\u{301}@x.example", "Jos\u{e9}@x.example", "jos\u{e9}@x.example"),
    ] {
        let data = invite(&owner, invited, "MEMBER").await.data();
        assert_eq!(data["inviteMember"]["invitation"]["email"], stored);
        for same in [invited, signed_in, stored] {
            invite(&owner, same, "MEMBER").await.assert_failed("CONFLICT");
        }
        let token = token(&data["inviteMember"]);
        let guest = guest(&app, signed_in);
        assert_eq!(guest.data("{ viewer { email } }").await["viewer"]["email"], stored);
        accept(&guest, &token).await.data();
        invite(&owner, invited, "MEMBER").await.assert_failed("CONFLICT");
    }
    for bad in ["a@xn--zzzzzzzzz.example", "a@\u{ff45}xample.com", "a@b..c", "a\u{37e}@b.example"] {
        invite(&owner, bad, "MEMBER").await.assert_failed("BAD_USER_INPUT");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_mailed_is_not_invited() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    for bad in ["a..b@x.example", ".a@x.example", "a.@x.example", "a@_x.example", "a@x_.example"] {
        let reply = invite(&owner, bad, "MEMBER").await;
        reply.assert_failed("BAD_USER_INPUT");
        assert_eq!(reply.body["errors"][0]["extensions"]["field"], "input.email", "{bad}");
    }
    // A token may have such an address: some providers have issued them.
    let viewer = guest(&app, "a..b@x.example").data("{ viewer { email } }").await;
    assert_eq!(viewer["viewer"]["email"], "a..b@x.example");
}
