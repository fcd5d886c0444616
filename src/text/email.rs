//! E-mail addresses in one form, so that equal addresses are equal texts.

use idna::AsciiDenyList;
use unicode_normalization::UnicodeNormalization;

use super::is_ignorable;

/// RFC 5321, section 4.5.3.1, and RFC 1035, section 2.3.4.
const MAX_LOCAL_BYTES: usize = 64;
const MAX_DOMAIN_BYTES: usize = 255;
const MAX_LABEL_BYTES: usize = 63;

/// A plausible e-mail address in lower case. Its local part is in Unicode's normalization form C,
/// and its domain is in ASCII, as mail servers and the domain name system use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Parses an address and ignores white space around it. `None` if the text is not an address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // Some characters outside ASCII become ASCII characters in lower case or when normalized,
        // so two different addresses would name one mailbox.
        let folds = |char: char| {
            !char.is_ascii() && char.to_lowercase().nfc().any(|folded| folded.is_ascii())
        };
        let odd = |char: char| is_ignorable(char) || folds(char) || "<>()[],;:\\\"".contains(char);
        if text.contains(odd) {
            return None;
        }
        let (local, domain) = text.split_once('@')?;
        let local: String = local.to_lowercase().nfc().collect();
        let domain = ascii_domain(domain)?;
        let email = format!("{local}@{domain}");
        let plausible = (1..=MAX_LOCAL_BYTES).contains(&local.len())
            && is_domain(&domain)
            && !email.chars().any(|char| char.is_control() || char.is_whitespace());
        plausible.then_some(Self(email))
    }

    /// Returns the address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the address as a `String`.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Whether the domain name system can have a domain of this form. Underscores occur.
fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|char| char.is_ascii_alphanumeric() || "-_".contains(char))
    };
    domain.len() <= MAX_DOMAIN_BYTES && domain.split('.').all(is_label)
}

/// A domain in lower case and ASCII (RFC 5891): `bücher.example` is `xn--bcher-kva.example`.
fn ascii_domain(domain: &str) -> Option<String> {
    let domain = domain.to_lowercase();
    if domain.contains('@') {
        return None;
    }
    if domain.is_ascii() && !domain.contains("xn--") {
        return Some(domain);
    }
    let ascii = idna::domain_to_ascii_cow(domain.as_bytes(), AsciiDenyList::URL).ok()?;
    // A label of letters that only look like ASCII would name another domain than the one shown.
    let is_same = |(label, encoded): (&str, &str)| {
        if label.is_ascii() { label == encoded } else { encoded.starts_with("xn--") }
    };
    let labels = domain.split('.').zip(ascii.split('.'));
    let is_same =
        domain.split('.').count() == ascii.split('.').count() && labels.into_iter().all(is_same);
    is_same.then(|| ascii.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_folded_or_refused() {
        for (text, email) in [
            (" A.B@Example.COM ", "a.b@example.com"),
            ("a@B\u{dc}CHER.example", "a@xn--bcher-kva.example"),
            ("a@bu\u{308}cher.example", "a@xn--bcher-kva.example"),
            ("a@XN--bcher-kva.example", "a@xn--bcher-kva.example"),
            ("a@stra\u{df}e.example", "a@xn--strae-oqa.example"),
            ("jose\u{301}@x.example", "jos\u{e9}@x.example"),
            ("JOS\u{c9}@x.example", "jos\u{e9}@x.example"),
            ("a_b+c@x_y.example", "a_b+c@x_y.example"),
            ("a@\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}", "a@xn--r8jz45g.xn--zckzah"),
            ("a..b@1.2.3.4", "a..b@1.2.3.4"),
        ] {
            assert_eq!(Email::parse(text).unwrap().into_string(), email);
        }
        let long = "a".repeat(65);
        let [local, label] = [format!("{long}@x"), format!("a@{long}.example")];
        let long = format!("a@{}x", "a.".repeat(128));
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a\0@b",
            "mi\u{212a}e@b",
            "a\u{37e}@b",
            "a,b@c",
            "a\u{200b}@b",
            "a\u{200d}@b",
            "a\u{ad}@b",
            "a@b\u{fe0f}",
            "<a@b>",
            "a@b.",
            "a@.b",
            "a@b..c",
            "a@b\u{3002}c",
            "a@\u{ff45}xample.com",
            "a@xn--a-\u{fc}.example",
            "a@xn--\u{0}.example",
            "a@xn--zzzzzzzzz.example",
            "a@-b.example",
            "a@b-.example",
            "a@b/c.example",
            "a@b%c.example",
            "a@[127.0.0.1]",
            "\"a b\"@c",
            "mailto:a@b",
            "a%40b.example",
            &local,
            &label,
            &long,
        ] {
            assert!(Email::parse(bad).is_none(), "{bad:?}");
        }
    }
}
