//! Organizations that live in a database of their own.

mod routing;
mod settled;

use migration::placement::TABLES;
use sqlx::types::Uuid;

use crate::support::{
    database::Database,
    dedicated::Dedicated,
    placement::{ACME, housed},
};

fn acme() -> Uuid {
    ACME.parse().unwrap()
}

/// A test's database, and one named `eu` in which acme lives; none where the run puts acme elsewhere.
async fn acme_in_eu() -> Option<(Database, Dedicated)> {
    if !housed().is_empty() {
        return None;
    }
    let control = Database::create().await;
    let eu = control.dedicated("eu").await;
    control.settle(acme(), &eu).await;
    Some((control, eu))
}

/// The rows of an organization in each of its tables.
async fn rows(database: &Database, organization: &str) -> Vec<(&'static str, Vec<String>)> {
    let mut all = Vec::new();
    for table in &TABLES {
        let sql = format!(
            "SELECT coalesce(array_agg(t::text ORDER BY t::text), '{{}}') FROM {} t WHERE {} = '{organization}'",
            table.name,
            table.owner_column()
        );
        all.push((table.name, database.exactly(&sql).await));
    }
    all
}
