//! The errors that a mutation must get, written from the table of roles and the rules, not from the
//! code.

use serde_json::Value;

use super::{
    model::{Billing, Invitation, Mutation, Organization, PLANS, Role, Slugs, uuid},
    ownership::{Identity, User},
};

/// The table of roles. A mutation that it lacks fails the test.
fn required_role(mutation: &str) -> Role {
    match mutation {
        "leaveOrganization" => Role::Viewer,
        "createProject" | "updateProject" => Role::Member,
        "deleteProject" | "inviteMember" | "resendInvitation" | "revokeInvitation"
        | "updateMemberRole" | "removeMember" | "updateOrganization" | "consumeUsage"
        | "recordUsage" => Role::Admin,
        "transferOwnership"
        | "deleteOrganization"
        | "changePlan"
        | "startTrial"
        | "cancelSubscription"
        | "resumeSubscription"
        | "createCheckoutSession"
        | "createBillingPortalSession" => Role::Owner,
        other => panic!("decide who may use {other}"),
    }
}

/// Returns the codes with which unlinking fails for a caller who is signed in with their own
/// subject: foreign identities do not exist for them, and the one in use stays.
pub fn expected_unlink_errors(
    users: &[User],
    caller: usize,
    identity: Option<&Identity>,
) -> Vec<&'static str> {
    match identity.filter(|identity| identity.user == caller) {
        None => vec!["NOT_FOUND"],
        Some(identity) if identity.subject == users[caller].tag => vec!["CONFLICT"],
        Some(_) => Vec::new(),
    }
}

/// Only owners may act on admins and owners, and grant these roles.
fn role_to_manage(role: Role) -> Role {
    if role >= Role::Admin { Role::Owner } else { Role::Admin }
}

impl Organization {
    /// Returns the codes with which the mutation may fail. Empty when it must succeed.
    pub fn expected_errors(
        &self,
        users: &[User],
        slugs: &Slugs,
        caller: usize,
        Mutation { name, input }: &Mutation,
    ) -> Vec<&'static str> {
        let role = self.role_of(caller).unwrap();
        let mut expected_errors = match *name {
            "createProject" | "updateProject" | "deleteProject" => self.project_errors(name, input),
            "inviteMember" | "resendInvitation" | "revokeInvitation" => {
                self.invitation_errors(users, role, name, input)
            }
            "updateMemberRole" | "removeMember" | "leaveOrganization" | "transferOwnership" => {
                self.membership_errors(caller, role, name, input)
            }
            "updateOrganization" | "deleteOrganization" => {
                self.organization_errors(slugs, caller, role, name, input)
            }
            _ => self.billing_errors(name, input),
        };
        if role < required_role(name) {
            expected_errors.push("FORBIDDEN");
        }
        expected_errors
    }

    fn project_errors(&self, name: &str, input: &Value) -> Vec<&'static str> {
        let mut expected_errors = Vec::new();
        if name == "createProject" {
            if self.projects.len() >= self.limits().0 {
                expected_errors.push("PLAN_LIMIT_EXCEEDED");
            }
        } else if uuid(&input["id"]).is_none_or(|id| !self.projects.contains_key(&id)) {
            expected_errors.push("NOT_FOUND");
        }
        let bad = |text: &Value| text.as_str().is_none_or(str::is_empty);
        if name != "deleteProject" && input.get("name").is_some_and(bad) {
            expected_errors.push("BAD_USER_INPUT");
        }
        expected_errors
    }

    fn invitation_errors(
        &self,
        users: &[User],
        role: Role,
        name: &str,
        input: &Value,
    ) -> Vec<&'static str> {
        let mut expected_errors = Vec::new();
        let full = self.used_seats() >= self.limits().1;
        let found = if name == "inviteMember" {
            let email = input["email"].as_str().unwrap();
            if !email.contains('@') {
                expected_errors.push("BAD_USER_INPUT");
            }
            if role < role_to_manage(Role::named(&input["role"])) {
                expected_errors.push("FORBIDDEN");
            }
            let found = self.invitations.values().find(|open| open.email == email);
            let member =
                self.memberships.values().any(|membership| users[membership.user].email() == email);
            if member || found.is_some_and(|open| !open.expired && self.is_open(open)) {
                expected_errors.push("CONFLICT");
            }
            if full {
                expected_errors.push("PLAN_LIMIT_EXCEEDED");
            }
            found
        } else {
            let found = uuid(&input["id"]).and_then(|id| self.invitations.get(&id));
            match found {
                None => expected_errors.push("NOT_FOUND"),
                Some(open)
                    if (open.expired || !self.is_open(open))
                        && full
                        && name == "resendInvitation" =>
                {
                    expected_errors.push("PLAN_LIMIT_EXCEEDED");
                }
                Some(_) => {}
            }
            found
        };
        if found.is_some_and(|open| role < role_to_manage(open.role)) {
            expected_errors.push("FORBIDDEN");
        }
        expected_errors
    }

    fn membership_errors(
        &self,
        caller: usize,
        role: Role,
        name: &str,
        input: &Value,
    ) -> Vec<&'static str> {
        let mut expected_errors = Vec::new();
        let found = match name {
            "leaveOrganization" if uuid(&input["organizationId"]) == Some(self.id) => {
                self.membership_of(caller).map(|(_, membership)| membership)
            }
            "leaveOrganization" => None,
            "transferOwnership" => {
                uuid(&input["memberId"]).and_then(|id| self.memberships.get(&id)).copied()
            }
            _ => uuid(&input["id"]).and_then(|id| self.memberships.get(&id)).copied(),
        };
        let Some(membership) = found else {
            return vec!["NOT_FOUND"];
        };
        let own = membership.user == caller;
        let last_owner = membership.role == Role::Owner && self.owners() == 1;
        match name {
            "updateMemberRole" => {
                let new = Role::named(&input["role"]);
                if role < role_to_manage(membership.role).max(role_to_manage(new)) {
                    expected_errors.push("FORBIDDEN");
                }
                if last_owner && new != Role::Owner {
                    expected_errors.push("CONFLICT");
                }
            }
            "removeMember" => {
                if role < role_to_manage(membership.role) {
                    expected_errors.push("FORBIDDEN");
                }
                if own {
                    expected_errors.push("BAD_USER_INPUT");
                }
            }
            "transferOwnership" if own => expected_errors.push("BAD_USER_INPUT"),
            "leaveOrganization" if last_owner => expected_errors.push("CONFLICT"),
            _ => {}
        }
        expected_errors
    }

    fn organization_errors(
        &self,
        slugs: &Slugs,
        caller: usize,
        role: Role,
        name: &str,
        input: &Value,
    ) -> Vec<&'static str> {
        let mut expected_errors = Vec::new();
        let slug = input["slug"].as_str().filter(|slug| *slug != self.slug);
        if name == "deleteOrganization" {
            if slug.is_some() {
                expected_errors.push("BAD_USER_INPUT");
            }
        } else if let Some(slug) = slug {
            if role < Role::Owner {
                expected_errors.push("FORBIDDEN");
            }
            if slugs.refuse(slug, self.index, caller) {
                expected_errors.push("CONFLICT");
            }
        }
        expected_errors
    }

    fn billing_errors(&self, name: &str, input: &Value) -> Vec<&'static str> {
        let Billing { plan, had_trial, .. } = &self.billing;
        let mut expected_errors = Vec::new();
        let known = PLANS.iter().any(|plan| plan.0 == input["plan"]);
        let here = uuid(&input["organizationId"]) == Some(self.id);
        match name {
            "changePlan" if !known => expected_errors.push("BAD_USER_INPUT"),
            "consumeUsage" | "recordUsage" if input["feature"] != "exports" => {
                expected_errors.push("BAD_USER_INPUT");
            }
            "startTrial" => {
                if !known || input["plan"] == "free" {
                    expected_errors.push("BAD_USER_INPUT");
                }
                if *had_trial || plan != "free" {
                    expected_errors.push("CONFLICT");
                }
            }
            "cancelSubscription" | "resumeSubscription" if !here => {
                expected_errors.push("NOT_FOUND");
            }
            "cancelSubscription" if plan == "free" => expected_errors.push("CONFLICT"),
            // Without Stripe, both fail.
            "createCheckoutSession" | "createBillingPortalSession" => {
                expected_errors.push("CONFLICT");
            }
            _ => {}
        }
        expected_errors
    }

    /// Returns the codes with which accepting or declining with this token may fail.
    pub fn expected_answer_errors(
        &self,
        users: &[User],
        caller: usize,
        mutation: &str,
        token: &str,
    ) -> Vec<&'static str> {
        let holds = |open: &&Invitation| open.token == token && !open.expired && self.is_open(open);
        let Some(open) = self.invitations.values().find(holds).filter(|_| !self.ended) else {
            return vec!["NOT_FOUND"];
        };
        if open.email != users[caller].email() {
            return vec!["WRONG_ACCOUNT"];
        }
        let mut expected_errors = Vec::new();
        if self.role_of(caller).is_some() {
            expected_errors.push("CONFLICT");
        }
        if mutation == "acceptInvitation" && self.memberships.len() >= self.limits().1 {
            expected_errors.push("PLAN_LIMIT_EXCEEDED");
        }
        expected_errors
    }
}
