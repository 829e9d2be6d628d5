//! Why a file holds no usable certificate or key, and the command that converts it.

use std::fmt;
use std::path::Path;

use rustls::pki_types::PrivateKeyDer;

use super::der::{INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, TAG_0, skim, take};

/// The expected content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Certificate,
    Key,
}

/// The supported keys.
pub(super) const SUPPORTED_KEYS: &str =
    "ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits";

/// Describes the content of a file without the wanted item.
pub(super) fn what_instead(wanted: Wanted, file: &Path, content: &[u8]) -> String {
    let file = file.display();
    if content.iter().all(u8::is_ascii_whitespace) {
        return "it is empty".to_owned();
    }
    if let Some((content, _)) = take(content, SEQUENCE) {
        return match (take(content, INTEGER), wanted) {
            (Some(([3], _)), _) => format!(
                "it is PKCS #12, not PEM; for PEM: openssl pkcs12 -in {file} -nodes -out both.pem, \
                 which serves as --tls-cert and as --tls-key"
            ),
            (_, Wanted::Certificate) => format!(
                "it is DER, not PEM; for PEM: openssl x509 -inform DER -in {file} -out cert.pem"
            ),
            (_, Wanted::Key) => format!(
                "it is DER, not PEM; for PEM: openssl pkey -inform DER -in {file} -out key.pem"
            ),
        };
    }
    let labels = labels(content);
    let has = |label| labels.contains(&label);
    let holds_key = labels.iter().any(|label| label.ends_with("PRIVATE KEY"));
    match wanted {
        Wanted::Certificate if has("TRUSTED CERTIFICATE") => format!(
            "it is a certificate in openssl's own form; for one of PEM: openssl x509 -in {file} -out \
             cert.pem"
        ),
        Wanted::Certificate if has("CERTIFICATE REQUEST") || has("NEW CERTIFICATE REQUEST") => {
            "it holds a certificate request, not a certificate: use the one that the authority \
             issues for it"
                .to_owned()
        }
        Wanted::Certificate if has("PKCS7") => {
            format!("it is PKCS #7; for PEM: openssl pkcs7 -print_certs -in {file} -out cert.pem")
        }
        Wanted::Certificate if holds_key => {
            "it holds a private key, not a certificate: are --tls-cert and --tls-key swapped?"
                .to_owned()
        }
        Wanted::Certificate => {
            "it holds no certificate: no '-----BEGIN CERTIFICATE-----'".to_owned()
        }
        Wanted::Key if has("ENCRYPTED PRIVATE KEY") => encrypted(&file),
        Wanted::Key if has("OPENSSH PRIVATE KEY") => {
            format!("it is a key of OpenSSH; for PEM: ssh-keygen -p -m PEM -f {file}")
        }
        Wanted::Key if has("DSA PRIVATE KEY") => unsupported("a DSA key"),
        Wanted::Key if has("PUBLIC KEY") => "it holds a public key, not a private key".to_owned(),
        Wanted::Key if has("CERTIFICATE") => {
            "it holds a certificate, not a private key: are --tls-cert and --tls-key swapped?"
                .to_owned()
        }
        Wanted::Key => {
            "it holds no private key: no '-----BEGIN PRIVATE KEY-----' (PKCS#8), nor one of SEC1 \
             or PKCS#1"
                .to_owned()
        }
    }
}

/// A fault of the keys in a file that is visible before they are parsed.
pub(super) fn key_fault(file: &Path, content: &[u8]) -> Option<String> {
    let keys = labels(content);
    let keys = keys.iter().filter(|label| label.ends_with("PRIVATE KEY"));
    let count = keys.count();
    // The traditional form has a header for it (RFC 1421 section 4.6.1.1).
    let is_encrypted = lines(content).any(|line| {
        let header = line.strip_prefix(b"Proc-Type:");
        header.is_some_and(|header| header.ends_with(b"ENCRYPTED"))
    });
    if count > 1 {
        Some(format!(
            "it holds {count} private keys: keep only the certificate's"
        ))
    } else if is_encrypted {
        Some(encrypted(&file.display()))
    } else {
        None
    }
}

fn encrypted(file: &impl fmt::Display) -> String {
    format!(
        "the private key is encrypted; for one without a passphrase: openssl pkey -in {file} -out \
         plain.pem"
    )
}

/// Why a parsed key cannot be used.
pub(super) fn unusable(key: &PrivateKeyDer<'_>) -> String {
    match KeyKind::of(key) {
        Some(kind) if kind.is_supported() => {
            format!("the private key, {kind}, is damaged: see openssl pkey -check")
        }
        Some(kind) => unsupported(&kind.to_string()),
        None => format!("the private key is damaged, or is none of {SUPPORTED_KEYS}"),
    }
}

fn unsupported(kind: &str) -> String {
    format!(
        "the private key is {kind}, which is not supported; make one of {SUPPORTED_KEYS}, such as \
         by openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem, and have \
         a certificate made for it"
    )
}

/// The kind of a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa {
        bits: usize,
    },
    /// An elliptic curve by its name.
    Ec {
        curve: &'static str,
    },
    Other(&'static str),
}

impl KeyKind {
    fn of(key: &PrivateKeyDer<'_>) -> Option<Self> {
        match key {
            PrivateKeyDer::Pkcs1(key) => rsa(key.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(key) => {
                let (mut key, _) = take(key.secret_sec1_der(), SEQUENCE)?;
                skim(&mut key, INTEGER)?;
                skim(&mut key, OCTET_STRING)?;
                Some(curve(skim(&mut key, TAG_0)?))
            }
            PrivateKeyDer::Pkcs8(key) => pkcs8(key.secret_pkcs8_der()),
            _ => None,
        }
    }

    fn is_supported(self) -> bool {
        match self {
            Self::Rsa { bits } => (2048..=4096).contains(&bits),
            Self::Ec { curve } => ["P-256", "P-384"].contains(&curve),
            Self::Other(kind) => kind == ED25519,
        }
    }
}

const ED25519: &str = "an Ed25519 key";

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { bits } => write!(f, "an RSA key of {bits} bits"),
            Self::Ec { curve } => write!(f, "an EC key on {curve}"),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

/// `PrivateKeyInfo` of RFC 5208 section 5.
fn pkcs8(key: &[u8]) -> Option<KeyKind> {
    let (mut key, _) = take(key, SEQUENCE)?;
    skim(&mut key, INTEGER)?;
    let mut algorithm = skim(&mut key, SEQUENCE)?;
    match skim(&mut algorithm, OBJECT_IDENTIFIER)? {
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" => rsa(skim(&mut key, OCTET_STRING)?),
        b"\x2a\x86\x48\xce\x3d\x02\x01" => Some(curve(algorithm)),
        b"\x2a\x86\x48\xce\x38\x04\x01" => Some(KeyKind::Other("a DSA key")),
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a" => Some(KeyKind::Other("an RSA-PSS key")),
        b"\x2b\x65\x6e" => Some(KeyKind::Other("an X25519 key")),
        b"\x2b\x65\x6f" => Some(KeyKind::Other("an X448 key")),
        b"\x2b\x65\x70" => Some(KeyKind::Other(ED25519)),
        b"\x2b\x65\x71" => Some(KeyKind::Other("an Ed448 key")),
        _ => None,
    }
}

/// `RSAPrivateKey` of RFC 8017 appendix A.1.2.
fn rsa(key: &[u8]) -> Option<KeyKind> {
    let (mut key, _) = take(key, SEQUENCE)?;
    skim(&mut key, INTEGER)?;
    let modulus = skim(&mut key, INTEGER)?;
    let digits = modulus.iter().position(|&byte| byte != 0)?;
    let modulus = &modulus[digits..];
    let leading = usize::try_from(modulus[0].leading_zeros()).ok()?;
    Some(KeyKind::Rsa {
        bits: 8 * modulus.len() - leading,
    })
}

/// `ECParameters` of RFC 5480 section 2.1.1.
fn curve(parameters: &[u8]) -> KeyKind {
    let curve = match take(parameters, OBJECT_IDENTIFIER) {
        Some((b"\x2a\x86\x48\xce\x3d\x03\x01\x07", _)) => "P-256",
        Some((b"\x2b\x81\x04\x00\x22", _)) => "P-384",
        Some((b"\x2b\x81\x04\x00\x23", _)) => "P-521",
        Some((b"\x2b\x81\x04\x00\x0a", _)) => "secp256k1",
        Some(_) => "another curve",
        None => "a curve that has no name, only parameters",
    };
    KeyKind::Ec { curve }
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .split(|&byte| byte == b'\n' || byte == b'\r')
        .map(<[u8]>::trim_ascii_end)
}

/// The labels of a PEM file's sections.
fn labels(content: &[u8]) -> Vec<&str> {
    let label = |line| {
        let line = str::from_utf8(line).ok()?;
        line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")
    };
    lines(content).filter_map(label).collect()
}
