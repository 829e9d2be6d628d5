//! `wss://`: trusted certificates, and the same load over TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use crate::support::peer::{Peer, echo};
use crate::support::program::{Program, command, loadtest, result_of};
use crate::support::scratch::Scratch;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server with a self-signed certificate.
struct Secure {
    peer: Peer,
    /// Its certificate, a PEM file.
    ca_file: String,
    scratch: Scratch,
}

impl Secure {
    fn new() -> Self {
        Self::with(&["localhost", "127.0.0.1"], |_| {})
    }

    /// One whose certificate is for these names, with a change.
    fn with(names: &[&str], differ: impl FnOnce(&mut CertificateParams)) -> Self {
        let scratch = Scratch::new();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        differ(&mut params);
        let own_key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&own_key).expect("a certificate");
        let ca_file = scratch.file("ca.pem");
        fs::write(&ca_file, own.pem()).expect("a file");
        let key = PrivateKeyDer::Pkcs8(own_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], key)
            .expect("a key that fits");
        let config = Arc::new(config);
        let peer = Peer::serving(move |tap, seen| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            if let Ok(mut socket) = tungstenite::accept(StreamOwned::new(connection, tap)) {
                echo(&mut socket, seen);
            }
        });
        Self {
            peer,
            ca_file,
            scratch,
        }
    }

    fn url(&self) -> String {
        url_at(self.peer.address())
    }
}

fn url_at(address: SocketAddr) -> String {
    format!("wss://{address}/")
}

#[test]
fn a_certificate_in_the_file_is_trusted() {
    let secure = Secure::new();
    let by_name = format!("wss://localhost:{}/", secure.peer.address().port());
    for url in [secure.url(), by_name] {
        let arguments = [
            "-c3",
            "-n300",
            "-w4",
            "--warmup=0s",
            "--ca",
            &secure.ca_file,
            &url,
        ];
        let result = result_of(&arguments);
        assert_eq!((result.counts.due, result.counts.answered), (300, 300));
        assert_eq!(
            result.plan.ca_file.as_deref(),
            Some(secure.ca_file.as_ref())
        );
    }
    assert_eq!(secure.peer.seen.messages(), 600);
}

#[test]
fn an_unknown_certificate_is_one_clear_line() {
    let (secure, other) = (Secure::new(), Secure::new());
    let url = secure.url();
    // As if these were all the certificates of the system.
    let mut system = command();
    system.env("SSL_CERT_FILE", &other.ca_file);
    system.env_remove("SSL_CERT_DIR");
    system.args(["run", "-n10", &url]);
    for run in [
        Program::start_as(&mut system).finish(),
        loadtest(&["run", "-n10", "--ca", &other.ca_file, &url]),
    ] {
        let error = run.refused(1);
        assert!(
            error.starts_with(&format!("no WebSocket at {url}")),
            "{run:?}"
        );
        let words = "TLS: no trusted authority has signed the server's certificate: give its CA \
                     with --ca FILE, or accept any with -k";
        assert!(error.contains(words), "{run:?}");
    }
}

/// Certificates as `openssl req -x509` makes them.
#[test]
fn a_certificate_that_is_its_own_authority_is_trusted_if_it_is_in_the_file() {
    let secure = Secure::with(&["localhost", "127.0.0.1"], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let (ca, url) = (&secure.ca_file, secure.url());
    let result = result_of(&["-c2", "-n50", "--warmup=0s", "--ca", ca, &url]);
    assert_eq!(result.counts.answered, 50);
}

#[test]
fn a_trusted_certificate_is_checked_for_name_and_time() {
    let is_authority = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    let other_name = Secure::with(&["example.org"], is_authority);
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    let expired = Secure::with(&["127.0.0.1"], expired);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    let early = Secure::with(&["127.0.0.1"], early);
    for (secure, words) in [
        (
            other_name,
            "TLS: the server's certificate is for another name (",
        ),
        (expired, "TLS: the server's certificate has expired ("),
        (early, "TLS: the server's certificate is not valid yet ("),
    ] {
        let run = loadtest(&["run", "-n10", "--ca", &secure.ca_file, &secure.url()]);
        assert!(run.refused(1).contains(words), "{run:?}");
    }
}

#[test]
fn insecure_accepts_any_certificate() {
    let secure = Secure::new();
    let url = secure.url();
    for flag in ["-k", "--insecure"] {
        let result = result_of(&["-c2", "-n50", "--warmup=0s", flag, &url]);
        assert_eq!(result.counts.answered, 50);
        assert!(result.plan.insecure);
    }
}

#[test]
fn a_file_without_certificates_is_one_clear_line() {
    let secure = Secure::new();
    let url = secure.url();
    let (empty, missing) = (
        secure.scratch.file("empty.pem"),
        secure.scratch.file("no.pem"),
    );
    fs::write(&empty, "").expect("a file");
    for (file, reason) in [(&empty, "no certificate in it"), (&missing, "No such file")] {
        for command in [&["run"][..], &["sweep", "--rates=1k"]] {
            // Before any other output, or a start.
            let run = loadtest(&[command, &["--ca", file, &url]].concat());
            let error = run.refused(2);
            let expected = format!("no certificates to trust: {file}: {reason}");
            assert!(error.starts_with(&expected), "{run:?}");
            assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        }
    }
}

#[test]
fn a_server_without_tls_is_one_clear_line() {
    let peer = Peer::echo();
    let url = url_at(peer.address());
    let run = loadtest(&["run", "-k", "-n10", &url]);
    let error = run.refused(1);
    assert!(
        error.starts_with(&format!("no WebSocket at {url}")),
        "{run:?}"
    );
}

#[test]
fn a_server_that_answers_tls_with_http_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = url_at(listener.local_addr().expect("its address"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            // The client reads what was sent before this connection ends.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let run = loadtest(&["run", "-c1", "-k", "-n10", &url]);
    assert!(run.refused(1).contains("use ws://?"), "{run:?}");
}

#[test]
fn ws_to_a_tls_server_names_tls() {
    let secure = Secure::new();
    let url = secure.url().replace("wss://", "ws://");
    let run = loadtest(&["run", "-n10", &url]);
    assert!(
        run.refused(1).ends_with(": it speaks TLS, use wss://"),
        "{run:?}"
    );
}

#[test]
fn long_messages_and_wide_windows_go_over_tls() {
    let secure = Secure::new();
    let url = secure.url();
    for load in [
        &["-c2", "-w64", "-n200", "-s1m"][..],
        &["-c2", "-w64", "-n20k", "-s100"],
        &["-c2", "-w3", "-n100", "-s70k", "--split", "--fragment=3"],
        &["-c3", "--rate=500", "-n200", "-s10k"],
        &["-c3", "--rate=500", "--arrival=poisson", "-n200", "--text"],
        &["-c3", "--rate=300", "-d600ms", "--churn=20", "--idle=2"],
    ] {
        let trust = ["-k", "--warmup=0s", &url];
        let result = result_of(&[load, &trust].concat());
        let counts = &result.counts;
        assert_eq!(counts.due, counts.answered, "{load:?}: {counts:?}");
    }
}
