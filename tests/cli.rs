//! The command line: arguments, output and exit status.

mod common;

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tungstenite::Message;

use common::admin::Admin;
use common::client::{Client, Raw};
use common::loopback::{unused_address, unused_port};
use common::pki::{self, Pki};
use common::process::Process;
use common::run::{run, run_with};
use common::server::{Server, binary};
use common::wire::{LAST_FRAGMENT, REQUEST, TEXT, TEXT_FRAGMENT, frame, unmasked};

/// Runs it; expects this status, nothing on stdout and one line on stderr, which is
/// returned.
#[track_caller]
fn refused(args: &[&str], status: i32) -> String {
    refused_with(args, &[], status)
}

#[track_caller]
fn refused_with(args: &[&str], variables: &[(&str, &str)], status: i32) -> String {
    let output = run_with(args, variables);
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(status), "{args:?}: {line}");
    assert!(output.stdout.is_empty(), "{args:?}: {:?}", output.stdout);
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    line
}

#[track_caller]
fn start(args: &[&str], addresses: usize) -> Server {
    Server::spawn(binary().args(args), addresses)
}

#[test]
fn start_line_has_url_engine_and_threads() {
    let address = unused_address();
    let listen = format!("--listen={address}");
    let server = start(&[&listen, "--engine=epoll", "--threads=2"], 1);
    assert_eq!(
        server.start_lines(),
        [format!("listening ws://{address} engine=epoll threads=2")]
    );
    Client::connect(address).close();
}

#[test]
fn invalid_tls_file_is_named_with_reason() {
    let pair = pki::pair();
    let other = pki::pair();
    let garbled = pair.certificate.replace("MII", "M!!");
    let twice = [&pair.certificate, &garbled[..]].concat();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";
    let certificate_of_nothing = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for (certificate, key, file, reason) in [
        ("", &pair.key[..], "cert.pem", "it is empty"),
        (
            &pair.key,
            &pair.key,
            "cert.pem",
            "it holds a private key, not a certificate",
        ),
        (
            &twice,
            &pair.key,
            "cert.pem",
            "certificate 2: the text between",
        ),
        (
            certificate_of_nothing,
            &pair.key,
            "cert.pem",
            "the first certificate is damaged",
        ),
        (&pair.certificate, "", "key.pem", "it is empty"),
        (&pair.certificate, encrypted, "key.pem", "is encrypted"),
        (&pair.certificate, &other.key, "key.pem", "does not match"),
    ] {
        let pki = Pki::empty();
        pki.write("cert.pem", certificate);
        pki.write("key.pem", key);
        let [cert_flag, key_flag] = pki.flags();
        let line = refused(&["--tls-listen=127.0.0.1:0", &cert_flag, &key_flag], 1);
        let path = pki.path(file);
        assert!(line.contains(path.to_str().expect("UTF-8")), "{line}");
        assert!(line.contains(reason), "{reason}: {line}");
    }
    let [cert_flag, key_flag] = Pki::empty().flags();
    let line = refused(&["--tls-listen=127.0.0.1:0", &cert_flag, &key_flag], 1);
    assert!(line.contains("No such file"), "{line}");
    let alone = refused(&["--tls-listen=127.0.0.1:0"], 2);
    assert!(alone.contains("--tls-cert"), "{alone}");
}

#[test]
fn expired_certificate_and_readable_key_log_warnings() {
    let pair = pki::pair_with(|params| {
        params.not_before = rcgen::date_time_ymd(1999, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    let pki = Pki::of(&pair);
    fs::set_permissions(pki.path("key.pem"), Permissions::from_mode(0o644)).expect("set");
    let server = Server::start_tls("epoll", pki, &[]);
    server.wait_for_log("the certificate has expired");
    server.wait_for_log("2001-02-03T00:00:00Z");
    server.wait_for_log("others may read the private key");
}

#[test]
fn sighup_without_tls_is_ignored() {
    let server = Server::start("epoll", &[]);
    server.signal(rustix::process::Signal::HUP);
    server.wait_for_log("no TLS certificate to reload");
    Client::connect(server.address()).echo("still here");
}

#[test]
fn tls_listen_alone_opens_no_plain_port() {
    let pki = Pki::of(&pki::pair());
    let [cert_flag, key_flag] = pki.flags();
    let flags = ["--tls-listen=127.0.0.1:443", &cert_flag, &key_flag];
    let output = run(&[&["config"], &flags[..]].concat());
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    let has = |start| shown.lines().any(|line| line.starts_with(start));
    assert!(has("listen = [] "), "{shown}");
    assert!(has("tls-listen = [\"127.0.0.1:443\"] "), "{shown}");
    let server = Server::start_tls("epoll", pki, &[]);
    assert_eq!(server.start_lines().len(), 1);
    assert!(server.start_lines()[0].starts_with("listening wss://127.0.0.1:"));
}

#[test]
fn port_0_prints_the_bound_port() {
    let server = start(
        &["--listen=127.0.0.1:0", "--engine=epoll", "--threads=1"],
        1,
    );
    let port = server.address().port();
    assert_ne!(port, 0);
    assert_eq!(
        server.start_lines(),
        [format!(
            "listening ws://127.0.0.1:{port} engine=epoll threads=1"
        )]
    );
    Client::connect(server.address()).echo("here");
}

#[test]
fn every_address_is_bound_and_printed_in_order() {
    let first = unused_address();
    let listen = format!("--listen={first}");
    let args = [
        &listen,
        "--listen=127.0.0.1:0",
        "--listen",
        "[::1]:0",
        "--engine=epoll",
    ];
    let server = start(&args, 3);
    let addresses = server.addresses();
    assert_eq!(addresses[0], first);
    assert!(
        addresses[1].is_ipv4() && addresses[2].is_ipv6(),
        "{addresses:?}"
    );
    for &address in addresses {
        Client::connect(address).echo("here, too");
    }
}

#[test]
fn ipv6_wildcard_serves_ipv4_with_client_address() {
    let flags = [
        "--listen=[::]:0",
        "--admin=[::]:0",
        "--engine=epoll",
        "--access-log",
        "--max-connections-per-address=1",
    ];
    let server = start(&flags, 1);
    let port = server.address().port();
    let [four, six] = ["127.0.0.1", "[::1]"]
        .map(|host| -> SocketAddr { format!("{host}:{port}").parse().expect("an address") });
    let mut client = Client::connect(four);
    client.echo("over IPv4");
    let mut over = Raw::dial(four);
    over.send(REQUEST.as_bytes());
    over.expect_refusal(429);
    Client::connect(six).echo("over IPv6");
    let line = server.printed().expect("an admin line");
    let mut admin = Admin::from_line(&line);
    admin.address.set_ip(four.ip());
    assert_eq!(admin.get("/healthz").status, 200);
    let health = run(&["health", &format!("--admin=[::]:{}", admin.address.port())]);
    assert_eq!(health.stdout, b"ok\n");
    let address = client.address();
    client.close();
    server.wait_for_log(&format!("peer={address} "));
    assert!(!server.log().contains("::ffff:"), "{}", server.log());
}

#[test]
fn ipv4_and_ipv6_wildcards_share_a_port() {
    let port = unused_port();
    let (four, six) = (format!("0.0.0.0:{port}"), format!("[::]:{port}"));
    for listed in [[&four, &six], [&six, &four]] {
        let args = [
            "--engine=epoll",
            "--listen",
            listed[0],
            "--listen",
            listed[1],
        ];
        let server = start(&args, 2);
        assert_eq!(server.start_lines().len(), 2);
        for host in ["127.0.0.1", "[::1]"] {
            let address: SocketAddr = format!("{host}:{port}").parse().expect("an address");
            Client::connect(address).echo("either");
        }
    }
    let server = start(&["--engine=epoll", "--listen", &four], 1);
    let line = refused(&["--engine=epoll", "--listen", &six], 1);
    assert!(line.contains(&six) && line.contains("in use"), "{line}");
    drop(server);
}

#[test]
fn auto_logs_engine_and_reason() {
    let mut server = start(&["--listen=127.0.0.1:0"], 1);
    let took = server.start_lines()[0].clone();
    assert!(
        took.contains(" engine=epoll ") || took.contains(" engine=ring "),
        "{took}"
    );
    server.terminate();
    server.wait_for_success();
    let log = server.whole_log();
    let why = log.lines().filter(|line| line.contains("auto: ")).count();
    assert_eq!(why, 1, "{log}");
}

#[test]
fn stdout_has_only_start_lines() {
    let mut server = start(&["--listen=127.0.0.1:0", "--log=trace"], 1);
    let mut client = Client::connect(server.address());
    client.echo("hello");
    client.close();
    let mut wrong = Raw::open(server.address());
    wrong.send(&unmasked(TEXT, b"unmasked"));
    wrong.expect_close(1002);
    drop(wrong);
    server.terminate();
    server.wait_for_success();
    assert_eq!(server.printed(), None);
}

#[test]
fn invalid_arguments_exit_with_one_line_and_status_2() {
    for (args, about) in [
        (&["--listen=nowhere"][..], "--listen"),
        (&["--listen"], "--listen"),
        (&["--listen=127.0.0.1"], "--listen"),
        (&["--listen=127.0.0.1:65536"], "--listen"),
        (&["--engine=kqueue"], "--engine"),
        (&["--engine", "epoll", "--engine", "epoll"], "--engine"),
        (&["--threads=0"], "a whole number from 1 to 1024"),
        (&["--threads=-1"], "--threads"),
        (&["--backlog=0"], "--backlog"),
        (&["--path=chat"], "path"),
        (&["--origin=example.org"], "write https://example.org"),
        (&["--origin=https://a.b/c"], "write https://a.b"),
        (&["--origin=wss://a.b"], "write https://a.b"),
        (&["--subprotocol=a b"], "subprotocol"),
        (&["--max-message=1.5m"], "--max-message"),
        (&["--max-fragments=-1"], "0 for no limit"),
        (&["--window=255"], "window"),
        (&["--window=1g"], "window"),
        (&["--max-connections=-1"], "0 for no limit"),
        (&["--max-connections=many"], "0 for no limit"),
        (&["--threads=4294967296"], "at most 1024"),
        (&["--threads=1152921504606846976"], "at most 1024"),
        (&["--admin=9090"], "such as 127.0.0.1:9090"),
        (&["--log-format=xml"], "expected text or json"),
        (&["doctor", "--format=xml"], "expected text or json"),
        (&["health", "--timeout=soon"], "such as 500ms"),
        (&["--handshake-rate=0/s"], "--handshake-rate"),
        (&["--handshake-burst=3"], "handshake burst"),
        (&["--max-held-bytes=100k"], "held bytes"),
        (&["--max-backlog=2g"], "at most max-held-bytes"),
        (&["--idle-timeout=soon"], "--idle-timeout"),
        (&["--idle-timeout=5"], "--idle-timeout"),
        (&["--pong-timeout=0s"], "pong timeout"),
        (&["--write-timeout=-1s"], "--write-timeout"),
        (&["--handshake-timeout=1ms"], "handshake timeout"),
        (&["--max-header-bytes=1k"], "header bytes"),
        (&["--drain-timeout=x"], "--drain-timeout"),
        (&["--log=ringback=loud"], "--log"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--windw=1k"], "did you mean '--window'?"),
        (&["--read-size=31k"], "read size"),
        (&["--no-pin=maybe"], "--no-pin"),
        (&["--profile=speed"], "--profile"),
        (&["--config=no-such-file.toml"], "no-such-file.toml"),
        (&["127.0.0.1:9001"], "127.0.0.1:9001"),
        (&["config", "--window=255"], "window"),
        (&["--window=1k", "config"], "config"),
    ] {
        let line = refused(args, 2);
        assert!(line.starts_with("ringback: "), "{args:?}: {line}");
        assert!(line.contains(about), "{args:?}: {line}");
    }
}

#[test]
fn port_in_use_exits_with_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let line = refused(&["--engine=epoll", "--listen", &address], 1);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
    // One of several is enough, and the first is not served alone.
    let args = [
        "--engine=epoll",
        "--listen=127.0.0.1:0",
        "--listen",
        &address,
    ];
    assert!(refused(&args, 1).contains(&address));
}

/// With `SO_REUSEPORT` each would get half of the clients.
#[test]
fn port_of_another_ringback_is_in_use() {
    let server = start(&["--listen=127.0.0.1:0", "--engine=epoll"], 1);
    let address = server.address().to_string();
    let line = refused(&["--engine=epoll", "--listen", &address], 1);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
    let twice = unused_address().to_string();
    refused(
        &["--engine=epoll", "--listen", &twice, "--listen", &twice],
        1,
    );
    Client::connect(server.address()).echo("still served");
}

/// Connections of the previous server are in `TIME_WAIT`.
#[test]
fn port_is_free_after_restart() {
    let address = unused_address();
    let listen = format!("--listen={address}");
    for _ in 0..3 {
        let mut server = start(&[&listen, "--engine=epoll"], 1);
        let mut client = Client::connect(address);
        server.terminate();
        client.expect_close(1001);
        drop(client);
        server.wait_for_success();
    }
}

#[test]
fn foreign_address_exits_with_one_line_and_status_1() {
    // TEST-NET-1, RFC 5737.
    let line = refused(&["--engine=epoll", "--listen=192.0.2.1:0"], 1);
    assert!(line.contains("192.0.2.1"), "{line}");
}

#[test]
fn help_goes_to_stdout_and_has_every_flag() {
    const FLAGS: [&str; 56] = [
        "--config",
        "--profile",
        "--busy-poll",
        "--read-size",
        "--listen",
        "--unix-mode",
        "--defer-accept",
        "--user-timeout",
        "--keepalive",
        "--socket-busy-poll",
        "--socket-send-buffer",
        "--socket-receive-buffer",
        "--tcp-notsent-lowat",
        "--max-tcp-memory",
        "--incoming-cpu",
        "--pid-file",
        "--tls-listen",
        "--tls-cert",
        "--tls-key",
        "--tls-reload",
        "--proxy-protocol",
        "--forwarded-from",
        "--forwarded-header",
        "--engine",
        "--threads",
        "--no-pin",
        "--backlog",
        "--path",
        "--origin",
        "--subprotocol",
        "--print-messages",
        "--max-message",
        "--max-fragments",
        "--window",
        "--max-connections",
        "--max-connections-per-address",
        "--max-handshakes",
        "--handshake-rate",
        "--handshake-burst",
        "--max-held-bytes",
        "--max-backlog",
        "--idle-timeout",
        "--pong-timeout",
        "--write-timeout",
        "--handshake-timeout",
        "--close-timeout",
        "--max-header-bytes",
        "--drain-timeout",
        "--drain-spread",
        "--shutdown-delay",
        "--log",
        "--log-format",
        "--access-log",
        "--access-log-fields",
        "--access-log-rate",
        "--version",
    ];
    for flag in ["--help", "-h"] {
        let output = run(&[flag]);
        assert!(output.status.success());
        assert!(output.stderr.is_empty());
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        for flag in FLAGS {
            assert!(help.contains(flag), "{flag} is missing in\n{help}");
        }
        for default in [
            "127.0.0.1:9001",
            "[default: 16k]",
            "[default: 120s]",
            "[default: auto]",
        ] {
            assert!(help.contains(default), "{default} is missing in\n{help}");
        }
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
    }
}

/// A temporary file.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let name = format!("{}-{name}.toml", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, bytes).expect("written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    fn flag(&self) -> String {
        format!("--config={}", self.path())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file that is left does no harm.
        let _ = fs::remove_file(&self.0);
    }
}

/// The output of `ringback config`.
#[track_caller]
fn shown(args: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run_with(&[&["config"], args].concat(), variables);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{complaint}"
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Checks that it has this assignment with this source.
#[track_caller]
fn assert_shown(text: &str, assignment: &str, source: &str) {
    let has = |line: &str| {
        line.strip_prefix(assignment)
            .is_some_and(|rest| rest.trim_start() == format!("# {source}"))
    };
    assert!(
        text.lines().any(has),
        "{assignment} # {source} is not in\n{text}"
    );
}

#[test]
fn flag_overrides_environment_overrides_file() {
    let file = Scratch::new(
        "layers",
        "threads = 1\nengine = 'epoll'\nlisten = '127.0.0.1:0'\n",
    );
    let start_line = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = binary();
        command.args(args).envs(variables.iter().copied());
        let server = Server::spawn(&mut command, 1);
        Client::connect(server.address()).echo("configured");
        server.start_lines()[0].clone()
    };
    let from_file = start_line(&[&file.flag()], &[]);
    assert!(from_file.ends_with("engine=epoll threads=1"), "{from_file}");
    let variables = [("RINGBACK_CONFIG", file.path()), ("RINGBACK_THREADS", "2")];
    let from_variable = start_line(&[], &variables);
    assert!(
        from_variable.ends_with("engine=epoll threads=2"),
        "{from_variable}"
    );
    let from_flag = start_line(&["--threads=3"], &variables);
    assert!(from_flag.ends_with("engine=epoll threads=3"), "{from_flag}");
}

#[test]
fn config_prints_values_with_sources() {
    let file = Scratch::new("sources", "\nbacklog = 7\nthreads = 1\n");
    let text = shown(
        &[&file.flag(), "--threads=3", "--profile=latency"],
        &[("RINGBACK_MAX_MESSAGE", "1m")],
    );
    assert_shown(&text, "threads = 3", "flag");
    assert_shown(&text, "max-message = \"1m\"", "RINGBACK_MAX_MESSAGE");
    assert_shown(&text, "backlog = 7", &format!("{}:2", file.path()));
    assert_shown(&text, "busy-poll = \"200us\"", "profile latency");
    assert_shown(&text, "window = \"16k\"", "default");
    assert_shown(&text, "# path = \"\"", "default: any path");
}

#[test]
fn config_output_is_valid_input() {
    let values = |text: &str| -> Vec<_> {
        let assignments = text.lines().filter_map(|line| line.split_once("  # "));
        assignments
            .map(|(assignment, _source)| assignment.trim_end().to_owned())
            .collect()
    };
    let args = [
        "--origin=http://a",
        "--origin=http://b",
        "--idle-timeout=0",
        "--no-pin",
    ];
    let first = shown(
        &args,
        &[("RINGBACK_PROFILE", "memory"), ("RINGBACK_LOG", "warn")],
    );
    let file = Scratch::new("shown", &first);
    let second = shown(&[&file.flag()], &[]);
    assert_eq!(values(&first), values(&second));
}

#[test]
fn invalid_settings_exit_with_source_and_status_2() {
    let unknown = Scratch::new("unknown", "window = '1k'\nmax_message = '1m'\n");
    assert_eq!(
        refused(&[&unknown.flag()], 2),
        format!(
            "ringback: {}:2: unknown key 'max_message'; did you mean 'max-message'?\n",
            unknown.path()
        )
    );
    let wrong = Scratch::new("wrong", "# x\nmax-message = 'x'\n");
    assert_eq!(
        refused(&["config", &wrong.flag()], 2),
        format!(
            "ringback: {}:2: invalid value 'x' for 'max-message': \
             expected a size such as 4096, 16k or 1m\n",
            wrong.path()
        )
    );
    for (variable, about) in [
        (
            ("RINGBACK_THREAD", "1"),
            "RINGBACK_THREAD: unknown variable; did you mean 'RINGBACK_THREADS'?",
        ),
        (
            ("RINGBACK_THREADS", "many"),
            "RINGBACK_THREADS: invalid value 'many'",
        ),
        (("RINGBACK_WINDOW", "255"), "RINGBACK_WINDOW: the window"),
        (
            ("RINGBACK_LOG", "loud"),
            "RINGBACK_LOG: invalid value 'loud'",
        ),
        (
            ("RINGBACK_CONFIG", "no-such-file.toml"),
            "cannot read no-such-file.toml",
        ),
    ] {
        let line = refused_with(&[], &[variable], 2);
        assert!(
            line.starts_with("ringback: ") && line.contains(about),
            "{line}"
        );
    }
}

#[test]
fn invalid_config_file_exits_with_one_line_and_status_2() {
    for (name, bytes, about) in [
        ("binary", &b"window = '1k'\n\xff"[..], ":2: not UTF-8"),
        ("prose", b"\n\nhello there", ":3: not TOML"),
        (
            "huge",
            &vec![b'#'; 1024 * 1024 + 1],
            ": larger than 1048576 bytes",
        ),
    ] {
        let file = Scratch::new(name, bytes);
        let line = refused(&[&file.flag()], 2);
        assert!(line.contains(&format!("{}{about}", file.path())), "{line}");
    }
    let line = refused(&["--config", env!("CARGO_TARGET_TMPDIR")], 2);
    assert!(line.contains("cannot read"), "{line}");
}

#[test]
fn print_messages_prints_sender_and_echoes() {
    let server = start(&["--listen=127.0.0.1:0", "--print-messages"], 1);
    let mut client = Client::connect(server.address());
    let sender = client.address();
    for (message, printed) in [
        (Message::text("hello"), "hello"),
        (Message::text(""), ""),
        (
            Message::text("Grüße, 🦀 \"quoted\""),
            "Grüße, 🦀 \"quoted\"",
        ),
        (Message::binary(vec![0; 70_000]), "70000 bytes"),
        (Message::binary(Vec::new()), "0 bytes"),
        // A line feed in a message begins no new line.
        (
            Message::text("one\n127.0.0.1:1 sent: two"),
            "one\\n127.0.0.1:1 sent: two",
        ),
    ] {
        client.echo(message);
        assert_eq!(server.printed(), Some(format!("{sender} sent: {printed}")));
    }
    client.close();
    // Fragments are printed as one message.
    let mut raw = Raw::open(server.address());
    let sender = raw.stream().local_addr().expect("connected");
    raw.send(&[frame(TEXT_FRAGMENT, b"to"), frame(LAST_FRAGMENT, b"gether")].concat());
    raw.expect_frame(TEXT, b"together");
    assert_eq!(server.printed(), Some(format!("{sender} sent: together")));
}

#[test]
fn print_messages_drains() {
    let mut server = start(
        &[
            "--listen=127.0.0.1:0",
            "--print-messages",
            "--drain-timeout=10m",
        ],
        1,
    );
    let mut client = Client::connect(server.address());
    client.echo("hello");
    server.terminate();
    client.expect_close(1001);
    drop(client);
    server.wait_for_success();
    assert!(
        server
            .printed()
            .is_some_and(|line| line.ends_with(" sent: hello"))
    );
    assert_eq!(server.printed(), None);
}

/// Ends a server that prints nothing more; returns its whole log.
#[track_caller]
fn log_to_the_end(server: &mut Server) -> String {
    server.terminate();
    server.wait_for_success();
    // At the end of stdout all log lines are written.
    assert_eq!(server.printed(), None);
    server.whole_log()
}

#[test]
fn log_level_is_that_of_flag_or_rust_log() {
    let session = |flags: &[&str], variable: Option<&str>| {
        let mut command = binary();
        command
            .args(["--listen=127.0.0.1:0", "--engine=epoll"])
            .args(flags);
        if let Some(value) = variable {
            command.env("RUST_LOG", value);
        }
        let mut server = Server::spawn(&mut command, 1);
        let mut wrong = Raw::open(server.address());
        wrong.send(&unmasked(TEXT, b"unmasked"));
        wrong.expect_close(1002);
        drop(wrong);
        log_to_the_end(&mut server)
    };
    let violation = "the frame is not masked";
    let drain = "draining";
    assert_eq!(session(&["--log=off"], None), "");
    let usual = session(&[], None);
    assert!(
        usual.contains(drain) && !usual.contains(violation),
        "{usual}"
    );
    let warn = session(&["--log=warn"], None);
    assert!(!warn.contains(drain), "{warn}");
    let debug = session(&["--log=ringback=debug"], None);
    assert!(
        debug.contains(drain) && debug.contains(violation),
        "{debug}"
    );
    let variable = session(&[], Some("ringback=debug"));
    assert!(variable.contains(violation), "{variable}");
    let both = session(&["--log=off"], Some("ringback=debug"));
    assert_eq!(both, "", "the flag is stronger");
}

#[test]
fn log_format_json_is_one_object_per_line() {
    let flags = ["--listen=127.0.0.1:0", "--log-format=json", "--log=debug"];
    let mut server = start(&flags, 1);
    let mut wrong = Raw::open(server.address());
    wrong.send(&unmasked(TEXT, b"unmasked"));
    wrong.expect_close(1002);
    drop(wrong);
    let log = log_to_the_end(&mut server);
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let violation = lines
        .iter()
        .find(|line| line["message"] == "a client broke the protocol")
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(violation["level"], "DEBUG");
    assert_eq!(violation["violation"], "the frame is not masked");
    assert!(violation["timestamp"].is_string());
}

#[test]
fn open_files_limit_is_raised_to_hard_limit() {
    let mut command = std::process::Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -S -n 256 && exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_ringback"),
        ])
        .args(["--listen=127.0.0.1:0", "--engine=epoll"]);
    let server = Server::spawn(&mut command, 1);
    let Process { id } = server.process();
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).expect("the process lives");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("listed");
    let numbers: Vec<_> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{files}");
}
