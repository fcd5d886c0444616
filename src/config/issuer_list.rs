//! JWT_ISSUERS: several issuers as a JSON list of objects. The keys of an object are the names of
//! settings in lower case without `JWT_`. No error text repeats a value.

use serde_json::{Map, Value};

use super::{
    ConfigError,
    jwt::{JwtConfig, issuer_algorithm, set},
};
use crate::{
    auth::{EmailVerified, Verifier},
    clock::Clock,
};

/// The keys of an object.
const KEYS: &str = "issuer, secret, jwks_url, audience, algorithms, audience_claim, subject_claim, \
                    email_claim, email_verified, name_claim, picture_claim, org_claim";

impl JwtConfig {
    /// Returns the verifier of these tokens.
    ///
    /// # Errors
    ///
    /// If neither a secret nor a key set is configured, if a secret is too short, or if tokens of
    /// any issuer or audience would be trusted without the explicit value `any`.
    pub fn verifier(&self, clock: Clock) -> Result<Verifier, ConfigError> {
        let is_list = set(self.jwt_issuers.as_ref()).is_some();
        let mut trusted = Vec::new();
        for (index, issuer) in self.issuers()?.iter().enumerate() {
            trusted.push(
                issuer.trusted_issuer().map_err(
                    |error| {
                        if is_list { at(index, &error) } else { error }
                    },
                )?,
            );
        }
        Ok(Verifier::new(trusted, clock))
    }

    /// Returns the settings of each issuer: those of JWT_ISSUERS, or these.
    pub(crate) fn issuers(&self) -> Result<Vec<Self>, ConfigError> {
        match set(self.jwt_issuers.as_ref()) {
            Some(list) => parse(&list, self),
            None => Ok(vec![self.clone()]),
        }
    }
}

/// Parses the list. Settings that an object does not name are those of `common`.
fn parse(text: &str, common: &JwtConfig) -> Result<Vec<JwtConfig>, ConfigError> {
    let JwtConfig { jwt_secret, jwt_jwks_url, jwt_issuer, jwt_audience, .. } = common;
    let others = [
        ("JWT_SECRET", jwt_secret),
        ("JWT_JWKS_URL", jwt_jwks_url),
        ("JWT_ISSUER", jwt_issuer),
        ("JWT_AUDIENCE", jwt_audience),
    ];
    if let Some((name, _)) = others.iter().find(|(_, value)| set(value.as_ref()).is_some()) {
        return Err(ConfigError(format!("JWT_ISSUERS replaces {name}. Set only one of them.")));
    }
    let list: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ConfigError(format!(
            "JWT_ISSUERS is not a JSON list of objects: see line {line}, column {column}"
        ))
    })?;
    let mut issuers: Vec<JwtConfig> = Vec::new();
    for (index, object) in list.into_iter().enumerate() {
        let issuer = issuer(object, common).map_err(|error| at(index, &error))?;
        if issuers.iter().any(|other| other.issuer() == issuer.issuer()) {
            return Err(at(index, &"this issuer is listed twice"));
        }
        issuers.push(issuer);
    }
    if issuers.is_empty() {
        return Err(ConfigError::new("JWT_ISSUERS lists no issuer"));
    }
    Ok(issuers)
}

/// The error of one issuer, which is counted from one.
fn at(index: usize, error: &dyn std::fmt::Display) -> ConfigError {
    ConfigError(format!("JWT_ISSUERS, issuer {}: {error}", index + 1))
}

fn issuer(mut object: Map<String, Value>, common: &JwtConfig) -> Result<JwtConfig, String> {
    let mut settings = JwtConfig { jwt_issuers: None, ..common.clone() };
    settings.jwt_issuer = take(&mut object, "issuer")?;
    settings.jwt_secret = take(&mut object, "secret")?;
    settings.jwt_jwks_url = take(&mut object, "jwks_url")?;
    settings.jwt_audience = take(&mut object, "audience")?;
    for (key, claim) in [
        ("audience_claim", &mut settings.jwt_audience_claim),
        ("subject_claim", &mut settings.jwt_subject_claim),
        ("email_claim", &mut settings.jwt_email_claim),
        ("name_claim", &mut settings.jwt_name_claim),
        ("picture_claim", &mut settings.jwt_picture_claim),
        ("org_claim", &mut settings.jwt_org_claim),
    ] {
        if let Some(name) = take(&mut object, key)? {
            *claim = name;
        }
    }
    if let Some(text) = take(&mut object, "email_verified")? {
        settings.jwt_email_verified = EmailVerified::from(text.as_str());
    }
    if let Some(names) = take(&mut object, "algorithms")? {
        let algorithms: Result<_, _> = names.split(',').map(issuer_algorithm).collect();
        settings.jwt_algorithms = algorithms.map_err(|error| format!("`algorithms` {error}"))?;
    }
    if let Some(key) = object.keys().next() {
        return Err(format!("`{key}` is not one of its keys: {KEYS}"));
    }
    // Tokens are assigned by their issuer.
    if settings.issuer().is_none() {
        return Err("`issuer` is not set".to_owned());
    }
    if settings.jwt_secret.is_some() == settings.jwt_jwks_url.is_some() {
        return Err("set either `secret` or `jwks_url`".to_owned());
    }
    Ok(settings)
}

/// Removes a string. The strings of a list are joined with commas.
fn take(object: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        _ => None,
    };
    let value = match object.remove(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(texts)) => {
            texts.iter().map(text).collect::<Option<Vec<_>>>().map(|texts| texts.join(","))
        }
        Some(value) => text(&value),
    };
    value.map(Some).ok_or_else(|| format!("`{key}` must be a string or a list of strings"))
}
