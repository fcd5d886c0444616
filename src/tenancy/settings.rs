//! What sessions need besides the database: the clock, and the operator's settings.

use std::{any::type_name, sync::Arc};

use clap::ValueEnum;
use http::Extensions;

use super::proof::ProofKey;
use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// The clock and the settings, the same for all sessions of a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The clock.
    pub clock: Clock,
    /// The keys that sign the caller for PostgreSQL, derive invitation tokens and encrypt stored
    /// responses.
    pub secret_keys: Arc<SecretKeys>,
    /// When two identities share one user.
    pub account_linking: AccountLinking,
    /// The settings of the areas by their type, so that sessions carry them and name no area.
    pub areas: Arc<Extensions>,
}

/// The settings of an area. Implemented where the settings of all areas are assembled, so that an
/// area whose settings are missing there does not compile.
pub trait AreaSettings: Clone + Send + Sync + 'static {}

impl Settings {
    /// The settings of an area.
    ///
    /// # Errors
    ///
    /// When `areas` was not assembled from the settings of all areas.
    pub fn area<T: AreaSettings>(&self) -> Result<&T> {
        self.areas.get().ok_or_else(|| Error::internal(format!("{} are missing", type_name::<T>())))
    }
}

/// When a new identity with a verified e-mail address joins the user that has this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountLinking {
    /// Never; each identity has its own user.
    Never,
    /// When an identity of the same issuer has verified the address.
    SameIssuer,
    /// Whichever issuer verified the address. Every trusted issuer can then give access to any
    /// account.
    VerifiedEmail,
}

impl AccountLinking {
    /// The name in `auth.provision_user`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::SameIssuer => "same-issuer",
            Self::VerifiedEmail => "verified-email",
        }
    }
}

/// Secret keys, newest first, at least one; `Debug` never shows them. The newest key creates tokens
/// and encrypts; all keys verify and decrypt.
#[derive(Clone)]
pub struct SecretKeys {
    keys: Vec<Vec<u8>>,
    /// Derived once from the newest key.
    proof: ProofKey,
}

impl SecretKeys {
    /// Takes the keys, newest first.
    #[must_use]
    pub fn new(keys: Vec<Vec<u8>>) -> Self {
        let proof = ProofKey::of(keys.first().map(Vec::as_slice).unwrap_or_default());
        Self { keys, proof }
    }

    /// The key that proves callers to PostgreSQL.
    pub(super) fn proof(&self) -> &ProofKey {
        &self.proof
    }

    /// The newest key.
    pub(crate) fn newest(&self) -> &[u8] {
        self.all().next().unwrap_or_default()
    }

    /// All keys, newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(Vec::as_slice)
    }
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretKeys(…)")
    }
}
