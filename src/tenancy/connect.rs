//! How a connection is made: the address in the driver's words, and TLS as `sslmode` asks for it.

use std::{fs, sync::Arc};

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

/// An address, and how to speak there.
pub(super) struct Connector {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: MakeRustlsConnect,
}

impl Connector {
    /// As the options say.
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
        // A path names a folder of sockets here as well.
        None => config.host(options.get_host()),
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
    if let Some(options) = options.get_options() {
        config.options(options);
    }
    config.ssl_mode(match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow => SslMode::Disable,
        PgSslMode::Prefer => SslMode::Prefer,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => SslMode::Require,
    });
    config
}

/// Where the options tell what they have no other word for. A folder and a name that stand for any others, because not every one of
/// theirs can be written in an address.
fn address(options: &PgConnectOptions) -> url::Url {
    options.clone().socket("/").username("nobody").to_url_lossy()
}

/// As libpq understands `sslmode` (PostgreSQL manual, section 34.19): below `verify-ca` nothing is verified.
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
        (PgSslMode::VerifyCa, roots) => {
            let roots =
                roots.ok_or_else(|| Error::internal("sslmode=verify-ca needs sslrootcert"))?;
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

/// The file that a parameter of the address names.
fn file(options: &PgConnectOptions, parameter: &str) -> Result<Option<Vec<u8>>> {
    let address = address(options);
    let Some((_, path)) = address.query_pairs().find(|(name, _)| name == parameter) else {
        return Ok(None);
    };
    let read = fs::read(path.as_ref());
    read.map(Some).map_err(|error| Error::internal(format!("{parameter} {path}: {error}")))
}

/// Verifies the chain, whatever name it is for, or nothing at all.
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
