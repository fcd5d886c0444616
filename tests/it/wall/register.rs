//! To whom everything belongs: each id, each text with a tag, and who has been where at what time.
//! An answer is held against it.

use std::collections::{BTreeSet, HashMap, HashSet};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fastrand::Rng;
use serde_json::Value;
use uuid::Uuid;

/// A tag is this and twelve letters that nobody guesses.
const MARK: &str = "wall";
const TAG_BYTES: usize = 16;
const UUID_BYTES: usize = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    Organization(usize),
    Person(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Organization,
    Member,
    Invitation,
    Project,
    User,
}

/// Somebody who signs in; the tag is their subject as well.
pub struct Person {
    pub id: Uuid,
    pub tag: String,
}

impl Person {
    pub fn email(&self) -> String {
        format!("{}@example.com", self.tag)
    }
}

/// A membership, up to a tick of the register's clock; it is written down before it begins.
struct Stay {
    person: usize,
    organization: usize,
    until: Option<u64>,
}

#[derive(Default)]
pub struct Register {
    ids: HashMap<Uuid, Owner>,
    tags: HashMap<String, Owner>,
    /// Every object there has ever been.
    pub objects: Vec<(Kind, Uuid, Owner)>,
    /// Every invitation's token there has ever been.
    pub tokens: Vec<(usize, String)>,
    /// Whom an organization may know: who was ever in it, or invited to it.
    acquainted: HashSet<(usize, usize)>,
    stays: Vec<Stay>,
    clock: u64,
    /// Ids whose owner only the database knows, with where they may be seen and the answer that
    /// showed them.
    pub unknown: HashMap<(Vec<usize>, Uuid), String>,
}

/// From where an answer is looked at.
pub struct Sight<'a> {
    pub caller: usize,
    /// The organization that the request was in.
    pub organization: Option<usize>,
    /// What the request itself said, which errors may repeat.
    pub sent: &'a [String],
    /// The clock when it was sent.
    pub since: u64,
}

pub fn new_id(rng: &mut Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid()
}

pub fn new_tag(rng: &mut Rng) -> String {
    (MARK.len()..TAG_BYTES).fold(MARK.to_owned(), |tag, _| tag + &rng.digit(36).to_string())
}

impl Register {
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

    pub fn acquaint(&mut self, organization: usize, person: usize) {
        self.acquainted.insert((organization, person));
    }

    pub fn knows(&self, organization: usize, person: usize) -> bool {
        self.acquainted.contains(&(organization, person))
    }

    /// The person is in the organization from now on, or may be.
    pub fn enters(&mut self, person: usize, organization: usize) {
        self.stays.push(Stay { person, organization, until: None });
    }

    pub fn leaves(&mut self, person: usize, organization: usize) {
        let until = self.tick();
        let here = |stay: &&mut Stay| (stay.person, stay.organization) == (person, organization);
        for stay in self.stays.iter_mut().filter(here) {
            stay.until.get_or_insert(until);
        }
    }

    pub fn organization_of(&self, id: Uuid) -> Option<usize> {
        match self.ids.get(&id) {
            Some(Owner::Organization(organization)) => Some(*organization),
            _ => None,
        }
    }

    /// Whether an id means anything in an organization, or ever did.
    pub fn is_foreign(&self, id: Uuid, organization: usize) -> bool {
        match self.ids.get(&id) {
            Some(Owner::Organization(owner)) => *owner != organization,
            Some(Owner::Person(person)) => !self.knows(organization, *person),
            None => true,
        }
    }

    /// Says what of an answer must not be in it.
    pub fn inspect(&mut self, sight: &Sight<'_>, body: &Value) -> Result<(), String> {
        let here: BTreeSet<usize> = sight.organization.into_iter().collect();
        self.look_at(sight, &here, "", body, false)
    }

    fn look_at(
        &mut self,
        sight: &Sight<'_>,
        here: &BTreeSet<usize>,
        key: &str,
        value: &Value,
        error: bool,
    ) -> Result<(), String> {
        match value {
            Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
                if key == "memberships" {
                    // The one field that tells of other organizations: those that the person is in.
                    let wider = self.stays_of(sight).chain(here.iter().copied()).collect();
                    return self.look_at(sight, &wider, key, value, error);
                }
                self.look_at(sight, here, key, value, error || key == "errors")
            }),
            Value::Array(items) => {
                items.iter().try_for_each(|item| self.look_at(sight, here, key, item, error))
            }
            Value::String(text) if error => {
                let own = |text: String, sent: &String| text.replace(sent.as_str(), "");
                self.read(sight, here, &sight.sent.iter().fold(text.clone(), own))
            }
            Value::String(text) => {
                if key.to_lowercase().ends_with("cursor") {
                    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| text.clone())?;
                    let id = bytes.get(8..).and_then(|id| Uuid::from_slice(id).ok());
                    self.meet(sight, here, id.ok_or(text)?)?;
                }
                self.read(sight, here, text)
            }
            _ => Ok(()),
        }
    }

    fn stays_of(&self, sight: &Sight<'_>) -> impl Iterator<Item = usize> {
        let of = |stay: &&Stay| {
            stay.person == sight.caller && stay.until.is_none_or(|until| until >= sight.since)
        };
        self.stays.iter().filter(of).map(|stay| stay.organization)
    }

    fn read(
        &mut self,
        sight: &Sight<'_>,
        here: &BTreeSet<usize>,
        text: &str,
    ) -> Result<(), String> {
        for (at, _) in text.match_indices(MARK) {
            let tag = text.get(at..at + TAG_BYTES).unwrap_or_default();
            match self.tags.get(tag) {
                Some(owner) if self.may_see(sight, here, *owner) => {}
                owner => return Err(format!("{text:?} is of {owner:?}, seen in {here:?}")),
            }
        }
        for at in 0..(text.len() + 1).saturating_sub(UUID_BYTES) {
            let id = text.get(at..at + UUID_BYTES).filter(|id| id.as_bytes()[8] == b'-');
            if let Some(id) = id.and_then(|id| Uuid::try_parse(id).ok()) {
                self.meet(sight, here, id)?;
            }
        }
        Ok(())
    }

    fn meet(&mut self, sight: &Sight<'_>, here: &BTreeSet<usize>, id: Uuid) -> Result<(), String> {
        match self.ids.get(&id) {
            Some(owner) if self.may_see(sight, here, *owner) => Ok(()),
            Some(owner) => Err(format!("{id} is of {owner:?}, seen in {here:?}")),
            None => {
                let place = (here.iter().copied().collect(), id);
                self.unknown.entry(place).or_default();
                Ok(())
            }
        }
    }

    fn may_see(&self, sight: &Sight<'_>, here: &BTreeSet<usize>, owner: Owner) -> bool {
        match owner {
            Owner::Organization(organization) => here.contains(&organization),
            Owner::Person(person) => {
                person == sight.caller
                    || here.iter().any(|organization| self.knows(*organization, person))
            }
        }
    }
}
