//! The TLS side of `wss://`: certificates and their verification.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::failure::Failure;
use crate::plan::Plan;
use crate::target::Scheme;

/// The TLS configuration for a plan's `wss://` servers; `None` without any.
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
    let trust = if plan.insecure {
        Some(Trust::Any)
    } else if let Some(file) = &plan.ca_file {
        Some(Trust::read(file, Arc::clone(&provider))?)
    } else {
        None
    };
    let builder = match trust {
        Some(trust) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { trust, provider })),
        None => builder.with_root_certificates(from_system()?),
    };
    let mut config = builder.with_no_client_auth();
    // A server with HTTP/2 would choose it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// The error of a TLS connection, with advice.
pub(crate) fn describe(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|it| it.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(error)) => describe_certificate(error),
        Some(Error::InvalidMessage(_)) => {
            format!("the peer does not speak it ({error}); use ws://?")
        }
        Some(Error::AlertReceived(alert)) => {
            format!("the server refused the handshake with the alert {alert:?}")
        }
        Some(Error::PeerIncompatible(_)) => {
            format!("the server speaks neither TLS 1.2 nor 1.3 as this client does ({error})")
        }
        _ => error.to_string(),
    }
}

fn describe_certificate(error: &CertificateError) -> String {
    match error {
        // An issuer of the same name but with another key is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no trusted authority has signed the server's certificate: \
             give its CA with --ca FILE, or accept any with -k"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the server's certificate has expired ({error}); -k accepts any")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the server's certificate is not valid yet ({error}); -k accepts any")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the server's certificate is for another name ({error}): use that in the URL, or \
                 take any with -k"
            )
        }
        _ => format!("the server's certificate is not acceptable ({error}); -k accepts any"),
    }
}

/// The trusted certificates, other than the system's authorities.
#[derive(Debug)]
enum Trust {
    /// Any certificate, with `-k`.
    Any,
    /// The certificates of a PEM file: authorities, and servers' own certificates, as self-signed
    /// ones are.
    File {
        authorities: Arc<WebPkiServerVerifier>,
        certificates: Vec<CertificateDer<'static>>,
    },
}

impl Trust {
    fn read(file: &Path, provider: Arc<CryptoProvider>) -> Result<Self, Failure> {
        let wrong =
            |what: &dyn std::fmt::Display| Failure::Trust(format!("{}: {what}", file.display()));
        let pem = fs::read(file).map_err(|error: io::Error| wrong(&error))?;
        let certificates = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&error))?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            let added = roots.add(certificate.clone());
            added.map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"no certificate in it"));
        }
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| wrong(&error))?;
        Ok(Self::File {
            authorities,
            certificates,
        })
    }
}

/// Signatures are always checked, so that every handshake does the same work.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::File {
            authorities,
            certificates,
        } = &self.trust
        else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The validity is checked here, as it is for authorities (RFC 5280, section 6.1).
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            )) if certificates.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
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
