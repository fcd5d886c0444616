//! The authorization matrix: every field that returns data, for every kind of caller, as one
//! committed snapshot. A new field fails the test until someone decides who may read it.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use crate::{
    isolation::fill,
    support::{
        App, Client, app,
        resources::{Resource, further_resources, input},
    },
};

const ACTORS: [&str; 6] = ["owner", "admin", "member", "viewer", "outsider", "anonymous"];

/// Types whose fields are requested: all except those that only wrap others, and further resources.
const TYPES: [&str; 20] = [
    "Query",
    "Mutation",
    "Organization",
    "Member",
    "Invitation",
    "InvitationPreview",
    "ReceivedInvitation",
    "Project",
    "Billing",
    "Entitlement",
    "UsagePeriod",
    "AuditLog",
    "User",
    "Viewer",
    "Membership",
    "Identity",
    "Plan",
    "PlanFeature",
    "PlanPrice",
    "Feature",
];

fn actor(app: &App, name: &str) -> Client {
    match name {
        "outsider" => app.client(Some("acme"), Some(app::token("globex-owner"))),
        "anonymous" => app.client(Some("acme"), None),
        role => app.user(&format!("acme-{role}")),
    }
}

/// Objects of acme that the documents name.
struct Ids {
    project: String,
    /// The id of the viewer's membership.
    member: String,
    invitation: String,
    /// An object of each further resource.
    further: Vec<(Resource, String)>,
}

impl Ids {
    async fn find(app: &App) -> Self {
        app.database
            .execute(
                "INSERT INTO auth.invitations (organization_id, email, role, token_hash, invited_by, expires_at)
                 SELECT o.id, 'guest@example.com', 'member', sha256('x'), m.user_id, now() + interval '1 day'
                 FROM app.organizations o JOIN auth.organization_members m ON m.organization_id = o.id AND m.role = 'owner'
                 WHERE o.slug = 'acme'",
            )
            .await;
        // A canceled subscription, so that resuming it changes something and canceling it changes
        // nothing.
        app.database
            .execute(
                "UPDATE billing.organization_billing
                 SET cancel_at_period_end = true, period_end = now() + interval '1 day'",
            )
            .await;
        // A meter that was used.
        app.database
            .execute(
                "INSERT INTO billing.features (feature, kind, name, period, position) VALUES ('exports', 'meter', 'Exports', 'month', 4);
                 INSERT INTO billing.plan_features (plan, feature) VALUES ('pro', 'exports');
                 INSERT INTO billing.usage (organization_id, feature, period_start, used)
                 SELECT id, 'exports', '2026-01-01T00:00:00Z', 1 FROM app.organizations WHERE slug = 'acme'",
            )
            .await;
        let of_acme = "JOIN app.organizations o ON o.id = t.organization_id AND o.slug = 'acme'";
        let id = |table: &str, wanted: &str| {
            let sql = format!("SELECT min(t.id::text) FROM {table} t {of_acme} {wanted}");
            async move { app.database.value::<String>(&sql).await }
        };
        let resources = further_resources();
        let wanted = |table: &str| resources.iter().any(|resource| resource.table == table);
        fill(&app.database, |table| wanted(table.base_name())).await;
        let mut further = Vec::new();
        for resource in resources {
            let row = id(&format!("app.{}", resource.table), "").await;
            further.push((resource, row));
        }
        Self {
            further,
            project: id("app.projects", "").await,
            member: id("auth.organization_members", "WHERE t.role = 'viewer'").await,
            invitation: id("auth.invitations", "").await,
        }
    }
}

/// Returns the document that reaches a field, given the selection of that field.
fn document(type_name: &str, field: &str, selected: &str, ids: &Ids) -> String {
    match type_name {
        "Query" => format!("{{ {selected} }}"),
        "Mutation" => format!("mutation {{ {} }}", mutation(field, ids)),
        "Organization" => format!("{{ organization {{ {selected} }} }}"),
        "Member" => {
            format!("{{ organization {{ members(first: 1) {{ nodes {{ {selected} }} }} }} }}")
        }
        "Invitation" => {
            format!("{{ organization {{ invitations(first: 1) {{ nodes {{ {selected} }} }} }} }}")
        }
        "InvitationPreview" => format!("{{ invitation(token: \"none\") {{ {selected} }} }}"),
        "ReceivedInvitation" => format!("{{ viewer {{ invitations {{ {selected} }} }} }}"),
        "Project" => {
            format!("{{ organization {{ projects(first: 1) {{ nodes {{ {selected} }} }} }} }}")
        }
        "Billing" => format!("{{ organization {{ billing {{ {selected} }} }} }}"),
        "Entitlement" => format!("{{ organization {{ entitlements {{ {selected} }} }} }}"),
        "UsagePeriod" => {
            format!("{{ organization {{ usage(feature: \"exports\") {{ {selected} }} }} }}")
        }
        "AuditLog" => {
            format!("{{ organization {{ auditLogs(first: 1) {{ nodes {{ {selected} }} }} }} }}")
        }
        "User" => format!(
            "{{ organization {{ members(first: 1) {{ nodes {{ user {{ {selected} }} }} }} }} }}"
        ),
        "Viewer" => format!("{{ viewer {{ {selected} }} }}"),
        "Membership" => format!("{{ viewer {{ memberships {{ {selected} }} }} }}"),
        "Identity" => format!("{{ viewer {{ identities {{ {selected} }} }} }}"),
        "Plan" => format!("{{ plans {{ {selected} }} }}"),
        "PlanFeature" => format!("{{ planFeatures {{ {selected} }} }}"),
        "PlanPrice" => format!("{{ plans {{ prices {{ {selected} }} }} }}"),
        "Feature" => format!("{{ planFeatures {{ feature {{ {selected} }} }} }}"),
        other => {
            let known = ids.further.iter().find(|(resource, _)| resource.name == other);
            let (resource, _) =
                known.unwrap_or_else(|| panic!("decide how the tests reach {other}"));
            let list = &resource.list;
            format!("{{ organization {{ {list}(first: 1) {{ nodes {{ {selected} }} }} }} }}")
        }
    }
}

fn mutation(field: &str, ids: &Ids) -> String {
    let Ids { project, member, invitation, .. } = ids;
    let input = match field {
        "createProject" => "{ name: \"new\" }".to_owned(),
        "updateProject" => format!("{{ id: \"{project}\", name: \"renamed\" }}"),
        "deleteProject" => format!("{{ id: \"{project}\" }}"),
        "createOrganization" => "{ name: \"New\", slug: \"brand-new\" }".to_owned(),
        "updateOrganization" => "{ name: \"Renamed\" }".to_owned(),
        "deleteOrganization" => "{ slug: \"acme\" }".to_owned(),
        "unlinkIdentity" => "{ id: \"none\" }".to_owned(),
        "acceptInvitation" | "declineInvitation" => "{ token: \"none\" }".to_owned(),
        "updateViewer" => "{ name: \"Ada\" }".to_owned(),
        "inviteMember" => "{ email: \"new@example.com\", role: VIEWER }".to_owned(),
        "resendInvitation" | "revokeInvitation" => format!("{{ id: \"{invitation}\" }}"),
        "updateMemberRole" => format!("{{ id: \"{member}\", role: MEMBER }}"),
        "removeMember" => format!("{{ id: \"{member}\" }}"),
        "changePlan" => "{ plan: \"enterprise\" }".to_owned(),
        "startTrial" | "createCheckoutSession" => "{ plan: \"pro\" }".to_owned(),
        "createBillingPortalSession" => "{}".to_owned(),
        "consumeUsage" | "recordUsage" => {
            "{ feature: \"exports\", amount: 1, idempotencyKey: \"once\" }".to_owned()
        }
        "leaveOrganization" | "cancelSubscription" | "resumeSubscription" => {
            "{ organizationId: \"00000000-0000-4000-8000-00000000000a\" }".to_owned()
        }
        "query" => String::new(),
        "transferOwnership" => format!("{{ memberId: \"{member}\" }}"),
        other => further_input(other, ids).unwrap_or_else(|| {
            panic!("decide who may use the mutation {other}, and give it an input here")
        }),
    };
    if field == "query" {
        return "query { viewer { id } }".to_owned();
    }
    format!("{field}(input: {input}) {{ __typename }}")
}

/// Returns an input of a mutation of a further resource.
fn further_input(mutation: &str, ids: &Ids) -> Option<String> {
    let uses = |resource: &Resource| resource.mutations().iter().any(|(name, _)| name == mutation);
    let (_, own) = ids.further.iter().find(|(resource, _)| uses(resource))?;
    let further = |field: &str| {
        let known =
            ids.further.iter().find(|(resource, _)| format!("{}Id", resource.field) == field);
        known.map(|(_, id)| json!(id))
    };
    let input = input(mutation, "renamed", |field, _| match field {
        "id" => Some(json!(own)),
        "projectId" => Some(json!(ids.project)),
        field => further(field),
    });
    Some(literal(&input))
}

/// Returns a value as a GraphQL literal. Values of enums are in capitals.
fn literal(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", literal(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::String(text)
            if !text.is_empty()
                && text.chars().all(|char| char.is_ascii_uppercase() || char == '_') =>
        {
            text.clone()
        }
        other => other.to_string(),
    }
}

/// Returns the selection of a field: with arguments where it needs some, and a subselection for an
/// object.
fn selection(field: &Value, ids: &Ids) -> String {
    let project = &ids.project;
    let name = field["name"].as_str().unwrap();
    let arguments = match name {
        "member" => format!("(id: \"{}\")", ids.member),
        "node" | "project" => format!("(id: \"{project}\")"),
        "nodes" => format!("(ids: [\"{project}\"])"),
        "invitation" => "(token: \"none\")".to_owned(),
        "entitlement" | "usage" => "(feature: \"exports\")".to_owned(),
        _ if takes_id(field) => {
            let known = ids.further.iter().find(|(resource, _)| resource.field == name);
            known.map_or(String::new(), |(_, id)| format!("(id: \"{id}\")"))
        }
        _ => String::new(),
    };
    let mut kind = &field["type"];
    while !kind["ofType"].is_null() {
        kind = &kind["ofType"];
    }
    let inside = match kind["kind"].as_str().unwrap() {
        "OBJECT" | "INTERFACE" => " { __typename }",
        _ => "",
    };
    format!("{name}{arguments}{inside}")
}

fn takes_id(field: &Value) -> bool {
    field["args"].as_array().unwrap().iter().any(|argument| argument["name"] == "id")
}

async fn fields(app: &App) -> BTreeMap<String, Vec<Value>> {
    let further = further_resources().into_iter().map(|resource| resource.name);
    let types: Vec<String> = TYPES.into_iter().map(ToOwned::to_owned).chain(further).collect();
    let owner = app.user("acme-owner");
    let data = owner.data("{ __schema { types { name kind } } }").await;
    for kind in data["__schema"]["types"].as_array().unwrap() {
        let name = kind["name"].as_str().unwrap();
        let wraps =
            ["Connection", "Edge", "Payload", "PageInfo", "Session", "Change", "Subscription"]
                .iter()
                .any(|end| name.ends_with(end));
        let decided = wraps || name.starts_with("__") || types.iter().any(|known| known == name);
        assert!(
            kind["kind"] != "OBJECT" || decided,
            "decide how a {name} is reached, and who may reach it"
        );
    }
    let mut fields = BTreeMap::new();
    for name in types {
        let query = "query ($name: String!) { __type(name: $name) { fields { name args { name }
                     type { kind ofType { kind ofType { kind ofType { kind } } } } } } }";
        let data = owner.query_with(query, json!({ "name": name })).await.data();
        fields.insert(name, data["__type"]["fields"].as_array().unwrap().clone());
    }
    fields
}

/// Returns the first value at the end of the only path of the document.
fn leaf(data: &Value) -> &Value {
    let inner = match data {
        Value::Object(fields) => fields.values().next(),
        Value::Array(items) => items.first(),
        _ => None,
    };
    inner.map_or(data, leaf)
}

/// Returns `ok`, `null` for a value that is absent or hidden without an error, or the code of the
/// error.
fn outcome(reply: &crate::support::Reply) -> String {
    match reply.codes().as_slice() {
        [] if leaf(&reply.body["data"]).is_null() => "null".to_owned(),
        [] => "ok".to_owned(),
        codes if reply.status == 200 => codes.join(" "),
        codes => format!("{} {}", reply.status.as_u16(), codes.join(" ")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_field_allows_what_the_matrix_says() {
    let app = App::start().await;
    let ids = Ids::find(&app).await;
    let mut matrix = format!("{:<35}", "");
    for name in ACTORS {
        write!(matrix, " {name:<22}").unwrap();
    }
    for (type_name, fields) in fields(&app).await {
        for field in fields {
            let name = field["name"].as_str().unwrap();
            let selected = selection(&field, &ids);
            let type_name = type_name.as_str();
            let reading = document(type_name, name, &selected, &ids);
            write!(matrix, "\n{:<35}", format!("{type_name}.{name}")).unwrap();
            for actor_name in ACTORS {
                // An allowed mutation would change the data for the next one.
                let fresh = if type_name == "Mutation" { Some(App::start().await) } else { None };
                let app = fresh.as_ref().unwrap_or(&app);
                let document = match &fresh {
                    Some(fresh) => document(type_name, name, "", &Ids::find(fresh).await),
                    None => reading.clone(),
                };
                let before =
                    if fresh.is_some() { app.database.fingerprint().await } else { Vec::new() };
                let reply = actor(app, actor_name).query(&document).await;
                let outcome = outcome(&reply);
                if fresh.is_some() {
                    let unchanged = app.database.fingerprint().await == before;
                    let changes =
                        outcome == "ok" && !["cancelSubscription", "query"].contains(&name);
                    assert_eq!(!unchanged, changes, "{name} as {actor_name}: {reply:?}");
                }
                write!(matrix, " {outcome:<22}").unwrap();
            }
        }
    }
    let matrix: Vec<_> = matrix.lines().map(str::trim_end).collect();
    insta::assert_snapshot!("matrix", matrix.join("\n"));
}

#[tokio::test]
async fn viewer_permissions_match_the_enforced_ones() {
    let app = App::start().await;
    let mut lines = String::new();
    for role in ["owner", "admin", "member", "viewer"] {
        let data =
            app.user(&format!("acme-{role}")).data("{ organization { viewerPermissions } }").await;
        let permissions: Vec<_> = data["organization"]["viewerPermissions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|permission| permission.as_str().unwrap())
            .collect();
        writeln!(lines, "{role}: {}", permissions.join(" ")).unwrap();
    }
    insta::assert_snapshot!("permissions", lines);
}

#[tokio::test]
async fn a_field_names_the_permission_that_it_requires() {
    let app = App::start().await;
    let reply = app
        .user("acme-member")
        .query("{ organization { name auditLogs { nodes { id } } billing { plan { key } } } }")
        .await;
    assert_eq!(reply.codes(), ["FORBIDDEN", "FORBIDDEN"]);
    assert_eq!(
        reply.body["data"]["organization"],
        json!({ "name": "Acme", "auditLogs": null, "billing": null })
    );
    let mut named: Vec<_> = reply.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["extensions"]["permission"].as_str().unwrap())
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["AUDIT_LOG_READ", "BILLING_READ"]);
    let sdl = tenantry::schema::sdl();
    assert!(sdl.contains("billing: Billing @requiresPermission(permission: BILLING_READ)"));
}
