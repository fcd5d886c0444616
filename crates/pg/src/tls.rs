//! TLS according to `sslmode`, the same for all connections. The trust store is the system's unless
//! `sslrootcert` names another.

use std::{fs, sync::Arc};

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
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{ConnectOptions, Error, Result, error::whole};

/// The driver's configuration and TLS setup for one address.
pub(crate) struct Connector {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: MakeRustlsConnect,
    address: String,
}

impl Connector {
    /// Reads the certificates.
    ///
    /// # Errors
    ///
    /// When a certificate or a key cannot be read.
    pub(crate) fn new(options: &ConnectOptions) -> Result<Self> {
        let (config, tls) = (options.config()?, MakeRustlsConnect::new(tls(options)?));
        Ok(Self { config, tls, address: options.address() })
    }

    /// Converts an error of connecting.
    pub(crate) fn failed(&self, error: tokio_postgres::Error) -> Error {
        if error.as_db_error().is_some() {
            return error.into();
        }
        let reason = whole(&error);
        let reason = reason.strip_prefix("error connecting to server: ").unwrap_or(&reason);
        Error::connection(format!("cannot connect to {}: {reason}", self.address))
    }
}

/// Implements `sslmode` as libpq does (PostgreSQL manual, section 34.19): `require` verifies the
/// chain if there is a root certificate, and weaker modes verify nothing.
fn tls(options: &ConnectOptions) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::configuration)?;
    let roots = file(options, "sslrootcert")?.map(|pem| roots(&pem)).transpose()?;
    let verifier = |roots| {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()
    };
    let builder = match (options.ssl_mode(), roots) {
        ("verify-full", Some(roots)) => builder.with_root_certificates(roots),
        ("verify-full", None) => builder.with_platform_verifier().map_err(Error::configuration)?,
        ("verify-ca", None) => {
            return Err(Error::configuration("sslmode=verify-ca needs sslrootcert"));
        }
        ("verify-ca" | "require", Some(roots)) => {
            let chain = Some(verifier(roots).map_err(Error::configuration)?);
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
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(Error::configuration)?;
            builder
                .with_client_auth_cert(chain.map_err(Error::configuration)?, key)
                .map_err(Error::configuration)
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(Error::configuration("sslcert and sslkey must be given together")),
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.map_err(Error::configuration)?).map_err(Error::configuration)?;
    }
    Ok(store)
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
