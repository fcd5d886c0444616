//! What the opening of a request's session asks of a database.

use chrono::{DateTime, Utc};
use sea_orm::Values;
use tokio_postgres::Row;

use super::{
    Access, Transaction,
    driver::Parameters,
    home::{Home, Schema},
    pool::Connections,
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// By name, so that servers of two versions can use one database.
pub(super) const OPEN: &str =
    "SELECT outcome, user_id, organization_id, organization_slug, role, billing_version,
        organization_name, organization_created_at, organization_updated_at, home, home_version, home_generation,
        email_is_current, suspension
    FROM auth.open_request($1, $2, $3, $4, $5, $6, $7)";

/// What the opening asks.
#[derive(Debug, Hash)]
pub(super) struct Question {
    issuer: String,
    subject: String,
    path: Option<String>,
    claim: Option<String>,
    email: Option<String>,
    issued_at: Option<DateTime<Utc>>,
}

impl Question {
    /// NUL, which no text in PostgreSQL can hold, becomes the replacement character, which no slug contains; issuer and subject were
    /// checked by the verifier.
    pub(super) fn new(caller: &Caller, slug: Option<&str>) -> Self {
        let text = |text: &str| text.replace('\0', "\u{fffd}");
        Self {
            issuer: text(&caller.issuer),
            subject: text(&caller.subject),
            path: slug.map(text),
            claim: caller.organization.as_deref().map(text),
            email: caller.email.as_deref().map(text),
            issued_at: caller.issued_at,
        }
    }

    /// The same person, in no organization.
    pub(super) fn outside(&self) -> Self {
        let Self { issuer, subject, email, issued_at, .. } = self;
        let (issuer, subject, email) = (issuer.clone(), subject.clone(), email.clone());
        Self { issuer, subject, email, issued_at: *issued_at, path: None, claim: None }
    }

    /// Issuer and subject.
    pub(super) fn identity(&self) -> (&str, &str) {
        (&self.issuer, &self.subject)
    }

    /// What leads to the organization.
    pub(super) fn name(&self) -> Option<&str> {
        self.path.as_deref().or(self.claim.as_deref())
    }

    /// For an organization whose home is called so by the database that is asked.
    pub(super) fn parameters(&self, home: &str) -> Result<Parameters> {
        let texts = [&self.path, &self.claim, &self.email].map(|text| text.as_deref().into());
        let [path, claim, email] = texts;
        let (issuer, subject) = (self.issuer.as_str().into(), self.subject.as_str().into());
        let issued_at = self.issued_at.into();
        let values = vec![issuer, subject, path, claim, email, home.into(), issued_at];
        Ok(Parameters::of(Some(Values(values)))?)
    }

    /// Begins where the organization is taken to live, and leaves the answer for later.
    pub(super) async fn ask_ahead(
        &self,
        connections: &Connections,
        home: &Home,
    ) -> Result<Transaction> {
        // A database of organizations' own has those who live there in the tables that they share.
        let name =
            if matches!(home, Home::Database(_)) { Home::Shared.name() } else { home.name() };
        let parameters = self.parameters(&name)?;
        Transaction::begin_ahead(connections, Access::Read, home.schema(), OPEN, parameters).await
    }

    /// Opens in a database, provided that the organization's home is the one that is named.
    pub(super) async fn ask(
        &self,
        connections: &Connections,
        access: Access,
        schema: Option<&Schema>,
        home: &str,
    ) -> Result<(Transaction, Row)> {
        let parameters = self.parameters(home)?;
        let (transaction, mut rows) =
            Transaction::begin(connections, access, schema, OPEN, &parameters).await?;
        let row =
            rows.pop().ok_or_else(|| Error::internal("opening a session answered nothing"))?;
        Ok((transaction, row))
    }
}
