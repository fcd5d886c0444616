//! Commands of operators: exports, partitions, retention, erasure of users, and replay of events.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    App, AppSettings, HANG, app,
    database::Database,
    process::{Output, run, succeeded, tenantry},
    stripe::FakeStripe,
};

const ACME: &str = "00000000-0000-4000-8000-00000000000a";

/// Runs a command as operators do, with both database URLs.
async fn command(database: &Database, arguments: &[&str]) -> Output {
    let mut command = prepared(database, arguments);
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

fn prepared(database: &Database, arguments: &[&str]) -> Command {
    let mut command = tenantry();
    command
        .args(arguments)
        .env("DATABASE_URL", database.url("tenantry_app"))
        .env("MIGRATION_DATABASE_URL", database.url("postgres"));
    command
}

#[track_caller]
fn failed_in_one_line(output: &Output, reason: &str) {
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains(reason), "{}", output.stderr);
}

/// Replaces the log with entries of acme at the first of each month of 2020, and one of globex.
async fn old_entries(database: &Database) {
    database
        .execute(
            "DELETE FROM audit.audit_logs;
             INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, metadata, created_at)
             SELECT '00000000-0000-4000-8000-00000000000a'::uuid, 'Ada, \"the first\"', 'project.created', 'project',
                    jsonb_build_object('name', E'a\\nb'), make_timestamptz(2020, month, 1, 0, 0, 0, 'UTC')
             FROM generate_series(1, 12) month
             UNION ALL
             SELECT '00000000-0000-4000-8000-00000000000b', NULL, 'project.created', 'project', '{}', '2020-03-05T00:00:00Z'",
        )
        .await;
}

async fn entries(database: &Database, condition: &str) -> i64 {
    database.value(&format!("SELECT count(*) FROM audit.audit_logs WHERE {condition}")).await
}

#[tokio::test]
async fn an_export_has_every_entry_of_one_organization_in_order() {
    let database = Database::create().await;
    old_entries(&database).await;
    database
        .execute(&format!(
            "INSERT INTO audit.audit_logs (organization_id, action, resource_type, created_at)
             SELECT '{ACME}', 'project.updated', 'project', '2021-01-01'::timestamptz + n * interval '1 microsecond'
             FROM generate_series(1, 2500) n"
        ))
        .await;
    let output = command(&database, &["audit", "export", "--organization", "acme"]).await;
    let lines: Vec<Value> =
        succeeded(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 12 + 2_500 + 1, "three pages and the entry of the export");
    assert!(lines.iter().all(|line| line["organization_id"] == ACME));
    assert!(lines.is_sorted_by_key(|line| line["created_at"].as_str().unwrap().to_owned()));
    assert_eq!(lines[0]["created_at"], "2020-01-01T00:00:00.000000Z");
    assert_eq!(lines[0]["metadata"], json!({ "name": "a\nb" }));
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["action"], &last["actor_name"]),
        (&json!("audit.exported"), &json!("tenantry audit export"))
    );
    assert!(output.stderr.contains("exported 2513 entries"), "{}", output.stderr);

    let arguments = [
        "audit",
        "export",
        "--organization",
        ACME,
        "--format",
        "csv",
        "--since",
        "2020-11-01T00:00:00Z",
        "--until",
        "2020-12-01T00:00:00Z",
    ];
    let output = command(&database, &arguments).await;
    let expected = "id,organization_id,created_at,actor_id,actor_name,action,resource_type,resource_id,ip_address,metadata\n";
    let rest = succeeded(&output).strip_prefix(expected).unwrap();
    assert!(rest.contains(",2020-11-01T00:00:00.000000Z,,\"Ada, \"\"the first\"\"\",project.created,project,,,\"{\"\"name\"\":\"\"a\\nb\"\"}\"\n"), "{rest}");
    assert_eq!(rest.lines().count(), 1);
    let nothing = command(&database, &["audit", "export", "--organization", "nowhere"]).await;
    failed_in_one_line(&nothing, "there is no organization nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_deleted_organization_can_be_exported() {
    let app = App::start().await;
    let deletion =
        "mutation { deleteOrganization(input: { slug: \"globex\" }) { organization { id } } }";
    app.user("globex-owner").query(deletion).await.data();
    let output = command(&app.database, &["audit", "export", "--organization", "globex"]).await;
    assert!(succeeded(&output).contains("\"organization.deleted\""), "{}", output.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_partitions_of_the_log_exist_ahead_of_time() {
    // Without a server, which would create the partition itself.
    let database = Database::create().await;
    old_entries(&database).await;
    let count = "SELECT count(*) FROM audit.partitions()";
    let before: i64 = database.value(count).await;
    database
        .execute(
            "DO $$ BEGIN EXECUTE 'DROP TABLE ' || (SELECT name FROM audit.partitions() ORDER BY upper_bound DESC NULLS LAST LIMIT 1); END $$",
        )
        .await;
    let output = command(&database, &["audit", "partition"]).await;
    assert!(succeeded(&output).contains("created audit.audit_logs_2"), "{}", output.stdout);
    assert!(
        succeeded(&command(&database, &["audit", "partition"]).await)
            .contains("All partitions exist.")
    );
    assert_eq!(database.value::<i64>(count).await, before);
    let app = App::on(database, AppSettings::default()).await;
    let owner = app.user("acme-owner");
    let data = owner.data("{ organization { auditLogs(first: 100) { nodes { id } } } }").await;
    assert_eq!(data["organization"]["auditLogs"]["nodes"].as_array().unwrap().len(), 12);
    // The policies hold for each partition too.
    let policies: Vec<String> = app
        .database
        .value(
            "SELECT array_agg(DISTINCT concat(relrowsecurity, relforcerowsecurity, has_table_privilege('tenantry_app', oid, 'SELECT'),
                    has_table_privilege('tenantry_app', oid, 'INSERT'))) FROM pg_class
             WHERE relnamespace = 'audit'::regnamespace AND relkind = 'r'",
        )
        .await;
    assert_eq!(policies, ["ttff"]);
    let output = command(&app.database, &["doctor"]).await;
    assert!(succeeded(&output).contains("All is well."), "{}", output.stdout);
    // A starting server adds missing partitions.
    app.database
        .execute(
            "DO $$ BEGIN EXECUTE 'DROP TABLE ' || (SELECT name FROM audit.partitions() ORDER BY upper_bound DESC NULLS LAST LIMIT 1); END $$;
             INSERT INTO audit.audit_logs (organization_id, action, resource_type, created_at)
             VALUES (gen_random_uuid(), 'project.created', 'project', now() + interval '3 months')",
        )
        .await;
    let _server = App::on(app.database.clone(), AppSettings::default()).await;
    let start = std::time::Instant::now();
    while app.database.value::<i64>(count).await < before {
        assert!(start.elapsed() < HANG);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let strays: i64 = app.database.value("SELECT count(*) FROM audit.audit_logs_default").await;
    assert_eq!((strays, entries(&app.database, "true").await), (0, 13 + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_being_erased_creates_no_organization() {
    let app = App::start().await;
    let claims =
        json!({ "sub": "rex", "name": "Rex", "email": "rex@example.com", "email_verified": true });
    let rex = app.client(None, Some(app::token_with(&claims)));
    rex.data("{ viewer { id } }").await;
    app.database
        .execute("INSERT INTO audit.audit_logs (organization_id, actor_id, actor_name, action, resource_type)
                  SELECT gen_random_uuid(), (SELECT id FROM auth.users WHERE email = 'rex@example.com'), 'Rex', 'project.created', 'project'
                  FROM generate_series(1, 20000)")
        .await;
    let foundings = async {
        for number in 0..12 {
            let found = format!(
                "mutation {{ createOrganization(input: {{ name: \"x\", slug: \"rex-{number}\" }}) {{ organization {{ id }} }} }}"
            );
            rex.query(&found).await;
        }
    };
    let (output, ()) =
        tokio::join!(command(&app.database, &["user", "erase", "rex@example.com"]), foundings);
    // Either the user created an organization first and is its last owner, or nothing of them
    // remains.
    let ownerless: i64 = app
        .database
        .value("SELECT count(*) FROM app.organizations o WHERE NOT EXISTS (
                    SELECT FROM auth.organization_members m WHERE m.organization_id = o.id AND m.role = 'owner')")
        .await;
    assert_eq!(ownerless, 0, "{}{}", output.stdout, output.stderr);
    if output.code == Some(0) {
        assert_eq!(
            entries(&app.database, "actor_name = 'Rex' AND resource_type = 'project'").await,
            0
        );
    } else {
        failed_in_one_line(&output, "the last owner of");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_entries_are_pruned_and_each_log_records_it() {
    for has_old_partition in [false, true] {
        let app = App::start().await;
        old_entries(&app.database).await;
        if has_old_partition {
            // A month without a partition, as years later.
            app.database
                .execute(
                    "CREATE TABLE audit.audit_logs_2020_01 (LIKE audit.audit_logs INCLUDING ALL);
                     WITH moved AS (DELETE FROM audit.audit_logs WHERE created_at < '2020-02-01' RETURNING *)
                     INSERT INTO audit.audit_logs_2020_01 SELECT * FROM moved;
                     ALTER TABLE audit.audit_logs_2020_01 OWNER TO tenantry_owner;
                     DO $$ DECLARE bound timestamptz := (SELECT min(upper_bound) FROM audit.partitions()); BEGIN
                     ALTER TABLE audit.audit_logs DETACH PARTITION audit.audit_logs_history;
                     ALTER TABLE audit.audit_logs ATTACH PARTITION audit.audit_logs_2020_01 FOR VALUES FROM (MINVALUE) TO ('2020-02-01Z');
                     EXECUTE format('ALTER TABLE audit.audit_logs ATTACH PARTITION audit.audit_logs_history FOR VALUES FROM (''2020-02-01Z'') TO (%L)', bound);
                     END $$",
                )
                .await;
        }
        let output = command(&app.database, &["audit", "prune", "--before", "2020-04-02"]).await;
        assert!(succeeded(&output).contains("deleted 5 entries"), "{}", output.stdout);
        assert_eq!(entries(&app.database, "created_at < '2020-04-02Z'").await, 0);
        assert_eq!(entries(&app.database, "created_at < '2021-01-01Z'").await, 8);
        let gone: Option<String> =
            app.database.value("SELECT to_regclass('audit.audit_logs_2020_01')::text").await;
        assert_eq!(gone, None);
        let data = app
            .user("acme-owner")
            .data("{ organization { auditLogs(filter: { action: \"audit.pruned\" }) { nodes { actorName metadata } } } }")
            .await;
        let pruned: i64 = data["organization"]["auditLogs"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["metadata"]["entries"].as_i64().unwrap())
            .sum();
        assert_eq!(pruned, 4, "{data}");
        let future = command(&app.database, &["audit", "prune", "--before", "2999-01-01"]).await;
        failed_in_one_line(&future, "Give a day in the past");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_user_leaves_no_trace() {
    let app = App::start().await;
    let claims = json!({ "sub": "grace", "name": "Grace Hopper", "email": "grace@example.com", "email_verified": true });
    let grace = app.client(Some("acme"), Some(app::token_with(&claims)));
    let nowhere = app.client(None, Some(app::token_with(&claims)));
    let invite =
        "mutation { inviteMember(input: { email: \"Grace@example.com\", role: ADMIN }) { link } }";
    let data = app.user("acme-owner").query(invite).await.data();
    let link = data["inviteMember"]["link"].as_str().unwrap().to_owned();
    let token = link.split("token=").nth(1).unwrap();
    let accept = "mutation ($token: String!) { acceptInvitation(input: { token: $token }) { member { id } } }";
    let member = nowhere.query_with(accept, json!({ "token": token })).await.data();
    let member = member["acceptInvitation"]["member"]["id"].as_str().unwrap().to_owned();
    grace
        .query("mutation { createProject(input: { name: \"Compiler\" }) { project { id } } }")
        .await
        .data();
    let demote = format!(
        "mutation {{ updateMemberRole(input: {{ id: \"{member}\", role: VIEWER }}) {{ member {{ id }} }} }}"
    );
    app.user("acme-owner").query(&demote).await.data();
    // A user of the same name is not affected.
    let namesake = json!({ "sub": "other", "name": "Grace Hopper" });
    let created = "mutation { createOrganization(input: { name: \"Other\", slug: \"other-grace\" }) { organization { id } } }";
    app.client(None, Some(app::token_with(&namesake))).query(created).await.data();

    // Her address has changed since.
    let claims = json!({ "sub": "grace", "name": "Grace Hopper", "email": "hopper@example.com", "email_verified": true });
    app.client(None, Some(app::token_with(&claims))).data("{ viewer { id } }").await;
    let output = command(&app.database, &["user", "erase", "HOPPER@example.com"]).await;
    assert!(
        succeeded(&output).contains("memberships ended: 1")
            && output.stdout.contains("acme (viewer)"),
        "{}",
        output.stdout
    );
    let left: String = app
        .database
        .value(
            "SELECT concat((SELECT string_agg(t::text, '') FROM audit.audit_logs t WHERE actor_name IS DISTINCT FROM 'Grace Hopper'
                                OR organization_id = '00000000-0000-4000-8000-00000000000a'),
                           (SELECT string_agg(t::text, '') FROM auth.users t WHERE email IS NOT NULL),
                           (SELECT string_agg(t::text, '') FROM auth.invitations t),
                           (SELECT string_agg(t::text, '') FROM auth.identities t JOIN auth.users u ON u.id = t.user_id
                                WHERE u.name IS DISTINCT FROM 'Grace Hopper'))",
        )
        .await;
    let left = left.to_lowercase();
    assert!(
        !left.contains("grace@") && !left.contains("hopper") && !left.contains("grace h"),
        "{left}"
    );
    let namesakes: i64 =
        app.database.value("SELECT count(*) FROM auth.users WHERE name = 'Grace Hopper'").await;
    assert_eq!(namesakes, 1);
    assert_eq!(entries(&app.database, "actor_name = 'Grace Hopper'").await, 1, "the other user's");
    let data = app
        .user("acme-owner")
        .data("{ organization { members { totalCount } projects(first: 1) { nodes { name createdBy { id } } } auditLogs(first: 4) { nodes { action actorName metadata actor { id } } } } }")
        .await;
    let organization = &data["organization"];
    assert_eq!(organization["members"]["totalCount"], 4);
    assert_eq!(
        organization["projects"]["nodes"][0],
        json!({ "name": "Compiler", "createdBy": null })
    );
    let entries: Vec<_> = organization["auditLogs"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["actorName"].as_str().unwrap(),
                &entry["metadata"]["name"],
            )
        })
        .collect();
    let erased = json!("(erased)");
    assert_eq!(entries[0], ("member.removed", "tenantry user erase", &erased));
    assert_eq!(entries[1], ("member.role_changed", "Olivia", &erased));
    assert_eq!((entries[2].0, entries[2].1), ("project.created", "(erased)"));
    assert_eq!((entries[3].0, entries[3].1), ("invitation.accepted", "(erased)"));
    // Her token is rejected. A newer one creates a new user without memberships.
    grace.query("{ organization { id } }").await.assert_refused(401, "UNAUTHENTICATED");
    let newer = app.client(Some("acme"), Some(app::token_with(&claims)));
    newer.query("{ organization { id } }").await.assert_refused(404, "NOT_FOUND");

    let before = app.database.fingerprint().await;
    let id: String = app
        .database
        .value("SELECT user_id::text FROM auth.identities WHERE subject = 'acme-owner'")
        .await;
    failed_in_one_line(
        &command(&app.database, &["user", "erase", &id]).await,
        "the last owner of acme",
    );
    failed_in_one_line(
        &command(&app.database, &["user", "erase", "nobody@example.com"]).await,
        "there is no user",
    );
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_event_is_replayed_once_its_plan_has_a_price() {
    let stripe = FakeStripe::start().await;
    stripe.add_customer("cus_1", Some(ACME));
    let app = App::start().await;
    let subscription = json!({ "id": "sub_1", "customer": "cus_1", "status": "active",
        "metadata": { "organization_id": ACME }, "items": { "data": [{ "price": { "id": "price_e" } }] } });
    let payload = json!({ "id": "evt_1", "type": "customer.subscription.created", "created": 100, "data": { "object": subscription } });
    app.database
        .execute(&format!("SELECT billing.receive_stripe_event('evt_1', 'customer.subscription.created', to_timestamp(100), '{payload}')"))
        .await;
    let replay = |event: &'static str| {
        let mut command = prepared(&app.database, &["billing", "replay", event]);
        command
            .env("BILLING_PROVIDER", "stripe")
            .env("STRIPE_SECRET_KEY", "sk_test")
            .env("STRIPE_WEBHOOK_SECRET", "whsec_test")
            .env("STRIPE_API_BASE", stripe.base());
        tokio::task::spawn_blocking(move || run(&mut command))
    };
    failed_in_one_line(&replay("evt_1").await.unwrap(), "no plan has the price price_e");
    failed_in_one_line(&replay("evt_0").await.unwrap(), "The event was not found.");
    let output = command(&app.database, &["plan", "price", "enterprise", "price_e"]).await;
    assert!(succeeded(&output).contains("price_e"), "{}", output.stdout);
    failed_in_one_line(
        &command(&app.database, &["plan", "price", "pro", "price_e"]).await,
        "price_e is a price of the plan enterprise",
    );
    failed_in_one_line(
        &command(&app.database, &["plan", "price", "gold", "price_f"]).await,
        "there is no plan gold",
    );
    // Stripe reports the state now; the event alone gives nothing.
    assert!(!succeeded(&replay("evt_1").await.unwrap()).contains("was applied"));
    stripe.set_subscription(&subscription);
    assert!(succeeded(&replay("evt_1").await.unwrap()).contains("was applied"));
    let data = app
        .user("acme-owner")
        .data("{ organization { plan { key } auditLogs(first: 1) { nodes { actorName } } } }")
        .await;
    assert_eq!(data["organization"]["plan"]["key"], "enterprise");
    assert_eq!(
        data["organization"]["auditLogs"]["nodes"][0]["actorName"],
        "tenantry billing replay"
    );
    stripe.take_requests();
    // A second replay asks Stripe too.
    assert!(succeeded(&replay("evt_1").await.unwrap()).contains("was applied"));
    assert_eq!(stripe.take_requests().len(), 1);
}
