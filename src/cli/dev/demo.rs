//! The demo: two organizations with a user in each role, the rows of the product, and a token for
//! each user.

use std::fmt::{self, Display, Formatter};

use chrono::Duration;
use migration::APP_ROLE;
use pg::{Client, ConnectOptions};
use serde_json::json;

use crate::{app, auth, clock::Clock, http::DemoUser};

/// The name of the database.
pub(super) const DATABASE: &str = "tenantry";

const SQL: &str = include_str!("demo.sql");
const PLANS: &str = include_str!("demo_plans.sql");
const HISTORY: &str = include_str!("demo_history.sql");

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

/// Nothing is sold in the demo, but its prices are shown.
const PRICES: &str = "
    INSERT INTO billing.plan_prices (stripe_price_id, plan, interval, currency, unit_amount) VALUES
        ('price_demo_pro_month', 'pro', 'month', 'usd', 1900),
        ('price_demo_pro_year', 'pro', 'year', 'usd', 19000)";

/// The issuer of the demo's tokens: an address that no one can own.
const ISSUER: &str = "https://login.demo.example";

/// Tokens are signed again at each start.
const VALIDITY: Duration = Duration::days(30);

/// The subjects of the users.
pub(in crate::cli) fn subjects() -> impl Iterator<Item = &'static str> {
    USERS.iter().map(|(.., subject)| *subject)
}

/// Returns a token like those of identity providers. Any other subject gets one too, but has no
/// membership.
pub(in crate::cli) fn token(
    secret: &str,
    subject: &str,
    organization: Option<&str>,
) -> Result<String, jsonwebtoken::errors::Error> {
    let name = USERS.iter().find(|user| user.3 == subject).map(|user| user.1);
    let now = Clock::system().now();
    let claims = json!({
        "iss": ISSUER,
        "sub": subject,
        "email": format!("{subject}@example.com"),
        "email_verified": true,
        "name": name,
        "org": organization,
        "iat": now.timestamp(),
        "exp": (now + VALIDITY).timestamp(),
    });
    auth::sign(secret, &claims)
}

/// Returns the users of the demo, each with a token.
pub(super) fn users(secret: &str) -> Result<Vec<DemoUser>, jsonwebtoken::errors::Error> {
    let users = USERS.into_iter().map(|(organization, name, role, subject)| {
        Ok(DemoUser {
            organization,
            organization_name: if organization == "acme" { "Acme" } else { "Globex" },
            name,
            role: role.to_uppercase(),
            subject,
            token: token(secret, subject, None)?,
        })
    });
    users.collect()
}

/// Creates the database, unless it exists. `reset` first deletes everything that an earlier run
/// has stored.
pub(super) async fn create_database(admin: &ConnectOptions, reset: bool) -> pg::Result<()> {
    let connection = Client::connect(admin).await?;
    if reset {
        connection.batch(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await?;
    }
    let exists: bool = connection
        .query_one("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", &[&DATABASE])
        .await?;
    if !exists {
        connection.batch(&format!("CREATE DATABASE {DATABASE}")).await?;
    }
    connection.close().await;
    Ok(())
}

/// Loads the demo into a database without organizations. Both organizations start within their
/// limits.
pub(super) async fn load(owner: &ConnectOptions) -> pg::Result<()> {
    let mut connection = Client::connect(owner).await?;
    let transaction = connection.begin().await?;
    let empty: bool =
        transaction.query_one("SELECT NOT EXISTS (SELECT FROM app.organizations)", &[]).await?;
    if empty {
        transaction.batch(SQL).await?;
        transaction.batch(app::DEMO).await?;
        transaction.batch(PLANS).await?;
        transaction.batch(PRICES).await?;
        transaction.batch(HISTORY).await?;
    }
    // The rows name no issuer, as did the tokens of earlier versions.
    let sql =
        "UPDATE auth.identities SET issuer = $1 WHERE issuer = '' AND subject = ANY ($2::text[])";
    transaction.execute(sql, &[&ISSUER, &subjects().collect::<Vec<_>>()]).await?;
    transaction.commit().await?;
    connection.close().await;
    Ok(())
}

/// What the first screen shows.
pub(super) struct Welcome<'run> {
    /// The address of the server.
    pub(super) base: String,
    /// How the user started this program, with the data folder if it is not the default one.
    pub(super) program: String,
    pub(super) data_dir: String,
    /// The data folder, and the folder of PostgreSQL's socket.
    pub(super) folder: &'run std::path::Path,
    pub(super) socket: String,
    /// The issuer of tokens, if it is not the demo.
    pub(super) issuer: Option<&'run str>,
}

impl Welcome<'_> {
    /// Describes where everything is.
    fn places(&self, text: &mut Formatter<'_>, place: &str) -> fmt::Result {
        let Self { base, program, data_dir, folder, socket, issuer } = self;
        let script = if issuer.is_some() { "npm run start:login" } else { "npm start" };
        // The app expects the server on its usual port.
        let start = if base.ends_with(":4000") {
            script.to_owned()
        } else {
            format!("\\\n              TENANTRY_URL={base} {script}")
        };
        write!(
            text,
            "
tenantry is running with two demo organizations, Acme and Globex.

  API         {base}{place}/graphql
  Example     cd examples/spa && npm install && {start}
  Database    psql -U {APP_ROLE} {DATABASE} -h \\
              {socket}
  Data        {folder}, kept between starts
  Start over  {program} dev --reset{data_dir}
",
            folder = folder.display(),
        )?;
        match issuer {
            Some(issuer) => writeln!(text, "  Tokens      from {issuer}"),
            None => writeln!(
                text,
                "  Tokens      {program} token --as acme-owner{data_dir}
              acme- or globex-, with owner, admin, member or viewer"
            ),
        }
    }
}

impl Display for Welcome<'_> {
    /// Fits into 24 lines of 80 characters. What the user needs first is at the end, where it
    /// remains visible.
    fn fmt(&self, text: &mut Formatter<'_>) -> fmt::Result {
        let Self { base, program, data_dir, issuer, .. } = self;
        // The users of a provider are no members of the demo's organizations.
        let (place, token, query) = if issuer.is_some() {
            ("", "$TOKEN".to_owned(), "viewer { name memberships { slug } }".to_owned())
        } else {
            let token = format!("$({program} token --as acme-owner{data_dir})");
            ("/org/acme", token, format!("organization {{ {} }}", app::DEMO_FIELDS))
        };
        self.places(text, place)?;
        write!(
            text,
            "
Send a query:

  curl -s {base}{place}/graphql \\
    -H \"Authorization: Bearer {token}\" \\
    -H 'Content-Type: application/json' \\
    -d '{{\"query\":\"{{ {query} }}\"}}'

Or open GraphiQL. Ctrl-C stops everything.

  {base}{place}/graphiql
"
        )
    }
}
