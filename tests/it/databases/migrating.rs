//! `tenantry migrate` with dedicated databases.

use super::{acme_in_eu, command, failed, missing, succeeded};
use crate::support::{database::Database, dedicated::DedicatedDatabase};

async fn empty(name: &str) -> DedicatedDatabase {
    DedicatedDatabase { name: name.to_owned(), database: Database::empty().await }
}

async fn plans(database: &Database) -> String {
    let sql = "SELECT jsonb_agg(f ORDER BY plan, feature)::text || (SELECT jsonb_agg(p ORDER BY plan)::text FROM billing.plans p)
                   || (SELECT jsonb_agg(p)::text FROM billing.plan_prices p)
               FROM billing.plan_features f";
    database.exactly(sql).await
}

#[tokio::test]
async fn dedicated_databases_are_prepared_one_after_the_other() {
    let control = Database::empty().await;
    let (eu, us) = (empty("eu").await, empty("us").await);
    let output = command(&control, &[&eu, &us], &["migrate"]).await;
    let output_text = succeeded(&output);
    let last = "applied core/0001_baseline";
    let lines: Vec<_> = output_text.lines().filter(|line| line.starts_with(last)).collect();
    let (in_eu, in_us) =
        (format!("{last} in the database eu"), format!("{last} in the database us"));
    assert_eq!(lines, [last, &in_eu, &in_us], "{output_text}");
    for database in [&eu, &us] {
        let name: String = database.database.exactly("SELECT app.database_name()").await;
        assert_eq!(name, database.name);
    }
    assert_eq!(control.exactly::<i64>("SELECT count(*) FROM app.database").await, 0);

    // A second run also copies changed plans.
    control.execute("UPDATE billing.plan_features SET limit_value = 77 WHERE plan = 'free' AND feature = 'projects'").await;
    control
        .execute("INSERT INTO billing.plan_prices (stripe_price_id, plan, interval) VALUES ('price_of_pro', 'pro', 'year')")
        .await;
    control
        .execute("DELETE FROM billing.plan_features WHERE plan = 'pro' AND feature = 'projects'")
        .await;
    let output = command(&control, &[&eu, &us], &["migrate"]).await;
    assert_eq!(
        succeeded(&output).lines().collect::<Vec<_>>(),
        [
            "The database is up to date.",
            "copied the plans to the database eu",
            "The database eu is up to date.",
            "copied the plans to the database us",
            "The database us is up to date.",
        ]
    );
    for database in [&eu, &us] {
        assert_eq!(plans(&database.database).await, plans(&control).await);
    }
    let output = command(&control, &[&eu, &us], &["migrate"]).await;
    assert!(!succeeded(&output).contains("copied"), "{}", output.stdout);
}

#[tokio::test]
async fn a_failing_database_does_not_stop_the_others() {
    let control = Database::create().await;
    let (gone, us) = (missing("gone", &control), empty("us").await);
    let output = command(&control, &[&gone, &us], &["migrate"]).await;
    let output_text = failed(&output, "1 dedicated database could not be prepared");
    assert!(output_text.contains("failed: the database gone: "), "{output_text}");
    assert!(output_text.contains("applied core/0001_baseline in the database us"), "{output_text}");
    assert_eq!(us.database.exactly::<String>("SELECT app.database_name()").await, "us");

    // A database under another name, and the control database itself, stay as they are.
    let renamed = DedicatedDatabase { name: "asia".to_owned(), ..us.clone() };
    let itself = DedicatedDatabase { name: "itself".to_owned(), database: control.clone() };
    let output = command(&control, &[&renamed, &itself, &us], &["migrate"]).await;
    let output_text = failed(&output, "2 dedicated databases could not be prepared");
    assert!(
        output_text.contains("failed: the database asia: the database calls itself us"),
        "{output_text}"
    );
    assert!(
        output_text
            .contains("failed: the database itself: this address points to the control database"),
        "{output_text}"
    );
    assert!(output_text.contains("The database us is up to date."), "{output_text}");
    assert_eq!(control.exactly::<i64>("SELECT count(*) FROM app.database").await, 0);

    // A database with organizations may be another installation's control database.
    let other = DedicatedDatabase { name: "other".to_owned(), database: Database::create().await };
    let output = command(&control, &[&other], &["migrate"]).await;
    assert!(failed(&output, "be prepared").contains("is a control database"), "{}", output.stdout);
    let steps = "DELETE FROM migration.seaql_migrations WHERE version = 'app/0001_project'";
    other.database.execute(steps).await;
    command(&control, &[&other], &["migrate"]).await;
    let steps =
        "SELECT count(*) FROM migration.seaql_migrations WHERE version = 'app/0001_project'";
    assert_eq!(other.database.exactly::<i64>(steps).await, 0, "it was changed nevertheless");

    // The reverse direction.
    let output = command(&us.database, &[], &["migrate"]).await;
    failed(&output, "points to the dedicated database us");
}

#[tokio::test]
async fn the_error_of_a_dedicated_database_has_postgresql_s_detail_and_hint() {
    let control = Database::create().await;
    let (eu, us) = (empty("eu").await, empty("us").await);
    succeeded(&command(&control, &[&eu, &us], &["migrate"]).await);
    for statement in [
        "CREATE VIEW public.v AS SELECT slug FROM auth.viewer_memberships()",
        "UPDATE migration.functions SET digest = '' WHERE name = 'auth.viewer_memberships'",
    ] {
        eu.database.execute(statement).await;
    }
    let output = command(&control, &[&eu, &us], &["migrate"]).await;
    let text = failed(&output, "1 dedicated database could not be prepared");
    for part in ["failed: the database eu: ", "view public.v depends on", "Use DROP ... CASCADE"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("at line"), "{text}");
    assert!(text.contains("The database us is up to date."), "{text}");
}

#[tokio::test]
async fn databases_missing_from_a_setting_are_reported() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let output = command(&control, &[], &["migrate"]).await;
    assert!(
        succeeded(&output)
            .contains("warning: organizations live in the database eu, which is in neither"),
        "{}",
        output.stdout
    );
    let mut migrate = crate::support::process::tenantry();
    migrate
        .arg("migrate")
        .env("MIGRATION_DATABASE_URL", control.url("postgres"))
        .env("DATABASES", eu.setting("tenantry_app"));
    let output = tokio::task::spawn_blocking(move || crate::support::process::run(&mut migrate));
    let output = output.await.unwrap();
    let output_text = succeeded(&output);
    assert!(
        output_text.contains("warning: the database eu of DATABASES is not in"),
        "{output_text}"
    );
    assert!(!output_text.contains("neither"), "{output_text}");
    let output = command(&control, &[&eu], &["migrate"]).await;
    assert!(!succeeded(&output).contains("warning"), "{}", output.stdout);
}

#[tokio::test]
async fn an_invalid_setting_changes_nothing() {
    let control = Database::empty().await;
    let eu = empty("eu").await;
    for (variable, value, reason) in [
        ("DATABASES", eu.setting("boss"), "DATABASES: eu logs in as boss"),
        ("MIGRATION_DATABASES", "eu".to_owned(), "MIGRATION_DATABASES: entry 1 must be NAME=URL"),
        ("DATABASES", "postgres://a:hunter2@b/c".to_owned(), "entry 1 must be NAME=URL"),
        ("DATABASES", "Eu=postgres://a:hunter2@b/c".to_owned(), "entry 1 must be NAME=URL"),
        ("DATABASES", "eu=hunter2".to_owned(), "DATABASES: eu is not a PostgreSQL address"),
        (
            "DATABASES",
            "eu=postgres://a@b/c eu=postgres://a:hunter2@b/d".to_owned(),
            "contains eu twice",
        ),
    ] {
        let mut migrate = crate::support::process::tenantry();
        migrate
            .arg("migrate")
            .env("MIGRATION_DATABASE_URL", control.url("postgres"))
            .env("MIGRATION_DATABASES", eu.setting("postgres"))
            .env(variable, value);
        let output =
            tokio::task::spawn_blocking(move || crate::support::process::run(&mut migrate));
        let output = output.await.unwrap();
        failed(&output, reason);
        assert_eq!((output.stderr.lines().count(), output.stdout.as_str()), (1, ""));
        assert!(!output.stderr.contains("hunter2"));
    }
    let schemas: i64 =
        control.exactly("SELECT count(*) FROM pg_namespace WHERE nspname = 'app'").await;
    assert_eq!(schemas, 0);
}
