//! Settings of the tokens that callers present. No error text repeats a secret.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use std::time::Duration;

use clap::Args;

use super::{ConfigError, required, secret_rotation::secrets};
use crate::auth::{
    Algorithm, AlgorithmFamily, Claims, EmailVerified, JwksOptions, TrustedIssuer, algorithm,
};

/// Whether an address points to this machine.
pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The tokens that callers present.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct JwtConfig {
    /// The shared secret of HS256 tokens, at least 32 bytes. During a rotation NEW,OLD: the first
    /// signs, all verify.
    #[arg(long, env, hide_env_values = true)]
    pub jwt_secret: Option<String>,

    /// The address of the issuer's key set: https://… or file:///…. Replaces JWT_SECRET.
    #[arg(long, env, hide_env_values = true)]
    pub jwt_jwks_url: Option<String>,

    /// Several issuers, as a JSON list of objects. The keys of an object are the names of settings
    /// in lower case without JWT_, for example issuer, jwks_url, secret, audience, email_claim.
    /// Replaces JWT_SECRET, JWT_JWKS_URL, JWT_ISSUER and JWT_AUDIENCE; the other settings apply
    /// where an object does not name them.
    #[arg(long, env, hide_env_values = true)]
    pub jwt_issuers: Option<String>,

    /// The algorithms accepted for tokens of JWT_JWKS_URL, separated by commas. A key is used only
    /// with the one that it declares, or with RS256 if it is an RSA key that declares none.
    #[arg(
        long,
        env,
        value_delimiter = ',',
        value_parser = issuer_algorithm,
        default_value = ISSUER_ALGORITHMS
    )]
    pub jwt_algorithms: Vec<Algorithm>,

    /// Least number of seconds between two fetches of the issuer's keys, even if tokens name
    /// unknown keys.
    #[arg(long, env, default_value_t = 10)]
    pub jwt_jwks_cooldown: u64,

    /// Seconds after which the issuer's keys are fetched again.
    #[arg(long, env, default_value_t = 600)]
    pub jwt_jwks_max_age: u64,

    /// Whether key sets at http://… are accepted from other machines, for example inside a
    /// cluster. Anyone who can change that traffic can then sign in as any user.
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set)]
    pub jwt_jwks_allow_insecure_http: bool,

    /// The issuer that tokens must name in `iss`; `any` accepts every issuer. Required with
    /// JWT_JWKS_URL.
    #[arg(long, env)]
    pub jwt_issuer: Option<String>,

    /// The accepted audiences, separated by commas; `any` accepts every audience. Required with
    /// JWT_JWKS_URL.
    #[arg(long, env)]
    pub jwt_audience: Option<String>,

    /// The claim that holds the audience. In the name of any claim, a dot leads into a nested
    /// object or list.
    #[arg(long, env, default_value = "aud")]
    pub jwt_audience_claim: String,

    /// The claim that identifies the account. Users must not be able to change it. Another claim
    /// creates new users.
    #[arg(long, env, default_value = "sub")]
    pub jwt_subject_claim: String,

    /// The claim that holds the e-mail address. If it is a list, the first address counts.
    #[arg(long, env, default_value = "email")]
    pub jwt_email_claim: String,

    /// When an e-mail address counts as verified: if `email_verified` is true (claim), if another
    /// claim is true (its name), or always (trusted), which requires JWT_ISSUER.
    #[arg(long, env, default_value = "claim")]
    pub jwt_email_verified: EmailVerified,

    /// The claim that holds the user's display name.
    #[arg(long, env, default_value = "name")]
    pub jwt_name_claim: String,

    /// The claim that holds the https address of the user's picture.
    #[arg(long, env, default_value = "picture")]
    pub jwt_picture_claim: String,

    /// The claim that holds the organization's id or slug, as a string, a list with one string or
    /// an object with one key.
    #[arg(long, env, default_value = "org")]
    pub jwt_org_claim: String,
}

impl JwtConfig {
    /// The issuer of these settings alone, regardless of JWT_ISSUERS.
    pub(super) fn trusted_issuer(&self) -> Result<TrustedIssuer, ConfigError> {
        self.check_issuer()?;
        let claims = self.claims()?;
        let Some(url) = &self.jwt_jwks_url else {
            return Ok(TrustedIssuer::with_secrets(&self.secrets()?, claims));
        };
        if set(self.jwt_secret.as_ref()).is_some() {
            return Err(ConfigError::new(
                "JWT_JWKS_URL replaces JWT_SECRET: set one of them. JWT_ISSUERS accepts several issuers.",
            ));
        }
        let url = key_set(url, self.jwt_jwks_allow_insecure_http)?;
        for (name, value) in
            [("JWT_ISSUER", &self.jwt_issuer), ("JWT_AUDIENCE", &self.jwt_audience)]
        {
            let remedy = format!(
                "JWT_JWKS_URL requires it, because the same keys also sign tokens for other \
                 services. Set {name}={ANY} to accept those."
            );
            required(name, set(value.as_ref()), &remedy)?;
        }
        let options = JwksOptions {
            url,
            algorithms: self.jwt_algorithms.clone(),
            cooldown: Duration::from_secs(self.jwt_jwks_cooldown),
            max_age: Duration::from_secs(self.jwt_jwks_max_age),
        };
        TrustedIssuer::with_key_set(options, claims)
            .map_err(|error| ConfigError(format!("JWT_JWKS_URL: {error}")))
    }

    /// Returns the shared secrets, at least one. The first signs, all verify.
    pub(crate) fn secrets(&self) -> Result<Vec<&str>, ConfigError> {
        let remedy = "Set it to the secret that signs your tokens, or set JWT_JWKS_URL to the \
                      address of your issuer's keys, or JWT_ISSUERS.";
        let text = required("JWT_SECRET", self.jwt_secret.as_deref(), remedy)?;
        secrets("JWT_SECRET", text)
    }

    /// Returns the secret that signs.
    pub(crate) fn secret(&self) -> Result<&str, ConfigError> {
        // `secrets` returns at least one.
        Ok(self.secrets()?.first().copied().unwrap_or_default())
    }

    /// The issuer that tokens must name. `None` accepts any.
    pub(crate) fn issuer(&self) -> Option<String> {
        set(self.jwt_issuer.as_ref()).filter(|text| text.trim() != ANY)
    }

    /// The audiences of which tokens must name one. Empty if any is accepted.
    pub(crate) fn audiences(&self) -> Result<Vec<String>, ConfigError> {
        let text = set(self.jwt_audience.as_ref()).unwrap_or_else(|| ANY.to_owned());
        let audiences: Vec<_> = text.split(',').map(|one| one.trim().to_owned()).collect();
        if audiences == [ANY] {
            return Ok(Vec::new());
        }
        match audiences.iter().find(|one| one.is_empty() || *one == ANY) {
            Some(bad) => Err(ConfigError(format!(
                "JWT_AUDIENCE: \"{bad}\" cannot be one of several audiences"
            ))),
            None => Ok(audiences),
        }
    }

    /// What an operator should know about these settings before tokens are accepted.
    ///
    /// # Errors
    ///
    /// If a setting is invalid.
    pub fn warnings(&self) -> Result<Vec<String>, ConfigError> {
        let issuers = self.issuers()?;
        let mut warnings = Vec::new();
        for issuer in &issuers {
            let name = issuer.issuer();
            let of = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
            let mut warn = |text: &str| warnings.push(format!("{text}{of}"));
            if name.is_none() {
                warn("JWT_ISSUER names no issuer: tokens of any issuer with this key are accepted");
            }
            if issuer.audiences()?.is_empty() {
                warn(
                    "JWT_AUDIENCE names no audience: tokens meant for other services are accepted",
                );
            }
            if issuer.fetches_insecurely() {
                warn(
                    "JWT_JWKS_URL is not encrypted: anyone who can change its traffic can sign in as any user",
                );
            }
            if issuer.trusts_users() {
                warn(
                    "JWT_EMAIL_VERIFIED names a claim that users can change: they can claim any address",
                );
            }
        }
        Ok(warnings)
    }

    fn check_issuer(&self) -> Result<(), ConfigError> {
        if self.jwt_email_verified == EmailVerified::Trusted && self.issuer().is_none() {
            return Err(ConfigError::new(
                "JWT_EMAIL_VERIFIED=trusted requires JWT_ISSUER, because it trusts every address of that issuer.",
            ));
        }
        // The discovery document of Entra ID's shared endpoints has such an issuer.
        if self.issuer().is_some_and(|issuer| issuer.contains(['{', '}'])) {
            return Err(ConfigError::new(
                "JWT_ISSUER has a placeholder in braces. Replace it as the tokens do in iss.",
            ));
        }
        Ok(())
    }

    fn fetches_insecurely(&self) -> bool {
        let url = self.jwt_jwks_url.as_ref().and_then(|url| url::Url::parse(url.trim()).ok());
        url.is_some_and(|url| url.scheme() == "http" && !is_loopback(&url))
    }

    /// Whether the verification of addresses is read from where providers let users write.
    fn trusts_users(&self) -> bool {
        let EmailVerified::Claim(path) = &self.jwt_email_verified else { return false };
        path.split(['.', '/']).any(|part| USERS_WRITE.contains(&part))
    }

    fn claims(&self) -> Result<Claims, ConfigError> {
        Ok(Claims {
            issuer: self.issuer(),
            audiences: self.audiences()?,
            audience: self.jwt_audience_claim.clone(),
            subject: self.jwt_subject_claim.clone(),
            email: self.jwt_email_claim.clone(),
            email_verified: self.jwt_email_verified.clone(),
            name: self.jwt_name_claim.clone(),
            picture: self.jwt_picture_claim.clone(),
            organization: self.jwt_org_claim.clone(),
        })
    }
}

/// The value of JWT_ISSUER and JWT_AUDIENCE that accepts all tokens of the key set.
const ANY: &str = "any";

/// The algorithms whose keys issuers publish.
const ISSUER_ALGORITHMS: &str = "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,EdDSA";

/// Parses one of [`ISSUER_ALGORITHMS`], or another name of it.
pub(super) fn issuer_algorithm(name: &str) -> Result<Algorithm, String> {
    let published = algorithm(name.trim()).filter(|one| one.family() != AlgorithmFamily::Hmac);
    published.ok_or_else(|| format!("must be one of {ISSUER_ALGORITHMS}"))
}

/// Objects that users change themselves, at Supabase, Auth0 and Clerk.
const USERS_WRITE: [&str; 3] = ["user_metadata", "unsafe_metadata", "raw_user_meta_data"];

/// Parses the address of a key set. Errors do not repeat the value, which may hold a secret.
fn key_set(text: &str, allow_http: bool) -> Result<url::Url, ConfigError> {
    let url = url::Url::parse(text.trim())
        .map_err(|error| ConfigError(format!("JWT_JWKS_URL is not an address: {error}")))?;
    match url.scheme() {
        "https" => Ok(url),
        "file" if url.to_file_path().is_ok_and(|path| path.is_file()) => Ok(url),
        "file" => Err(ConfigError::new("JWT_JWKS_URL names no file")),
        "http" if allow_http || is_loopback(&url) => Ok(url),
        _ => Err(ConfigError::new(
            "JWT_JWKS_URL must begin with https://, because its keys decide who callers are. Use file:///… for keys \
             on this machine, or accept the risk of http:// with JWT_JWKS_ALLOW_INSECURE_HTTP=true.",
        )),
    }
}

/// Treats an empty value as unset.
pub(super) fn set(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty()).cloned()
}
