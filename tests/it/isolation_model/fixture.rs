//! The organizations and users at the start, and the final comparison of the model with the
//! database.

use std::{collections::BTreeMap, fmt::Write as _};

use fastrand::Rng;
use pg::Row;

use super::{
    model::{Billing, Invitation, Membership, Organization, PLANS, Role, Slugs},
    ownership::{Kind, Owner, Ownership, User, new_id, new_tag},
};
use crate::support::database::{Database, RowExt};

const ORGANIZATIONS: usize = 6;
const USERS: usize = 36;
/// The first users have no organization; the last ones are in two.
const WITHOUT_ORGANIZATION: usize = 4;
const IN_TWO_ORGANIZATIONS: usize = 5;
/// Identities of each user besides the one that signs in.
const SPARE: usize = 2;

pub struct Fixture {
    pub users: Vec<User>,
    pub organizations: Vec<Organization>,
    pub slugs: Slugs,
    pub ownership: Ownership,
}

impl Fixture {
    pub fn new(rng: &mut Rng) -> Self {
        let mut ownership = Ownership::default();
        let users: Vec<User> = (0..USERS)
            .map(|index| {
                let user = User { id: new_id(rng), tag: new_tag(rng) };
                ownership.add_tag(&user.tag, Owner::User(index));
                ownership.add(Kind::User, user.id, Owner::User(index));
                ownership.add_identity(index, &user.tag);
                for _ in 0..SPARE {
                    let subject = new_tag(rng);
                    ownership.add_tag(&subject, Owner::Private(index));
                    ownership.add_identity(index, &subject);
                }
                user
            })
            .collect();
        let mut slugs = Slugs::default();
        let organizations = (0..ORGANIZATIONS)
            .map(|index| {
                let organization = organization(rng, &users, &mut ownership, index);
                slugs.0.insert(organization.slug.clone(), (index, None, false));
                organization
            })
            .collect();
        Self { users, organizations, slugs, ownership }
    }

    /// Writes the fixture to a database. API calls are unlimited, because the model does not track
    /// leased calls.
    pub async fn write(&self, database: &Database) {
        let mut sql = "UPDATE billing.plan_features SET limit_value = NULL WHERE feature = 'api_calls_per_month';".to_owned();
        sql += "INSERT INTO billing.features (feature, kind, name, period, position) VALUES ('exports', 'meter', 'Exports', 'month', 4);
                INSERT INTO billing.plan_features (plan, feature) SELECT plan, 'exports' FROM billing.plans;";
        for (plan, projects, members) in PLANS {
            for (feature, limit) in [("projects", projects), ("team_members", members)] {
                write!(sql, "UPDATE billing.plan_features SET limit_value = {limit} WHERE plan = '{plan}' AND feature = '{feature}';").unwrap();
            }
        }
        for user in &self.users {
            let (id, tag, email) = (user.id, &user.tag, user.email());
            write!(
                sql,
                "INSERT INTO auth.users (id, email, name) VALUES ('{id}', '{email}', 'User {tag}');"
            )
            .unwrap();
        }
        for identity in self.ownership.identities.values() {
            let (subject, user) = (&identity.subject, self.users[identity.user].id);
            write!(sql, "INSERT INTO auth.identities (issuer, subject, user_id) VALUES ('', '{subject}', '{user}');").unwrap();
        }
        for organization in &self.organizations {
            self.rows(organization, &mut sql);
        }
        database.execute(&sql).await;
    }

    fn rows(&self, organization: &Organization, sql: &mut String) {
        let Organization { id, name, slug, billing, .. } = organization;
        write!(
            sql,
            "INSERT INTO app.organizations (id, name, slug) VALUES ('{id}', '{name}', '{slug}');
             INSERT INTO app.organization_slugs (slug, organization_id) VALUES ('{slug}', '{id}');
             INSERT INTO billing.organization_billing (organization_id, plan) VALUES ('{id}', '{}');",
            billing.plan
        )
        .unwrap();
        for (membership, Membership { user, role }) in &organization.memberships {
            let (user, role) = (self.users[*user].id, role.name().to_lowercase());
            write!(sql, "INSERT INTO auth.organization_members (id, organization_id, user_id, role) VALUES ('{membership}', '{id}', '{user}', '{role}');").unwrap();
        }
        for (project, (name, description)) in &organization.projects {
            let description = description.as_deref().unwrap_or_default();
            write!(
                sql,
                "INSERT INTO app.projects (id, organization_id, name, description) VALUES ('{project}', '{id}', '{name}', '{description}');
                 INSERT INTO audit.audit_logs (organization_id, action, resource_type, resource_id, metadata)
                     VALUES ('{id}', 'project.created', 'project', '{project}', '{{\"name\": \"{name}\"}}');"
            )
            .unwrap();
        }
        for (invitation, open) in &organization.invitations {
            let Invitation { email, role, inviter, .. } = open;
            let (inviter, role) = (self.users[*inviter].id, role.name().to_lowercase());
            write!(
                sql,
                "INSERT INTO auth.invitations (id, organization_id, email, role, token_hash, invited_by, expires_at)
                     VALUES ('{invitation}', '{id}', '{email}', '{role}', sha256('{invitation}'), '{inviter}', '2030-01-01');"
            )
            .unwrap();
        }
    }
}

fn organization(
    rng: &mut Rng,
    users: &[User],
    ownership: &mut Ownership,
    index: usize,
) -> Organization {
    let tag = new_tag(rng);
    ownership.add_tag(&tag, Owner::Organization(index));
    let mut organization = Organization {
        index,
        id: new_id(rng),
        name: format!("Organization {tag}"),
        slug: format!("first-{tag}"),
        billing: Billing { plan: PLANS[index % PLANS.len()].0.to_owned(), ..Billing::default() },
        tag: tag.clone(),
        ..Organization::default()
    };
    let own = |user: usize| user >= WITHOUT_ORGANIZATION && user % ORGANIZATIONS == index;
    let second =
        |user: usize| user >= USERS - IN_TWO_ORGANIZATIONS && (user + 1) % ORGANIZATIONS == index;
    let roles = [Role::Owner, Role::Admin, Role::Member, Role::Viewer, Role::Owner];
    for user in (0..users.len()).filter(|user| own(*user) || second(*user)) {
        let role = roles[organization.memberships.len() % roles.len()];
        organization.memberships.insert(new_id(rng), Membership { user, role });
        ownership.joins(user, index);
        ownership.make_known(index, user);
    }
    for number in 0..3 {
        let project = (format!("Project {number} {tag}"), Some(format!("About {tag}")));
        organization.projects.insert(new_id(rng), project);
        organization.audit.insert("project.created".to_owned(), number + 1);
    }
    let inviter = organization
        .memberships
        .values()
        .find(|membership| membership.role == Role::Owner)
        .unwrap()
        .user;
    for (guest, role) in [
        (index % WITHOUT_ORGANIZATION, Role::Admin),
        ((index + 1) % WITHOUT_ORGANIZATION, Role::Viewer),
    ] {
        ownership.make_known(index, guest);
        let (email, token) = (users[guest].email(), String::new());
        let open = Invitation { email, role, inviter, token, expired: true };
        organization.invitations.insert(new_id(rng), open);
    }
    organization.ownership(ownership);
    organization
}

impl Organization {
    /// Adds every object of the organization to the ownership index.
    pub fn ownership(&self, ownership: &mut Ownership) {
        let owner = Owner::Organization(self.index);
        ownership.add(Kind::Organization, self.id, owner);
        let memberships = self.memberships.keys().map(|id| (Kind::Member, id));
        let projects = self.projects.keys().map(|id| (Kind::Project, id));
        let invitations = self.invitations.keys().map(|id| (Kind::Invitation, id));
        for (kind, id) in memberships.chain(projects).chain(invitations) {
            ownership.add(kind, *id, owner);
        }
    }

    /// Returns the lines that the database should have for this organization.
    fn lines(&self, users: &[User]) -> Vec<String> {
        let mut lines = Vec::new();
        let id = self.id;
        if !self.ended {
            let Billing { plan, trialing, had_trial, ends } = &self.billing;
            lines.push(format!(
                "{id} {} {} {plan} {trialing} {had_trial} {ends}",
                self.name, self.slug
            ));
            lines.extend(self.memberships.iter().map(|(membership, Membership { user, role })| {
                format!("{id} {membership} {} {}", users[*user].id, role.name().to_lowercase())
            }));
            lines.extend(self.projects.iter().map(|(project, (name, description))| {
                format!("{id} {project} {name} {}", description.as_deref().unwrap_or("-"))
            }));
            lines.extend(self.invitations.iter().map(|(invitation, open)| {
                format!("{id} {invitation} {} {}", open.email, open.role.name().to_lowercase())
            }));
        }
        lines.extend(self.audit.iter().map(|(action, count)| format!("{id} {action} {count}")));
        lines.sort();
        lines
    }
}

const STATE: &str = "
    SELECT id AS organization, concat_ws(' ', id, name, slug, plan, (status = 'trialing')::text,
                     (trial_ends_at IS NOT NULL)::text, cancel_at_period_end::text) AS line
    FROM app.organizations JOIN billing.organization_billing ON organization_id = id
    UNION ALL SELECT organization_id, concat_ws(' ', organization_id, id, user_id, role) FROM auth.organization_members
    UNION ALL SELECT organization_id, concat_ws(' ', organization_id, id, name, coalesce(description, '-')) FROM app.projects
    UNION ALL SELECT organization_id, concat_ws(' ', organization_id, id, email, role) FROM auth.invitations
        WHERE accepted_at IS NULL AND revoked_at IS NULL
    UNION ALL SELECT organization_id, concat_ws(' ', organization_id, action, count(*)) FROM audit.audit_logs GROUP BY organization_id, action";

/// Asserts that the database equals the model for every organization, and has no others.
pub async fn compare(database: &Database, users: &[User], organizations: &[Organization]) {
    let connection = database.connect_admin().await;
    let mut found: BTreeMap<uuid::Uuid, Vec<String>> = BTreeMap::new();
    for row in connection.query::<Row>(STATE, &[]).await.unwrap() {
        found.entry(row.get("organization")).or_default().push(row.get("line"));
    }
    for lines in found.values_mut() {
        lines.sort();
    }
    for organization in organizations {
        let lines = found.remove(&organization.id).unwrap_or_default();
        assert_eq!(lines, organization.lines(users), "left: the database, right: the model");
    }
    let others: Vec<String> = found.into_keys().map(|id| id.to_string()).collect();
    let demo = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"];
    assert_eq!(others, demo, "organizations that the model did not create");
}
