//! The TLS side of `wss://`: whom to trust.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::failure::Failure;
use crate::plan::Plan;
use crate::target::Scheme;

/// How a plan's `wss://` servers are spoken with; `None` where it has none.
///
/// # Errors
/// [`Failure::Trust`] when there are no certificates to trust.
pub fn config_for(plan: &Plan) -> Result<Option<Arc<ClientConfig>>, Failure> {
    if !plan
        .targets
        .iter()
        .any(|target| target.scheme() == Scheme::Wss)
    {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Trust(error.to_string()))?;
    let mut config = if plan.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakeAny { provider }))
            .with_no_client_auth()
    } else {
        let roots = match &plan.ca_file {
            Some(file) => from_file(file)?,
            None => from_system()?,
        };
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    // Servers that also speak HTTP/2 would choose it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn from_file(file: &Path) -> Result<RootCertStore, Failure> {
    let wrong =
        |what: &dyn std::fmt::Display| Failure::Trust(format!("{}: {what}", file.display()));
    let pem = fs::read(file).map_err(|error: io::Error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"no certificate in it"));
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map_or_else(
            || "the system has no certificates".to_owned(),
            ToString::to_string,
        );
        return Err(Failure::Trust(format!(
            "{reason}; give some with --ca, or skip verification with -k"
        )));
    }
    Ok(roots)
}

/// Takes every certificate, as `-k` asks for. Signatures are still checked, so
/// that the handshake does the same work.
#[derive(Debug)]
struct TakeAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
