//! Documents that clients refer to by name: automatic persisted queries (the protocol of Apollo and
//! urql) and trusted documents. With a manifest of trusted documents, the server executes no
//! others.

use std::{collections::HashMap, num::NonZeroUsize, path::Path, sync::Arc};

use lru::LruCache;
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    config::ConfigError,
    error::ErrorCode,
    graphql::{Refusal, document::GraphqlRequest},
    text::sha256,
};

/// How many documents are cached, and their largest size. A client can register any valid document.
const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_999);
const LONGEST: usize = 16 * 1024;

/// An operation as a client sent it: with its text, or with the name of its text.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Its text is empty if only the name was sent.
    pub(super) request: GraphqlRequest,
    /// The id in a manifest, or the SHA-256 of the text in hexadecimal.
    pub(super) name: Option<String>,
}

/// The documents that the server knows by name.
#[derive(Debug)]
pub struct PersistedDocuments {
    cached: Mutex<LruCache<String, Arc<str>>>,
    /// By id and by SHA-256. If present, no other document is executed.
    trusted: Option<HashMap<String, Arc<str>>>,
}

impl PersistedDocuments {
    /// Accepts every document. The cache starts empty.
    #[must_use]
    pub fn open() -> Self {
        Self { cached: Mutex::new(LruCache::new(MOST)), trusted: None }
    }

    /// Accepts only the documents of a manifest: a JSON object of documents by id, as
    /// graphql-codegen and relay-compiler write it, or Apollo's persisted query manifest.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a manifest.
    pub fn trusted(manifest: &Path) -> Result<Self, ConfigError> {
        let problem =
            |text: String| ConfigError(format!("TRUSTED_DOCUMENTS {}: {text}", manifest.display()));
        let text = std::fs::read_to_string(manifest).map_err(|error| problem(error.to_string()))?;
        let json: Value =
            serde_json::from_str(&text).map_err(|error| problem(error.to_string()))?;
        let mut trusted = HashMap::new();
        for (id, document) in
            documents(&json).ok_or_else(|| problem("is not a manifest".to_owned()))?
        {
            let text: Arc<str> = document.into();
            trusted.insert(sha256(&text), Arc::clone(&text));
            trusted.insert(plain(id).to_owned(), text);
        }
        if trusted.is_empty() {
            return Err(problem("contains no documents".to_owned()));
        }
        Ok(Self { trusted: Some(trusted), ..Self::open() })
    }

    /// Returns the operation with its text.
    pub(super) fn resolve(&self, asked: Asked) -> Result<GraphqlRequest, Refusal> {
        let Asked { mut request, name } = asked;
        let name = name.as_deref().map(plain);
        if let Some(trusted) = &self.trusted {
            let key = name.map_or_else(|| sha256(&request.query), ToOwned::to_owned);
            let text = trusted.get(&key).ok_or_else(|| {
                unknown("PersistedQueryNotFound: only documents of the manifest are executed")
            })?;
            request.query = text.to_string();
            return Ok(request);
        }
        match name {
            Some(name) if request.query.is_empty() => {
                let mut cached = self.cached.lock();
                // Clients compare this message.
                let text = cached.get(name).ok_or_else(|| unknown("PersistedQueryNotFound"))?;
                request.query = text.to_string();
            }
            Some(name) if name != sha256(&request.query) => {
                return Err(Refusal::invalid("the hash is not the SHA-256 of the query"));
            }
            _ => {}
        }
        Ok(request)
    }

    /// Caches a valid document under its name.
    pub(super) fn remember(&self, name: &str, query: &str) {
        if self.trusted.is_none() && query.len() <= LONGEST {
            let mut cached = self.cached.lock();
            if !cached.contains(plain(name)) {
                cached.put(plain(name).to_owned(), query.into());
            }
        }
    }
}

/// The ids and texts of a manifest in either form.
fn documents(manifest: &Value) -> Option<Vec<(&str, &str)>> {
    if let Some(operations) = manifest["operations"].as_array() {
        return operations
            .iter()
            .map(|operation| Some((operation["id"].as_str()?, operation["body"].as_str()?)))
            .collect();
    }
    manifest.as_object()?.iter().map(|(id, text)| Some((id.as_str(), text.as_str()?))).collect()
}

/// Removes the prefix with which the GraphQL over HTTP draft writes hashes.
fn plain(name: &str) -> &str {
    name.strip_prefix("sha256:").unwrap_or(name)
}

fn unknown(message: &str) -> Refusal {
    Refusal { code: ErrorCode::PersistedQueryNotFound, message: message.to_owned(), location: None }
}
