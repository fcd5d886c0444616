//! The fixture itself: an organization in a dedicated database, known to both databases, without
//! pending changes.

use super::{acme, acme_in_eu, rows};
use crate::support::{
    database::{Database, tenant_tables},
    placement::{ACME, GLOBEX, all_are_shared},
};

#[tokio::test]
async fn the_fixture_places_an_organization_in_another_database() {
    if !all_are_shared() {
        return;
    }
    let control = Database::create().await;
    let before = (rows(&control, ACME).await, rows(&control, GLOBEX).await);
    let eu = control.dedicated("eu").await;
    assert_eq!(eu.database.exactly::<String>("SELECT app.database_name()").await, "eu");
    assert_eq!(eu.database.exactly::<i64>("SELECT count(*) FROM auth.users").await, 0);
    control.move_to(acme(), &eu).await;

    assert_eq!(rows(&eu.database, ACME).await, before.0);
    assert_eq!(rows(&control, GLOBEX).await, before.1);
    assert!(rows(&eu.database, GLOBEX).await.iter().all(|(_, rows)| rows.is_empty()));
    for ((table, there), directory) in before.0.iter().zip(rows(&control, ACME).await) {
        let mirrored = tenant_tables().iter().any(|known| known.name == *table && known.mirrored);
        let expected = if mirrored { there.clone() } else { Vec::new() };
        assert_eq!(directory, (*table, expected));
    }
    for (database, home) in [(&control, "database:eu"), (&eu.database, "shared")] {
        let sql = "SELECT placement || ' ' || generation FROM app.placements";
        assert_eq!(database.exactly::<String>(sql).await, format!("{home} 1"));
        for queue in ["app.directory_changes", "auth.user_changes", "app.pending_changes"] {
            let waiting: i64 = database.exactly(&format!("SELECT count(*) FROM {queue}")).await;
            assert_eq!(waiting, 0, "{queue}");
        }
    }
    let users = "SELECT array_agg(i.subject || ' ' || u.name ORDER BY i.subject) FROM auth.users u JOIN auth.identities i ON i.user_id = u.id";
    assert_eq!(
        eu.database.exactly::<Vec<String>>(users).await,
        ["acme-admin Adam", "acme-member Mia", "acme-owner Olivia", "acme-viewer Victor"]
    );
    let slugs = "SELECT array_agg(slug) FROM app.organization_slugs";
    assert_eq!(eu.database.exactly::<Vec<String>>(slugs).await, ["acme"]);
}

#[tokio::test]
async fn a_change_in_another_database_is_queued_there() {
    let Some((_control, eu)) = acme_in_eu().await else { return };
    eu.database.execute("UPDATE app.organizations SET name = 'Acme of Europe'").await;
    let noted = "SELECT array_agg(table_name) FROM app.directory_changes";
    assert_eq!(eu.database.exactly::<Vec<String>>(noted).await, ["organizations"]);
}
