//! The claims of a token: which are read, and what they mean. A claim that is null or of another
//! type counts as absent. Only issuer, subject and times must be well formed.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{error::TokenError, times::Times};
use crate::text::{Email, display_name};

/// Issuer and subject form an index key in the database, whose size is limited.
const MAX_IDENTITY_BYTES: usize = 1024;

const MAX_NAME_CHARS: usize = 200;

const MAX_PICTURE_BYTES: usize = 2000;

/// The claims that are read, and the values that they must have. A name of a claim may be a dotted
/// path into objects and lists.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The required issuer, if one is configured.
    pub issuer: Option<String>,
    /// The accepted audiences. If empty, every token is accepted.
    pub audiences: Vec<String>,
    /// The claim that holds the audience, as a text or a list.
    pub audience: String,
    /// The claim that identifies the account.
    pub subject: String,
    /// The claim that holds the e-mail address.
    pub email: String,
    /// When the address counts as verified.
    pub email_verified: EmailVerified,
    /// The claim that holds the display name.
    pub name: String,
    /// The claim that holds the address of the picture.
    pub picture: String,
    /// The claim that holds the organization's id or slug.
    pub organization: String,
}

/// When the e-mail address of a token counts as verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmailVerified {
    /// If this claim is true.
    Claim(String),
    /// Always: the issuer verifies every address.
    Trusted,
}

impl From<&str> for EmailVerified {
    /// `trusted`, `claim` for the claim `email_verified`, or the name of another claim.
    fn from(text: &str) -> Self {
        match text.trim() {
            "trusted" => Self::Trusted,
            "claim" => Self::Claim("email_verified".to_owned()),
            name => Self::Claim(name.to_owned()),
        }
    }
}

impl Default for Claims {
    /// The registered claims of `OpenID` Connect, for any issuer and audience.
    fn default() -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            audience: "aud".to_owned(),
            subject: "sub".to_owned(),
            email: "email".to_owned(),
            email_verified: EmailVerified::Claim("email_verified".to_owned()),
            name: "name".to_owned(),
            picture: "picture".to_owned(),
            organization: "org".to_owned(),
        }
    }
}

/// The identity that a verified token stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// `iss`, or the empty string without it.
    pub issuer: String,
    /// The account: a string of at most 1024 bytes.
    pub subject: String,
    /// The verified e-mail address, in lower case; `None` if it is missing or not verified.
    pub email: Option<String>,
    /// The address that is not verified, for explanations only.
    pub unverified_email: Option<String>,
    /// `iat`, which decides which of two tokens of one identity is newer.
    pub issued_at: Option<DateTime<Utc>>,
    /// The display name.
    pub name: Option<String>,
    /// The address of the picture, which begins with `https://`.
    pub picture: Option<String>,
    /// The id or slug of the organization that the token names.
    pub organization: Option<String>,
    /// When the token expires, leeway included.
    pub expires_at: DateTime<Utc>,
}

impl Caller {
    /// What the token says about the user, as a JSON object; `None` if it says nothing.
    #[must_use]
    pub fn profile(&self) -> Option<String> {
        let fields = [("name", &self.name), ("picture", &self.picture)];
        let fields = fields.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        let profile: Map<String, Value> =
            fields.map(|(name, text)| (name.to_owned(), json!(text))).collect();
        (!profile.is_empty()).then(|| Value::Object(profile).to_string())
    }
}

impl Claims {
    /// Whether tokens with these claims come from this issuer.
    pub(super) fn is_issuer_of(&self, claims: &Map<String, Value>) -> bool {
        let issuer = claims.get("iss").and_then(Value::as_str);
        self.issuer.as_deref().is_none_or(|required| issuer == Some(required))
    }

    /// Whether the required issuer differs from the token's only in case, in `https://`, or in a
    /// slash at the end. The two are different issuers, but to configure one for the other is a
    /// common mistake.
    pub(super) fn is_almost_issuer_of(&self, claims: &Map<String, Value>) -> bool {
        let core = |issuer: &str| {
            let issuer = issuer.to_lowercase();
            issuer.trim_start_matches("https://").trim_end_matches('/').to_owned()
        };
        let issuer = claims.get("iss").and_then(Value::as_str).map(core);
        issuer.is_some() && issuer == self.issuer.as_deref().map(core)
    }

    /// Reads the caller from the claims of a token with a valid signature.
    ///
    /// # Errors
    ///
    /// When the token is for another audience, or does not identify an account.
    pub(super) fn caller(
        &self,
        claims: &Map<String, Value>,
        times: Times,
    ) -> Result<Caller, TokenError> {
        self.check_audience(claims)?;
        let issuer = match claims.get("iss") {
            None | Some(Value::Null) => String::new(),
            Some(issuer) => identity_part(issuer)
                .ok_or(TokenError("the token's iss claim is not a string of at most 1024 bytes"))?,
        };
        let subject = at_path(claims, &self.subject)
            .and_then(identity_part)
            .ok_or(TokenError("the token's subject claim is not a string of at most 1024 bytes"))?;
        let address = first_text(claims, &self.email).and_then(Email::parse);
        let (verified, unverified) =
            if self.verifies_email(claims) { (address, None) } else { (None, address) };
        let name = first_text(claims, &self.name);
        Ok(Caller {
            issuer,
            subject,
            email: verified.map(Email::into_string),
            unverified_email: unverified.map(Email::into_string),
            issued_at: times.issued_at(),
            name: name.and_then(|name| display_name(name, MAX_NAME_CHARS)),
            picture: first_text(claims, &self.picture).and_then(picture),
            organization: at_path(claims, &self.organization).and_then(organization),
            expires_at: times.expires_at(),
        })
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let accepts = |one: &Value| self.audiences.iter().any(|accepted| one == accepted);
        let is_meant = match at_path(claims, &self.audience) {
            Some(Value::Array(many)) => many.iter().any(accepts),
            Some(one) => accepts(one),
            None => false,
        };
        if self.audiences.is_empty() || is_meant {
            return Ok(());
        }
        Err(TokenError("the token is for another audience"))
    }

    fn verifies_email(&self, claims: &Map<String, Value>) -> bool {
        let EmailVerified::Claim(path) = &self.email_verified else { return true };
        match at_path(claims, path).map(first) {
            Some(Value::Bool(verified)) => *verified,
            // Some identity providers send the boolean as a string or as a number.
            Some(Value::String(text)) => ["true", "1"].contains(&&*text.trim().to_lowercase()),
            Some(Value::Number(number)) => number.as_u64() == Some(1),
            _ => false,
        }
    }
}

/// The organization in a claim: a text, the only text of a list, or the only key of a map of
/// objects. It is a hint, so any other value counts as absent.
fn organization(claim: &Value) -> Option<String> {
    let name = match claim {
        Value::String(name) => name,
        Value::Array(list) => match list.as_slice() {
            [Value::String(name)] => name,
            _ => return None,
        },
        Value::Object(map) if map.len() == 1 => {
            map.iter().find(|(_, details)| details.is_object())?.0
        }
        _ => return None,
    };
    let name = name.trim();
    // Slugs have no capital letters, and ids are equal in any case.
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// The address of a picture. Others see it, so it must be encrypted on its way.
fn picture(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let text = String::from(url);
    (text.starts_with("https://") && text.len() <= MAX_PICTURE_BYTES).then_some(text)
}

/// The text in a claim, or the first text of a list.
fn first_text<'claims>(claims: &'claims Map<String, Value>, path: &str) -> Option<&'claims str> {
    first(at_path(claims, path)?).as_str()
}

/// The first value of a list; any other value itself.
fn first(value: &Value) -> &Value {
    value.as_array().and_then(|list| list.first()).unwrap_or(value)
}

/// A string that fits into a PostgreSQL index key: bounded in size and without NUL.
fn identity_part(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    (text.len() <= MAX_IDENTITY_BYTES && !text.contains('\0')).then(|| text.to_owned())
}

/// The claim with exactly this name, which may contain dots, or else the value at the dotted path.
/// Keys are tried from the longest on, because the names of claims are often URLs.
fn at_path<'claims>(claims: &'claims Map<String, Value>, path: &str) -> Option<&'claims Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.')
        .find_map(|(dot, _)| inside(claims.get(&path[..dot])?, &path[dot + 1..]))
}

/// The value at the path in an object or a list.
fn inside<'claims>(value: &'claims Value, path: &str) -> Option<&'claims Value> {
    match value {
        Value::Object(claims) => at_path(claims, path),
        Value::Array(list) => {
            let (index, rest) = path.split_once('.').unwrap_or((path, ""));
            let item = list.get(index.parse::<usize>().ok()?)?;
            if rest.is_empty() { Some(item) } else { inside(item, rest) }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reaches_into_objects_and_lists() {
        let claims = json!({
            "a.b": 1, "a": { "b": 2, "c": { "d": 3 } }, "emails": ["x", "y"], "orgs": [{ "o.id": "z" }],
            "https://app.example/claims": { "org": "acme" },
        });
        let claims = claims.as_object().unwrap();
        for (path, expected) in [
            ("a.b", json!(1)),
            ("a.c.d", json!(3)),
            ("emails.1", json!("y")),
            ("orgs.0.o.id", json!("z")),
            ("https://app.example/claims.org", json!("acme")),
        ] {
            assert_eq!(at_path(claims, path), Some(&expected), "{path}");
        }
        for path in ["", ".", "a.", "a.x", "emails.2", "emails.x", "a.b.c", "emails.0.x"] {
            assert_eq!(at_path(claims, path), None, "{path}");
        }
        assert_eq!(first_text(claims, "emails"), Some("x"));
    }

    #[test]
    fn an_organization_is_one_name_in_any_form() {
        for (claim, expected) in [
            (json!("Acme"), Some("acme")),
            (json!(" acme\n"), Some("acme")),
            (json!(" "), None),
            (json!(["acme"]), Some("acme")),
            (json!({ "acme": { "id": "x" } }), Some("acme")),
            (json!(""), None),
            (json!([]), None),
            (json!([""]), None),
            (json!(["acme", "globex"]), None),
            (json!([{ "name": "acme" }]), None),
            (json!({}), None),
            (json!({ "acme": {}, "globex": {} }), None),
            (json!({ "slug": "acme" }), None),
            (json!(7), None),
            (json!(true), None),
            (Value::Null, None),
        ] {
            assert_eq!(organization(&claim).as_deref(), expected, "{claim}");
        }
    }

    #[test]
    fn a_picture_is_an_encrypted_address() {
        assert_eq!(picture("https://x.example/a?b").as_deref(), Some("https://x.example/a?b"));
        let long = format!("https://x.example/{}", "a".repeat(2000));
        for bad in ["", "x", "http://x.example/a", "javascript:alert(1)", "data:,x", &long] {
            assert_eq!(picture(bad), None, "{bad}");
        }
    }
}
