//! A certificate for the servers, and clients that trust it.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, KeyPair};
use ringback::TlsFiles;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::file;

const NAME: &str = "localhost";

static PKI: LazyLock<Pki> = LazyLock::new(Pki::new);

struct Pki {
    files: TlsFiles,
    connector: TlsConnector,
    /// The files in memory that the paths name.
    _open: [File; 2],
}

impl Pki {
    fn new() -> Self {
        let params = CertificateParams::new([NAME.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let write = |text: String| {
            let (mut file, path) = file::in_memory();
            file.write_all(text.as_bytes()).expect("written");
            (file, path)
        };
        let (certificate_file, certificate_path) = write(certificate.pem());
        let (key_file, key_path) = write(key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each connection begins without state of the previous one.
        config.resumption = Resumption::disabled();
        Self {
            files: TlsFiles {
                certificate: certificate_path,
                key: key_path,
            },
            connector: Arc::new(config).into(),
            _open: [certificate_file, key_file],
        }
    }
}

/// The server's certificate files.
pub fn files() -> TlsFiles {
    PKI.files.clone()
}

/// The client's end of a TLS connection.
///
/// # Panics
/// If the handshake fails.
pub async fn connect(stream: UnixStream) -> TlsStream<UnixStream> {
    let name = NAME.try_into().expect("a name");
    let agreed = PKI.connector.connect(name, stream).await;
    agreed.expect("a TLS handshake")
}
