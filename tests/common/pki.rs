//! Certificates made for a test, and clients that trust them.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

/// A temporary directory with `cert.pem` and `key.pem`.
pub(crate) struct Pki {
    directory: TempDir,
}

/// A certificate for `localhost` and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

/// Makes a pair with a long validity.
pub(crate) fn pair() -> Pair {
    pair_with(|_params| {})
}

/// Makes a pair with changed parameters.
pub(crate) fn pair_with(change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        der: certificate.der().clone(),
    }
}

impl Pair {
    /// A client that trusts only this certificate, with these TLS versions.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

impl Pki {
    /// An empty directory.
    pub(crate) fn empty() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    /// A directory with this pair in it.
    pub(crate) fn of(pair: &Pair) -> Self {
        let pki = Self::empty();
        pki.put(pair);
        pki
    }

    /// Replaces the pair.
    pub(crate) fn put(&self, pair: &Pair) {
        self.write("cert.pem", &pair.certificate);
        self.write("key.pem", &pair.key);
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path(name))
            .expect("created");
        file.write_all(text.as_bytes()).expect("written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The paths of certificate and key.
    pub(crate) fn files(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| self.path(name))
    }

    /// The flags for these files.
    pub(crate) fn flags(&self) -> [String; 2] {
        let [certificate, key] = self.files();
        [
            format!("--tls-cert={}", certificate.display()),
            format!("--tls-key={}", key.display()),
        ]
    }
}

/// The client's end of a TLS connection, before its handshake.
pub(crate) fn over(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> rustls::StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    rustls::StreamOwned::new(client, stream)
}
