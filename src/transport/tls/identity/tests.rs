//! Files as openssl writes them, and others that operators have.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::transport::tls::diagnosis::SUPPORTED_KEYS;

const CURVE: &str = "-pkeyopt ec_paramgen_curve:";

/// A directory in which openssl makes keys and certificates.
struct Openssl(TempDir);

impl Openssl {
    fn new() -> Self {
        let openssl = Self(tempfile::tempdir().expect("a directory"));
        openssl.run(&format!("genpkey -algorithm EC {CURVE}P-256 -out good.key"));
        openssl.certify("good");
        openssl
    }

    #[track_caller]
    fn run(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .expect("openssl is installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {errors}");
    }

    /// Makes `NAME.crt` for `NAME.key`.
    #[track_caller]
    fn certify(&self, name: &str) {
        self.run(&format!(
            "req -x509 -new -key {name}.key -subj /CN=localhost -days 30 -out {name}.crt"
        ));
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("made")
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("written");
    }

    fn read(&self, certificate: &str, key: &str) -> Result<Identity, Error> {
        Identity::read(&self.path(certificate), &self.path(key))
    }

    /// Expects an error of one line that names this file and contains these words.
    #[track_caller]
    fn expect_refusal(&self, certificate: &str, key: &str, file: &str, words: &[&str]) {
        let refused = self
            .read(certificate, key)
            .expect_err("refused")
            .to_string();
        let start = format!("cannot use {} for TLS: ", self.path(file).display());
        assert!(refused.starts_with(&start), "{refused}");
        for words in words {
            assert!(refused.contains(words), "{words:?}: {refused}");
        }
        assert!(!refused.contains('\n'), "{refused}");
        // Of Rust's types, and of rustls' messages about them.
        for debug in [
            "BadEncoding",
            "Other(",
            "InvalidC",
            "InvalidL",
            "failed to parse",
            "{ ",
        ] {
            assert!(!refused.contains(debug), "{debug:?}: {refused}");
        }
    }
}

#[test]
fn keys_of_every_supported_kind_and_form_are_taken() {
    let openssl = Openssl::new();
    openssl.run(&format!("genpkey -algorithm EC {CURVE}P-384 -out p384.key"));
    openssl.run("genpkey -algorithm ED25519 -out ed25519.key");
    openssl.run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key");
    for name in ["p384", "ed25519", "rsa"] {
        openssl.certify(name);
        openssl
            .read(&format!("{name}.crt"), &format!("{name}.key"))
            .expect("taken");
    }
    // Behind its parameters, as `openssl ecparam -genkey` writes it, and as PKCS #1.
    openssl.run("ecparam -name prime256v1 -genkey -out sec1.key");
    openssl.certify("sec1");
    openssl.read("sec1.crt", "sec1.key").expect("taken");
    openssl.run("rsa -in rsa.key -traditional -out pkcs1.key");
    openssl.read("rsa.crt", "pkcs1.key").expect("taken");
    // Both in one file, after a byte order mark, with the line ends of Windows.
    let both = [openssl.text("good.crt"), openssl.text("good.key")].concat();
    openssl.write("both.pem", &both);
    openssl.read("both.pem", "both.pem").expect("taken");
    let windows = String::from_utf8(both).expect("text").replace('\n', "\r\n");
    openssl.write(
        "windows.pem",
        &[BYTE_ORDER_MARK, windows.as_bytes()].concat(),
    );
    openssl.read("windows.pem", "windows.pem").expect("taken");
}

#[test]
fn an_encrypted_key_is_refused_with_the_command_that_decrypts_it() {
    let openssl = Openssl::new();
    openssl.run("pkey -in good.key -aes256 -passout pass:secret -out pkcs8.key");
    openssl.run("ec -in good.key -aes256 -passout pass:secret -out traditional.key");
    assert!(
        openssl
            .text("pkcs8.key")
            .starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY")
    );
    let traditional = String::from_utf8(openssl.text("traditional.key")).expect("text");
    assert!(
        traditional.contains("Proc-Type: 4,ENCRYPTED"),
        "{traditional}"
    );
    for key in ["pkcs8.key", "traditional.key"] {
        let command = format!("openssl pkey -in {}", openssl.path(key).display());
        openssl.expect_refusal("good.crt", key, key, &["is encrypted", &command]);
    }
}

#[test]
fn unsupported_key_is_refused_with_the_supported_kinds() {
    let openssl = Openssl::new();
    openssl.run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa1024.key");
    openssl.run("rsa -in rsa1024.key -traditional -out pkcs1.key");
    openssl.run(&format!("genpkey -algorithm EC {CURVE}P-521 -out p521.key"));
    openssl.run(&format!(
        "genpkey -algorithm EC {CURVE}secp256k1 -out k1.key"
    ));
    openssl.run("ecparam -name secp521r1 -genkey -noout -out sec1.key");
    openssl.run("ecparam -name prime256v1 -genkey -param_enc explicit -noout -out explicit.key");
    openssl.run("genpkey -algorithm ED448 -out ed448.key");
    openssl.run("genpkey -algorithm X25519 -out x25519.key");
    openssl.run("genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out pss.key");
    openssl.run("dsaparam -genkey -noout -out dsa.key 1024");
    openssl.run("pkcs8 -topk8 -nocrypt -in dsa.key -out dsa8.key");
    for (key, kind) in [
        ("rsa1024.key", "an RSA key of 1024 bits"),
        ("pkcs1.key", "an RSA key of 1024 bits"),
        ("p521.key", "an EC key on P-521"),
        ("sec1.key", "an EC key on P-521"),
        ("k1.key", "an EC key on secp256k1"),
        ("explicit.key", "an EC key on a curve that has no name"),
        ("ed448.key", "an Ed448 key"),
        ("x25519.key", "an X25519 key"),
        ("pss.key", "an RSA-PSS key"),
        ("dsa.key", "a DSA key"),
        ("dsa8.key", "a DSA key"),
    ] {
        let words = [kind, SUPPORTED_KEYS, "openssl genpkey"];
        openssl.expect_refusal("good.crt", key, key, &words);
    }
}

#[test]
fn wrong_content_is_named_with_the_command_that_converts_it() {
    let openssl = Openssl::new();
    openssl.run("x509 -in good.crt -outform DER -out cert.der");
    openssl.run("x509 -in good.crt -trustout -out trusted.crt");
    openssl.run("pkey -in good.key -outform DER -out key.der");
    openssl.run("ec -in good.key -outform DER -out sec1.der");
    openssl.run("pkey -in good.key -pubout -out public.key");
    openssl.run("req -new -key good.key -subj /CN=localhost -out request.pem");
    openssl.run("crl2pkcs7 -nocrl -certfile good.crt -out pkcs7.pem");
    openssl.run("pkcs12 -export -in good.crt -inkey good.key -passout pass: -out both.p12");
    openssl.write("empty", b"");
    openssl.write("blank", b"\n\n");
    openssl.write("prose", b"the certificate is in the other file");
    openssl.write("two.key", &openssl.text("good.key").repeat(2));
    for (certificate, words) in [
        ("empty", "it is empty"),
        ("blank", "it is empty"),
        ("prose", "no '-----BEGIN CERTIFICATE-----'"),
        ("cert.der", "openssl x509 -inform DER"),
        ("both.p12", "openssl pkcs12 -in "),
        ("pkcs7.pem", "openssl pkcs7 -print_certs"),
        ("trusted.crt", "openssl x509 -in "),
        ("request.pem", "a certificate request"),
        ("good.key", "--tls-cert and --tls-key swapped"),
    ] {
        openssl.expect_refusal(certificate, "good.key", certificate, &[words]);
    }
    for (key, words) in [
        ("empty", "it is empty"),
        ("blank", "it is empty"),
        ("prose", "no '-----BEGIN PRIVATE KEY-----'"),
        ("key.der", "openssl pkey -inform DER"),
        ("sec1.der", "openssl pkey -inform DER"),
        ("both.p12", "openssl pkcs12 -in "),
        ("public.key", "a public key"),
        ("good.crt", "--tls-cert and --tls-key swapped"),
        ("two.key", "2 private keys"),
    ] {
        openssl.expect_refusal("good.crt", key, key, &[words]);
    }
}

#[test]
fn a_certificate_that_clients_refuse_is_refused() {
    let openssl = Openssl::new();
    openssl.run("req -new -key good.key -subj /CN=localhost -out request.pem");
    openssl.run("x509 -req -in request.pem -key good.key -days 30 -out v1.crt");
    let own = read_chain(&openssl.path("v1.crt")).expect("read");
    if validity::version(&own[0]) != Some(1) {
        // openssl 3.4 and later make version 3, unless configured otherwise.
        openssl.run("x509 -req -x509v1 -in request.pem -key good.key -days 30 -out v1.crt");
    }
    openssl.expect_refusal(
        "v1.crt",
        "good.key",
        "v1.crt",
        &["X.509 version 1", "-addext"],
    );
    let nothing = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    openssl.write("damaged.crt", nothing);
    openssl.expect_refusal("damaged.crt", "good.key", "damaged.crt", &["is damaged"]);
    let other = Openssl::new();
    openssl.write("other.key", &other.text("good.key"));
    openssl.expect_refusal("good.crt", "other.key", "other.key", &["does not match"]);
}

#[test]
fn truncated_key_causes_no_panic() {
    let openssl = Openssl::new();
    let text = String::from_utf8(openssl.text("good.key")).expect("text");
    let lines: Vec<_> = text.lines().collect();
    for cut in 1..lines[1].len() {
        let damaged = [lines[0], &lines[1][..cut], lines[lines.len() - 1], ""].join("\n");
        openssl.write("damaged.key", damaged.as_bytes());
        openssl.expect_refusal("good.crt", "damaged.key", "damaged.key", &["private key"]);
    }
}
