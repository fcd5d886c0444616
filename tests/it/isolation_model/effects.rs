//! Applies the effect of a successful mutation to the model.

use serde_json::Value;
use uuid::Uuid;

use super::model::{Billing, Invitation, Membership, Mutation, Organization, Role, Slugs, uuid};

/// Returns the token in a link.
pub fn token_of(link: &Value) -> String {
    link.as_str().unwrap().split("token=").nth(1).unwrap().to_owned()
}

impl Organization {
    fn record(&mut self, action: &str) {
        *self.audit.entry(action.to_owned()).or_default() += 1;
    }

    /// Applies a mutation to the model. Returns the user who lost their membership.
    pub fn apply(
        &mut self,
        slugs: Option<&mut Slugs>,
        caller: usize,
        Mutation { name, input }: &Mutation,
        payload: &Value,
    ) -> Option<usize> {
        let id = uuid(&input["id"]);
        match *name {
            "createProject" | "updateProject" | "deleteProject" => {
                self.apply_to_project(name, input, payload);
            }
            "inviteMember" | "resendInvitation" => {
                let node = &payload["invitation"];
                let id = uuid(&node["id"]).unwrap();
                let before = self.invitations.get(&id);
                let invitation = Invitation {
                    email: match input["email"].as_str() {
                        Some(email) => email.to_owned(),
                        None => before.unwrap().email.clone(),
                    },
                    role: match input.get("role") {
                        Some(role) => Role::named(role),
                        None => before.unwrap().role,
                    },
                    inviter: caller,
                    token: token_of(&payload["link"]),
                    expired: false,
                };
                self.invitations.insert(id, invitation);
                let new = *name == "inviteMember";
                self.record(if new { "invitation.created" } else { "invitation.resent" });
            }
            "revokeInvitation" => {
                self.invitations.remove(&id.unwrap());
                self.record("invitation.revoked");
            }
            "updateMemberRole" => {
                let membership = self.memberships.get_mut(&id.unwrap()).unwrap();
                let role = Role::named(&input["role"]);
                if membership.role != role {
                    membership.role = role;
                    let user = membership.user;
                    self.invalidate_invitations(user);
                    self.record("member.role_changed");
                }
            }
            "removeMember" => {
                self.record("member.removed");
                return self.remove(id.unwrap());
            }
            "leaveOrganization" => {
                self.record("member.left");
                let (own, _) = self.membership_of(caller).unwrap();
                return self.remove(own);
            }
            "transferOwnership" => {
                let (own, _) = self.membership_of(caller).unwrap();
                self.memberships.get_mut(&own).unwrap().role = Role::Admin;
                self.invalidate_invitations(caller);
                let heir = uuid(&input["memberId"]).unwrap();
                self.memberships.get_mut(&heir).unwrap().role = Role::Owner;
                self.record("organization.transferred");
            }
            "updateOrganization" | "deleteOrganization" => {
                self.apply_to_organization(slugs, caller, name, input);
            }
            _ => self.apply_to_billing(name, input),
        }
        None
    }

    fn remove(&mut self, membership: Uuid) -> Option<usize> {
        let user = self.memberships.remove(&membership)?.user;
        self.invalidate_invitations(user);
        Some(user)
    }

    fn apply_to_project(&mut self, name: &str, input: &Value, payload: &Value) {
        let id = uuid(&payload["project"]["id"]).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match name {
            "createProject" => {
                let project = (text(&input["name"]).unwrap(), text(&input["description"]));
                self.projects.insert(id, project);
                self.record("project.created");
            }
            "deleteProject" => {
                self.projects.remove(&id);
                self.record("project.deleted");
            }
            _ => {
                let mut project = self.projects[&id].clone();
                if let Some(name) = input.get("name") {
                    project.0 = text(name).unwrap();
                }
                if let Some(description) = input.get("description") {
                    project.1 = text(description);
                }
                // A mutation that changes nothing adds no entry.
                if self.projects[&id] != project {
                    self.projects.insert(id, project);
                    self.record("project.updated");
                }
            }
        }
    }

    fn apply_to_organization(
        &mut self,
        slugs: Option<&mut Slugs>,
        caller: usize,
        name: &str,
        input: &Value,
    ) {
        if name == "deleteOrganization" {
            self.ended = true;
            self.record("organization.deleted");
            if let Some(slugs) = slugs {
                slugs.retire(self.index);
            }
            return;
        }
        let before = (self.name.clone(), self.slug.clone());
        if let Some(name) = input["name"].as_str() {
            name.clone_into(&mut self.name);
        }
        if let (Some(slug), Some(slugs)) = (input["slug"].as_str(), slugs) {
            if slug != self.slug {
                slugs.claim(slug, self.index, caller);
            }
            slug.clone_into(&mut self.slug);
        }
        if before != (self.name.clone(), self.slug.clone()) {
            self.record("organization.updated");
        }
    }

    fn apply_to_billing(&mut self, name: &str, input: &Value) {
        let before = &self.billing;
        let plan = input["plan"].as_str().unwrap_or_default();
        match name {
            "changePlan" if before.plan != plan || before.trialing || before.ends => {
                let had_trial = before.had_trial;
                let plan = plan.to_owned();
                self.billing = Billing { plan, had_trial, ..Billing::default() };
                self.record("billing.plan_changed");
            }
            "startTrial" => {
                let plan = plan.to_owned();
                self.billing = Billing { plan, trialing: true, had_trial: true, ends: false };
                self.record("billing.trial_started");
            }
            "cancelSubscription" if !before.ends => {
                self.billing.ends = true;
                self.record("billing.subscription_canceled");
            }
            "resumeSubscription" if before.ends => {
                self.billing.ends = false;
                self.record("billing.subscription_resumed");
            }
            _ => {}
        }
    }

    /// Each organization of a person records that they have unlinked an identity.
    pub fn apply_unlink(&mut self, caller: usize) {
        if self.role_of(caller).is_some() {
            self.record("user.identity_unlinked");
        }
    }

    /// Each organization of a person records that they have chosen a name.
    pub fn apply_rename(&mut self, caller: usize) {
        if self.role_of(caller).is_some() {
            self.record("user.renamed");
        }
    }

    pub fn apply_decline(&mut self, token: &str) {
        self.invitations.retain(|_, open| open.token != token);
        self.record("invitation.declined");
    }

    pub fn apply_accept(&mut self, caller: usize, token: &str, payload: &Value) {
        let (id, open) = self.invitations.iter().find(|(_, open)| open.token == token).unwrap();
        let (id, role) = (*id, open.role);
        self.invitations.remove(&id);
        let membership = uuid(&payload["member"]["id"]).unwrap();
        self.memberships.insert(membership, Membership { user: caller, role });
        self.record("invitation.accepted");
    }

    pub fn created(index: usize, caller: usize, tag: &str, input: &Value, payload: &Value) -> Self {
        let organization = &payload["organization"];
        let mut created = Self {
            index,
            id: uuid(&organization["id"]).unwrap(),
            tag: tag.to_owned(),
            name: input["name"].as_str().unwrap().to_owned(),
            slug: input["slug"].as_str().unwrap().to_owned(),
            billing: Billing { plan: "free".to_owned(), ..Billing::default() },
            ..Self::default()
        };
        let membership = uuid(&organization["firstMember"]["nodes"][0]["id"]).unwrap();
        created.memberships.insert(membership, Membership { user: caller, role: Role::Owner });
        created.record("organization.created");
        created
    }
}
