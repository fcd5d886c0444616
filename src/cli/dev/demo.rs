//! The demo: two organizations with a user in each role, projects, and a token for each user.

use std::fmt::Write;

use chrono::Duration;
use pg::{Client, ConnectOptions};
use serde_json::json;

use crate::{auth, clock::Clock, http::DemoUser};

const SQL: &str = include_str!("demo.sql");

/// `(organization, name, role, subject)`, as in the SQL. A name begins with the same letter as its
/// role.
const USERS: [(&str, &str, &str, &str); 8] = [
    ("acme", "Olivia", "owner", "acme-owner"),
    ("acme", "Adam", "admin", "acme-admin"),
    ("acme", "Mia", "member", "acme-member"),
    ("acme", "Victor", "viewer", "acme-viewer"),
    ("globex", "Omar", "owner", "globex-owner"),
    ("globex", "Alice", "admin", "globex-admin"),
    ("globex", "Max", "member", "globex-member"),
    ("globex", "Vera", "viewer", "globex-viewer"),
];

/// Tokens are signed again at each start.
const VALIDITY: Duration = Duration::days(30);

/// Returns the users of the demo, each with a token.
pub(super) fn users(secret: &str) -> Result<Vec<DemoUser>, jsonwebtoken::errors::Error> {
    let expiry = (Clock::system().now() + VALIDITY).timestamp();
    let user = |(organization, name, role, subject): &(
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    )| {
        Ok(DemoUser {
            organization,
            organization_name: if *organization == "acme" { "Acme" } else { "Globex" },
            name,
            role: role.to_uppercase(),
            subject,
            token: auth::sign(secret, &json!({ "sub": subject, "exp": expiry }))?,
        })
    };
    USERS.iter().map(user).collect()
}

pub(super) async fn create_database(admin: &ConnectOptions, name: &str) -> pg::Result<()> {
    let connection = Client::connect(admin).await?;
    let exists: bool = connection
        .query_one("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", &[&name])
        .await?;
    if !exists {
        connection.batch(&format!("CREATE DATABASE {name}")).await?;
    }
    connection.close().await;
    Ok(())
}

/// Loads the demo into a database without organizations.
pub(super) async fn load(owner: &ConnectOptions) -> pg::Result<()> {
    let mut connection = Client::connect(owner).await?;
    let transaction = connection.begin().await?;
    let empty: bool =
        transaction.query_one("SELECT NOT EXISTS (SELECT FROM app.organizations)", &[]).await?;
    if empty {
        transaction.batch(SQL).await?;
    }
    transaction.commit().await?;
    connection.close().await;
    Ok(())
}

/// Returns the text of the first screen.
pub(super) fn welcome(base: &str, database_url: &str, users: &[DemoUser]) -> String {
    let mut text = String::new();
    let first = users.first().map_or("", |user| &user.token);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "
tenantry is running with two demo organizations: acme (plan pro) and globex (plan free).

  GraphiQL  {base}/org/acme/graphiql
  API       {base}/org/acme/graphql      (or /org/globex/graphql, or /graphql without an organization)

Try it:

  curl -s {base}/org/acme/graphql -H 'Content-Type: application/json' \\
    -H 'Authorization: Bearer {first}' \\
    -d '{{\"query\":\"{{ organization {{ name plan {{ name }} viewerRole projects(first: 3) {{ nodes {{ name createdBy {{ name }} }} }} }} }}\"}}'

A token for each user, valid for {days} days (Authorization: Bearer …):
",
        days = VALIDITY.num_days()
    );
    for DemoUser { organization, name, role, token, .. } in users {
        let role = role.to_lowercase();
        let _ = write!(text, "\n  {organization} {role}, {name}\n    {token}\n");
    }
    let _ = write!(
        text,
        "
The database as the API sees it (without a tenant, no row is visible):

  psql '{database_url}'

Ctrl-C stops everything and keeps the data.
"
    );
    text
}
