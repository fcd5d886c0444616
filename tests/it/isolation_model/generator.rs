//! Generates random requests: caller, target and input, with ids of other organizations wherever an
//! id can stand.

use std::sync::Mutex;

use fastrand::Rng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    further_resources::payload_field,
    model::{Mutation, Organization, PLANS, Role, Slugs},
    ownership::{Kind, Owner, Ownership, User, identity_id, new_id, new_tag},
    random_query::{Schema, Writer},
};

/// How a request addresses an organization.
#[derive(Clone, Debug, Default)]
pub struct Target {
    pub slug: Option<String>,
    pub claim: Option<String>,
}

/// What the caller has access to at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Inside(Role),
    Outside,
    Mismatch,
    NoOrganization,
}

/// Mutations of members, with their weights. The others have separate steps.
const CHANGES: [(&str, usize); 19] = [
    ("createProject", 5),
    ("updateProject", 4),
    ("deleteProject", 3),
    ("inviteMember", 7),
    ("resendInvitation", 2),
    ("revokeInvitation", 2),
    ("updateMemberRole", 3),
    ("removeMember", 1),
    ("leaveOrganization", 1),
    ("transferOwnership", 1),
    ("updateOrganization", 2),
    ("changePlan", 1),
    ("startTrial", 1),
    ("cancelSubscription", 1),
    ("resumeSubscription", 1),
    ("createCheckoutSession", 1),
    ("createBillingPortalSession", 1),
    ("consumeUsage", 1),
    ("recordUsage", 1),
];

/// These must be the only field of their operation.
const SINGLE_FIELD: [&str; 9] = [
    "createOrganization",
    "acceptInvitation",
    "declineInvitation",
    "unlinkIdentity",
    "updateViewer",
    "cancelSubscription",
    "resumeSubscription",
    "createCheckoutSession",
    "createBillingPortalSession",
];

pub struct Generator<'a> {
    pub rng: &'a mut Rng,
    pub users: &'a [User],
    pub schema: &'a Schema,
    pub ownership: &'a Mutex<Ownership>,
    pub here: &'a Organization,
}

impl Generator<'_> {
    /// Returns a member in most cases.
    pub fn caller(&mut self) -> usize {
        let memberships: Vec<usize> =
            self.here.memberships.values().map(|membership| membership.user).collect();
        match self.rng.choice(memberships) {
            Some(user) if self.rng.u8(..10) < 9 => user,
            _ => self.rng.usize(..self.users.len()),
        }
    }

    pub fn target(&mut self, slugs: &Slugs, caller: usize) -> (Target, Access) {
        let own =
            |(_, entry): &(&String, &(usize, Option<usize>, bool))| entry.0 == self.here.index;
        let names: Vec<&String> =
            slugs.0.iter().filter(own).map(|(slug, _)| slug).chain([&self.here.slug]).collect();
        let path = Some((*self.rng.choice(&names).unwrap()).clone());
        let by_slug = (*self.rng.choice(&names).unwrap()).clone();
        let claim = Some(if self.rng.bool() { self.here.id.to_string() } else { by_slug });
        let inside = self.here.role_of(caller).map_or(Access::Outside, Access::Inside);
        match self.rng.u8(..100) {
            0..70 => (Target { slug: path, claim: None }, inside),
            70..80 => (Target { slug: None, claim }, inside),
            80..87 => (Target { slug: path, claim }, inside),
            87..91 => {
                let claim = Some(self.foreign(Kind::Organization).to_string());
                (Target { slug: path, claim }, Access::Mismatch)
            }
            91..94 => {
                let slug = Some(new_tag(self.rng));
                (Target { slug, claim: None }, Access::Outside)
            }
            _ => (Target::default(), Access::NoOrganization),
        }
    }

    pub fn writer<T>(&mut self, write: impl FnOnce(&mut Writer<'_>) -> T) -> T {
        let ownership = self.ownership.lock().unwrap();
        let here = Some(self.here.index);
        write(&mut Writer { schema: self.schema, ownership: &ownership, rng: self.rng, here })
    }

    pub fn foreign(&mut self, kind: Kind) -> Uuid {
        self.writer(|writer| writer.foreign_id(kind))
    }

    /// Returns the id of an object: existing, deleted, of another organization, or of none.
    pub fn id(&mut self, kind: Kind) -> Value {
        let live: Vec<Uuid> = match kind {
            Kind::Project => self.here.projects.keys().copied().collect(),
            Kind::Member => self.here.memberships.keys().copied().collect(),
            Kind::Invitation => self.here.invitations.keys().copied().collect(),
            Kind::Further => Vec::new(),
            _ => vec![self.here.id],
        };
        let of_here = |ownership: &Ownership| -> Vec<Uuid> {
            let owner = Owner::Organization(self.here.index);
            let all = ownership.objects.iter();
            all.filter(|object| object.0 == kind && object.2 == owner)
                .map(|object| object.1)
                .collect()
        };
        let id = match self.rng.u8(..20) {
            0..12 if kind != Kind::Further => self.rng.choice(live),
            ..15 => self.rng.choice(of_here(&self.ownership.lock().unwrap())),
            15..19 => Some(self.foreign(kind)),
            _ => return json!(["", "x", "00000000", "' OR true --"][self.rng.usize(..4)]),
        };
        json!(id.unwrap_or_else(|| new_id(self.rng)))
    }

    fn text(&mut self, what: &str) -> Value {
        if self.rng.u8(..20) == 0 {
            return json!("");
        }
        json!(format!("{what} {} {}", self.rng.u32(..), self.here.tag))
    }

    fn plan(&mut self) -> Value {
        let plans = PLANS.map(|plan| plan.0);
        json!(if self.rng.u8(..10) == 0 { "none" } else { plans[self.rng.usize(..3)] })
    }

    fn role(&mut self) -> Value {
        json!(self.rng.choice(Role::ALL).unwrap().name())
    }

    pub fn query(&mut self) -> String {
        self.writer(|writer| {
            loop {
                let selection = writer.selection("Query", 0);
                // A query for the schema alone is not rejected outside the organization.
                if selection != "{ __typename }" {
                    return format!("query {selection}");
                }
            }
        })
    }

    pub fn mutation(&mut self) -> &'static str {
        let weighted =
            CHANGES.iter().flat_map(|(name, weight)| std::iter::repeat_n(*name, *weight));
        self.rng.choice(weighted.collect::<Vec<_>>()).unwrap()
    }

    pub fn change(&mut self, name: &'static str) -> Mutation {
        let input = match name {
            "createProject" if self.rng.bool() => json!({ "name": self.text("Project") }),
            "createProject" => {
                json!({ "name": self.text("Project"), "description": format!("About {}", self.here.tag) })
            }
            "updateProject" => self.update_project(),
            "deleteProject" => json!({ "id": self.id(Kind::Project) }),
            "inviteMember" => {
                let email = match self.rng.u8(..20) {
                    0 => "no-address".to_owned(),
                    1..5 => format!("guest{}.{}@example.com", self.rng.u8(..), self.here.tag),
                    _ => self.rng.choice(self.users).unwrap().email(),
                };
                json!({ "email": email, "role": self.role() })
            }
            "resendInvitation" | "revokeInvitation" => json!({ "id": self.id(Kind::Invitation) }),
            "updateMemberRole" => json!({ "id": self.id(Kind::Member), "role": self.role() }),
            "removeMember" => json!({ "id": self.id(Kind::Member) }),
            "transferOwnership" => json!({ "memberId": self.id(Kind::Member) }),
            "leaveOrganization" | "cancelSubscription" | "resumeSubscription" => {
                json!({ "organizationId": self.id(Kind::Organization) })
            }
            "updateOrganization" => {
                let name = format!("Organization {} {}", self.rng.u8(..4), self.here.tag);
                json!({ "name": name })
            }
            "changePlan" | "startTrial" | "createCheckoutSession" => json!({ "plan": self.plan() }),
            "createBillingPortalSession" => json!({}),
            "consumeUsage" | "recordUsage" => {
                let feature = if self.rng.u8(..5) == 0 { "projects" } else { "exports" };
                json!({ "feature": feature, "amount": self.rng.u8(1..) })
            }
            other => return self.further_change(other),
        };
        Mutation { name, input }
    }

    /// Chooses the id of an identity: the caller's, in use or not, another user's, or an unknown
    /// one.
    pub fn unlink(&mut self, caller: usize) -> Mutation {
        let own = identity_id(&self.users[caller].tag);
        let (spare, others): (Vec<Uuid>, Vec<Uuid>) = {
            let ownership = self.ownership.lock().unwrap();
            let all = ownership.identities.iter().filter(|(id, _)| **id != own);
            let (spare, others): (Vec<_>, Vec<_>) =
                all.partition(|(_, identity)| identity.user == caller);
            let ids = |identities: Vec<(&Uuid, _)>| identities.iter().map(|(id, _)| **id).collect();
            (ids(spare), ids(others))
        };
        let id = match self.rng.u8(..20) {
            0..9 => self.rng.choice(spare),
            9..12 => Some(own),
            12..17 => self.rng.choice(others),
            17..19 => Some(self.foreign(Kind::User)),
            _ => None,
        };
        let id = id.map_or_else(|| json!("no identity"), |id| json!(id));
        Mutation { name: "unlinkIdentity", input: json!({ "id": id }) }
    }

    /// Chooses a name for the caller, or none, or one that is refused.
    pub fn rename(&mut self, caller: usize) -> Mutation {
        let name = match self.rng.u8(..10) {
            0 => json!(""),
            1 => json!("\u{200b}"),
            _ => json!(format!("User {} {}", self.rng.u32(..), self.users[caller].tag)),
        };
        Mutation { name: "updateViewer", input: json!({ "name": name }) }
    }

    fn update_project(&mut self) -> Value {
        let id = self.id(Kind::Project);
        match self.rng.u8(..6) {
            0 => json!({ "id": id, "name": null }),
            1 => json!({ "id": id, "description": null }),
            2 => json!({ "id": id, "description": format!("More about {}", self.here.tag) }),
            3 => {
                let names = self.here.projects.values().map(|project| &project.0);
                json!({ "id": id, "name": self.rng.choice(names.collect::<Vec<_>>()) })
            }
            _ => json!({ "id": id, "name": self.text("Renamed") }),
        }
    }

    /// Returns the document of a mutation, which selects much of what it changed, and sometimes
    /// queries more afterwards.
    pub fn document(&mut self, name: &str) -> String {
        let kind = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        if name == "deleteOrganization" {
            // The payload of a deletion has no more fields.
            return "mutation ($input: DeleteOrganizationInput!) { deleteOrganization(input: $input) {
                    organization { id name slug } } }"
                .to_owned();
        }
        let reads_back = !SINGLE_FIELD.contains(&name) && self.rng.u8(..6) == 0;
        let (payload, after) = self.writer(|writer| {
            let payload = writer.selection(&format!("{kind}Payload"), 4);
            let after = if reads_back {
                format!("query {}", writer.selection("Query", 3))
            } else {
                String::new()
            };
            (payload, after)
        });
        let link = match name {
            "inviteMember" | "resendInvitation" => "{ invitation { id } link ",
            "createProject" | "updateProject" | "deleteProject" => "{ project { id } ",
            "acceptInvitation" => "{ member { id } ",
            "unlinkIdentity" => "{ viewer { identities { id } } ",
            "createOrganization" => {
                "{ organization { id firstMember: members(first: 1) { nodes { id } } } "
            }
            _ => "{ ",
        };
        let object = payload_field(name).map(|field| format!("{{ {field} {{ id }} "));
        let link = object.as_deref().unwrap_or(link);
        let payload = payload.replacen("{ ", link, 1);
        format!("mutation ($input: {kind}Input!) {{ {name}(input: $input) {payload} {after} }}")
    }
}
