//! Operations that nobody predicts, all at once, and what must hold nevertheless.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, Row};
use uuid::Uuid;

use super::{
    Attempt, Wall,
    draft::{Place, Standing},
    effect::token_of,
    model::{MembershipRow, Organization, Role, Slugs, uuid},
    register::{Kind, Owner},
};

/// With which audit entry each of them is done; those that may change nothing are not here.
const RECORDED: [(&str, &str); 10] = [
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

/// These change what the plan allows, and with it what the end is held against.
const NOT_NOW: [&str; 3] = ["changePlan", "startTrial", "cancelSubscription"];

/// Counts of an organization: its rows, and the entries of its audit log.
#[derive(Debug, Default)]
pub struct Counts {
    rows: BTreeMap<String, i64>,
    audit: BTreeMap<String, i64>,
}

const ROWS: &str = "
    SELECT o.id AS organization, 'owners' AS what,
           (SELECT count(*) FROM auth.organization_members m WHERE m.organization_id = o.id AND role = 'owner') AS count
    FROM app.organizations o
    UNION ALL SELECT o.id, 'projects', (SELECT count(*) FROM app.projects p WHERE p.organization_id = o.id) FROM app.organizations o
    UNION ALL SELECT o.id, 'members', (SELECT count(*) FROM auth.organization_members m WHERE m.organization_id = o.id)
    FROM app.organizations o
    UNION ALL SELECT o.id, 'open', (SELECT count(*) FROM auth.invitations i WHERE i.organization_id = o.id
        AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > '2030-06-15') FROM app.organizations o";
const ENTRIES: &str = "SELECT organization_id AS organization, action AS what, count(*) AS count FROM audit.audit_logs GROUP BY 1, 2";

/// Rows that have no entry of their own in the audit log, or that stand in another organization's.
const CROSSED: &str = "
    SELECT 'project without its entry' FROM app.projects p WHERE NOT EXISTS (
        SELECT FROM audit.audit_logs a WHERE a.organization_id = p.organization_id AND a.resource_id = p.id AND a.action = 'project.created')
    UNION ALL SELECT 'deleted project that is there' FROM app.projects p JOIN audit.audit_logs a ON a.resource_id = p.id
        WHERE a.action = 'project.deleted'
    UNION ALL SELECT 'entry about another organization''s project' FROM audit.audit_logs a JOIN app.projects p ON p.id = a.resource_id
        WHERE p.organization_id <> a.organization_id
    UNION ALL SELECT 'entry about another organization''s member' FROM audit.audit_logs a
        JOIN auth.organization_members m ON m.id = a.resource_id WHERE m.organization_id <> a.organization_id
    UNION ALL SELECT 'entry about another organization''s invitation' FROM audit.audit_logs a
        JOIN auth.invitations i ON i.id = a.resource_id WHERE i.organization_id <> a.organization_id
    UNION ALL SELECT 'accepted invitation without its member''s entry' FROM auth.invitations i WHERE accepted_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM audit.audit_logs a WHERE a.organization_id = i.organization_id AND a.resource_id = i.id
                        AND a.action = 'invitation.accepted')";

async fn counts(wall: &Wall) -> BTreeMap<Uuid, Counts> {
    let mut connection = wall.app.database.connect_admin().await;
    let mut counts: BTreeMap<Uuid, Counts> = BTreeMap::new();
    for row in connection.fetch_all(ROWS).await.unwrap() {
        let rows = &mut counts.entry(row.get("organization")).or_default().rows;
        rows.insert(row.get("what"), row.get("count"));
    }
    for row in connection.fetch_all(ENTRIES).await.unwrap() {
        let audit = &mut counts.entry(row.get("organization")).or_default().audit;
        audit.insert(row.get("what"), row.get("count"));
    }
    counts
}

/// From here on plans do not change, so that limits mean something at the end. Tells how things
/// stand.
pub async fn prepare(wall: &Wall) -> BTreeMap<Uuid, Counts> {
    for organization in &wall.globe.read().await.organizations {
        "pro".clone_into(&mut organization.write().await.billing.plan);
    }
    wall.app
        .database
        .execute("UPDATE billing.organization_billing SET plan = 'pro', status = 'active', cancel_at_period_end = false")
        .await;
    counts(wall).await
}

/// Which organization comes next, for this many operations: so that they meet each other.
const BURST: usize = 40;

/// So many of the same at once: what counts must count them one after the other.
const VOLLEY: usize = 4;

impl Wall {
    pub async fn storm(&self, number: usize) {
        let mut rng = self.rng(number);
        let globe = self.globe.read().await;
        let mut turn = number / BURST;
        let here = loop {
            let here = globe.organizations[turn % globe.organizations.len()].read().await;
            if !here.ended {
                break here;
            }
            turn += 1;
        };
        let mut draft = self.draft(&mut rng, &here);
        let name = match draft.rng.u8(..10) {
            0..3 => None,
            3..5 => Some("acceptInvitation"),
            _ => Some(draft.mutation()).filter(|name| !NOT_NOW.contains(name)),
        };
        let count = if draft.rng.u8(..4) == 0 { VOLLEY } else { 1 };
        self.tried.lock().unwrap().extend(name);
        let attempts: Vec<_> =
            (0..count).map(|_| self.prepare(&mut rng, number, &here, &globe.slugs, name)).collect();
        let sent = attempts.into_iter().map(|(attempt, organization)| async move {
            let since = self.now();
            let reply = self.send(&attempt).await;
            self.check(&attempt, &reply, organization, since);
            reply
        });
        for reply in futures_util::future::join_all(sent).await {
            let Some(name) = name else { continue };
            let payload = reply.body["data"].get(name).filter(|payload| !payload.is_null());
            if let Some(payload) = payload {
                self.note(name, payload, &here);
            }
        }
    }

    /// An attempt, and the organization of which its answer may tell.
    fn prepare(
        &self,
        rng: &mut Rng,
        number: usize,
        here: &Organization,
        slugs: &Slugs,
        name: Option<&'static str>,
    ) -> (Attempt, Option<usize>) {
        let mut draft = self.draft(rng, here);
        let caller = draft.caller();
        let (place, standing) = draft.place(slugs, caller);
        let (document, variables) = (String::new(), json!({}));
        let mut attempt = Attempt { number, caller, place, document, variables };
        // Whoever was a member before may be none by now, and the other way round.
        let leads_here = matches!(standing, Standing::Inside(_) | Standing::Outside)
            && attempt.place.names(here);
        let mut organization = leads_here.then_some(here.index);
        match name {
            None => attempt.document = draft.query(),
            Some("acceptInvitation") => {
                attempt.document = draft.document("acceptInvitation");
                attempt.place = Place::default();
                let (token, caller) = self.any_token(draft.rng, here);
                attempt.caller = caller;
                attempt.variables = json!({ "input": { "token": token } });
                organization = Some(here.index);
                self.register.lock().unwrap().enters(caller, here.index);
            }
            Some(name) => {
                let change = draft.change(name);
                attempt.document = draft.document(name);
                let email = &change.input["email"];
                let person = self.people.iter().position(|person| *email == person.email());
                if let Some(person) = person {
                    self.register.lock().unwrap().acquaint(here.index, person);
                }
                attempt.variables = json!({ "input": change.input });
            }
        }
        (attempt, organization)
    }

    /// Remembers what there is now, to be named by others.
    fn note(&self, name: &'static str, payload: &Value, here: &Organization) {
        *self.unmodeled.lock().unwrap().entry((here.index, name)).or_default() += 1;
        let owner = Owner::Organization(here.index);
        let mut register = self.register.lock().unwrap();
        let kinds = [
            ("project", Kind::Project),
            ("member", Kind::Member),
            ("invitation", Kind::Invitation),
        ];
        for (field, kind) in kinds {
            if let Some(id) = uuid(&payload[field]["id"]) {
                register.add(kind, id, owner);
            }
        }
        if payload["link"].is_string() {
            register.tokens.push((here.index, token_of(&payload["link"])));
        }
    }

    /// A token of this organization, and its person as often as not.
    fn any_token(&self, rng: &mut Rng, here: &Organization) -> (String, usize) {
        let register = self.register.lock().unwrap();
        let of_here: Vec<_> =
            register.tokens.iter().filter(|token| token.0 == here.index).collect();
        // The newest are the likeliest to be open.
        let newest = &of_here[of_here.len().saturating_sub(6)..];
        let token = rng.choice(newest).map_or("none".to_owned(), |token| token.1.clone());
        let known: Vec<usize> =
            (0..self.people.len()).filter(|person| register.knows(here.index, *person)).collect();
        (token, *rng.choice(&known).unwrap())
    }
}

const PRESENT: &str = "
    SELECT organization_id, id, user_id, upper(role::text) AS role FROM auth.organization_members
    UNION ALL SELECT organization_id, id, NULL, NULL FROM app.projects";

/// Takes over who is where, and which projects there are, from the database.
pub async fn refresh(wall: &Wall) {
    let mut connection = wall.app.database.connect_admin().await;
    let rows = connection.fetch_all(PRESENT).await.unwrap();
    for organization in &wall.globe.read().await.organizations {
        let mut here = organization.write().await;
        here.seats.clear();
        here.projects.clear();
        let id = here.id;
        for row in rows.iter().filter(|row| row.get::<Uuid, _>("organization_id") == id) {
            let (id, user): (Uuid, Option<Uuid>) = (row.get("id"), row.get("user_id"));
            if let Some(user) = user {
                let role = Role::named(&json!(row.get::<String, _>("role")));
                let person = wall.people.iter().position(|person| person.id == user).unwrap();
                here.seats.insert(id, MembershipRow { person, role });
            } else {
                here.projects.insert(id, (String::new(), None));
            }
        }
    }
}

impl Place {
    /// Whether it leads to this organization, for whoever is in it.
    fn names(&self, here: &Organization) -> bool {
        let slug = |name: &String| name.contains(&here.tag);
        self.slug.as_ref().is_none_or(slug)
            && self.claim.as_ref().is_none_or(|name| slug(name) || *name == here.id.to_string())
    }
}

/// Fails unless there is an owner everywhere, no limit was passed, and every change has its entry.
pub async fn settle(wall: &Wall, before: &BTreeMap<Uuid, Counts>) {
    let mut connection = wall.app.database.connect_admin().await;
    let crossed = connection.fetch_all(AssertSqlSafe(CROSSED)).await.unwrap();
    let crossed: Vec<String> = crossed.iter().map(|row| row.get(0)).collect();
    assert!(crossed.is_empty(), "WALL_SEED={}: {crossed:?}", wall.seed);
    let after = counts(wall).await;
    let unmodeled = wall.unmodeled.lock().unwrap().clone();
    let mut changed = 0;
    for organization in &wall.globe.read().await.organizations {
        let organization = organization.read().await;
        if organization.ended {
            continue;
        }
        let (before, after) = (&before[&organization.id], &after[&organization.id]);
        let told = format!("WALL_SEED={}: {}: {before:?} {after:?}", wall.seed, organization.slug);
        let (rows, audit) = (
            |what: &str| after.rows[what],
            |what: &str| after.audit.get(what).copied().unwrap_or_default(),
        );
        let since = |what: &str| audit(what) - before.audit.get(what).copied().unwrap_or_default();
        assert!(rows("owners") > 0, "no owner: {told}");
        let (projects, members) = organization.limits();
        let most = |limit: usize, what: &str| before.rows[what].max(i64::try_from(limit).unwrap());
        assert!(rows("projects") <= most(projects, "projects"), "{told}");
        assert!(rows("members") <= most(members, "members"), "{told}");
        let taken = |rows: &BTreeMap<String, i64>| rows["members"] + rows["open"];
        let limit = i64::try_from(members).unwrap();
        assert!(taken(&after.rows) <= taken(&before.rows).max(limit), "{told}");
        let created = since("project.created") - since("project.deleted");
        assert_eq!(rows("projects") - before.rows["projects"], created, "{told}");
        let joined = since("invitation.accepted") - since("member.removed") - since("member.left");
        assert_eq!(rows("members") - before.rows["members"], joined, "{told}");
        for (mutation, action) in RECORDED {
            let done = unmodeled.get(&(organization.index, mutation)).copied().unwrap_or_default();
            assert_eq!(since(action), done, "{mutation} is not {action}: {told}");
            changed += done;
        }
    }
    assert!(changed > 0, "nobody changed anything");
}
