//! Converts sqlx's connection options to those of tokio-postgres, and sets TLS up according to
//! `sslmode`.

use std::{fs, sync::Arc};

use ::aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};

/// The driver's configuration and TLS setup for one address.
pub(super) struct Connector {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: MakeRustlsConnect,
}

impl Connector {
    /// Converts the options.
    ///
    /// # Errors
    ///
    /// When a certificate or a key cannot be read.
    pub(super) fn new(options: &PgConnectOptions) -> Result<Self> {
        Ok(Self { config: config(options), tls: MakeRustlsConnect::new(tls(options)?) })
    }
}

fn config(options: &PgConnectOptions) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    match options.get_socket() {
        Some(folder) => config.host_path(folder),
        // Both drivers take a path for a socket folder. IPv6 addresses have brackets only in URLs.
        None => config.host(options.get_host().trim_matches(['[', ']'])),
    };
    config.port(options.get_port()).user(options.get_username());
    if let Some(password) = address(options).password() {
        config.password(percent_decode_str(password).collect::<Vec<u8>>());
    }
    if let Some(database) = options.get_database() {
        config.dbname(database);
    }
    if let Some(name) = options.get_application_name() {
        config.application_name(name);
    }
    if let Some(settings) = options.get_options() {
        config.options(settings);
    }
    config.ssl_mode(match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow => SslMode::Disable,
        PgSslMode::Prefer => SslMode::Prefer,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => SslMode::Require,
    });
    config
}

/// The login of background work at the same address. Role and password derive from the app login,
/// so servers and `tenantry migrate` need no additional setting.
pub(super) fn system_login(options: &PgConnectOptions) -> PgConnectOptions {
    let system = options.clone().username(migration::SYSTEM_ROLE);
    match address(options).password() {
        Some(password) => {
            let password = percent_decode_str(password).collect::<Vec<u8>>();
            system.password(&system_password(&password))
        }
        None => system,
    }
}

/// The default password of the role for background work. SQL that runs as the app role knows
/// neither this password nor its own.
#[must_use]
pub fn system_password(app_password: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, app_password);
    BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"tenantry: password of tenantry_system"))
}

/// The options as a URL, the only access to settings without a getter. Socket and user name are
/// placeholders, because not every value of theirs fits into a URL.
fn address(options: &PgConnectOptions) -> url::Url {
    options.clone().socket("/").username("user").to_url_lossy()
}

/// Implements `sslmode` as libpq does (PostgreSQL manual, section 34.19): `require` verifies the
/// chain if there is a root certificate, and weaker modes verify nothing.
fn tls(options: &PgConnectOptions) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?;
    let roots = file(options, "sslrootcert")?.map(|pem| roots(&pem)).transpose()?;
    let verifier = |roots| {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()
    };
    let builder = match (options.get_ssl_mode(), roots) {
        (PgSslMode::VerifyFull, Some(roots)) => builder.with_root_certificates(roots),
        (PgSslMode::VerifyFull, None) => {
            builder.with_platform_verifier().map_err(Error::internal)?
        }
        (PgSslMode::VerifyCa, None) => {
            return Err(Error::internal("sslmode=verify-ca needs sslrootcert"));
        }
        (PgSslMode::VerifyCa | PgSslMode::Require, Some(roots)) => {
            let chain = Some(verifier(roots).map_err(Error::internal)?);
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Lenient { chain, provider }))
        }
        _ => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Lenient { chain: None, provider })),
    };
    match (file(options, "sslcert")?, file(options, "sslkey")?) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>();
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(Error::internal)?;
            builder
                .with_client_auth_cert(chain.map_err(Error::internal)?, key)
                .map_err(Error::internal)
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(Error::internal("sslcert and sslkey must be given together")),
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.map_err(Error::internal)?).map_err(Error::internal)?;
    }
    Ok(store)
}

/// The contents of the file that a parameter names, or the inline PEM text.
fn file(options: &PgConnectOptions, parameter: &str) -> Result<Option<Vec<u8>>> {
    let address = address(options);
    let Some((_, value)) = address.query_pairs().find(|(name, _)| name == parameter) else {
        return Ok(None);
    };
    // sqlx writes this prefix before paths. Inline text may be a private key, so errors omit it.
    let Some(path) = value.strip_prefix("file: ") else {
        return Ok(Some(value.into_owned().into_bytes()));
    };
    let read = fs::read(path);
    read.map(Some).map_err(|error| Error::internal(format!("{parameter} {path}: {error}")))
}

/// Verifies the chain but not the host name, or nothing at all.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use tokio_postgres::config::Host;

    use super::*;

    fn options(url: &str) -> PgConnectOptions {
        PgConnectOptions::from_str(url).unwrap()
    }

    #[test]
    fn an_address_is_the_same_in_the_driver_s_words() {
        let config = config(&options(
            "postgres://a%40b:p%25%2F%C3%BC@db.example:6432/shop?application_name=me",
        ));
        assert_eq!(config.get_hosts(), [Host::Tcp("db.example".to_owned())]);
        assert_eq!(config.get_ports(), [6432]);
        assert_eq!(config.get_user(), Some("a@b"));
        assert_eq!(config.get_password(), Some("p%/ü".as_bytes()));
        assert_eq!(config.get_dbname(), Some("shop"));
        assert_eq!(config.get_application_name(), Some("me"));
        let socket = super::config(&options("postgres://me@localhost/shop?host=/run/postgresql"));
        assert_eq!(socket.get_hosts(), [Host::Unix("/run/postgresql".into())]);
        let six = super::config(&options("postgres://me@[::1]/shop"));
        assert_eq!(six.get_hosts(), [Host::Tcp("::1".to_owned())]);
    }

    #[test]
    fn the_system_logs_in_with_a_password_of_the_other_s() {
        let system = |url: &str| config(&system_login(&options(url)));
        let derived = system("postgres://tenantry_app:p%25@db.example/shop?sslmode=require");
        assert_eq!(derived.get_user(), Some("tenantry_system"));
        assert_eq!(derived.get_dbname(), Some("shop"));
        assert_eq!(derived.get_password(), Some(system_password(b"p%").as_bytes()));
        assert_ne!(system_password(b"p%"), system_password(b"p"));
        assert_eq!(system("postgres://tenantry_app@db.example/shop").get_password(), None);
    }

    #[test]
    fn certificates_are_files_that_are_there_and_are_what_they_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem");
        let url = |mode: &str| {
            options(&format!("postgres://me@db/shop?sslmode={mode}&sslrootcert={}", path.display()))
        };
        assert!(tls(&url("verify-full")).unwrap_err().cause().contains("root.pem"));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        for mode in ["require", "verify-ca", "verify-full"] {
            assert!(tls(&url(mode)).is_err(), "{mode} accepts an invalid certificate");
        }
        assert!(tls(&options("postgres://me@db/shop?sslmode=verify-ca")).is_err());
        assert!(tls(&options("postgres://me@db/shop?sslmode=require")).is_ok());
        let text = options("postgres://me@db/shop").ssl_client_key_from_pem("a secret");
        let half = tls(&text.ssl_client_cert_from_pem("a secret")).unwrap_err();
        assert!(!half.cause().contains("a secret"), "{}", half.cause());
    }
}
