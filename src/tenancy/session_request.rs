//! The statement that opens a session: its parameters with their proof, and the context that it
//! returns.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use entity::{OrgRole, OrganizationId, PlanTerms, SubscriptionStatus, UserId, organization};
use pg::{ConnectionPool, FromSql, Parameters, Row, SearchPath};
use sea_orm::{ActiveEnum, Value, Values};
use uuid::Uuid;

use super::{
    Access, Destination, SecretKeys, Settings, Suspension, Tenant, Transaction,
    placement::Placement,
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// Selects columns by name, so that servers of two versions can share a database.
pub(super) const OPEN: &str =
    "SELECT outcome, user_id, organization_id, organization_slug, role, billing_version,
        organization_name, organization_created_at, organization_updated_at, placement, placement_version, placement_generation,
        email_is_current, suspension, version, plan, status, has_subscription, period_start, period_end,
        trial_ends_at, cancel_at_period_end, past_due_since, paid_until, has_exceptions
    FROM auth.open_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Opens the session of a query again, if nothing has changed that decided the last opening.
pub(super) const REOPEN: &str = "SELECT auth.reopen_request($1, $2, $3, $4, $5, $6)";

/// The parameters of an opening.
#[derive(Clone, Debug)]
pub(super) struct SessionRequest {
    issuer: String,
    subject: String,
    path: Option<String>,
    claim: Option<String>,
    email: Option<String>,
    issued_at: Option<DateTime<Utc>>,
    /// What the token says about the user, as JSON.
    profile: Option<String>,
    /// Whether the database must have recorded the token.
    record: bool,
    keys: Arc<SecretKeys>,
}

impl SessionRequest {
    /// Replaces NUL, which PostgreSQL cannot store in text, by U+FFFD, which no slug contains. The
    /// verifier has checked issuer and subject.
    pub(super) fn of(caller: &Caller, destination: &Destination, settings: &Settings) -> Self {
        let text = |text: &str| text.replace('\0', "\u{fffd}");
        Self {
            issuer: text(&caller.issuer),
            subject: text(&caller.subject),
            path: destination.slug.as_deref().map(text),
            claim: caller.organization.as_deref().map(text),
            email: caller.email.as_deref().map(text),
            issued_at: caller.issued_at.map(|at| at.trunc_subsecs(6)),
            profile: caller.profile(),
            record: true,
            keys: Arc::clone(&settings.secret_keys),
        }
    }

    /// The same user outside any organization, after a session was opened.
    pub(super) fn outside(&self) -> Self {
        Self { path: None, claim: None, ..self.unrecorded() }
    }

    /// The same request for a token that cannot be recorded now, or need not be: it changes
    /// nothing, and its address counts only if it is the known one.
    pub(super) fn unrecorded(&self) -> Self {
        Self { record: false, ..self.clone() }
    }

    /// Issuer and subject.
    pub(super) fn identity(&self) -> (&str, &str) {
        (&self.issuer, &self.subject)
    }

    /// The parameters of [`OPEN`]. `placement` is the placement's name in the queried database.
    pub(super) fn parameters(&self, placement: &str) -> Result<Parameters> {
        let (issuer, subject) = (self.issuer.as_str(), self.subject.as_str());
        let [path, claim, email] =
            [&self.path, &self.claim, &self.email].map(|text| text.as_deref());
        let callers = [Some(issuer), Some(subject), path, claim, email];
        let micros = issued_micros(self.issued_at);
        let [issuer, subject, path, claim, email] = callers;
        let proven = [issuer, subject, path, claim, email, micros.as_deref()];
        let [proven_at, proof] = self.keys.proof().prove("open", &proven);
        let mut values: Vec<Value> = callers.into_iter().map(Into::into).collect();
        values.extend([placement.into(), self.issued_at.into(), proven_at, proof]);
        values.extend([self.record.into(), self.profile.as_deref().into()]);
        Ok(Parameters::of(Some(Values(values)))?)
    }

    /// The parameters of [`REOPEN`].
    pub(super) fn reopening(
        &self,
        organization: OrganizationId,
        version: &str,
    ) -> Result<Parameters> {
        let (issuer, subject) = self.identity();
        let id = organization.0.to_string();
        let proof = self.keys.proof().prove("reopen", &[issuer, subject, &id, version].map(Some));
        let mut values: Vec<Value> = vec![issuer.into(), subject.into(), organization.0.into()];
        values.push(version.into());
        values.extend(proof);
        Ok(Parameters::of(Some(Values(values)))?)
    }

    /// The version in the row of this opening, if [`REOPEN`] may repeat it: see the function in the
    /// database for what it does not check again.
    pub(super) fn version(
        &self,
        row: &Row,
        context: &SessionContext,
        placement: &Placement,
    ) -> Result<Option<Box<str>>> {
        let Some(organization) = &context.organization else { return Ok(None) };
        let is_slug = |text: &String| *text == organization.slug;
        // As auth.open_request reads a claim.
        let is_id = |text: &str| text.eq_ignore_ascii_case(&organization.id.0.to_string());
        let may_repeat = self.record
            && *placement == Placement::Shared
            && self.path.as_ref().is_none_or(is_slug)
            && self.claim.as_ref().is_none_or(|claim| is_slug(claim) || is_id(claim));
        let version = get::<Option<&str>>(row, "version")?;
        Ok(version.filter(|_| may_repeat).map(Into::into))
    }

    /// Opens a session in a database, if the organization's placement there is `placement`.
    /// `system` is a pool of the same database, for registering this server's key if the database
    /// lacks it.
    pub(super) async fn open(
        &self,
        connections: &ConnectionPool,
        system: &ConnectionPool,
        access: Access,
        search_path: Option<&SearchPath>,
        placement: &str,
    ) -> Result<(Transaction, Row)> {
        let opened = self.open_once(connections, access, search_path, placement).await?;
        if get::<&str>(&opened.1, "outcome")? != "UNPROVEN" {
            return Self::check_clocks(opened);
        }
        // Boxed: large, and rarely needed.
        Box::pin(async {
            opened.0.roll_back().await;
            self.keys.proof().register(system).await?;
            let opened = self.open_once(connections, access, search_path, placement).await?;
            Self::check_clocks(opened)
        })
        .await
    }

    async fn open_once(
        &self,
        connections: &ConnectionPool,
        access: Access,
        search_path: Option<&SearchPath>,
        placement: &str,
    ) -> Result<(Transaction, Row)> {
        let parameters = self.parameters(placement)?;
        let (transaction, mut rows) =
            Transaction::begin(connections, access, search_path, OPEN, &parameters).await?;
        let row = rows.pop().ok_or_else(|| Error::internal("auth.open_request returned no row"))?;
        Ok((transaction, row))
    }

    /// Fails if the database considers the proof too old or from the future.
    fn check_clocks(opened: (Transaction, Row)) -> Result<(Transaction, Row)> {
        if get::<&str>(&opened.1, "outcome")? != "CLOCKS_DIFFER" {
            return Ok(opened);
        }
        tracing::error!(
            "the clocks of this server and of the database differ by more than five minutes: \
             no session can be opened. Synchronize both with NTP."
        );
        Err(Error::unavailable("the clocks of the server and of the database differ"))
    }
}

/// The token's time of issue, as the proof contains it.
pub(super) fn issued_micros(issued_at: Option<DateTime<Utc>>) -> Option<String> {
    issued_at.map(|at| at.timestamp_micros().to_string())
}

/// The error for tokens issued before their user was erased.
pub(super) const ERASED: Error =
    Error::Unauthenticated("the token was issued before its user was erased");

/// The context that an opening resolved: user, organization and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionContext {
    pub(super) user_id: UserId,
    pub(super) tenant: Option<Tenant>,
    pub(super) organization: Option<organization::Model>,
    pub(super) billing_version: Option<DateTime<Utc>>,
    /// Whether no newer token of the identity has another address.
    pub(super) email_is_current: bool,
}

impl SessionContext {
    /// Reads the row of an opening.
    ///
    /// # Errors
    ///
    /// When the opening was refused.
    pub(super) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            tenant: tenant(row)?,
            user_id: UserId(get(row, "user_id")?),
            organization: organization(row)?,
            billing_version: get(row, "billing_version")?,
            email_is_current: get(row, "email_is_current")?,
        })
    }
}

/// The tenant in the row of an opening; `None` outside organizations.
pub(super) fn tenant(row: &Row) -> Result<Option<Tenant>> {
    match get(row, "outcome")? {
        "OK" => {}
        "MISMATCH" => return Err(Error::OrganizationMismatch),
        "NOT_FOUND" => return Err(Error::OrganizationNotFound),
        "ORGANIZATION_SUSPENDED" => return Err(Error::OrganizationSuspended),
        "USER_SUSPENDED" => return Err(Error::UserSuspended),
        "ERASED" => return Err(ERASED),
        outcome => return Err(Error::internal(format!("auth.open_request returned {outcome}"))),
    }
    let organization: Option<Uuid> = get(row, "organization_id")?;
    let role: Option<String> = get(row, "role")?;
    let suspension: Option<&str> = get(row, "suspension")?;
    Ok(match (organization, role) {
        (Some(organization), Some(role)) => Some(Tenant {
            organization_id: OrganizationId(organization),
            role: OrgRole::try_from_value(&role)?,
            suspension: suspension.map(Suspension::from_name).transpose()?,
        }),
        _ => None,
    })
}

/// The organization in the row of an opening.
fn organization(row: &Row) -> Result<Option<organization::Model>> {
    let Some(id) = get(row, "organization_id")? else {
        return Ok(None);
    };
    Ok(Some(organization::Model {
        id: OrganizationId(id),
        name: get(row, "organization_name")?,
        slug: get(row, "organization_slug")?,
        created_at: get(row, "organization_created_at")?,
        updated_at: get(row, "organization_updated_at")?,
    }))
}

/// What decides the plan of the organization in the row of an opening.
pub(super) fn plan_terms(row: &Row) -> Result<Option<PlanTerms>> {
    let status: Option<String> = get(row, "status")?;
    let (Some(status), Some(updated_at)) = (status, get(row, "billing_version")?) else {
        return Ok(None);
    };
    Ok(Some(PlanTerms {
        plan: get(row, "plan")?,
        status: SubscriptionStatus::try_from_value(&status)?,
        has_subscription: get(row, "has_subscription")?,
        period_start: get(row, "period_start")?,
        period_end: get(row, "period_end")?,
        trial_ends_at: get(row, "trial_ends_at")?,
        cancel_at_period_end: get(row, "cancel_at_period_end")?,
        past_due_since: get(row, "past_due_since")?,
        paid_until: get(row, "paid_until")?,
        has_exceptions: get(row, "has_exceptions")?,
        updated_at,
    }))
}

/// A column of a row, by name.
pub(super) fn get<'row, T: FromSql<'row>>(row: &'row Row, column: &str) -> Result<T> {
    Ok(row.try_get(column)?)
}

/// The organization's placement, if it differs from `placement`.
pub(super) fn elsewhere(row: &Row, placement: &Placement) -> Result<Option<Placement>> {
    let outcome: &str = get(row, "outcome")?;
    if outcome != "OTHER_PLACEMENT" && (outcome != "OK" || *placement == Placement::Shared) {
        return Ok(None);
    }
    let placement_of = placement_of(row, OrganizationId(get(row, "organization_id")?))?;
    Ok((placement_of != *placement).then_some(placement_of))
}

pub(super) fn placement_of(row: &Row, organization: OrganizationId) -> Result<Placement> {
    Placement::parse(get(row, "placement")?, get(row, "placement_version")?, organization)
}
