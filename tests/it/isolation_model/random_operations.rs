//! Concurrent operations without a model, and the invariants that hold nevertheless.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use fastrand::Rng;
use pg::Row;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Harness, Request,
    effects::token_of,
    further_resources::{self, payload_field},
    generator::{Access, Target},
    model::{Membership, Organization, Role, Slugs, uuid},
    ownership::{Kind, Owner},
};
use crate::support::database::RowExt;

/// The audit action of each mutation. Mutations that may change nothing are left out.
const AUDIT_ACTIONS: [(&str, &str); 10] = [
    ("createProject", "project.created"),
    ("deleteProject", "project.deleted"),
    ("inviteMember", "invitation.created"),
    ("resendInvitation", "invitation.resent"),
    ("revokeInvitation", "invitation.revoked"),
    ("acceptInvitation", "invitation.accepted"),
    ("removeMember", "member.removed"),
    ("leaveOrganization", "member.left"),
    ("transferOwnership", "organization.transferred"),
    ("deleteOrganization", "organization.deleted"),
];

/// These change the limits that the final check uses.
const PLAN_CHANGES: [&str; 3] = ["changePlan", "startTrial", "cancelSubscription"];

/// Counts of an organization: rows and audit entries.
#[derive(Debug, Default)]
pub struct Counts {
    rows: BTreeMap<String, i64>,
    audit: BTreeMap<String, i64>,
}

const ROWS: &str = "
    SELECT o.id AS organization, 'owners' AS what,
           (SELECT count(*) FROM auth.organization_members m WHERE m.organization_id = o.id AND role = 'owner') AS count
    FROM app.organizations o
    UNION ALL SELECT o.id, 'members', (SELECT count(*) FROM auth.organization_members m WHERE m.organization_id = o.id)
    FROM app.organizations o
    UNION ALL SELECT o.id, 'open', (SELECT count(*) FROM auth.invitations i WHERE i.organization_id = o.id
        AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > '2030-06-15'
        AND EXISTS (SELECT FROM auth.organization_members m WHERE m.organization_id = o.id AND m.user_id = i.invited_by
                    AND (m.role = 'owner' OR m.role = 'admin' AND i.role IN ('member', 'viewer')))) FROM app.organizations o";
const ENTRIES: &str = "SELECT organization_id AS organization, action AS what, count(*) AS count FROM audit.audit_logs GROUP BY 1, 2";

/// Rows without their audit entry, or with one in another organization.
const INCONSISTENT: &str = "
    SELECT 'entry about another organization''s member' FROM audit.audit_logs a
        JOIN auth.organization_members m ON m.id = a.resource_id WHERE m.organization_id <> a.organization_id
    UNION ALL SELECT 'entry about another organization''s invitation' FROM audit.audit_logs a
        JOIN auth.invitations i ON i.id = a.resource_id WHERE i.organization_id <> a.organization_id
    UNION ALL SELECT 'accepted invitation without its member''s entry' FROM auth.invitations i WHERE accepted_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM audit.audit_logs a WHERE a.organization_id = i.organization_id AND a.resource_id = i.id
                        AND a.action = 'invitation.accepted')";

async fn counts(harness: &Harness) -> BTreeMap<Uuid, Counts> {
    let connection = harness.app.database.connect_admin().await;
    let mut counts: BTreeMap<Uuid, Counts> = BTreeMap::new();
    for row in
        connection.query::<Row>(&(ROWS.to_owned() + &further_resources::rows()), &[]).await.unwrap()
    {
        let rows = &mut counts.entry(row.get("organization")).or_default().rows;
        rows.insert(row.get("what"), row.get("count"));
    }
    for row in connection.query::<Row>(ENTRIES, &[]).await.unwrap() {
        let audit = &mut counts.entry(row.get("organization")).or_default().audit;
        audit.insert(row.get("what"), row.get("count"));
    }
    counts
}

/// Gives every organization the same plan, which stays, so that the limits are known at the end.
/// Returns the counts.
pub async fn start(harness: &Harness) -> BTreeMap<Uuid, Counts> {
    for organization in &harness.shared.read().await.organizations {
        "pro".clone_into(&mut organization.write().await.billing.plan);
    }
    harness.app
        .database
        .execute("UPDATE billing.organization_billing SET plan = 'pro', status = 'active', cancel_at_period_end = false")
        .await;
    counts(harness).await
}

/// Number of consecutive operations on one organization, so that they run concurrently.
const BURST: usize = 40;

/// Number of equal concurrent mutations: a limit must serialize them.
const CONCURRENT_COPIES: usize = 4;

/// How often each mutation of a further resource is tried.
const FURTHER_TIMES: usize = 12;

impl Harness {
    pub async fn random_operation(&self, number: usize) {
        let mut rng = self.rng(number);
        let shared = self.shared.read().await;
        let mut index = number / BURST;
        let here = loop {
            let here = shared.organizations[index % shared.organizations.len()].read().await;
            if !here.ended {
                break here;
            }
            index += 1;
        };
        let mut generator = self.generator(&mut rng, &here);
        let name = match generator.rng.u8(..10) {
            _ if let Some(name) = self.further_mutation() => Some(name),
            0..3 => None,
            3..5 => Some("acceptInvitation"),
            5 if generator.rng.bool() => Some("unlinkIdentity"),
            _ => Some(generator.mutation()).filter(|name| !PLAN_CHANGES.contains(name)),
        };
        let count = if generator.rng.u8(..4) == 0 { CONCURRENT_COPIES } else { 1 };
        self.covered.lock().unwrap().extend(name);
        let mut requests: Vec<_> = (0..count)
            .map(|_| self.prepare(&mut rng, number, &here, &shared.slugs, name))
            .collect();
        if name == Some("unlinkIdentity") {
            // The same request: an identity can be unlinked only once.
            let one = requests[0].clone();
            requests.fill(one);
        }
        let sent = requests.into_iter().map(|(request, organization)| async move {
            let since = self.now();
            let reply = self.send(&request).await;
            self.check(&request, &reply, organization, since);
            (request, reply)
        });
        for (request, reply) in futures_util::future::join_all(sent).await {
            let Some(name) = name else { continue };
            let payload = reply.body["data"].get(name).filter(|payload| !payload.is_null());
            match payload {
                Some(payload) if name == "unlinkIdentity" => self.unlinked(&request, payload),
                Some(payload) => self.record_success(name, payload, &here),
                None => {}
            }
        }
    }

    /// The mutations of further resources come first, each several times.
    fn further_mutation(&self) -> Option<&'static str> {
        let tried = self.tried.fetch_add(1, Ordering::Relaxed);
        let times = tried.checked_div(self.further.len())?;
        self.further.get(tried % self.further.len()).copied().filter(|_| times < FURTHER_TIMES)
    }

    /// Generates a request, and returns it with the organization whose data its response may show.
    fn prepare(
        &self,
        rng: &mut Rng,
        number: usize,
        here: &Organization,
        slugs: &Slugs,
        name: Option<&'static str>,
    ) -> (Request, Option<usize>) {
        let mut generator = self.generator(rng, here);
        let caller = generator.caller();
        let (target, access) = generator.target(slugs, caller);
        let (document, variables) = (String::new(), json!({}));
        let mut request = Request { number, caller, target, document, variables };
        // Memberships may have changed since they were read.
        let leads_here =
            matches!(access, Access::Inside(_) | Access::Outside) && request.target.names(here);
        let mut organization = leads_here.then_some(here.index);
        match name {
            None => request.document = generator.query(),
            Some("acceptInvitation") => {
                request.document = generator.document("acceptInvitation");
                request.target = Target::default();
                let (token, caller) = self.any_token(generator.rng, here);
                request.caller = caller;
                request.variables = json!({ "input": { "token": token } });
                organization = Some(here.index);
                self.ownership.lock().unwrap().joins(caller, here.index);
            }
            Some("unlinkIdentity") => {
                self.prepare_unlink(rng, &mut request, here);
                organization = None;
            }
            Some(name) => {
                let change = generator.change(name);
                request.document = generator.document(name);
                let email = &change.input["email"];
                let user = self.users.iter().position(|user| *email == user.email());
                if let Some(user) = user {
                    self.ownership.lock().unwrap().make_known(here.index, user);
                }
                request.variables = json!({ "input": change.input });
            }
        }
        (request, organization)
    }

    /// Records what a mutation created, for later operations.
    fn record_success(&self, name: &'static str, payload: &Value, here: &Organization) {
        *self.unmodelled.lock().unwrap().entry((here.index, name)).or_default() += 1;
        let owner = Owner::Organization(here.index);
        let mut ownership = self.ownership.lock().unwrap();
        let kinds = [
            ("project", Kind::Project),
            ("member", Kind::Member),
            ("invitation", Kind::Invitation),
        ];
        for (field, kind) in kinds {
            if let Some(id) = uuid(&payload[field]["id"]) {
                ownership.add(kind, id, owner);
            }
        }
        let further = payload_field(name).and_then(|field| uuid(&payload[field]["id"]));
        if let Some(id) = further {
            ownership.add(Kind::Further, id, owner);
        }
        if payload["link"].is_string() {
            ownership.tokens.push((here.index, token_of(&payload["link"])));
        }
    }

    /// Returns a token of this organization, with its user in about half of the cases.
    fn any_token(&self, rng: &mut Rng, here: &Organization) -> (String, usize) {
        let ownership = self.ownership.lock().unwrap();
        let of_here: Vec<_> =
            ownership.tokens.iter().filter(|token| token.0 == here.index).collect();
        // The newest tokens are the most likely to be open.
        let newest = &of_here[of_here.len().saturating_sub(6)..];
        let token = rng.choice(newest).map_or("none".to_owned(), |token| token.1.clone());
        let known: Vec<usize> =
            (0..self.users.len()).filter(|user| ownership.may_know(here.index, *user)).collect();
        (token, *rng.choice(&known).unwrap())
    }
}

const CURRENT: &str = "
    SELECT organization_id, id, user_id, upper(role::text) AS role FROM auth.organization_members
    UNION ALL SELECT organization_id, id, NULL, NULL FROM app.projects";

/// Reads the memberships and the projects from the database.
pub async fn refresh(harness: &Harness) {
    let connection = harness.app.database.connect_admin().await;
    let rows = connection.query::<Row>(CURRENT, &[]).await.unwrap();
    for organization in &harness.shared.read().await.organizations {
        let mut here = organization.write().await;
        here.memberships.clear();
        here.projects.clear();
        let id = here.id;
        for row in rows.iter().filter(|row| row.get::<Uuid>("organization_id") == id) {
            let (id, user_id): (Uuid, Option<Uuid>) = (row.get("id"), row.get("user_id"));
            if let Some(user_id) = user_id {
                let role = Role::named(&json!(row.get::<String>("role")));
                let user = harness.users.iter().position(|user| user.id == user_id).unwrap();
                here.memberships.insert(id, Membership { user, role });
            } else {
                here.projects.insert(id, (String::new(), None));
            }
        }
    }
}

impl Target {
    /// Returns whether the target names this organization.
    fn names(&self, here: &Organization) -> bool {
        let slug = |name: &String| name.contains(&here.tag);
        self.slug.as_ref().is_none_or(slug)
            && self.claim.as_ref().is_none_or(|name| slug(name) || *name == here.id.to_string())
    }
}

/// Asserts that every organization has an owner, that no limit was exceeded, and that every change
/// has its audit entry.
pub async fn check_counts(harness: &Harness, before: &BTreeMap<Uuid, Counts>) {
    let connection = harness.app.database.connect_admin().await;
    let sql = format!("{INCONSISTENT} UNION ALL {}", further_resources::inconsistent());
    let inconsistent: Vec<String> = connection.query(&sql, &[]).await.unwrap();
    assert!(inconsistent.is_empty(), "ISOLATION_SEED={}: {inconsistent:?}", harness.seed);
    let after = counts(harness).await;
    let unmodelled = harness.unmodelled.lock().unwrap().clone();
    let mut changed = 0;
    for organization in &harness.shared.read().await.organizations {
        let organization = organization.read().await;
        if organization.ended {
            continue;
        }
        let (before, after) = (&before[&organization.id], &after[&organization.id]);
        let context =
            format!("ISOLATION_SEED={}: {}: {before:?} {after:?}", harness.seed, organization.slug);
        let (rows, audit) = (
            |what: &str| after.rows[what],
            |what: &str| after.audit.get(what).copied().unwrap_or_default(),
        );
        let since = |what: &str| audit(what) - before.audit.get(what).copied().unwrap_or_default();
        assert!(rows("owners") > 0, "no owner: {context}");
        let (projects, members) = organization.limits();
        let most = |limit: usize, what: &str| before.rows[what].max(i64::try_from(limit).unwrap());
        assert!(rows("project") <= most(projects, "project"), "{context}");
        assert!(rows("members") <= most(members, "members"), "{context}");
        let taken = |rows: &BTreeMap<String, i64>| rows["members"] + rows["open"];
        let limit = i64::try_from(members).unwrap();
        assert!(taken(&after.rows) <= taken(&before.rows).max(limit), "{context}");
        for kind in further_resources::kinds() {
            // A deletion elsewhere may have taken some along, which is recorded as well.
            let created = since(&format!("{kind}.created")) - since(&format!("{kind}.deleted"));
            assert_eq!(rows(kind) - before.rows[kind], created, "{kind}: {context}");
        }
        let joined = since("invitation.accepted") - since("member.removed") - since("member.left");
        assert_eq!(rows("members") - before.rows["members"], joined, "{context}");
        let further = further_resources::creations();
        let further = further.iter().map(|(mutation, action)| (mutation.as_str(), action.as_str()));
        for (mutation, action) in AUDIT_ACTIONS.into_iter().chain(further) {
            let done = unmodelled.iter().find(|(key, _)| **key == (organization.index, mutation));
            let done = done.map_or(0, |(_, done)| *done);
            assert_eq!(since(action), done, "{mutation} is not {action}: {context}");
            changed += done;
        }
    }
    assert!(changed > 0, "no mutation changed anything");
}
