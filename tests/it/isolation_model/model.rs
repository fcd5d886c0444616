//! A small model of an organization: its contents and its counts.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Member,
    Admin,
    Owner,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];

    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "VIEWER",
            Self::Member => "MEMBER",
            Self::Admin => "ADMIN",
            Self::Owner => "OWNER",
        }
    }

    pub fn named(name: &Value) -> Self {
        Self::ALL.into_iter().find(|role| role.name() == name).unwrap()
    }
}

/// Plans with their limits of projects and members.
pub const PLANS: [(&str, usize, usize); 3] =
    [("free", 4, 6), ("pro", 8, 9), ("enterprise", 13, 12)];
pub const MAX_OWNED: usize = 4;

#[derive(Clone, Copy, Debug)]
pub struct Membership {
    pub user: usize,
    pub role: Role,
}

#[derive(Clone, Debug)]
pub struct Invitation {
    pub email: String,
    pub role: Role,
    pub inviter: usize,
    pub token: String,
    pub expired: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Billing {
    pub plan: String,
    pub trialing: bool,
    pub had_trial: bool,
    pub ends: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Organization {
    pub index: usize,
    pub id: Uuid,
    pub tag: String,
    pub name: String,
    pub slug: String,
    pub ended: bool,
    pub memberships: BTreeMap<Uuid, Membership>,
    pub projects: BTreeMap<Uuid, (String, Option<String>)>,
    pub invitations: BTreeMap<Uuid, Invitation>,
    pub billing: Billing,
    pub audit: BTreeMap<String, i64>,
}

/// A mutation and its input.
#[derive(Clone, Debug)]
pub struct Mutation {
    pub name: &'static str,
    pub input: Value,
}

/// Every slug that was ever claimed: its organization, the user who claimed it, and whether it was
/// retired.
#[derive(Default)]
pub struct Slugs(pub HashMap<String, (usize, Option<usize>, bool)>);

impl Slugs {
    pub fn refuse(&self, slug: &str, organization: usize, user: usize) -> bool {
        let given_up = |(_, by, retired): &&(_, Option<usize>, bool)| *by == Some(user) && *retired;
        self.0.values().filter(given_up).count() >= 20
            || self.0.get(slug).is_some_and(|(holder, ..)| *holder != organization)
    }

    pub fn claim(&mut self, slug: &str, organization: usize, user: usize) {
        self.retire(organization);
        self.0.insert(slug.to_owned(), (organization, Some(user), false));
    }

    pub fn retire(&mut self, organization: usize) {
        for entry in self.0.values_mut().filter(|entry| entry.0 == organization) {
            entry.2 = true;
        }
    }
}

pub fn uuid(value: &Value) -> Option<Uuid> {
    value.as_str().and_then(|text| Uuid::try_parse(text).ok())
}

impl Organization {
    pub fn role_of(&self, user: usize) -> Option<Role> {
        self.membership_of(user).map(|(_, membership)| membership.role)
    }

    pub fn membership_of(&self, user: usize) -> Option<(Uuid, Membership)> {
        let found =
            self.memberships.iter().find(|(_, membership)| membership.user == user && !self.ended);
        found.map(|(id, membership)| (*id, *membership))
    }

    pub fn limits(&self) -> (usize, usize) {
        let plan = PLANS.into_iter().find(|plan| plan.0 == self.billing.plan).unwrap();
        (plan.1, plan.2)
    }

    pub fn owners(&self) -> usize {
        self.memberships.values().filter(|membership| membership.role == Role::Owner).count()
    }

    pub fn used_seats(&self) -> usize {
        let open = self.invitations.values().filter(|open| !open.expired && self.is_open(open));
        self.memberships.len() + open.count()
    }

    /// Whether the inviter may still invite to the role.
    pub fn is_open(&self, invitation: &Invitation) -> bool {
        let needed = if invitation.role >= Role::Admin { Role::Owner } else { Role::Admin };
        self.role_of(invitation.inviter).is_some_and(|role| role >= needed)
    }

    /// Invitations that a user may no longer send stay invalid.
    pub fn invalidate_invitations(&mut self, inviter: usize) {
        let invalid: Vec<Uuid> = self
            .invitations
            .iter()
            .filter(|(_, open)| open.inviter == inviter && !self.is_open(open))
            .map(|(id, _)| *id)
            .collect();
        for id in invalid {
            if let Some(open) = self.invitations.get_mut(&id) {
                open.inviter = usize::MAX;
            }
        }
    }
}
