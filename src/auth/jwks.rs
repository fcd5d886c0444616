//! The issuer's public keys (RFC 7517). They are fetched on demand, by one request at a time, and
//! kept while the issuer is unavailable.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    error::{KeysUnavailable, TokenError, VerifyError},
    jwk::Key,
    token::{BAD, Token},
};

const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 * 1024;

/// The maximum number of keys of a set. A token that names none is tried with all of them.
const MOST_KEYS: usize = 64;

const UNKNOWN_KEY: TokenError =
    TokenError("the token is signed with a key that is not in the issuer's key set");

/// The address of the key set, and how often to fetch it.
#[derive(Clone)]
pub struct JwksOptions {
    /// The URL of the key set: `https:`, `http:` or `file:`.
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
        match self.file() {
            Some(path) => path.display().to_string(),
            None => format!("{}{}", self.url.origin().ascii_serialization(), self.url.path()),
        }
    }

    /// The path of the key set, if it is a file.
    fn file(&self) -> Option<PathBuf> {
        (self.url.scheme() == "file").then(|| self.url.to_file_path().ok())?
    }
}

impl std::fmt::Debug for JwksOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JwksOptions").field("url", &self.address()).finish_non_exhaustive()
    }
}

/// The keys from one response of the issuer.
#[derive(Default)]
struct KeySet {
    keys: Vec<Key>,
    /// Grows with each fetched set, so that tokens verified with older keys can be recognized; 0
    /// before the first.
    generation: u64,
}

/// The issuer's keys, fetched and cached.
pub(super) struct Jwks {
    options: JwksOptions,
    client: reqwest::Client,
    state: Mutex<State>,
}

/// A key that is not used, and why.
#[derive(Clone, PartialEq)]
struct UnusedKey {
    id: String,
    reason: String,
}

#[derive(Default)]
struct State {
    keys: Arc<KeySet>,
    /// The keys of the last fetch that are not used, each of which was logged once.
    unused: Vec<UnusedKey>,
    fetched_at: Option<Instant>,
    /// When the issuer last responded, and how.
    last: Option<(Instant, Result<(), KeysUnavailable>)>,
    /// The fetch in progress. It runs in a separate task, so that it continues for the other
    /// callers when one of them is cancelled.
    fetching: Option<Shared<BoxFuture<'static, ()>>>,
}

/// The maximum cooldown while no keys were fetched yet.
const FIRST_COOLDOWN: Duration = Duration::from_secs(1);

impl Jwks {
    pub(super) fn new(options: JwksOptions) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { options, client, state: Mutex::default() })
    }

    /// The generation of the last fetch. When the keys are too old, new ones are fetched in the
    /// background.
    pub(super) fn generation(self: &Arc<Self>) -> u64 {
        self.current().generation
    }

    /// The keys of the last fetch. When they are too old, they still serve this request while new
    /// ones are fetched.
    fn current(self: &Arc<Self>) -> Arc<KeySet> {
        let mut state = self.state.lock();
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
    async fn fresh(self: &Arc<Self>, generation: u64) -> Result<Arc<KeySet>, KeysUnavailable> {
        let fetching = {
            let mut state = self.state.lock();
            if state.keys.generation == generation { self.start_fetch(&mut state) } else { None }
        };
        if let Some(fetching) = fetching {
            fetching.await;
        }
        let state = self.state.lock();
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

    fn store(&self, fetched: Result<Vec<Key>, String>) {
        let mut state = self.state.lock();
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

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let body = self.download().await?;
        let text = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&body);
        let set: Set = serde_json::from_slice(text).map_err(|error| {
            if String::from_utf8_lossy(text).contains("\"jwks_uri\"") {
                return "the response is a discovery document. Set its jwks_uri as JWT_JWKS_URL."
                    .to_owned();
            }
            format!("the response is not a JWK set (RFC 7517): {error}")
        })?;
        let (mut keys, mut unused) = (Vec::new(), Vec::new());
        let too_many = format!("the set has more than {MOST_KEYS} keys");
        for jwk in set.keys {
            // A key of an unsupported kind must not hide the others.
            match Key::read(&jwk, &self.options.algorithms) {
                Ok(key) if keys.len() < MOST_KEYS => keys.push(key),
                Ok(_) => unused.push(unused_key(&jwk, &too_many)),
                Err(reason) => unused.push(unused_key(&jwk, &reason)),
            }
        }
        self.log_unused(&unused);
        self.state.lock().unused = unused;
        // The previous keys are more useful than an empty set.
        if keys.is_empty() { Err("the response has no usable key".to_owned()) } else { Ok(keys) }
    }

    /// Logs each key that is not used, unless the last set had it too.
    fn log_unused(&self, unused: &[UnusedKey]) {
        let before = self.state.lock().unused.clone();
        let address = self.options.address();
        for UnusedKey { id, reason } in unused.iter().filter(|key| !before.contains(key)) {
            tracing::info!(kid = ?id, reason, address, "a key of the issuer is not used");
        }
    }

    async fn download(&self) -> Result<Vec<u8>, String> {
        let body = match self.options.file() {
            Some(path) => tokio::task::spawn_blocking(move || read(&path))
                .await
                .map_err(io::Error::other)
                .flatten()
                .map_err(|error| format!("{}: {error}", self.options.address()))?,
            None => self.request().await?,
        };
        if body.len() > MAX_BYTES {
            return Err(format!("the response exceeds {MAX_BYTES} bytes"));
        }
        Ok(body)
    }

    /// Requests the key set, and stops reading above the limit.
    async fn request(&self) -> Result<Vec<u8>, String> {
        let request = self.client.get(self.options.url.clone());
        let sent = request.send().await.and_then(reqwest::Response::error_for_status);
        let cause =
            |error: reqwest::Error| format!("{}: {}", self.options.address(), error.without_url());
        let mut response = sent.map_err(cause)?;
        if response.status().is_redirection() {
            let address = self.options.address();
            return Err(format!("{address} redirects. Set the address to which it leads."));
        }
        let mut body = Vec::new();
        while body.len() <= MAX_BYTES
            && let Some(chunk) = response.chunk().await.map_err(cause)?
        {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Verifies a token's signature, and returns the generation of the key that signed it.
    pub(super) async fn verify(self: &Arc<Self>, token: &Token<'_>) -> Result<u64, VerifyError> {
        let known = self.current();
        if known.has_signed(token) {
            return Ok(known.generation);
        }
        // The issuer may have added a key with an unknown id, or one without an id.
        if token.key_id().is_some() && known.has_key_of(token) {
            return Err(BAD.into());
        }
        match self.fresh(known.generation).await {
            Ok(fresh) if fresh.has_signed(token) => Ok(fresh.generation),
            Ok(fresh) if fresh.has_key_of(token) => Err(BAD.into()),
            Ok(_) => Err(UNKNOWN_KEY.into()),
            Err(_) if known.has_key_of(token) => Err(BAD.into()),
            // Without the issuer there is no way to tell whether the key exists.
            Err(error) => Err(VerifyError::Unavailable(error)),
        }
    }
}

impl KeySet {
    /// Whether the set has a key that the token's header names: one with its algorithm and id, or
    /// any with its algorithm if it names no id.
    fn has_key_of(&self, token: &Token<'_>) -> bool {
        let named = |key: &Key| token.key_id().is_none() || key.id.as_deref() == token.key_id();
        self.keys.iter().any(|key| token.algorithm() == key.algorithm && named(key))
    }

    /// Whether one of the keys has signed the token: one with the id in its header, or one without
    /// an id, or any if the header names no id.
    fn has_signed(&self, token: &Token<'_>) -> bool {
        let mut keys = self.keys.iter().filter(|key| {
            token.key_id().is_none() || key.id.is_none() || key.id.as_deref() == token.key_id()
        });
        keys.any(|key| token.is_signed_by(&key.decoding, key.algorithm))
    }
}

/// Bounded, because issuers choose the texts.
fn unused_key(jwk: &Value, reason: &str) -> UnusedKey {
    let short = |text: &str| text.chars().take(100).collect::<String>();
    let id = jwk.get("kid").map_or("(none)", |id| id.as_str().unwrap_or("(not a text)"));
    UnusedKey { id: short(id), reason: short(reason) }
}

/// Reads a file, and stops above the limit.
fn read(path: &std::path::Path) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut body)?;
    Ok(body)
}
