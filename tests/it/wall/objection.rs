//! What must be refused, and why: written from the table of roles and the rules, not from the code.

use serde_json::Value;

use super::{
    model::{Billing, Change, Invitation, Organization, PLANS, Role, Slugs, uuid},
    register::Person,
};

/// The table of roles. A mutation that is not in it fails the test.
fn least(mutation: &str) -> Role {
    match mutation {
        "leaveOrganization" => Role::Viewer,
        "createProject" | "updateProject" => Role::Member,
        "deleteProject" | "inviteMember" | "resendInvitation" | "revokeInvitation"
        | "updateMemberRole" | "removeMember" | "updateOrganization" => Role::Admin,
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

/// Acting on those who manage, or making somebody one of them, is the owner's.
fn least_for(role: Role) -> Role {
    if role >= Role::Admin { Role::Owner } else { Role::Admin }
}

impl Organization {
    /// Why it must be refused: with one of these codes. Empty when it must succeed.
    pub fn objections(
        &self,
        people: &[Person],
        slugs: &Slugs,
        caller: usize,
        Change { name, input }: &Change,
    ) -> Vec<&'static str> {
        let role = self.role_of(caller).unwrap();
        let mut objections = match *name {
            "createProject" | "updateProject" | "deleteProject" => self.about_project(name, input),
            "inviteMember" | "resendInvitation" | "revokeInvitation" => {
                self.about_invitation(people, role, name, input)
            }
            "updateMemberRole" | "removeMember" | "leaveOrganization" | "transferOwnership" => {
                self.about_seat(caller, role, name, input)
            }
            "updateOrganization" | "deleteOrganization" => {
                self.about_organization(slugs, caller, role, name, input)
            }
            _ => self.about_billing(name, input),
        };
        if role < least(name) {
            objections.push("FORBIDDEN");
        }
        objections
    }

    fn about_project(&self, name: &str, input: &Value) -> Vec<&'static str> {
        let mut objections = Vec::new();
        if name == "createProject" {
            if self.projects.len() >= self.limits().0 {
                objections.push("PLAN_LIMIT_EXCEEDED");
            }
        } else if uuid(&input["id"]).is_none_or(|id| !self.projects.contains_key(&id)) {
            objections.push("NOT_FOUND");
        }
        let bad = |text: &Value| text.as_str().is_none_or(str::is_empty);
        if name != "deleteProject" && input.get("name").is_some_and(bad) {
            objections.push("BAD_USER_INPUT");
        }
        objections
    }

    fn about_invitation(
        &self,
        people: &[Person],
        role: Role,
        name: &str,
        input: &Value,
    ) -> Vec<&'static str> {
        let mut objections = Vec::new();
        let full = self.taken_seats() >= self.limits().1;
        let found = if name == "inviteMember" {
            let email = input["email"].as_str().unwrap();
            if !email.contains('@') {
                objections.push("BAD_USER_INPUT");
            }
            if role < least_for(Role::named(&input["role"])) {
                objections.push("FORBIDDEN");
            }
            let found = self.invitations.values().find(|open| open.email == email);
            let member = self.seats.values().any(|seat| people[seat.person].email() == email);
            if member || found.is_some_and(|open| !open.expired) {
                objections.push("CONFLICT");
            }
            if full {
                objections.push("PLAN_LIMIT_EXCEEDED");
            }
            found
        } else {
            let found = uuid(&input["id"]).and_then(|id| self.invitations.get(&id));
            match found {
                None => objections.push("NOT_FOUND"),
                Some(open) if open.expired && full && name == "resendInvitation" => {
                    objections.push("PLAN_LIMIT_EXCEEDED");
                }
                Some(_) => {}
            }
            found
        };
        if found.is_some_and(|open| role < least_for(open.role)) {
            objections.push("FORBIDDEN");
        }
        objections
    }

    fn about_seat(
        &self,
        caller: usize,
        role: Role,
        name: &str,
        input: &Value,
    ) -> Vec<&'static str> {
        let mut objections = Vec::new();
        let found = match name {
            "leaveOrganization" if uuid(&input["organizationId"]) == Some(self.id) => {
                self.seat_of(caller).map(|(_, seat)| seat)
            }
            "leaveOrganization" => None,
            "transferOwnership" => {
                uuid(&input["memberId"]).and_then(|id| self.seats.get(&id)).copied()
            }
            _ => uuid(&input["id"]).and_then(|id| self.seats.get(&id)).copied(),
        };
        let Some(seat) = found else {
            return vec!["NOT_FOUND"];
        };
        let own = seat.person == caller;
        let last_owner = seat.role == Role::Owner && self.owners() == 1;
        match name {
            "updateMemberRole" => {
                let new = Role::named(&input["role"]);
                if role < least_for(seat.role).max(least_for(new)) {
                    objections.push("FORBIDDEN");
                }
                if last_owner && new != Role::Owner {
                    objections.push("CONFLICT");
                }
            }
            "removeMember" => {
                if role < least_for(seat.role) {
                    objections.push("FORBIDDEN");
                }
                if own {
                    objections.push("BAD_USER_INPUT");
                }
            }
            "transferOwnership" if own => objections.push("BAD_USER_INPUT"),
            "leaveOrganization" if last_owner => objections.push("CONFLICT"),
            _ => {}
        }
        objections
    }

    fn about_organization(
        &self,
        slugs: &Slugs,
        caller: usize,
        role: Role,
        name: &str,
        input: &Value,
    ) -> Vec<&'static str> {
        let mut objections = Vec::new();
        let slug = input["slug"].as_str().filter(|slug| *slug != self.slug);
        if name == "deleteOrganization" {
            if slug.is_some() {
                objections.push("BAD_USER_INPUT");
            }
        } else if let Some(slug) = slug {
            if role < Role::Owner {
                objections.push("FORBIDDEN");
            }
            if slugs.refuse(slug, self.index, caller) {
                objections.push("CONFLICT");
            }
        }
        objections
    }

    fn about_billing(&self, name: &str, input: &Value) -> Vec<&'static str> {
        let Billing { plan, had_trial, .. } = &self.billing;
        let mut objections = Vec::new();
        let known = PLANS.iter().any(|plan| plan.0 == input["plan"]);
        let here = uuid(&input["organizationId"]) == Some(self.id);
        match name {
            "changePlan" if !known => objections.push("BAD_USER_INPUT"),
            "startTrial" => {
                if !known || input["plan"] == "free" {
                    objections.push("BAD_USER_INPUT");
                }
                if *had_trial || plan != "free" {
                    objections.push("CONFLICT");
                }
            }
            "cancelSubscription" | "resumeSubscription" if !here => objections.push("NOT_FOUND"),
            "cancelSubscription" if plan == "free" => objections.push("CONFLICT"),
            // Without Stripe there is nowhere to go.
            "createCheckoutSession" | "createBillingPortalSession" => objections.push("CONFLICT"),
            _ => {}
        }
        objections
    }

    /// Why the invitation with this token cannot be accepted.
    pub fn objections_to_accept(
        &self,
        people: &[Person],
        caller: usize,
        token: &str,
    ) -> Vec<&'static str> {
        let mut objections = Vec::new();
        let holds = |open: &&Invitation| {
            open.token == token
                && !open.expired
                && open.email == people[caller].email()
                && self.role_of(open.inviter).is_some_and(|role| role >= least_for(open.role))
        };
        if self.ended || !self.invitations.values().any(|open| holds(&open)) {
            objections.push("NOT_FOUND");
        }
        if self.role_of(caller).is_some() {
            objections.push("CONFLICT");
        }
        if self.seats.len() >= self.limits().1 {
            objections.push("PLAN_LIMIT_EXCEEDED");
        }
        objections
    }
}
