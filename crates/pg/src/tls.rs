//! TLS according to `sslmode`, the same for all connections. The trust store is the system's unless
//! `sslrootcert` names another.

use std::{fs, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::{Connection, Socket, config::SslMode, error::SqlState, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{ConnectOptions, Error, Result, connect_options::SYSTEM_ROOTS, error::whole};

/// The driver's configuration and TLS setup for one address.
pub(crate) struct Connector {
    config: tokio_postgres::Config,
    pub(crate) tls: MakeRustlsConnect,
    /// The mode of the second attempt, where `sslmode` has one.
    fallback: Option<SslMode>,
    address: String,
}

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl Connector {
    /// Reads the certificates.
    ///
    /// # Errors
    ///
    /// When a certificate or a key cannot be read.
    pub(crate) fn new(options: &ConnectOptions) -> Result<Self> {
        let (config, tls) = (options.config()?, MakeRustlsConnect::new(tls(options)?));
        let fallback = match options.ssl_mode() {
            "prefer" => Some(SslMode::Disable),
            "allow" => Some(SslMode::Require),
            _ => None,
        };
        Ok(Self { config, tls, fallback, address: options.address() })
    }

    /// Connects. `prefer` tries again without TLS, and `allow` with it, if the server refuses the
    /// first attempt, as in libpq.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or refuses the login.
    pub(crate) async fn connect(
        &self,
    ) -> Result<(tokio_postgres::Client, Connection<Socket, Stream>)> {
        // Boxed: large, and every request would carry it.
        let connecting = Box::pin(self.config.connect(self.tls.clone()));
        let (first, mode) = match (connecting.await, self.fallback) {
            (Err(error), Some(mode)) if is_refusal(&error) => (error, mode),
            (connected, _) => return connected.map_err(|error| self.failed(error)),
        };
        let mut other = self.config.clone();
        let connected = Box::pin(other.ssl_mode(mode).connect(self.tls.clone())).await;
        // The second refusal names the other mode, which the address does not ask for.
        connected.map_err(|error| self.failed(if is_refusal(&error) { first } else { error }))
    }

    fn failed(&self, error: tokio_postgres::Error) -> Error {
        if error.as_db_error().is_some() {
            return error.into();
        }
        let reason = whole(&error);
        let reason = reason.strip_prefix("error connecting to server: ").unwrap_or(&reason);
        Error::connection(format!("cannot connect to {}: {reason}", self.address))
    }
}

/// Whether the server may accept a connection of another mode: `pg_hba.conf` has no entry for this
/// one, or there was no agreement on TLS.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
        || error.to_string().starts_with("error performing TLS handshake")
}

/// Implements `sslmode` as libpq does (PostgreSQL manual, section 34.19): `require` verifies the
/// chain if there is a root certificate, and weaker modes verify nothing.
fn tls(options: &ConnectOptions) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::configuration)?;
    let roots = match options.get("sslrootcert") {
        Some(SYSTEM_ROOTS) => None,
        _ => file(options, "sslrootcert")?
            .map(|pem| certificates("sslrootcert", &pem))
            .transpose()?,
    };
    let verifier = match (options.ssl_mode(), roots) {
        ("verify-full", None) => None,
        ("verify-ca", None) => {
            return Err(Error::configuration("sslmode=verify-ca needs sslrootcert"));
        }
        (mode @ ("verify-full" | "verify-ca" | "require"), Some(roots)) => {
            Some(Verifier::new(roots, mode == "verify-full", provider)?)
        }
        _ => Some(Verifier { chain: None, roots: Vec::new(), checks_name: false, provider }),
    };
    let builder = match verifier {
        Some(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        None => builder.with_platform_verifier().map_err(Error::configuration)?,
    };
    match (file(options, "sslcert")?, file(options, "sslkey")?) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("sslcert", &certificate)?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| of("sslkey", &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| of("sslcert", &error))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(Error::configuration("sslcert and sslkey must be given together")),
    }
}

fn certificates(parameter: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read.map_err(|error| of(parameter, &error))? {
        none if none.is_empty() => Err(of(parameter, &"it has no certificate")),
        some => Ok(some),
    }
}

/// An error in the value of a parameter, which may be a private key and is not repeated.
fn of(parameter: &str, error: &dyn std::fmt::Display) -> Error {
    Error::configuration(format!("{parameter}: {error}"))
}

/// The contents of the file that a parameter names, or the inline PEM text.
fn file(options: &ConnectOptions, parameter: &str) -> Result<Option<Vec<u8>>> {
    let Some(value) = options.get(parameter) else {
        return Ok(None);
    };
    // Inline text may be a private key, so errors omit it.
    if value.starts_with("-----BEGIN") {
        return Ok(Some(value.as_bytes().to_vec()));
    }
    let read = fs::read(value);
    read.map(Some).map_err(|error| Error::configuration(format!("{parameter} {value}: {error}")))
}

/// Verifies the server's certificate with `roots`, or nothing at all without a `chain`.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    roots: Vec<CertificateDer<'static>>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(
        roots: Vec<CertificateDer<'static>>,
        checks_name: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self> {
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(|error| of("sslrootcert", &error))?;
        }
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
        let chain = Some(builder.build().map_err(Error::configuration)?);
        Ok(Self { chain, roots, checks_name, provider })
    }
}

impl ServerCertVerifier for Verifier {
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
        // A self-signed certificate that signs itself as an authority, as OpenSSL creates it by
        // default. It is trusted itself, so no chain leads to it.
        if self.roots.contains(certificate) {
            if self.checks_name {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
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
    use super::*;

    fn options(url: &str) -> ConnectOptions {
        url.parse().unwrap()
    }

    #[test]
    fn certificates_are_files_that_exist_and_are_valid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem");
        let url = |mode: &str| {
            options(&format!("postgres://me@db/shop?sslmode={mode}&sslrootcert={}", path.display()))
        };
        assert!(tls(&url("verify-full")).unwrap_err().to_string().contains("root.pem"));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        for mode in ["require", "verify-ca", "verify-full"] {
            assert!(tls(&url(mode)).is_err(), "{mode} accepts an invalid certificate");
        }
        assert!(tls(&options("postgres://me@db/shop?sslmode=verify-ca")).is_err());
        assert!(tls(&options("postgres://me@db/shop?sslmode=require")).is_ok());
        let text = options("postgres://me@db/shop").with("sslkey", "-----BEGIN a secret");
        let half = tls(&text.with("sslcert", "-----BEGIN a secret")).unwrap_err();
        assert!(!half.to_string().contains("a secret"), "{half}");
    }
}
