//! The issuer's public keys (RFC 7517): fetched when they are needed, one question at a time, and
//! kept while the issuer is down.

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

/// Keys that are tried for one token; each costs a verification.
const MOST_TRIED: usize = 4;

/// Where the keys are, and how often they are asked for.
#[derive(Clone)]
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

impl JwksOptions {
    /// The URL for logs. Providers put secrets into user names, passwords and query strings.
    fn address(&self) -> String {
        format!("{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }
}

impl std::fmt::Debug for JwksOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JwksOptions").field("url", &self.address()).finish_non_exhaustive()
    }
}

/// A key, and the one algorithm that it is for.
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// Each with its id, if it has one: several may share one, or have none (RFC 7517, section 4.5).
type Keys = Vec<(Option<String>, Key)>;

/// The keys of one answer of the issuer.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Keys,
    /// Grows with each set, so that whatever was verified with an older one can be told; 0 before
    /// the first.
    pub(super) generation: u64,
}

/// The issuer's keys.
pub(super) struct Jwks {
    options: JwksOptions,
    client: reqwest::Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Arc<KeySet>,
    fetched_at: Option<Instant>,
    /// How and when the issuer answered last.
    last: Option<(Instant, Result<(), KeysUnavailable>)>,
    /// The question that is being asked: in a task of its own, for all who want to know, whoever of
    /// them goes away.
    asking: Option<Shared<BoxFuture<'static, ()>>>,
}

/// While there are no keys at all, the issuer is asked again after this time at the latest.
const FIRST_COOLDOWN: Duration = Duration::from_secs(1);

/// The issuer did not give its keys.
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

    /// The keys as last fetched. Old ones serve this request, while the issuer is asked for the
    /// next ones.
    pub(super) fn current(self: &Arc<Self>) -> Arc<KeySet> {
        let mut state = self.lock();
        if state.fetched_at.is_some_and(|at| at.elapsed() > self.options.max_age) {
            self.ask(&mut state);
        }
        Arc::clone(&state.keys)
    }

    /// The keys after the issuer was asked, unless it was since `generation`, or a moment ago.
    ///
    /// # Errors
    ///
    /// When the issuer did not answer: then nobody knows whether it has other keys.
    pub(super) async fn fresh(
        self: &Arc<Self>,
        generation: u64,
    ) -> Result<Arc<KeySet>, KeysUnavailable> {
        let asking = {
            let mut state = self.lock();
            if state.keys.generation == generation { self.ask(&mut state) } else { None }
        };
        if let Some(asking) = asking {
            asking.await;
        }
        let state = self.lock();
        match &state.last {
            Some((_, Err(error))) => Err(error.clone()),
            _ => Ok(Arc::clone(&state.keys)),
        }
    }

    /// The question that is being asked, or a new one; `None` where the last answer is too recent.
    fn ask(self: &Arc<Self>, state: &mut State) -> Option<Shared<BoxFuture<'static, ()>>> {
        if state.asking.is_some() {
            return state.asking.clone();
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
            let answer = jwks.fetch().await;
            jwks.take(answer);
        });
        let asking = async move { drop(task.await) }.boxed().shared();
        state.asking = Some(asking.clone());
        Some(asking)
    }

    fn take(&self, answer: Result<Keys, String>) {
        let mut state = self.lock();
        state.asking = None;
        let outcome = match answer {
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
                    "the issuer's keys cannot be fetched: the last ones are kept"
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
            .map_err(|error| format!("the answer is no key set (RFC 7517): {error}"))?;
        // A key of a kind that is not known here must not hide the others.
        let usable = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Keys = usable.filter_map(|jwk| self.usable(&jwk)).collect();
        // Better the last ones than none.
        if keys.is_empty() { Err("the answer holds no usable key".to_owned()) } else { Ok(keys) }
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
                return Err(format!("the answer has more than {MAX_BYTES} bytes"));
            }
        }
        Ok(body)
    }

    /// The key with its id, if it is for signatures and its algorithm is accepted.
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
    /// The keys that a token with this header may be signed with: by its id, or any where it names
    /// none. A key is for one algorithm, which the token can only agree with.
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

/// What a key is for: what it says, or else what its kind is commonly used for. Never what a token
/// says.
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
