//! The commands that edit the catalogue of features and plans while servers run.

use entity::FeatureKind;
use serde_json::{Value, json};

use crate::support::{
    App, Client, app,
    database::Database,
    process::{Output, failed, run, succeeded, tenantry},
    server_process::ServerProcess,
};

async fn command(database: &Database, arguments: &[&str]) -> Output {
    let mut command = tenantry();
    command.args(arguments).env("MIGRATION_DATABASE_URL", database.url("postgres"));
    if let Some(eu) = database.eu() {
        command.env("MIGRATION_DATABASES", format!("eu={}", eu.database.url("postgres")));
    }
    tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap()
}

/// Runs a command twice. The repetition must change nothing.
async fn changes(database: &Database, arguments: &[&str]) -> String {
    let output = command(database, arguments).await;
    let before = database.fingerprint().await;
    let repeated = command(database, arguments).await;
    assert_eq!(succeeded(&repeated), "nothing changed\n", "{arguments:?}");
    assert_eq!(database.fingerprint().await, before, "{arguments:?}");
    succeeded(&output).to_owned()
}

async fn plans(client: &Client) -> Value {
    let data = client.data("{ plans { key features { feature { key } enabled limit } } }").await;
    data["plans"].clone()
}

fn keys(plans: &Value) -> Vec<&str> {
    plans.as_array().unwrap().iter().map(|plan| plan["key"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_tier_and_a_new_feature_are_one_command_each() {
    let app = App::start().await;
    let database = &app.database;
    let owner = app.user("globex-owner");
    let limits = "SELECT string_agg(
            '+ limit team ' || feature || ' ' || coalesce(limit_value::text, 'unlimited') || E'\\n',
            '' ORDER BY position)
        FROM billing.plan_features JOIN billing.features USING (feature) WHERE plan = 'pro'";
    let limits: String = database.value(limits).await;
    let position = "SELECT max(position) + 1 FROM billing.features";
    let position: i32 = database.value(position).await;
    let output =
        changes(database, &["plan", "add", "team", "Team", "--like", "pro", "--position", "2"])
            .await;
    assert_eq!(
        output,
        format!(
            "- plan pro name=Pro position=2\n- plan enterprise name=Enterprise position=3\n\
             + plan team name=Team position=2\n+ plan pro name=Pro position=3\n\
             + plan enterprise name=Enterprise position=4\n{limits}"
        )
    );
    let seen = plans(&owner).await;
    assert_eq!(keys(&seen), ["free", "team", "pro", "enterprise"]);
    assert_eq!(seen[1]["features"], seen[2]["features"]);
    owner
        .data("mutation { changePlan(input: { plan: \"team\" }) { billing { plan { key } } } }")
        .await;

    let add = [
        "feature",
        "add",
        "audit_export",
        "--kind",
        "meter",
        "--unit",
        "export",
        "--period",
        "billing-period",
    ];
    let output = changes(database, &add).await;
    let added = |name: &str| {
        format!(
            "+ feature audit_export meter billing_period name={name} position={position} \
             unit=export\n"
        )
    };
    assert_eq!(output, added("Audit export"));
    let output = changes(database, &["plan", "set", "team", "audit_export", "20"]).await;
    assert_eq!(output, "+ limit team audit_export 20\n");
    let query = "{ organization { entitlement(feature: \"audit_export\") { limit used } } }";
    let seen = owner.data(query).await;
    assert_eq!(seen["organization"]["entitlement"], json!({ "limit": 20, "used": 0 }));
    let output = changes(
        database,
        &["feature", "add", "audit_export", "--kind", "meter", "--name", "Exports"],
    )
    .await;
    assert!(output.contains(&added("Exports")), "{output}");
    let listed = command(database, &["feature", "list"]).await;
    assert!(
        succeeded(&listed)
            .contains("audit_export             meter  billing_period  Exports (export)"),
        "{}",
        listed.stdout
    );
    changes(database, &["feature", "add", "sso", "--kind", "flag"]).await;
    assert_eq!(
        changes(database, &["plan", "set", "team", "sso", "on"]).await,
        "+ limit team sso on\n"
    );

    let default: &[&str] = &["plan", "add", "starter", "Starter", "--default"];
    changes(database, default).await;
    let starter = "{ plans { key isDefault } }";
    let seen = owner.data(starter).await;
    assert_eq!(seen["plans"][4], json!({ "key": "starter", "isDefault": true }));
    assert_eq!(seen["plans"][0], json!({ "key": "free", "isDefault": false }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_plan_is_kept_by_who_has_it_and_offered_to_no_one() {
    let app = App::start().await;
    let output = changes(&app.database, &["plan", "archive", "pro"]).await;
    assert_eq!(output, "- plan pro name=Pro position=2\n+ plan pro name=Pro position=2 archived\n");
    let (acme, globex) = (app.user("acme-owner"), app.user("globex-owner"));
    assert_eq!(keys(&plans(&globex).await), ["free", "enterprise"]);
    let rows = globex.data("{ planFeatures { plan { key } } }").await;
    assert!(!rows.to_string().contains("pro"), "{rows}");
    let data = acme
        .data("{ organization { plan { key isArchived } billing { plan { key } } entitlement(feature: \"projects\") { limit } } }")
        .await;
    let kept = json!({ "plan": { "key": "pro", "isArchived": true }, "billing": { "plan": { "key": "pro" } },
        "entitlement": { "limit": 50 } });
    assert_eq!(data["organization"], kept);
    let before = app.database.fingerprint().await;
    for mutation in ["changePlan", "startTrial"] {
        let mutation = format!(
            "mutation {{ {mutation}(input: {{ plan: \"pro\" }}) {{ billing {{ status }} }} }}"
        );
        globex.query(&mutation).await.assert_failed("BAD_USER_INPUT");
    }
    assert_eq!(app.database.fingerprint().await, before);
    failed(&command(&app.database, &["plan", "archive", "free"]).await, "free is the default plan");
    failed(&command(&app.database, &["plan", "archive", "gold"]).await, "there is no plan gold");
    let output = changes(&app.database, &["plan", "add", "pro", "Pro"]).await;
    assert_eq!(output, "- plan pro name=Pro position=2 archived\n+ plan pro name=Pro position=2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_in_a_file_is_applied_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalogue.json");
    let path = file.to_str().unwrap();
    let app = App::start().await;
    let database = &app.database;
    assert_eq!(succeeded(&command(database, &["plan", "export", path]).await), "");
    let exported = std::fs::read_to_string(&file).unwrap();
    let import = ["plan", "import", path];
    assert_eq!(changes(database, &import).await, "nothing changed\n");

    let mut catalogue: Value = serde_json::from_str(&exported).unwrap();
    catalogue["features"].as_array_mut().unwrap().insert(
        0,
        json!({ "key": "sso", "kind": "flag", "name": "Single sign-on", "description": "For companies." }),
    );
    let plans = catalogue["plans"].as_array_mut().unwrap();
    // Pro is named no more, and stays after the others.
    plans.remove(1);
    plans[1]["limits"] =
        json!({ "projects": 500, "sso": "on", "api_calls_per_month": "unlimited" });
    plans.insert(
        0,
        json!({ "key": "team", "name": "Team", "archived": true, "limits": { "projects": 0 } }),
    );
    std::fs::write(&file, catalogue.to_string()).unwrap();
    let output = changes(database, &import).await;
    for line in [
        "+ feature sso flag name=Single sign-on position=1 description=For companies.",
        "- limit enterprise projects unlimited",
        "+ limit enterprise projects 500",
        "- limit enterprise team_members unlimited",
        "+ limit enterprise sso on",
        "+ plan team name=Team position=1 archived",
        "+ plan free name=Free position=2 default",
        "+ plan pro name=Pro position=4",
        "+ limit team projects 0",
    ] {
        assert!(output.lines().any(|found| found == line), "{line}: {output}");
    }
    assert!(!output.contains("limit pro") && !output.contains("limit free"), "{output}");
    let seen = self::plans(&app.user("acme-viewer")).await;
    assert_eq!(keys(&seen), ["free", "enterprise", "pro"]);
    assert_eq!(
        seen[1]["features"][0],
        json!({ "feature": { "key": "sso" }, "enabled": true, "limit": null })
    );

    // A file that only reorders shows it.
    let mut reordered = catalogue.clone();
    reordered["features"].as_array_mut().unwrap().swap(1, 2);
    std::fs::write(&file, reordered.to_string()).unwrap();
    let output = changes(database, &import).await;
    assert!(output.contains("+ feature projects count name=Projects position=3"), "{output}");

    // A file that cannot be applied changes nothing.
    let before = database.fingerprint().await;
    for (path, value, reason) in [
        ("/plans/0/limits/rockets", json!(1), "there is no feature rockets"),
        (
            "/plans/0/limits/projects",
            json!("many"),
            "the limit of projects in team must be a whole number",
        ),
        ("/plans/0/limits/sso", json!(1), "sso is a flag"),
        ("/features/0/kind", json!("count"), "the feature sso is a flag, which cannot change"),
        ("/plans/0/default", json!(true), "2 plans are the default. One must be."),
        ("/plans/0/key", json!("A plan"), "the key A plan must be"),
        ("/plans/0/key", json!("free"), "the plan free appears twice"),
        ("/plans/0/name", json!(" "), "the name of the plan team must not be empty"),
        ("/plans/1/archived", json!(true), "the default plan free is archived"),
        ("/features/0/key", json!("projects"), "the feature projects appears twice"),
        ("/features/0/name", json!("a\0"), "must not be empty or contain NUL"),
        ("/features/0/unit", json!("a\0"), "a text contains NUL"),
        ("/features/0/kind", json!("toggle"), "unknown variant `toggle`"),
        ("/features/0/period", json!("month"), "Only a meter has a period"),
        ("/plans/0/price", json!(1), "unknown field `price`"),
    ] {
        let mut wrong = catalogue.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[name] = value;
        std::fs::write(&file, wrong.to_string()).unwrap();
        failed(&command(database, &import).await, reason);
    }
    // JSON allows a key twice, and the last one would win.
    let text = serde_json::to_string_pretty(&catalogue).unwrap();
    let twice =
        text.replacen("\"limits\": {", "\"limits\": {\n\"sso\": \"off\", \"sso\": \"on\",", 1);
    std::fs::write(&file, &twice).unwrap();
    let output = command(database, &import).await;
    let line = 1 + twice.lines().position(|line| line.contains("\"off\"")).unwrap();
    failed(&output, &format!("the limit of sso appears twice at line {line}"));
    std::fs::remove_file(&file).unwrap();
    failed(&command(database, &import).await, "No such file");
    assert_eq!(database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_refused_changes_nothing() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    for (arguments, reason) in [
        (
            ["feature", "add", "projects", "--kind", "flag"].as_slice(),
            "is a count, which cannot change",
        ),
        (
            &[
                "feature",
                "add",
                "api_calls_per_month",
                "--kind",
                "meter",
                "--period",
                "billing-period",
            ],
            "is a meter by month, which cannot change",
        ),
        (&["feature", "add", "Rockets", "--kind", "flag"], "must be a lower-case letter"),
        (
            &["feature", "add", "rockets", "--kind", "flag", "--period", "month"],
            "Only a meter has a period",
        ),
        (&["plan", "add", "team", ""], "must not be empty"),
        (&["plan", "add", "team", "Team", "--position", "2147483647"], "is not in 1..=1000000"),
        (&["plan", "add", "team", "Team", "--like", "gold"], "there is no plan gold"),
        (&["plan", "set", "pro", "projects", "on"], "projects is a count"),
        (&["plan", "set", "pro", "rockets", "1"], "there is no feature rockets"),
        (&["plan", "set", "gold", "projects", "1"], "there is no plan gold"),
    ] {
        failed(&command(&app.database, arguments).await, reason);
    }
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_a_declared_feature_without_a_row_of_its_kind() {
    let app = App::start().await;
    let database = &app.database;
    database.execute("DELETE FROM billing.plan_features WHERE feature = 'projects'; DELETE FROM billing.features WHERE feature = 'projects'").await;
    let owner = app.user("acme-owner");
    for (problem, remedy) in [
        ("has no row in billing.features, so every plan denies it", "run "),
        (
            "is a flag, but must be a count",
            "delete its rows in billing.plan_features and billing.features, then run ",
        ),
    ] {
        let mut doctor = tenantry();
        doctor.arg("doctor").env("DATABASE_URL", database.url("tenantry_app"));
        let output = tokio::task::spawn_blocking(move || run(&mut doctor)).await.unwrap();
        let warning = format!(
            "warning: feature projects {problem}; remedy: {remedy}tenantry feature add projects --kind count\n"
        );
        assert!(succeeded(&output).contains(&warning), "{}", output.stdout);
        let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
        owner.query(create).await.assert_failed("PLAN_LIMIT_EXCEEDED");
        changes(database, &["feature", "add", "projects", "--kind", "flag"]).await;
        changes(database, &["plan", "set", "pro", "projects", "on"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_declared_meters_and_flags_as_well() {
    let app = App::start().await;
    app.database.execute("DELETE FROM billing.plan_features WHERE feature = 'api_calls_per_month'; DELETE FROM billing.features WHERE feature = 'api_calls_per_month'").await;
    let mut doctor = tenantry();
    doctor.arg("doctor").env("DATABASE_URL", app.database.url("tenantry_app"));
    let output = tokio::task::spawn_blocking(move || run(&mut doctor)).await.unwrap();
    let remedy = "run tenantry feature add api_calls_per_month --kind meter --period month\n";
    assert!(succeeded(&output).contains(remedy), "{}", output.stdout);
    let declared = [("sso", FeatureKind::Flag, None)];
    let findings = app.service.databases.check_features(&declared).await;
    assert_eq!(findings.len(), 1);
    let remedy = "run tenantry feature add sso --kind flag";
    assert!(findings[0].to_string().ends_with(remedy), "{}", findings[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_travel_with_the_catalogue_and_are_retired_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalogue.json");
    let path = file.to_str().unwrap();
    let (app, other) = (App::start().await, App::start().await);
    for arguments in [
        &["pro", "price_m", "--amount", "1900", "--currency", "usd"][..],
        &["pro", "price_y", "--interval", "year", "--amount", "19000", "--currency", "usd"],
        &["pro", "price_old", "--retire", "--per-seat"],
        &["enterprise", "price_e"],
    ] {
        succeeded(&command(&app.database, &[&["plan", "price"], arguments].concat()).await);
    }
    assert_eq!(succeeded(&command(&app.database, &["plan", "export", path]).await), "");
    let exported: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let usd = |id: &str, interval: &str, amount: i64| json!({ "id": id, "interval": interval, "currency": "usd", "amount": amount });
    let old = json!({ "id": "price_old", "interval": "month", "per_seat": true, "retired": true });
    let prices = json!([usd("price_m", "month", 1_900), usd("price_y", "year", 19_000), old]);
    assert_eq!(exported["plans"][1]["prices"], prices);
    assert_eq!(exported["plans"][0]["prices"], json!([]));

    // Another database gets the same catalogue.
    let import = ["plan", "import", path];
    let output = changes(&other.database, &import).await;
    assert!(output.contains("+ price pro price_y year 19000 usd\n"), "{output}");
    assert!(output.contains("+ price pro price_old month per seat retired\n"), "{output}");
    let offered = "{ plans { key prices { id interval currency unitAmount perSeat } } }";
    let seen = |app: &App| app.user("acme-owner");
    assert_eq!(seen(&app).data(offered).await, seen(&other).data(offered).await);

    // A price that the file does not name stays, until the operator retires it.
    let database = &other.database;
    let write = |prices: Value| {
        let mut catalogue = exported.clone();
        catalogue["plans"][1]["prices"] = prices;
        catalogue["plans"][2].as_object_mut().unwrap().remove("prices");
        std::fs::write(&file, catalogue.to_string()).unwrap();
    };
    write(json!([usd("price_m", "month", 1_900)]));
    assert_eq!(changes(database, &import).await, "nothing changed\n");
    let retire = ["plan", "import", path, "--retire"];
    let expected =
        "- price pro price_y year 19000 usd\n+ price pro price_y year 19000 usd retired\n";
    assert_eq!(changes(database, &retire).await, expected);
    write(json!([usd("price_2027", "month", 2_100)]));
    let before = database.fingerprint().await;
    failed(&command(database, &import).await, "pro is also for sale at price_m");
    for (prices, reason) in [
        (json!([usd("price_e", "year", 1)]), "price_e is a price of the plan enterprise"),
        (json!([usd("prod_1", "year", 1)]), "the price prod_1 must be Stripe's id of a price"),
        (json!([usd("price_m", "month", -1)]), "the amount of price_m must be at least 0"),
        (json!([usd("price_m", "week", 1)]), "unknown variant `week`"),
        (
            json!([usd("price_a", "year", 1), usd("price_a", "year", 1)]),
            "the price price_a appears twice",
        ),
        (
            json!([usd("price_a", "year", 1), usd("price_b", "year", 2)]),
            "pro has several prices for sale",
        ),
        (json!([{ "id": "price_a", "interval": "month", "amount": 5 }]), "the amount of price_a"),
        (
            json!([{ "id": "price_a", "interval": "month", "currency": "USD" }]),
            "the currency of price_a",
        ),
        (json!([{ "id": "price_a", "interval": "month", "seats": 5 }]), "unknown field `seats`"),
    ] {
        write(prices);
        failed(&command(database, &import).await, reason);
    }
    assert_eq!(database.fingerprint().await, before);
    write(json!([usd("price_2027", "month", 2_100)]));
    let output = changes(database, &retire).await;
    assert!(output.contains("+ price pro price_m month 1900 usd retired\n"), "{output}");
    // A plan without a list keeps its prices, even then.
    let mut catalogue = exported.clone();
    for plan in catalogue["plans"].as_array_mut().unwrap() {
        plan.as_object_mut().unwrap().remove("prices");
    }
    std::fs::write(&file, catalogue.to_string()).unwrap();
    assert_eq!(changes(database, &retire).await, "nothing changed\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_plan_that_does_not_exist_is_reported_before_a_sign_up_needs_it() {
    let app = App::start().await;
    let database = &app.database;
    changes(database, &["plan", "archive", "enterprise"]).await;
    let url = database.url("tenantry_app");
    let start = |command: &'static str, plan: &'static str| {
        let mut program = tenantry();
        program.arg(command).env("DATABASE_URL", &url).env("TRIAL_PLAN", plan);
        program.env("JWT_SECRET", app::SECRET).env("SECRET_KEY", app::SECRET);
        tokio::task::spawn_blocking(move || run(&mut program))
    };
    let problem = "setting TRIAL_PLAN names the plan gold, which does not exist";
    failed(&start("serve", "gold").await.unwrap(), problem);
    let doctor = start("doctor", "gold").await.unwrap();
    assert!(doctor.code == Some(1) && doctor.stdout.contains(problem), "{}", doctor.stdout);
    // A plan that was archived since must not keep servers from starting.
    for (plan, problem) in [
        ("enterprise", "the plan enterprise, which is archived, so no trial starts"),
        ("free", "the plan free, the default plan, so no trial starts"),
    ] {
        let doctor = start("doctor", plan).await.unwrap();
        assert!(succeeded(&doctor).contains(problem), "{}", doctor.stdout);
        let server = ServerProcess::start(&url, &[("TRIAL_PLAN", plan)]);
        assert!(server.log().contains(problem), "{}", server.log());
        let founder = Client::new(format!("{}/graphql", server.base), Some(app::token(plan)));
        let create = format!(
            "mutation {{ createOrganization(input: {{ name: \"New\", slug: \"new-{plan}\" }}) {{ organization {{ plan {{ key }} }} }} }}"
        );
        let data = founder.query(&create).await.data();
        assert_eq!(data["createOrganization"]["organization"]["plan"]["key"], "free");
    }
    assert!(!succeeded(&start("doctor", "pro").await.unwrap()).contains("TRIAL_PLAN"));
}
