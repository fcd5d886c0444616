//! `tenantry token`: signs tokens for development, with the claims that the verifier reads.

use chrono::Duration;
use serde_json::{Map, Value, json};

use clap::builder::PossibleValuesParser;

use super::{
    Failure,
    dev::{DataFolder, demo},
    say,
};
use crate::{
    auth::{self, EmailVerified},
    clock::Clock,
    config::JwtConfig,
};

/// Print a token for development: of a demo user, or with the given claims, signed with JWT_SECRET.
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    /// A user of the demo that `tenantry dev` runs.
    #[arg(
        long = "as",
        value_name = "USER",
        value_parser = PossibleValuesParser::new(demo::subjects()),
        conflicts_with_all = ["subject", "email", "name", "ttl"]
    )]
    demo_user: Option<String>,

    #[command(flatten)]
    data: DataFolder,

    /// The subject: claim sub.
    #[arg(long, required_unless_present = "demo_user")]
    subject: Option<String>,

    /// A verified e-mail address of the user.
    #[arg(long)]
    email: Option<String>,

    /// The display name of the user.
    #[arg(long)]
    name: Option<String>,

    /// The id or slug of the organization.
    #[arg(long)]
    org: Option<String>,

    /// How long the token is valid: a number followed by s, m, h or d.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,

    #[command(flatten)]
    jwt: JwtConfig,
}

impl Token {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let Some(user) = &self.demo_user {
            // As `tenantry dev` chooses it.
            let secret = match self.jwt.jwt_secret {
                Some(_) => self.jwt.secret()?.to_owned(),
                None => self.data.secret()?,
            };
            let token = demo::token(secret.trim(), user, self.org.as_deref());
            say(token?);
            return Ok(());
        }
        let issuers = self.jwt.issuers()?;
        // Of several issuers, the first with a secret.
        let jwt = issuers.iter().find(|jwt| jwt.jwt_secret.is_some()).unwrap_or(&self.jwt);
        let verified = self.email.is_some().then_some(Value::Bool(true));
        let audience = jwt.audiences()?.into_iter().next();
        let verified_at = match &jwt.jwt_email_verified {
            EmailVerified::Claim(path) => path,
            EmailVerified::Trusted => "email_verified",
        };
        let mut claims = Map::new();
        for (path, value) in [
            ("iss", jwt.issuer().map(Value::from)),
            (&jwt.jwt_subject_claim, self.subject.map(Value::from)),
            (&jwt.jwt_audience_claim, audience.map(Value::from)),
            (&jwt.jwt_name_claim, self.name.map(Value::from)),
            (&jwt.jwt_email_claim, self.email.map(Value::from)),
            (verified_at, verified),
            (&jwt.jwt_org_claim, self.org.map(Value::from)),
        ] {
            if let Some(value) = value {
                put(&mut claims, path, value);
            }
        }
        let now = Clock::system().now();
        let expiry =
            now.checked_add_signed(self.ttl).ok_or_else(|| Failure::new("--ttl is too long"))?;
        claims.insert("iat".to_owned(), json!(now.timestamp()));
        claims.insert("exp".to_owned(), json!(expiry.timestamp()));
        let secret = jwt.secret()?;
        let token = auth::sign(secret, &Value::Object(claims))?;
        say(token);
        Ok(())
    }
}

/// Inserts a value where the verifier reads it: dots separate the keys of nested objects.
fn put(claims: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(claims.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = claims.entry(first).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "must be a number followed by s, m, h or d, for example 90m";
    let unit = text.chars().next_back().ok_or(FORM)?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| FORM)?;
    let duration = match unit {
        's' => Duration::try_seconds(number),
        'm' => Duration::try_minutes(number),
        'h' => Duration::try_hours(number),
        'd' => Duration::try_days(number),
        _ => None,
    };
    duration.ok_or_else(|| FORM.to_owned())
}
