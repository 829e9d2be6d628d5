//! The flags of targets, addresses and the handshake.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener};

use crate::support::peer::{Peer, echo, ringback, url_of};
use crate::support::poll;
use crate::support::program::{loadtest, result_of};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};

const FEW: [&str; 3] = ["-c4", "-n40", "--warmup=0s"];

#[test]
fn header_fields_reach_the_server() {
    let peer = Peer::echo();
    let url = peer.url();
    let fields = [
        "-H",
        "X-One: a b",
        "--header",
        "X-Two:c",
        "-HHost: example.test",
    ];
    let plan = result_of(&[&FEW[..], &fields, &[&url]].concat()).plan;
    assert_eq!(plan.headers.len(), 3);
    for transcript in peer.transcripts(4) {
        assert_eq!(transcript.field("x-one"), Some("a b"));
        assert_eq!(transcript.field("x-two"), Some("c"));
        assert_eq!(transcript.field("host"), Some("example.test"));
        let hosts = transcript.request.to_ascii_lowercase();
        assert_eq!(hosts.matches("\r\nhost:").count(), 1, "it is replaced");
    }
}

#[test]
fn the_host_is_the_urls_without_the_flag() {
    let peer = Peer::echo();
    result_of(&[&FEW[..], &[&peer.url()]].concat());
    let host = peer.address().to_string();
    for transcript in peer.transcripts(4) {
        assert_eq!(transcript.field("host"), Some(host.as_str()));
    }
}

#[test]
fn a_path_replaces_that_of_every_url() {
    let peers = [Peer::echo(), Peer::echo()];
    let urls = [format!("{}old", peers[0].url()), peers[1].url()];
    let arguments = ["--path=/chat?room=1", &urls[0], &urls[1]];
    result_of(&[&FEW[..], &arguments].concat());
    for peer in &peers {
        for transcript in peer.transcripts(2) {
            assert!(
                transcript
                    .request
                    .starts_with("GET /chat?room=1 HTTP/1.1\r\n")
            );
        }
    }
}

#[test]
fn connections_go_to_several_servers_in_turn() {
    let peers = [Peer::echo(), Peer::echo()];
    let urls = [peers[0].url(), peers[1].url()];
    for load in ["-w2", "--rate=2k"] {
        let arguments = [
            "-c10",
            "-t2",
            "-n100",
            "--warmup=0s",
            load,
            &urls[0],
            &urls[1],
        ];
        let result = result_of(&arguments);
        assert_eq!((result.counts.due, result.counts.answered), (100, 100));
        assert_eq!(result.label, urls.join(" "));
        for peer in &peers {
            assert_eq!(peer.transcripts(5).len(), 5);
        }
    }
}

#[test]
fn connections_come_from_the_source_addresses_in_turn() {
    let peer = Peer::echo();
    let url = peer.url();
    for (range, last) in [("127.0.0.2-127.0.0.4", 4), ("127.0.0.2", 2)] {
        let arguments = ["-c6", "-n60", "--warmup=0s", "--source", range, &url];
        result_of(&arguments);
        let mut from = BTreeMap::<IpAddr, usize>::new();
        for transcript in peer.transcripts(6) {
            *from.entry(transcript.from.ip()).or_default() += 1;
        }
        let each = 6 / (usize::from(last) - 1);
        let expected = (2..=last).map(|number| (IpAddr::from([127, 0, 0, number]), each));
        assert!(from.clone().into_iter().eq(expected), "{from:?}");
    }
}

#[test]
fn a_source_address_of_another_machine_is_one_line() {
    let peer = Peer::echo();
    let run = loadtest(&["run", "--source=192.0.2.1", &peer.url()]);
    let error = run.refused(2);
    let expected = "--source: 192.0.2.1 is not an address of this machine ";
    assert!(error.starts_with(expected), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
}

#[test]
fn a_subprotocol_has_to_be_chosen() {
    let server = ringback(|config| config.subprotocols = vec!["echo.v1".to_owned()]);
    let url = url_of(&server);
    let offered = ["--subprotocol=chat", "--subprotocol=echo.v1"];
    let plan = result_of(&[&FEW[..], &offered, &[&url]].concat()).plan;
    assert_eq!(plan.subprotocols, ["chat", "echo.v1"]);
    // This server supports none, and chooses none.
    let peer = Peer::echo();
    let url = peer.url();
    let run = loadtest(&[&["run"], &FEW[..], &offered, &[&url]].concat());
    let error = run.refused(1);
    assert!(
        error.starts_with(&format!("no WebSocket at {url} (connection ")),
        "{run:?}"
    );
    assert!(
        error.ends_with("the server chose none of the subprotocols"),
        "{run:?}"
    );
}

#[test]
fn a_subprotocol_that_was_not_offered_is_refused() {
    #[expect(
        clippy::result_large_err,
        clippy::unnecessary_wraps,
        reason = "tungstenite's type"
    )]
    fn choose(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let chosen = "other".parse().expect("a value");
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", chosen);
        Ok(response)
    }
    let peer = Peer::serving(|tap, seen| {
        if let Ok(mut socket) = tungstenite::accept_hdr(tap, choose) {
            echo(&mut socket, seen);
        }
    });
    let url = peer.url();
    for offer in [&[][..], &["--subprotocol=chat"]] {
        let run = loadtest(&[&["run"], &FEW[..], offer, &[&url]].concat());
        let error = run.refused(1);
        let reason = "the server chose the subprotocol \"other\", which was not offered";
        assert!(error.ends_with(reason), "{run:?}");
    }
}

#[test]
fn a_path_that_the_server_does_not_have_is_one_clear_line() {
    let server = ringback(|config| config.path = Some("/echo".to_owned()));
    let url = url_of(&server);
    result_of(&[&FEW[..], &["--path=/echo", &url]].concat());
    let run = loadtest(&[&["run"], &FEW[..], &[&url]].concat());
    let error = run.refused(1);
    assert!(
        error.contains(": status 404 Not Found instead of 101"),
        "{run:?}"
    );
}

#[test]
fn an_ipv6_address_is_in_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("no IPv6 on this machine");
        return;
    };
    let port = listener.local_addr().expect("its address").port();
    let peer = Peer::echo_on(listener);
    let url = format!("ws://[::1]:{port}/");
    let result = result_of(&[&FEW[..], &[&url]].concat());
    assert_eq!(result.label, url);
    assert!(result.environment.loopback);
    let host = format!("[::1]:{port}");
    for transcript in peer.transcripts(4) {
        assert_eq!(transcript.field("host"), Some(host.as_str()));
    }
}

#[test]
fn a_name_is_looked_up() {
    // It may have ::1 as well, where this server does not listen.
    let peer = Peer::echo();
    let url = format!("ws://localhost:{}/", peer.address().port());
    let result = result_of(&[&FEW[..], &[&url]].concat());
    assert_eq!(result.counts.answered, 40);
    assert!(result.environment.loopback);
    // Of several addresses one is chosen first, by a connection without a request.
    let mut served = 0;
    poll("the end of all connections", || {
        let ended = peer.ended();
        served += ended.iter().filter(|it| !it.request.is_empty()).count();
        (served == 4).then_some(())
    });
    // The report has the chosen address.
    let address = peer.address().to_string();
    assert_eq!(result.addresses, [address.as_str()]);
    for format in ["text", "markdown"] {
        let run = loadtest(&[&["run", "--format", format], &FEW[..], &[&url]].concat()).assert_ok();
        assert!(
            run.stdout.contains(&format!("{url} ({address})")),
            "{run:?}"
        );
    }
}
