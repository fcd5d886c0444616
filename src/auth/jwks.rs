//! The issuer's public keys (RFC 7517). They are fetched on demand, by one request at a time, and
//! kept while the issuer is unavailable.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, Header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use url::Url;

const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 * 1024;

/// The maximum number of keys that are tried per token; each costs a verification.
const MOST_TRIED: usize = 4;

/// The address of the key set, and how often to fetch it.
#[derive(Clone)]
pub struct JwksOptions {
    /// The URL of the key set.
    pub url: Url,
    /// The accepted signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The minimum time between two fetches, however many tokens name unknown keys.
    pub cooldown: Duration,
    /// The age at which keys are fetched again.
    pub max_age: Duration,
}

impl JwksOptions {
    /// The URL for logs, without credentials and query, where providers may put secrets.
    fn address(&self) -> String {
        format!("{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }
}

impl std::fmt::Debug for JwksOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JwksOptions").field("url", &self.address()).finish_non_exhaustive()
    }
}

/// A public key and the only algorithm that it may be used with.
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// Each key with its id, if it has one. Several keys may share an id (RFC 7517, section 4.5).
type Keys = Vec<(Option<String>, Key)>;

/// The keys from one response of the issuer.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Keys,
    /// Grows with each fetched set, so that tokens verified with older keys can be recognized; 0
    /// before the first.
    pub(super) generation: u64,
}

/// The issuer's keys, fetched and cached.
pub(super) struct Jwks {
    options: JwksOptions,
    client: reqwest::Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Arc<KeySet>,
    fetched_at: Option<Instant>,
    /// When the issuer last responded, and how.
    last: Option<(Instant, Result<(), KeysUnavailable>)>,
    /// The fetch in progress. It runs in a separate task, so that it continues for the other
    /// callers when one of them is cancelled.
    fetching: Option<Shared<BoxFuture<'static, ()>>>,
}

/// The maximum cooldown while no keys were fetched yet.
const FIRST_COOLDOWN: Duration = Duration::from_secs(1);

/// The issuer's keys could not be fetched.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the issuer's keys cannot be fetched: {0}")]
pub struct KeysUnavailable(String);

impl Jwks {
    pub(super) fn new(options: JwksOptions) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { options, client, state: Mutex::default() })
    }

    /// The keys of the last fetch. When they are too old, they still serve this request while new
    /// ones are fetched.
    pub(super) fn current(self: &Arc<Self>) -> Arc<KeySet> {
        let mut state = self.lock();
        if state.fetched_at.is_some_and(|at| at.elapsed() > self.options.max_age) {
            self.start_fetch(&mut state);
        }
        Arc::clone(&state.keys)
    }

    /// The newest keys. Fetches them first, unless they are newer than `generation` already or the
    /// cooldown has not passed.
    ///
    /// # Errors
    ///
    /// When the last fetch failed. Then the issuer may have keys that this server does not know.
    pub(super) async fn fresh(
        self: &Arc<Self>,
        generation: u64,
    ) -> Result<Arc<KeySet>, KeysUnavailable> {
        let fetching = {
            let mut state = self.lock();
            if state.keys.generation == generation { self.start_fetch(&mut state) } else { None }
        };
        if let Some(fetching) = fetching {
            fetching.await;
        }
        let state = self.lock();
        match &state.last {
            Some((_, Err(error))) => Err(error.clone()),
            _ => Ok(Arc::clone(&state.keys)),
        }
    }

    /// The fetch in progress, or a new one; `None` during the cooldown.
    fn start_fetch(self: &Arc<Self>, state: &mut State) -> Option<Shared<BoxFuture<'static, ()>>> {
        if state.fetching.is_some() {
            return state.fetching.clone();
        }
        let cooldown = match state.fetched_at {
            Some(_) => self.options.cooldown,
            None => self.options.cooldown.min(FIRST_COOLDOWN),
        };
        if state.last.as_ref().is_some_and(|(at, _)| at.elapsed() < cooldown) {
            return None;
        }
        let jwks = Arc::clone(self);
        let task = tokio::spawn(async move {
            let fetched = jwks.fetch().await;
            jwks.store(fetched);
        });
        let fetching = async move { drop(task.await) }.boxed().shared();
        state.fetching = Some(fetching.clone());
        Some(fetching)
    }

    fn store(&self, fetched: Result<Keys, String>) {
        let mut state = self.lock();
        state.fetching = None;
        let outcome = match fetched {
            Ok(keys) => {
                state.keys = Arc::new(KeySet { keys, generation: state.keys.generation + 1 });
                state.fetched_at = Some(Instant::now());
                Ok(())
            }
            Err(cause) => {
                let keys = state.keys.keys.len();
                tracing::warn!(
                    cause,
                    keys,
                    "cannot fetch the issuer's keys; the previous keys stay in use"
                );
                Err(KeysUnavailable(cause))
            }
        };
        state.last = Some((Instant::now(), outcome));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Keys, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let body = self.download().await?;
        let set: Set = serde_json::from_slice(&body)
            .map_err(|error| format!("the response is not a JWK set (RFC 7517): {error}"))?;
        // A key of an unsupported kind must not hide the others.
        let usable = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Keys = usable.filter_map(|jwk| self.usable(&jwk)).collect();
        // The previous keys are more useful than an empty set.
        if keys.is_empty() { Err("the response has no usable key".to_owned()) } else { Ok(keys) }
    }

    async fn download(&self) -> Result<Vec<u8>, String> {
        let request = self.client.get(self.options.url.clone());
        let sent = request.send().await.and_then(reqwest::Response::error_for_status);
        let cause =
            |error: reqwest::Error| format!("{}: {}", self.options.address(), error.without_url());
        let mut response = sent.map_err(cause)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(cause)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(format!("the response exceeds {MAX_BYTES} bytes"));
            }
        }
        Ok(body)
    }

    /// The key and its id, if it is for signatures and its algorithm is accepted.
    fn usable(&self, jwk: &Jwk) -> Option<(Option<String>, Key)> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithm = algorithm(jwk).filter(|found| self.options.algorithms.contains(found))?;
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        Some((jwk.common.key_id.clone(), Key { decoding, algorithm }))
    }
}

impl KeySet {
    /// The keys that may have signed a token with this header: those with its key id, or all if it
    /// names none. Each key has one algorithm, and the header must name the same.
    pub(super) fn for_header<'set>(
        &'set self,
        header: &'set Header,
    ) -> impl Iterator<Item = &'set Key> {
        self.keys
            .iter()
            .filter(|(id, key)| {
                key.algorithm == header.alg && (header.kid.is_none() || *id == header.kid)
            })
            .map(|(_, key)| key)
            .take(MOST_TRIED)
    }
}

/// The algorithm that the key declares, or else the usual one for its type. The token has no say in
/// it.
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
