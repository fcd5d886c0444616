//! Continued use after the operator has suspended the user or the organization.

use serde_json::{Value, json};

use crate::{
    databases::{acme_in_eu, command, succeeded},
    support::{
        App, AppSettings, Client, HANG, Reply,
        app::{token, token_with},
        database::Database,
        dedicated::DedicatedDatabase,
        placement::{self, ACME},
    },
};

const READ: &str = "{ organization { projects(first: 1) { nodes { name } } } }";
const CREATE: &str = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
const VIEWER: &str = "{ viewer { name memberships { slug } } }";
const BILLING: &str = "{ viewer { name } organization { id slug suspension viewerRole viewerPermissions plan { name } billing { status plan { key } } } }";
const PAY: &str =
    "mutation { changePlan(input: { plan: \"enterprise\" }) { billing { plan { key } } } }";

/// Acme in one placement, and the arguments that commands need for it.
struct Acme {
    app: App,
    dedicated: Option<DedicatedDatabase>,
}

impl Acme {
    /// Acme in the shared tables, in a dedicated schema and in a dedicated database. Only the first
    /// where the run places acme elsewhere.
    async fn in_every_placement() -> Vec<Self> {
        let mut all = vec![Self { app: App::start().await, dedicated: None }];
        if placement::all_are_shared() {
            let database = Database::create().await;
            placement::move_to_schema(&database.connect_admin().await, ACME.parse().unwrap()).await;
            all.push(Self {
                app: App::on(database, AppSettings::default()).await,
                dedicated: None,
            });
        } else if let Some(eu) = all[0].app.database.eu() {
            all[0].dedicated = Some(eu);
        }
        if let Some((control, eu)) = acme_in_eu().await {
            let settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
            all.push(Self { app: App::on(control, settings).await, dedicated: Some(eu) });
        }
        all
    }

    async fn run_command(&self, arguments: &[&str]) -> String {
        let databases: Vec<_> = self.dedicated.iter().collect();
        succeeded(&command(&self.app.database, &databases, arguments).await).to_owned()
    }

    fn user(&self, role: &str) -> Client {
        self.app.user(&format!("acme-{role}"))
    }

    /// Returns the entries about this resource type in acme's audit log, newest first.
    async fn audit_entries(&self, resource_type: &str) -> Vec<Value> {
        let log = format!(
            "{{ organization {{ auditLogs(filter: {{ resourceType: \"{resource_type}\" }}, first: 10) {{
                nodes {{ action actorName metadata }} }} }} }}"
        );
        let data = self.user("owner").data(&log).await;
        data["organization"]["auditLogs"]["nodes"].as_array().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_user_loses_access_with_the_next_request() {
    for acme in Acme::in_every_placement().await {
        let user = "acme-member@example.com";
        let outside = acme.app.client(None, Some(token("acme-member")));
        for client in [&acme.user("member"), &outside] {
            client.data(VIEWER).await;
            client.data(VIEWER).await;
        }
        acme.run_command(&["user", "suspend", user]).await;
        for client in [&acme.user("member"), &outside] {
            for query in [VIEWER, READ, CREATE] {
                client.query(query).await.assert_refused(403, "USER_SUSPENDED");
            }
        }
        // Newer tokens are rejected as well, and other users are not affected.
        let newer =
            json!({ "sub": "acme-member", "email": "new@example.com", "email_verified": true });
        let newer = acme.app.client(Some("acme"), Some(token_with(&newer)));
        newer.query(VIEWER).await.assert_refused(403, "USER_SUSPENDED");
        acme.user("viewer").data(READ).await;
        assert!(
            acme.run_command(&["user", "suspend", user]).await.contains("is already suspended")
        );

        acme.run_command(&["user", "resume", user]).await;
        for client in [&acme.user("member"), &outside] {
            client.data(VIEWER).await;
        }
        acme.user("member").data(CREATE).await;
        assert!(acme.run_command(&["user", "resume", user]).await.contains("is not suspended"));
        let entry = |action: &str, command: &str| {
            json!({ "action": action, "actorName": command,
            "metadata": { "user_id": "00000000-0000-4000-8000-0000000000a3", "name": "Mia" } })
        };
        assert_eq!(
            acme.audit_entries("user").await,
            [
                entry("user.resumed", "tenantry user resume"),
                entry("user.suspended", "tenantry user suspend")
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_organization_lets_its_owners_only_manage_billing() {
    for acme in Acme::in_every_placement().await {
        let invitation = invite(&acme).await;
        for role in ["owner", "admin", "member", "viewer"] {
            acme.user(role).data(READ).await;
        }
        acme.run_command(&["tenant", "suspend", "acme"]).await;
        let before = rows(&acme.app).await;
        for role in ["admin", "member", "viewer"] {
            for query in [READ, CREATE, VIEWER, BILLING, PAY] {
                acme.user(role).query(query).await.assert_refused(403, "ORGANIZATION_SUSPENDED");
            }
            acme.app.client(None, Some(token(&format!("acme-{role}")))).data(VIEWER).await;
        }
        // An outsider learns nothing, and other organizations are not affected.
        let outsider = acme.app.client(Some("acme"), Some(token("globex-owner")));
        outsider.query(VIEWER).await.assert_refused(404, "NOT_FOUND");
        acme.app.user("globex-owner").data(CREATE).await;
        accept(&acme, &invitation).await.assert_failed("ORGANIZATION_SUSPENDED");

        let owner = acme.user("owner");
        let data = owner.data(BILLING).await;
        let organization = &data["organization"];
        assert_eq!(
            (&data["viewer"]["name"], &organization["slug"]),
            (&json!("Olivia"), &json!("acme"))
        );
        assert_eq!(
            (&organization["suspension"], &organization["viewerPermissions"]),
            (&json!("FULL"), &json!(["BILLING_READ", "BILLING_MANAGE"]))
        );
        for field in [
            "projects(first: 1) { totalCount }",
            "members(first: 1) { nodes { id } }",
            "entitlements { used }",
            "auditLogs(first: 1) { nodes { id } }",
            "invitations(first: 1) { nodes { id } }",
        ] {
            let reply = owner.query(&format!("{{ organization {{ {field} }} }}")).await;
            assert_eq!(reply.codes(), ["ORGANIZATION_SUSPENDED"], "{field}: {reply:?}");
        }
        for change in [
            CREATE,
            "mutation { deleteOrganization(input: { slug: \"acme\" }) { organization { id } } }",
        ] {
            owner.query(change).await.assert_failed("ORGANIZATION_SUSPENDED");
        }
        assert_eq!(rows(&acme.app).await, before);
        assert_eq!(owner.data(PAY).await["changePlan"]["billing"]["plan"]["key"], "enterprise");

        assert!(
            acme.run_command(&["tenant", "show", "acme"]).await.contains("suspended (full) since")
        );
        acme.run_command(&["tenant", "resume", "acme"]).await;
        assert!(acme.run_command(&["tenant", "resume", "acme"]).await.contains("is not suspended"));
        acme.user("member").data(CREATE).await;
        accept(&acme, &invitation).await.data();
        let log = acme.audit_entries("organization").await;
        let received: Vec<_> =
            log.iter().map(|entry| (&entry["action"], &entry["metadata"])).take(2).collect();
        let how = json!({ "suspension": "full" });
        assert_eq!(
            received,
            [(&json!("organization.resumed"), &how), (&json!("organization.suspended"), &how)]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_organization_changes_nothing_but_its_plan() {
    for acme in Acme::in_every_placement().await {
        let invitation = invite(&acme).await;
        acme.run_command(&["tenant", "suspend", "acme", "--read-only"]).await;
        let before = rows(&acme.app).await;
        for role in ["owner", "admin", "member", "viewer"] {
            acme.user(role).data(READ).await;
            acme.user(role).data(VIEWER).await;
        }
        for role in ["admin", "member", "viewer"] {
            acme.user(role).query(CREATE).await.assert_refused(403, "ORGANIZATION_SUSPENDED");
        }
        let owner = acme.user("owner");
        for change in [
            CREATE,
            "mutation { inviteMember(input: { email: \"x@example.com\", role: MEMBER }) { link } }",
            "mutation { leaveOrganization(input: { organizationId: \"00000000-0000-4000-8000-00000000000a\" }) { member { id } } }",
            "mutation { updateOrganization(input: { name: \"x\" }) { organization { name } } }",
        ] {
            owner.query(change).await.assert_failed("ORGANIZATION_SUSPENDED");
        }
        accept(&acme, &invitation).await.assert_failed("ORGANIZATION_SUSPENDED");
        assert_eq!(rows(&acme.app).await, before);
        assert_eq!(owner.data(BILLING).await["organization"]["suspension"], "READ_ONLY");
        owner.data(PAY).await;
        // To a full suspension and back.
        acme.run_command(&["tenant", "suspend", "acme"]).await;
        acme.user("member").query(READ).await.assert_refused(403, "ORGANIZATION_SUSPENDED");
        acme.run_command(&["tenant", "resume", "acme"]).await;
        acme.user("member").data(CREATE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_end_without_waiting_for_an_event() {
    for acme in Acme::in_every_placement().await {
        for (suspend, resume, code) in [
            (["tenant", "suspend", "acme"], ["tenant", "resume", "acme"], "ORGANIZATION_SUSPENDED"),
            (
                ["user", "suspend", "acme-member@example.com"],
                ["user", "resume", "acme-member@example.com"],
                "USER_SUSPENDED",
            ),
        ] {
            let member = acme.user("member");
            let watch = json!({ "query": "subscription { projectChanged { id } }" });
            let mut events = member
                .post()
                .header("accept", "text/event-stream")
                .json(&watch)
                .send()
                .await
                .unwrap();
            // The subscription is active once an event arrives.
            let started = async {
                let mut received = String::new();
                while !received.contains("projectChanged") {
                    acme.user("owner").data(CREATE).await;
                    let chunk = events.chunk();
                    let chunk = tokio::time::timeout(std::time::Duration::from_millis(200), chunk);
                    if let Ok(Ok(Some(chunk))) = chunk.await {
                        received.push_str(&String::from_utf8_lossy(&chunk));
                    }
                }
            };
            tokio::time::timeout(HANG, started).await.unwrap();
            acme.run_command(&suspend).await;
            let ended = async {
                let mut received = String::new();
                while let Some(chunk) = events.chunk().await.unwrap() {
                    received.push_str(&String::from_utf8_lossy(&chunk));
                }
                received
            };
            let received = tokio::time::timeout(HANG, ended).await.unwrap();
            assert!(received.contains(code), "{suspend:?}: {received}");
            acme.run_command(&resume).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_moves_with_its_organization() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
    let acme = Acme { app: App::on(control, settings).await, dedicated: Some(eu) };
    acme.run_command(&["tenant", "suspend", "acme", "--read-only"]).await;
    for home in ["shared", "schema", "database:eu", "shared"] {
        acme.run_command(&["tenant", "move", "acme", "--to", home, "--drop-source"]).await;
        acme.user("member").data(READ).await;
        acme.user("member").query(CREATE).await.assert_refused(403, "ORGANIZATION_SUSPENDED");
    }
    acme.run_command(&["tenant", "resume", "acme"]).await;
    acme.user("member").data(CREATE).await;
}

async fn invite(acme: &Acme) -> String {
    let invite =
        "mutation { inviteMember(input: { email: \"guest@example.com\", role: MEMBER }) { link } }";
    let data = acme.user("owner").data(invite).await;
    let link = data["inviteMember"]["link"].as_str().unwrap();
    link.split_once("token=").unwrap().1.to_owned()
}

async fn accept(acme: &Acme, token: &str) -> Reply {
    let accept = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { member { id } } }";
    let claims = json!({ "sub": "guest", "email": "guest@example.com", "email_verified": true });
    let guest = acme.app.client(None, Some(token_with(&claims)));
    guest.query_with(accept, json!({ "token": token })).await
}

/// Returns acme's data as its members see it.
async fn rows(app: &App) -> String {
    app.database
        .value(&format!(
            "SELECT concat((SELECT string_agg(p::text, ' ' ORDER BY p.id) FROM app.projects p WHERE p.organization_id = '{ACME}'),
                           (SELECT string_agg(m::text, ' ' ORDER BY m.id) FROM auth.organization_members m WHERE m.organization_id = '{ACME}'),
                           (SELECT string_agg(o::text, ' ' ORDER BY o.id) FROM app.organizations o WHERE o.id = '{ACME}'))"
        ))
        .await
}
