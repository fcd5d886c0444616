//! Organizations in dedicated schemas: requests find them, isolation holds, and a fault affects one
//! organization only.

use std::{process::Stdio, time::Duration};
use uuid::Uuid;

use migration::placement::schema_of;
use serde_json::{Value, json};

use crate::{
    performance::{
        relay::{self, Relay},
        traffic,
    },
    support::{
        App, AppSettings,
        app::{token, token_with},
        database::{Database, tenant_tables},
        placement::{
            ACME, GLOBEX, PLACEMENT, all_are_shared, move_to_schema, move_to_shared_tables,
            organizations_in_eu, organizations_in_schemas,
        },
    },
};

const PROJECTS: &str = "{ organization { slug projects(first: 100) { nodes { name } } } }";
const OWN: &str = "org_0000000000004000800000000000000a";

fn acme() -> Uuid {
    ACME.parse().unwrap()
}

fn create(name: &str) -> String {
    format!("mutation {{ createProject(input: {{ name: \"{name}\" }}) {{ project {{ name }} }} }}")
}

fn names(data: &Value) -> Vec<String> {
    let nodes = data["organization"]["projects"]["nodes"].as_array().unwrap();
    let mut names: Vec<_> =
        nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

async fn count(database: &Database, table: &str) -> i64 {
    database.exactly(&format!("SELECT count(*) FROM {table}")).await
}

/// A server over the demo's organizations with acme in a dedicated schema, regardless of the run's
/// placement.
async fn served(settings: AppSettings) -> App {
    let app = App::with(settings).await;
    if !organizations_in_schemas().contains(&acme()) {
        move_to_schema(&app.database.connect_admin().await, acme()).await;
    }
    app
}

#[tokio::test]
async fn an_organization_is_found_after_every_move() {
    if !all_are_shared() {
        return;
    }
    let app = App::start().await;
    let connection = app.database.connect_admin().await;
    let owner = app.user("acme-owner");
    let mut expected = names(&owner.data(PROJECTS).await);
    assert!(!expected.is_empty());

    move_to_schema(&connection, acme()).await;
    assert_eq!(names(&owner.data(PROJECTS).await), expected);
    owner.query(&create("There")).await.data();
    expected.push("There".to_owned());
    expected.sort();
    // The placement is now cached. Under another name the server must look it up first.
    assert_eq!(names(&owner.data(PROJECTS).await), expected);
    let claim = token_with(&json!({ "sub": "acme-owner", "org": ACME }));
    assert_eq!(names(&app.client(None, Some(claim)).data(PROJECTS).await), expected);
    assert_eq!(
        count(&app.database, &format!("{OWN}.projects")).await,
        i64::try_from(expected.len()).unwrap()
    );
    let left = "SELECT count(*) FROM app.projects p JOIN app.organizations o ON o.id = p.organization_id WHERE o.slug = 'acme'";
    assert_eq!(app.database.value::<i64>(left).await, 0);

    // The cached placement is outdated.
    move_to_shared_tables(&connection, acme()).await;
    owner.query(&create("Back")).await.data();
    expected.push("Back".to_owned());
    expected.sort();
    assert_eq!(names(&owner.data(PROJECTS).await), expected);
    assert_eq!(count(&app.database, &format!("{OWN}.projects WHERE name = 'Back'")).await, 0);
}

#[tokio::test]
async fn a_session_opened_during_a_move_is_not_continued_after_it() {
    if !all_are_shared() {
        return;
    }
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let expected = names(&owner.data(PROJECTS).await);
    let begin = format!(
        "INSERT INTO app.placements (organization_id, placement, moving_to) VALUES ('{ACME}', 'shared', 'schema')"
    );
    app.database.execute(&begin).await;
    // The server now caches a session of the organization that is moving.
    for _ in 0..2 {
        assert_eq!(names(&owner.data(PROJECTS).await), expected);
    }
    move_to_schema(&app.database.connect_admin().await, acme()).await;
    assert_eq!(names(&owner.data(PROJECTS).await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_under_load_neither_lose_nor_duplicate_rows() {
    if !all_are_shared() {
        return;
    }
    let app = App::with(AppSettings { max_connections: 8, ..AppSettings::default() }).await;
    let unlimited = "UPDATE billing.organization_billing SET plan = 'enterprise'";
    app.database.execute(unlimited).await;
    let before = names(&app.user("acme-owner").data(PROJECTS).await).len();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (owner, stopped) = (app.user("acme-owner"), stopped.clone());
            tokio::spawn(async move {
                let mut made = Vec::new();
                while !*stopped.borrow() {
                    let name = format!("{client}-{}", made.len());
                    owner.query(&create(&name)).await.data();
                    owner.data("{ organization { projects(first: 1) { nodes { id } } } }").await;
                    made.push(name);
                }
                made
            })
        })
        .collect();
    let connection = app.database.connect_admin().await;
    for _ in 0..5 {
        move_to_schema(&connection, acme()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        move_to_shared_tables(&connection, acme()).await;
        app.database.execute(&format!("DROP SCHEMA {OWN} CASCADE")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    move_to_schema(&connection, acme()).await;
    stop.send(true).unwrap();
    let mut made = Vec::new();
    for client in clients {
        made.extend(client.await.unwrap());
    }
    assert!(made.len() > 20, "{made:?}");
    let there: Vec<String> = app
        .database
        .value(&format!("SELECT array_agg(name) FROM {OWN}.projects WHERE name ~ '^[0-9]-'"))
        .await;
    let (mut made, mut there) = (made, there);
    made.sort();
    there.sort();
    assert_eq!(there, made);
    assert_eq!(
        count(&app.database, &format!("{OWN}.projects")).await,
        i64::try_from(before + made.len()).unwrap()
    );
}

#[tokio::test]
async fn look_ups_across_organizations_find_a_dedicated_schema() {
    let app = served(AppSettings::default()).await;
    let owner = app.user("acme-owner");
    let invite =
        "mutation { inviteMember(input: { email: \"new@example.com\", role: MEMBER }) { link } }";
    let data = owner.query(invite).await.data();
    let url = data["inviteMember"]["link"].as_str().unwrap().to_owned();
    let secret = url.rsplit('=').next().unwrap().to_owned();
    let claims = json!({ "sub": "newcomer", "email": "new@example.com", "email_verified": true });
    let newcomer = app.client(None, Some(token_with(&claims)));
    let accept = format!(
        "mutation {{ acceptInvitation(input: {{ token: \"{secret}\" }}) {{ organization {{ slug projects {{ totalCount }} }} }} }}"
    );
    let data = newcomer.query(&accept).await.data();
    assert_eq!(data["acceptInvitation"]["organization"]["slug"], "acme");
    assert_ne!(data["acceptInvitation"]["organization"]["projects"]["totalCount"], 0);
    let memberships = "{ viewer { memberships { slug name role } } }";
    let expected = json!([{ "slug": "acme", "name": "Acme", "role": "MEMBER" }]);
    assert_eq!(newcomer.data(memberships).await["viewer"]["memberships"], expected);
    owner
        .query("mutation { updateOrganization(input: { name: \"Acme of its own\", slug: \"acme-own\" }) { organization { slug } } }")
        .await
        .data();
    let expected = json!([{ "slug": "acme-own", "name": "Acme of its own", "role": "MEMBER" }]);
    assert_eq!(newcomer.data(memberships).await["viewer"]["memberships"], expected);
    for slug in ["acme", "acme-own"] {
        let there = app.client(Some(slug), Some(token_with(&claims)));
        assert_eq!(there.data(PROJECTS).await["organization"]["slug"], "acme-own");
    }
    // An outsider cannot tell that it exists.
    for slug in ["acme", "acme-own", "nowhere"] {
        let outsider = app.client(Some(slug), Some(token("globex-owner")));
        outsider.query(PROJECTS).await.assert_refused(404, "NOT_FOUND");
    }
    in_step(&app.database).await;
}

/// Asserts that the shared look-up rows equal the organization's own tables.
async fn in_step(database: &Database) {
    for table in tenant_tables().iter().filter(|table| table.mirrored) {
        let digest = |name: &str, owner: &str| {
            format!(
                "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} t WHERE {owner} = '{ACME}'"
            )
        };
        let copy: Option<String> =
            database.exactly(&digest(&table.name, table.owner_column())).await;
        let own: Option<String> =
            database.exactly(&digest(&table.in_schema(OWN), table.owner_column())).await;
        assert_eq!(copy, own, "{}", table.name);
    }
}

#[tokio::test]
async fn a_new_organization_is_created_in_the_shared_tables() {
    let app = served(AppSettings::default()).await;
    let found = "mutation { createOrganization(input: { name: \"Initech\", slug: \"initech\" }) {
        organization { id slug projects { totalCount } } } }";
    let data = app.user("acme-owner").query(found).await.data();
    let organization = &data["createOrganization"]["organization"];
    assert_eq!(organization["projects"]["totalCount"], 0);
    let id = organization["id"].as_str().unwrap();
    for (table, rows) in [("app.organizations", 1), (&*format!("{OWN}.organizations"), 0)] {
        assert_eq!(
            count(&app.database, &format!("{table} WHERE id = '{id}'")).await,
            rows,
            "{table}"
        );
    }
    let there = app.client(Some("initech"), Some(token("acme-owner")));
    there.query(&create("First")).await.data();
    assert_eq!(names(&there.data(PROJECTS).await), ["First"]);
    assert_eq!(
        count(&app.database, &format!("app.projects WHERE organization_id = '{id}'")).await,
        1
    );
}

#[tokio::test]
async fn a_missing_or_outdated_schema_affects_its_organization_only() {
    let app = served(AppSettings::default()).await;
    let (acme, globex) = (app.user("acme-owner"), app.user("globex-owner"));
    acme.data(PROJECTS).await;
    let version: String = app.database.value("SELECT version FROM app.placements LIMIT 1").await;
    let behind = format!(
        "UPDATE app.placements SET version = 'core/0000_unknown' WHERE organization_id = '{ACME}'"
    );
    app.database.execute(&behind).await;
    for query in [PROJECTS, &create("Never")] {
        let reply = acme.query(query).await;
        assert_eq!((reply.status.as_u16(), reply.codes()), (503, vec!["UNAVAILABLE"]), "{reply:?}");
        assert!(reply.headers.contains_key("retry-after"));
    }
    globex.data(PROJECTS).await;
    app.database.execute(&format!("UPDATE app.placements SET version = '{version}'")).await;
    acme.data(PROJECTS).await;

    app.database.execute(&format!("DROP SCHEMA {OWN} CASCADE")).await;
    for query in [PROJECTS, &create("Never")] {
        assert_eq!(acme.query(query).await.codes(), ["INTERNAL"]);
    }
    globex.data(PROJECTS).await;
}

#[tokio::test]
async fn a_dedicated_schema_takes_one_more_statement_and_no_more_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let relay = Relay::between(folder.path(), &database.socket()).unwrap();
    if !organizations_in_schemas().contains(&acme()) {
        move_to_schema(&database.connect_admin().await, acme()).await;
    }
    let socket = Some(folder.path().to_owned());
    let app =
        App::on(database, AppSettings { socket, max_connections: 1, ..AppSettings::default() })
            .await;
    let mut seen = relay::Traffic::default();
    for _ in 0..4 {
        relay.take();
        app.user("acme-owner").data(PROJECTS).await;
        seen = traffic(&relay, 5).await;
    }
    // The shared tables take 4 and 2.
    assert_eq!((seen.statements, seen.waits), (5, 2));
}

#[tokio::test]
async fn organizations_live_where_the_run_places_them() {
    let app = App::start().await;
    for (subject, organization) in [("acme-owner", ACME), ("globex-owner", GLOBEX)] {
        app.database.execute("UPDATE billing.plan_features SET limit_value = NULL").await;
        app.user(subject).query(&create("Here")).await.data();
        let id: Uuid = organization.parse().unwrap();
        let own = format!("{}.projects", schema_of(id));
        let (there, table) = match app.database.eu() {
            Some(eu) if organizations_in_eu().contains(&id) => (eu.database, "app.projects"),
            _ if organizations_in_schemas().contains(&id) => (app.database.clone(), own.as_str()),
            _ => (app.database.clone(), "app.projects"),
        };
        let made = format!("{table} WHERE organization_id = '{organization}' AND name = 'Here'");
        assert_eq!(count(&there, &made).await, 1, "{made}");
        // Tests find the row in any placement.
        let seen = format!(
            "SELECT count(*) FROM app.projects WHERE organization_id = '{organization}' AND name = 'Here'"
        );
        assert_eq!(app.database.value::<i64>(&seen).await, 1);
    }
}

/// Runs the test modules about data and permissions in a separate process, with the demo's
/// organizations in another placement.
async fn suites(placement: &str) {
    if std::env::var_os(PLACEMENT).is_some() {
        return;
    }
    let suites = [
        "authorization::",
        "isolation::",
        "audit_year::",
        "app::",
        "member::",
        "invitation::",
        "organizations_live_where_the_run_places_them",
    ];
    // The longest test asks acme only, which `mixed` places as `schema` does, and `all` as
    // `database`.
    let skipped = match placement {
        "schema" | "database" => &["--skip", "authorization::each_field"][..],
        _ => &[],
    };
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(suites)
        .args(skipped)
        .args(["--test-threads", "2"])
        .env(PLACEMENT, placement)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&child.stderr));
    let passed = stdout.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(passed > 30, "{passed}: {stdout}");
}

#[tokio::test]
async fn the_suites_pass_with_dedicated_schemas() {
    suites("schema").await;
}

#[tokio::test]
async fn the_suites_pass_with_some_dedicated_schemas() {
    suites("mixed").await;
}

#[tokio::test]
async fn the_suites_pass_with_a_dedicated_database() {
    suites("database").await;
}

#[tokio::test]
async fn the_suites_pass_with_all_three_placements() {
    suites("all").await;
}
