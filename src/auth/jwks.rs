//! The issuer's public keys (RFC 7517): fetched when they are needed, by one request at a time, and kept while the issuer
//! is down.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 * 1024;

/// Where the keys are, and how often they are asked for.
#[derive(Clone, Debug)]
pub struct JwksOptions {
    /// The address of the key set.
    pub url: Url,
    /// The algorithms that tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// The least time between two requests, however many tokens name keys that nobody knows.
    pub cooldown: Duration,
    /// How old keys may become before they are asked for again.
    pub max_age: Duration,
}

/// A key, and the one algorithm that it is for.
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// The keys of one answer of the issuer.
#[derive(Default)]
pub(super) struct KeySet {
    by_id: HashMap<String, Arc<Key>>,
    fetched_at: Option<Instant>,
    /// Grows with each set, so that whatever was verified with an older one can be told.
    pub(super) generation: u64,
}

/// The issuer's keys.
pub(super) struct Jwks {
    options: JwksOptions,
    client: reqwest::Client,
    keys: RwLock<Arc<KeySet>>,
    /// When the issuer was last asked; held while it is asked, so that others wait instead of asking as well.
    asked_at: Mutex<Option<Instant>>,
}

/// While there are no keys at all, the issuer is asked again after this time at the latest.
const FIRST_COOLDOWN: Duration = Duration::from_secs(1);

/// The issuer did not give its keys.
#[derive(Debug, thiserror::Error)]
#[error("the issuer's keys cannot be fetched: {0}")]
pub struct KeysUnavailable(String);

/// Why there is no key for a token.
#[derive(Debug)]
pub(super) enum NoKey {
    /// The issuer has no such key, as far as is known.
    Unknown,
    /// No key was ever fetched, and the issuer cannot be reached.
    Unavailable(KeysUnavailable),
}

impl Jwks {
    pub(super) fn new(options: JwksOptions) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { options, client, keys: RwLock::default(), asked_at: Mutex::default() })
    }

    /// The keys as last fetched. Old ones serve this request, while the issuer is asked for the next ones.
    pub(super) fn current(self: &Arc<Self>) -> Arc<KeySet> {
        let keys = self.known();
        let is_old = keys.fetched_at.is_some_and(|at| at.elapsed() > self.options.max_age);
        // Whoever holds the lock is asking already.
        let asked =
            |at: &Option<Instant>| at.is_some_and(|at| at.elapsed() < self.options.cooldown);
        if is_old && self.asked_at.try_lock().is_ok_and(|at| !asked(&at)) {
            let (jwks, generation) = (Arc::clone(self), keys.generation);
            tokio::spawn(async move { drop(jwks.refresh(generation).await) });
        }
        keys
    }

    fn known(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key with this id, or the only one for a token that names none; the issuer is asked for one that is not known.
    pub(super) async fn key(&self, id: Option<&str>) -> Result<(Arc<Key>, u64), NoKey> {
        let known = self.known();
        if let Some(key) = known.get(id) {
            return Ok((key, known.generation));
        }
        self.refresh(known.generation).await?;
        let fresh = self.known();
        let key = fresh.get(id).ok_or(NoKey::Unknown)?;
        Ok((key, fresh.generation))
    }

    /// Asks the issuer, unless somebody has since `generation`, or did a moment ago.
    async fn refresh(&self, generation: u64) -> Result<(), NoKey> {
        let mut asked_at = self.asked_at.lock().await;
        let current = self.known();
        let cooldown = match current.fetched_at {
            Some(_) => self.options.cooldown,
            None => self.options.cooldown.min(FIRST_COOLDOWN),
        };
        let cooling = asked_at.is_some_and(|at| at.elapsed() < cooldown);
        if current.generation != generation || (cooling && current.fetched_at.is_some()) {
            return Ok(());
        }
        if cooling {
            return Err(NoKey::Unavailable(KeysUnavailable("asked a moment ago".to_owned())));
        }
        *asked_at = Some(Instant::now());
        match self.fetch().await {
            Ok(by_id) => {
                let set =
                    KeySet { by_id, fetched_at: Some(Instant::now()), generation: generation + 1 };
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
                Ok(())
            }
            Err(error) if current.fetched_at.is_none() => {
                Err(NoKey::Unavailable(KeysUnavailable(error)))
            }
            Err(cause) => {
                tracing::warn!(
                    cause,
                    "the issuer's keys cannot be fetched: the last ones are kept"
                );
                Ok(())
            }
        }
    }

    async fn fetch(&self) -> Result<HashMap<String, Arc<Key>>, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let body = self.download().await?;
        let set: Set = serde_json::from_slice(&body)
            .map_err(|error| format!("the answer is no key set (RFC 7517): {error}"))?;
        // A key of a kind that is not known here must not hide the others.
        let usable = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        Ok(usable.filter_map(|jwk| self.usable(&jwk)).collect())
    }

    async fn download(&self) -> Result<Vec<u8>, String> {
        let request = self.client.get(self.options.url.clone());
        let sent = request.send().await.and_then(reqwest::Response::error_for_status);
        let mut response = sent.map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(format!("the answer has more than {MAX_BYTES} bytes"));
            }
        }
        Ok(body)
    }

    /// The key under its id, if it is for signatures and its algorithm is accepted.
    fn usable(&self, jwk: &Jwk) -> Option<(String, Arc<Key>)> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithm = algorithm(jwk).filter(|found| self.options.algorithms.contains(found))?;
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let id = jwk.common.key_id.clone().unwrap_or_default();
        Some((id, Arc::new(Key { decoding, algorithm })))
    }
}

impl KeySet {
    fn get(&self, id: Option<&str>) -> Option<Arc<Key>> {
        let key = match id {
            Some(id) => self.by_id.get(id),
            None if self.by_id.len() == 1 => self.by_id.values().next(),
            None => None,
        };
        key.cloned()
    }
}

/// What a key is for: what it says, or else what its kind is commonly used for. Never what a token says.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    match (jwk.common.key_algorithm, &jwk.algorithm) {
        (None | Some(KeyAlgorithm::RS256), AlgorithmParameters::RSA(_)) => Some(Algorithm::RS256),
        (None | Some(KeyAlgorithm::ES256), AlgorithmParameters::EllipticCurve(curve))
            if curve.curve == EllipticCurve::P256 =>
        {
            Some(Algorithm::ES256)
        }
        (None | Some(KeyAlgorithm::EdDSA), AlgorithmParameters::OctetKeyPair(pair))
            if pair.curve == EllipticCurve::Ed25519 =>
        {
            Some(Algorithm::EdDSA)
        }
        _ => None,
    }
}
