//! Members: which role may act on which, and that an organization always has an owner.

use serde_json::{Value, json};

use crate::support::{App, Client, Reply, app};

const UPDATE: &str = "mutation ($id: ID!, $role: Role!) {
    updateMemberRole(input: { id: $id, role: $role }) { member { role user { name } } } }";
const REMOVE: &str =
    "mutation ($id: ID!) { removeMember(input: { id: $id }) { member { role user { name } } } }";
const TRANSFER: &str =
    "mutation ($id: ID!) { transferOwnership(input: { memberId: $id }) { member { role } } }";

/// Returns the id of a membership in acme, for example that of `owner`.
async fn membership(app: &App, role: &str) -> String {
    app.database
        .value(&format!(
            "SELECT m.id::text FROM auth.organization_members m JOIN auth.users u ON u.id = m.user_id
             WHERE u.email = 'acme-{role}@example.com'"
        ))
        .await
}

async fn update(client: &Client, id: &str, role: &str) -> Reply {
    client.query_with(UPDATE, json!({ "id": id, "role": role })).await
}

fn leave(organization: &str) -> String {
    format!(
        "mutation {{ leaveOrganization(input: {{ organizationId: \"{organization}\" }}) {{ member {{ role }} }} }}"
    )
}

const ACME: &str = "00000000-0000-4000-8000-00000000000a";

#[tokio::test]
async fn admins_act_on_members_and_only_owners_on_admins() {
    let app = App::start().await;
    let (owner, admin) = (app.user("acme-owner"), app.user("acme-admin"));
    let (member, viewer) = (membership(&app, "member").await, membership(&app, "viewer").await);
    let (own, boss) = (membership(&app, "admin").await, membership(&app, "owner").await);

    let data = update(&admin, &viewer, "MEMBER").await.data();
    assert_eq!(
        data["updateMemberRole"]["member"],
        json!({ "role": "MEMBER", "user": { "name": "Victor" } })
    );
    let before = app.database.fingerprint().await;
    for (id, role) in [
        (&member, "ADMIN"),
        (&member, "OWNER"),
        (&own, "MEMBER"),
        (&own, "OWNER"),
        (&boss, "VIEWER"),
    ] {
        let reply = update(&admin, id, role).await;
        reply.assert_failed("FORBIDDEN");
        assert_eq!(reply.body["errors"][0]["extensions"]["permission"], "MEMBER_MANAGE_ADMINS");
    }
    for id in [&own, &boss] {
        admin.query_with(REMOVE, json!({ "id": id })).await.assert_failed("FORBIDDEN");
    }
    admin.query_with(TRANSFER, json!({ "id": own })).await.assert_failed("FORBIDDEN");
    assert_eq!(app.database.fingerprint().await, before);

    update(&owner, &member, "ADMIN").await.data();
    let data = owner.query_with(REMOVE, json!({ "id": own })).await.data();
    assert_eq!(
        data["removeMember"]["member"],
        json!({ "role": "ADMIN", "user": null }),
        "a removed member is not listed"
    );
    admin.query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_membership_of_another_organization_is_not_found() {
    let app = App::start().await;
    let owner = app.user("globex-owner");
    let foreign = membership(&app, "viewer").await;
    let before = app.database.fingerprint().await;
    for id in [foreign.as_str(), "67e55044-10b1-426f-9247-bb680e5fe0c8", "x"] {
        update(&owner, id, "ADMIN").await.assert_failed("NOT_FOUND");
        owner.query_with(REMOVE, json!({ "id": id })).await.assert_failed("NOT_FOUND");
        owner.query_with(TRANSFER, json!({ "id": id })).await.assert_failed("NOT_FOUND");
    }
    owner.query(&leave(ACME)).await.assert_failed("NOT_FOUND");
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn the_last_owner_can_neither_leave_nor_be_demoted_nor_removed() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let own = membership(&app, "owner").await;
    let before = app.database.fingerprint().await;
    update(&owner, &own, "ADMIN").await.assert_failed("CONFLICT");
    owner.query(&leave(ACME)).await.assert_failed("CONFLICT");
    owner.query_with(REMOVE, json!({ "id": own })).await.assert_failed("BAD_USER_INPUT");
    owner.query_with(TRANSFER, json!({ "id": own })).await.assert_failed("BAD_USER_INPUT");
    assert_eq!(app.database.fingerprint().await, before);

    let admin = membership(&app, "admin").await;
    let data = owner.query_with(TRANSFER, json!({ "id": admin })).await.data();
    assert_eq!(data["transferOwnership"]["member"]["role"], "OWNER");
    assert_eq!(
        owner.data("{ organization { viewerRole } }").await["organization"]["viewerRole"],
        "ADMIN"
    );
    owner.query(&leave(ACME)).await.data();
    owner.query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_owners_who_demote_each_other_concurrently_leave_one() {
    for _ in 0..5 {
        let app = App::start().await;
        let (first, second) = (app.user("acme-owner"), app.user("acme-admin"));
        let (one, two) = (membership(&app, "owner").await, membership(&app, "admin").await);
        update(&first, &two, "OWNER").await.data();
        let (a, b) = tokio::join!(update(&first, &two, "ADMIN"), update(&second, &one, "ADMIN"));
        let mut codes = [a.codes(), b.codes()].concat();
        codes.sort_unstable();
        assert_eq!(codes, ["FORBIDDEN"], "one is an admin before the second mutation: {a:?} {b:?}");
        let owners: i64 = app
            .database
            .value("SELECT count(*) FROM auth.organization_members m JOIN app.organizations o ON o.id = organization_id
                    WHERE slug = 'acme' AND role = 'owner'")
            .await;
        assert_eq!(owners, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn owners_who_all_leave_concurrently_leave_one_behind() {
    let app = App::start().await;
    app.database.execute("UPDATE auth.organization_members SET role = 'owner'").await;
    let users =
        ["owner", "admin", "member", "viewer"].map(|role| app.user(&format!("acme-{role}")));
    let text = leave(ACME);
    let replies = futures_util::future::join_all(users.iter().map(|user| user.query(&text))).await;
    let mut codes: Vec<_> = replies.iter().flat_map(Reply::codes).collect();
    codes.dedup();
    assert_eq!(codes, ["CONFLICT"], "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.codes().is_empty()).count(), 3);
}

#[tokio::test]
async fn changes_of_members_use_no_joins() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let (member, admin) = (membership(&app, "member").await, membership(&app, "admin").await);
    update(&owner, &member, "VIEWER").await.data();
    update(&owner, &member, "VIEWER").await.data();
    owner.query_with(REMOVE, json!({ "id": member })).await.data();
    app.user("acme-viewer").query(&leave(ACME)).await.data();
    owner.query_with(TRANSFER, json!({ "id": admin })).await.data();
    let logs = app
        .user("acme-admin")
        .data("{ organization { auditLogs(first: 4) { nodes { action actorName metadata } } } }")
        .await;
    let user = |end: &str| format!("00000000-0000-4000-8000-0000000000{end}");
    let entry = |action: &str, actor: &str, metadata: Value| json!({ "action": action, "actorName": actor, "metadata": metadata });
    assert_eq!(
        logs["organization"]["auditLogs"]["nodes"],
        json!([
            entry(
                "organization.transferred",
                "Olivia",
                json!({ "user_id": user("a2"), "name": "Adam", "old_role": "admin" })
            ),
            entry(
                "member.left",
                "Victor",
                json!({ "user_id": user("a4"), "name": "Victor", "role": "viewer" })
            ),
            entry(
                "member.removed",
                "Olivia",
                json!({ "user_id": user("a3"), "name": "Mia", "role": "viewer" })
            ),
            entry(
                "member.role_changed",
                "Olivia",
                json!({ "user_id": user("a3"), "name": "Mia", "old_role": "member", "role": "viewer" })
            ),
        ])
    );
    let own = app.client(Some("acme"), Some(app::token("acme-viewer")));
    own.query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_role_that_the_caller_gives_up_ends_within_the_request() {
    let app = App::start().await;
    let project: String = app
        .database
        .value("SELECT id::text FROM app.projects WHERE name = 'Website relaunch' OR created_by IS NOT NULL ORDER BY name LIMIT 1")
        .await;
    let before = app.database.fingerprint().await;
    let own = membership(&app, "admin").await;
    app.database
        .execute(
            "UPDATE auth.organization_members m SET role = 'owner' FROM auth.users u
                  WHERE u.id = m.user_id AND u.email = 'acme-admin@example.com'",
        )
        .await;
    let demoting = format!(
        "mutation {{ updateMemberRole(input: {{ id: \"{own}\", role: VIEWER }}) {{ member {{ id }} }}
                     deleteProject(input: {{ id: \"{project}\" }}) {{ project {{ id }} }} }}"
    );
    app.user("acme-admin").query(&demoting).await.assert_failed("FORBIDDEN");
    let leaving = format!(
        "{} createProject(input: {{ name: \"x\" }}) {{ project {{ id }} }} }}",
        leave(ACME).strip_suffix('}').unwrap()
    );
    app.user("acme-member").query(&leaving).await.assert_failed("ORGANIZATION_REQUIRED");
    app.database
        .execute(
            "UPDATE auth.organization_members m SET role = 'admin' FROM auth.users u
                  WHERE u.id = m.user_id AND u.email = 'acme-admin@example.com'",
        )
        .await;
    let changed: Vec<_> = app
        .database
        .fingerprint()
        .await
        .into_iter()
        .zip(before)
        .filter(|(now, then)| now != then && !now.0.ends_with(".organization_members"))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    // The payload still shows the membership that ended.
    let query = leave(ACME).replace("role }", "role user { name } }");
    let data = app.user("acme-member").query(&query).await.data();
    assert_eq!(data["leaveOrganization"]["member"]["user"]["name"], "Mia");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_changes_in_any_order_do_not_deadlock() {
    let app = App::start().await;
    let project: String = app
        .database
        .value("SELECT id::text FROM app.projects p WHERE organization_id = '00000000-0000-4000-8000-00000000000a' ORDER BY id LIMIT 1")
        .await;
    let rename = |n: usize| {
        format!(
            "updateProject(input: {{ id: \"{project}\", name: \"name {n}\" }}) {{ project {{ id }} }}"
        )
    };
    let found = |n: usize| {
        format!("updateOrganization(input: {{ name: \"Acme {n}\" }}) {{ organization {{ id }} }}")
    };
    let requests = (0..24).map(|n| {
        let (first, second) =
            if n % 2 == 0 { (rename(n), found(n)) } else { (found(n), rename(n)) };
        let owner = app.user("acme-owner");
        async move { owner.query(&format!("mutation {{ {first} {second} }}")).await }
    });
    for reply in futures_util::future::join_all(requests).await {
        reply.data();
    }
}
