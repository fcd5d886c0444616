//! The owner of every id and every tagged text, and the memberships over time. Responses are
//! checked against it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fastrand::Rng;
use serde_json::Value;
use uuid::Uuid;

use crate::support::resources;

/// A tag consists of this prefix and twelve random characters.
const TAG_PREFIX: &str = "ztag";
const TAG_BYTES: usize = 16;
const UUID_BYTES: usize = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    Organization(usize),
    /// Shown to those who may know the user.
    User(usize),
    /// Shown to the user alone.
    Private(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Organization,
    Member,
    Invitation,
    Project,
    User,
    Identity,
    /// Of a resource that the model does not know.
    Further,
}

/// A user; the tag is also the subject of the token.
pub struct User {
    pub id: Uuid,
    pub tag: String,
}

impl User {
    pub fn email(&self) -> String {
        format!("{}@example.com", self.tag)
    }
}

/// A subject of the issuer without a name, with which a user signs in.
pub struct Identity {
    pub user: usize,
    pub subject: String,
}

/// The id that the API gives to an identity.
pub fn identity_id(subject: &str) -> Uuid {
    let name = format!("0:{subject}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    Uuid::from_slice(&digest.as_ref()[..16]).unwrap()
}

/// A membership, up to a tick of the index's clock. It is recorded before it starts.
struct Period {
    user: usize,
    organization: usize,
    until: Option<u64>,
}

#[derive(Default)]
pub struct Ownership {
    ids: HashMap<Uuid, Owner>,
    tags: HashMap<String, Owner>,
    /// Every object that ever existed.
    pub objects: Vec<(Kind, Uuid, Owner)>,
    /// The identities of all users.
    pub identities: BTreeMap<Uuid, Identity>,
    /// The token of every invitation that ever existed.
    pub tokens: Vec<(usize, String)>,
    /// Users that an organization may know: everyone who was ever a member or invited.
    known_users: HashSet<(usize, usize)>,
    periods: Vec<Period>,
    clock: u64,
    /// Ids whose owner only the database knows, with the organizations that may show them and the
    /// response that did.
    pub unknown: HashMap<(Vec<usize>, Uuid), String>,
}

/// The context in which a response is inspected.
pub struct Viewpoint<'a> {
    pub caller: usize,
    /// The organization of the request.
    pub organization: Option<usize>,
    /// Texts of the request, which errors may repeat.
    pub sent: &'a [String],
    /// The clock when the request was sent.
    pub since: u64,
}

pub fn new_id(rng: &mut Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid()
}

pub fn new_tag(rng: &mut Rng) -> String {
    (TAG_PREFIX.len()..TAG_BYTES)
        .fold(TAG_PREFIX.to_owned(), |tag, _| tag + &rng.digit(36).to_string())
}

impl Ownership {
    pub fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub fn add_tag(&mut self, tag: &str, owner: Owner) {
        self.tags.insert(tag.to_owned(), owner);
    }

    pub fn add(&mut self, kind: Kind, id: Uuid, owner: Owner) {
        if self.ids.insert(id, owner).is_none() {
            self.objects.push((kind, id, owner));
        }
    }

    pub fn add_identity(&mut self, user: usize, subject: &str) {
        let id = identity_id(subject);
        self.add(Kind::Identity, id, Owner::Private(user));
        self.identities.insert(id, Identity { user, subject: subject.to_owned() });
    }

    pub fn identities_of(&self, user: usize) -> impl Iterator<Item = (&Uuid, &Identity)> {
        self.identities.iter().filter(move |(_, identity)| identity.user == user)
    }

    pub fn make_known(&mut self, organization: usize, user: usize) {
        self.known_users.insert((organization, user));
    }

    pub fn may_know(&self, organization: usize, user: usize) -> bool {
        self.known_users.contains(&(organization, user))
    }

    /// Records that the user is, or may be, a member from now on.
    pub fn joins(&mut self, user: usize, organization: usize) {
        self.periods.push(Period { user, organization, until: None });
    }

    pub fn leaves(&mut self, user: usize, organization: usize) {
        let until = self.tick();
        let here =
            |period: &&mut Period| (period.user, period.organization) == (user, organization);
        for period in self.periods.iter_mut().filter(here) {
            period.until.get_or_insert(until);
        }
    }

    pub fn organization_of(&self, id: Uuid) -> Option<usize> {
        match self.ids.get(&id) {
            Some(Owner::Organization(organization)) => Some(*organization),
            _ => None,
        }
    }

    /// Returns whether an id belongs, and always belonged, to other organizations.
    pub fn is_foreign(&self, id: Uuid, organization: usize) -> bool {
        match self.ids.get(&id) {
            Some(Owner::Organization(owner)) => *owner != organization,
            Some(Owner::User(user)) => !self.may_know(organization, *user),
            Some(Owner::Private(_)) | None => true,
        }
    }

    /// Returns an error that names the foreign data in a response.
    pub fn inspect(&mut self, viewpoint: &Viewpoint<'_>, body: &Value) -> Result<(), String> {
        let here: BTreeSet<usize> = viewpoint.organization.into_iter().collect();
        self.inspect_value(viewpoint, &here, "", body, false)
    }

    fn inspect_value(
        &mut self,
        viewpoint: &Viewpoint<'_>,
        here: &BTreeSet<usize>,
        key: &str,
        value: &Value,
        error: bool,
    ) -> Result<(), String> {
        match value {
            Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
                // The only fields about other organizations: those of the caller, and those that
                // have invited the caller. The invitations of an organization are an object.
                let wider: Option<BTreeSet<usize>> = match key.as_str() {
                    "memberships" => Some(self.organizations_of(viewpoint).collect()),
                    "invitations" if value.is_array() => {
                        Some(self.organizations_that_know(viewpoint.caller).collect())
                    }
                    _ => None,
                };
                if let Some(wider) = wider {
                    let wider = wider.union(here).copied().collect();
                    return self.inspect_value(viewpoint, &wider, key, value, error);
                }
                self.inspect_value(viewpoint, here, key, value, error || key == "errors")
            }),
            Value::Array(items) => items
                .iter()
                .try_for_each(|item| self.inspect_value(viewpoint, here, key, item, error)),
            Value::String(text) if error => {
                let own = |text: String, sent: &String| text.replace(sent.as_str(), "");
                self.inspect_text(viewpoint, here, &viewpoint.sent.iter().fold(text.clone(), own))
            }
            Value::String(text) => {
                if key.to_lowercase().ends_with("cursor") {
                    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| text.clone())?;
                    let id = bytes.get(8..).and_then(|id| Uuid::from_slice(id).ok());
                    self.inspect_id(viewpoint, here, id.ok_or(text)?)?;
                }
                self.inspect_text(viewpoint, here, text)
            }
            _ => Ok(()),
        }
    }

    fn organizations_that_know(&self, user: usize) -> impl Iterator<Item = usize> {
        let known = self.known_users.iter().filter(move |(_, known)| *known == user);
        known.map(|(organization, _)| *organization)
    }

    fn organizations_of(&self, viewpoint: &Viewpoint<'_>) -> impl Iterator<Item = usize> {
        let of = |period: &&Period| {
            period.user == viewpoint.caller
                && period.until.is_none_or(|until| until >= viewpoint.since)
        };
        self.periods.iter().filter(of).map(|period| period.organization)
    }

    fn inspect_text(
        &mut self,
        viewpoint: &Viewpoint<'_>,
        here: &BTreeSet<usize>,
        text: &str,
    ) -> Result<(), String> {
        for (at, _) in text.match_indices(TAG_PREFIX) {
            let tag = text.get(at..at + TAG_BYTES).unwrap_or_default();
            match self.tags.get(tag) {
                Some(owner) if self.may_see(viewpoint, here, *owner) => {}
                owner => return Err(format!("{text:?} is of {owner:?}, seen in {here:?}")),
            }
        }
        for at in 0..(text.len() + 1).saturating_sub(UUID_BYTES) {
            let id = text.get(at..at + UUID_BYTES);
            let id = id.filter(|id| id.as_bytes()[8] == b'-' && *id != resources::UUID);
            if let Some(id) = id.and_then(|id| Uuid::try_parse(id).ok()) {
                self.inspect_id(viewpoint, here, id)?;
            }
        }
        Ok(())
    }

    fn inspect_id(
        &mut self,
        viewpoint: &Viewpoint<'_>,
        here: &BTreeSet<usize>,
        id: Uuid,
    ) -> Result<(), String> {
        match self.ids.get(&id) {
            Some(owner) if self.may_see(viewpoint, here, *owner) => Ok(()),
            Some(owner) => Err(format!("{id} is of {owner:?}, seen in {here:?}")),
            None => {
                let target = (here.iter().copied().collect(), id);
                self.unknown.entry(target).or_default();
                Ok(())
            }
        }
    }

    fn may_see(&self, viewpoint: &Viewpoint<'_>, here: &BTreeSet<usize>, owner: Owner) -> bool {
        match owner {
            Owner::Organization(organization) => here.contains(&organization),
            Owner::Private(user) => user == viewpoint.caller,
            Owner::User(user) => {
                user == viewpoint.caller
                    || here.iter().any(|organization| self.may_know(*organization, user))
            }
        }
    }
}
