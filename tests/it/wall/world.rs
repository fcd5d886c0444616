//! The organizations and people at the beginning, and the comparison of the model with the database
//! at the end.

use std::{collections::BTreeMap, fmt::Write as _};

use fastrand::Rng;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::{
    model::{Billing, Invitation, MembershipRow, Organization, PLANS, Role, Slugs},
    register::{Kind, Owner, Person, Register, new_id, new_tag},
};
use crate::support::database::Database;

const ORGANIZATIONS: usize = 6;
const PEOPLE: usize = 36;
/// The first have no organization; the last are in a second one.
const ALONE: usize = 4;
const TWICE: usize = 5;

pub struct World {
    pub people: Vec<Person>,
    pub organizations: Vec<Organization>,
    pub slugs: Slugs,
    pub register: Register,
}

impl World {
    pub fn new(rng: &mut Rng) -> Self {
        let mut register = Register::default();
        let people: Vec<Person> = (0..PEOPLE)
            .map(|index| {
                let person = Person { id: new_id(rng), tag: new_tag(rng) };
                register.add_tag(&person.tag, Owner::Person(index));
                register.add(Kind::User, person.id, Owner::Person(index));
                person
            })
            .collect();
        let mut slugs = Slugs::default();
        let organizations = (0..ORGANIZATIONS)
            .map(|index| {
                let organization = organization(rng, &people, &mut register, index);
                slugs.0.insert(organization.slug.clone(), (index, None, false));
                organization
            })
            .collect();
        Self { people, organizations, slugs, register }
    }

    /// Writes it into a database. API calls are not limited, because how many are left is a matter
    /// of leases.
    pub async fn write(&self, database: &Database) {
        let mut sql = "UPDATE billing.plan_features SET limit_value = NULL WHERE feature = 'api_calls_per_month';".to_owned();
        for (plan, projects, members) in PLANS {
            for (feature, limit) in [("projects", projects), ("team_members", members)] {
                write!(sql, "UPDATE billing.plan_features SET limit_value = {limit} WHERE plan = '{plan}' AND feature = '{feature}';").unwrap();
            }
        }
        for person in &self.people {
            let (id, tag, email) = (person.id, &person.tag, person.email());
            write!(
                sql,
                "INSERT INTO auth.users (id, email, name) VALUES ('{id}', '{email}', 'Person {tag}');
                 INSERT INTO auth.identities (issuer, subject, user_id) VALUES ('', '{tag}', '{id}');"
            )
            .unwrap();
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
        for (seat, MembershipRow { person, role }) in &organization.seats {
            let (user, role) = (self.people[*person].id, role.name().to_lowercase());
            write!(sql, "INSERT INTO auth.organization_members (id, organization_id, user_id, role) VALUES ('{seat}', '{id}', '{user}', '{role}');").unwrap();
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
            let (inviter, role) = (self.people[*inviter].id, role.name().to_lowercase());
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
    people: &[Person],
    register: &mut Register,
    index: usize,
) -> Organization {
    let tag = new_tag(rng);
    register.add_tag(&tag, Owner::Organization(index));
    let mut organization = Organization {
        index,
        id: new_id(rng),
        name: format!("Organization {tag}"),
        slug: format!("first-{tag}"),
        billing: Billing { plan: PLANS[index % PLANS.len()].0.to_owned(), ..Billing::default() },
        tag: tag.clone(),
        ..Organization::default()
    };
    let own = |person: usize| person >= ALONE && person % ORGANIZATIONS == index;
    let second = |person: usize| person >= PEOPLE - TWICE && (person + 1) % ORGANIZATIONS == index;
    let roles = [Role::Owner, Role::Admin, Role::Member, Role::Viewer, Role::Owner];
    for person in (0..people.len()).filter(|person| own(*person) || second(*person)) {
        let role = roles[organization.seats.len() % roles.len()];
        organization.seats.insert(new_id(rng), MembershipRow { person, role });
        register.enters(person, index);
        register.acquaint(index, person);
    }
    for number in 0..3 {
        let project = (format!("Project {number} {tag}"), Some(format!("About {tag}")));
        organization.projects.insert(new_id(rng), project);
        organization.audit.insert("project.created".to_owned(), number + 1);
    }
    let inviter = organization.seats.values().find(|seat| seat.role == Role::Owner).unwrap().person;
    for (guest, role) in [(index % ALONE, Role::Admin), ((index + 1) % ALONE, Role::Viewer)] {
        register.acquaint(index, guest);
        let (email, token) = (people[guest].email(), String::new());
        let open = Invitation { email, role, inviter, token, expired: true };
        organization.invitations.insert(new_id(rng), open);
    }
    organization.register(register);
    organization
}

impl Organization {
    /// Tells the register of every object that is here now.
    pub fn register(&self, register: &mut Register) {
        let owner = Owner::Organization(self.index);
        register.add(Kind::Organization, self.id, owner);
        let seats = self.seats.keys().map(|id| (Kind::Member, id));
        let projects = self.projects.keys().map(|id| (Kind::Project, id));
        let invitations = self.invitations.keys().map(|id| (Kind::Invitation, id));
        for (kind, id) in seats.chain(projects).chain(invitations) {
            register.add(kind, *id, owner);
        }
    }

    /// What the database should say about it.
    fn lines(&self, people: &[Person]) -> Vec<String> {
        let mut lines = Vec::new();
        let id = self.id;
        if !self.ended {
            let Billing { plan, trialing, had_trial, ends } = &self.billing;
            lines.push(format!(
                "{id} {} {} {plan} {trialing} {had_trial} {ends}",
                self.name, self.slug
            ));
            lines.extend(self.seats.iter().map(|(seat, MembershipRow { person, role })| {
                format!("{id} {seat} {} {}", people[*person].id, role.name().to_lowercase())
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

/// Fails unless the database says of every organization what the model says, and has no other.
pub async fn compare(database: &Database, people: &[Person], organizations: &[Organization]) {
    let mut connection = database.connect_admin().await;
    let mut found: BTreeMap<uuid::Uuid, Vec<String>> = BTreeMap::new();
    for row in connection.fetch_all(AssertSqlSafe(STATE)).await.unwrap() {
        found.entry(row.get("organization")).or_default().push(row.get("line"));
    }
    for lines in found.values_mut() {
        lines.sort();
    }
    for organization in organizations {
        let lines = found.remove(&organization.id).unwrap_or_default();
        assert_eq!(lines, organization.lines(people), "left: the database, right: the model");
    }
    let others: Vec<String> = found.into_keys().map(|id| id.to_string()).collect();
    let demo = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"];
    assert_eq!(others, demo, "organizations that nobody founded");
}
