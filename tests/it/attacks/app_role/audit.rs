//! Forged audit entries: in another user's name, of another time, or of no user.

use super::{ACME, DENIED, Injected};
use crate::support::database::Database;

#[tokio::test]
async fn the_database_sets_the_actor_and_the_time_of_an_entry() {
    let database = Database::create().await;
    let mut injected = Injected::new(&database).await;
    let columns = [
        "actor_id, '00000000-0000-4000-8000-0000000000a2'",
        "actor_name, 'Mia'",
        "created_at, now() - interval '1 year'",
        "id, gen_random_uuid()",
    ];
    for column in columns {
        let (name, value) = column.split_once(", ").unwrap();
        let forged = format!(
            "INSERT INTO audit_logs (organization_id, action, resource_type, {name})
             VALUES ('{ACME}', 'a.b', 'x', {value})"
        );
        assert_eq!(injected.attempt(&forged).await, Err(DENIED.to_owned()), "{name}");
    }
    // The role can only add an entry of the current user.
    let entry = format!(
        "INSERT INTO audit_logs (organization_id, action, resource_type) VALUES ('{ACME}', 'a.b', 'x')
         RETURNING actor_name || ' ' || (created_at > now() - interval '1 minute')"
    );
    assert_eq!(injected.text(&entry).await, "Olivia true");
    for sql in [
        "UPDATE audit_logs SET created_at = now()",
        "DELETE FROM audit_logs",
        "ALTER TABLE audit_logs ALTER COLUMN created_at SET DEFAULT '2000-01-01'",
    ] {
        assert_eq!(injected.attempt(sql).await, Err(DENIED.to_owned()), "{sql}");
    }
}

#[tokio::test]
async fn background_work_records_its_reason_and_no_user() {
    let database = Database::create().await;
    let mut injected = Injected { connection: database.connect_system().await };
    injected.run("BEGIN").await.unwrap();
    injected.run(&format!("SELECT auth.enter_organization('{ACME}')")).await.unwrap();
    let entry = |column: &str, value: &str| {
        format!(
            "INSERT INTO audit_logs (organization_id, action, resource_type, {column})
             VALUES ('{ACME}', 'a.b', 'x', {value}) RETURNING concat(actor_id, actor_name)"
        )
    };
    assert_eq!(injected.text(&entry("actor_name", "'mail'")).await, "mail");
    let user = "'00000000-0000-4000-8000-0000000000a1'";
    for (column, value) in [("actor_id", user), ("created_at", "now()")] {
        let sql = entry(column, value);
        assert_eq!(injected.attempt(&sql).await, Err(DENIED.to_owned()), "{column}");
    }
}

#[tokio::test]
async fn the_partitions_of_the_log_are_reached_through_it_alone() {
    let database = Database::create().await;
    let mut injected = Injected::new(&database).await;
    let partitions: Vec<String> =
        database.exactly("SELECT array_agg(name) FROM audit.partitions()").await;
    assert!(partitions.len() >= 5, "{partitions:?}");
    for partition in partitions {
        let read = format!("SELECT count(*)::text FROM {partition}");
        assert_eq!(injected.attempt(&read).await, Err(DENIED.to_owned()), "{partition}");
    }
    let forged = format!(
        "INSERT INTO audit_logs (organization_id, action, resource_type, created_at)
         VALUES ('{ACME}', 'a.b', 'x', '2000-01-01')"
    );
    assert_eq!(injected.attempt(&forged).await, Err(DENIED.to_owned()));
    let entry = format!(
        "INSERT INTO audit_logs (organization_id, action, resource_type) VALUES ('{ACME}', 'a.b', 'x')
         RETURNING actor_name"
    );
    assert_eq!(injected.text(&entry).await, "Olivia");
}
