//! The rules one by one: a handshake that keeps them all, and one change each.

use std::time::Duration;

use super::*;

const GOOD: [(&str, &str); 5] = [
    ("host", "example.org:9001"),
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn options() -> HttpOptions {
    HttpOptions {
        path: None,
        origins: Vec::new(),
        subprotocols: Vec::new(),
        max_header_bytes: 8192,
        handshake_timeout: Duration::from_secs(1),
        accept: None,
        keeps_request: false,
    }
}

/// The good handshake with one header replaced by these values, none for
/// a header that is left out.
fn with(name: &str, values: &[&[u8]]) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = "/chat?room=1".parse().unwrap();
    let name: HeaderName = name.parse().unwrap();
    for (other, value) in GOOD {
        if name != other {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(other, value);
        }
    }
    for value in values {
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().append(&name, value);
    }
    request
}

fn good() -> Request<()> {
    with("x-unrelated", &[b"caf\xe9"])
}

#[test]
fn a_good_handshake_passes() {
    assert!(is_attempt(&good()));
    assert_eq!(admit(&good(), &options()), Ok(None));
}

#[test]
fn a_host_has_the_form_of_one() {
    let good: &[&[u8]] = &[
        b"a%2fb",
        b"[fe80::1%25eth0]",
        b"[::ffff:127.0.0.1]:",
        b"[v1.a:b]:1",
        b"[::1]:9001",
        b"a_b.example:",
    ];
    let bad: &[&[u8]] = &[
        b"",
        b"a,b",
        b"a b",
        b"user@a",
        b"a/b",
        b"caf\xc3\xa9",
        b"[::1",
        b"::1",
        b"[]",
        b"[a]",
        b"[::1%]",
        b"[::1]9001",
        b"[127.0.0.1]",
        b"[v.a]",
        b"[v1.]",
        b"a]",
        b"a[b",
        b":9001",
        b"a:b",
        b"a:1:2",
        b"a%2",
        b"a%zz",
    ];
    let result = |host: &[u8]| admit(&with("host", &[host]), &options());
    for host in good {
        assert_eq!(result(host), Ok(None), "{}", host.escape_ascii());
    }
    for host in bad {
        assert_eq!(result(host), Err(NO_SUCH_HOST), "{}", host.escape_ascii());
    }
}

#[test]
fn the_target_is_a_path_or_a_url() {
    for (target, expected) in [
        ("/", Ok(None)),
        ("//a", Ok(None)),
        ("http://example.org/chat", Ok(None)),
        ("https://[::1]:9001", Ok(None)),
        ("*", Err(TARGET)),
        ("example.org:9001", Err(TARGET)),
        ("example.org", Err(TARGET)),
        ("ftp://example.org/", Err(TARGET)),
        ("ws://example.org/", Err(TARGET)),
        ("http://user@example.org/", Err(TARGET)),
    ] {
        let mut request = good();
        *request.uri_mut() = target.parse().unwrap();
        assert_eq!(admit(&request, &options()), expected, "{target}");
    }
}

#[test]
fn each_header_is_held_to_its_rule() {
    type Case = (&'static str, &'static [&'static [u8]], Result<(), Refusal>);
    let cases: &[Case] = &[
        ("host", &[], Err(NO_SUCH_HOST)),
        ("host", &[b"a", b"b"], Err(NO_SUCH_HOST)),
        ("host", &[b"a", b"a"], Err(NO_SUCH_HOST)),
        ("upgrade", &[], Err(NO_UPGRADE)),
        ("upgrade", &[b""], Err(OTHER_UPGRADE)),
        ("upgrade", &[b"h2c"], Err(OTHER_UPGRADE)),
        ("upgrade", &[b"websockets"], Err(OTHER_UPGRADE)),
        ("upgrade", &[b"websocket\xff"], Err(NOT_ASCII)),
        ("upgrade", &[b"WebSocket"], Ok(())),
        ("upgrade", &[b"h2c, websocket"], Ok(())),
        ("upgrade", &[b"h2c", b" websocket ,"], Ok(())),
        ("connection", &[], Err(CONNECTION_LACKS_UPGRADE)),
        (
            "connection",
            &[b"keep-alive"],
            Err(CONNECTION_LACKS_UPGRADE),
        ),
        ("connection", &[b"upgrades"], Err(CONNECTION_LACKS_UPGRADE)),
        ("connection", &[b"upgrade\x80"], Err(NOT_ASCII)),
        ("connection", &[b"keep-alive, UPGRADE"], Ok(())),
        ("connection", &[b"keep-alive", b"upgrade"], Ok(())),
        ("sec-websocket-version", &[], Err(WEBSOCKET_VERSION)),
        ("sec-websocket-version", &[b"8"], Err(WEBSOCKET_VERSION)),
        ("sec-websocket-version", &[b"013"], Err(WEBSOCKET_VERSION)),
        ("sec-websocket-version", &[b"13, 8"], Err(WEBSOCKET_VERSION)),
        (
            "sec-websocket-version",
            &[b"13", b"13"],
            Err(WEBSOCKET_VERSION),
        ),
        ("sec-websocket-version", &[b"\xff"], Err(NOT_ASCII)),
        ("sec-websocket-key", &[], Err(KEY)),
        ("sec-websocket-key", &[b""], Err(KEY)),
        ("sec-websocket-key", &[b"c2hvcnQ="], Err(KEY)),
        (
            "sec-websocket-key",
            &[b"dGhlIHNhbXBsZSBub25jZSE="],
            Err(KEY),
        ),
        (
            "sec-websocket-key",
            &[b"dGhlIHNhbXBsZSBub25jZSEh"],
            Err(KEY),
        ),
        (
            "sec-websocket-key",
            &[b"dGhlIHNhbXBsZSBub25j===="],
            Err(KEY),
        ),
        (
            "sec-websocket-key",
            &[b"dGhlIHNhbXBsZSBub25jZ-=="],
            Err(KEY),
        ),
        (
            "sec-websocket-key",
            &[b"dGhlIHNhbXBsZSBub25jZQ==, x"],
            Err(KEY),
        ),
        (
            "sec-websocket-key",
            &[b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ=="],
            Err(KEY),
        ),
        ("sec-websocket-key", &[b"\x80\x80\x80"], Err(NOT_ASCII)),
        ("sec-websocket-key", &[b"++++++++++//////////+/=="], Ok(())),
        ("content-length", &[b"1"], Err(BODY)),
        ("content-length", &[b"00"], Ok(())),
        ("content-length", &[b"0"], Ok(())),
        ("content-length", &[b""], Err(BODY)),
        ("content-length", &[b"0", b"7"], Err(BODY)),
        ("transfer-encoding", &[b"chunked"], Err(BODY)),
        ("transfer-encoding", &[b""], Err(BODY)),
        ("origin", &[b"https://anyone.example"], Ok(())),
        ("origin", &[b"a", b"b"], Ok(())),
        ("origin", &[b"\xff"], Err(NOT_ASCII)),
        ("sec-websocket-extensions", &[b"permessage-deflate"], Ok(())),
        ("sec-websocket-extensions", &[b"\xff=;;,,"], Ok(())),
        ("expect", &[b"100-continue"], Ok(())),
    ];
    for (name, values, expected) in cases {
        let request = with(name, values);
        assert!(is_attempt(&request), "{name}: {values:?}");
        let outcome = admit(&request, &options()).map(|_| ());
        assert_eq!(outcome, *expected, "{name}: {values:?}");
    }
}

#[test]
fn only_get_and_http_1_1_can_upgrade() {
    for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::CONNECT] {
        let mut request = good();
        *request.method_mut() = method;
        assert_eq!(admit(&request, &options()), Err(METHOD));
    }
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2] {
        let mut request = good();
        *request.version_mut() = version;
        assert_eq!(admit(&request, &options()), Err(VERSION));
    }
}

#[test]
fn a_configured_path_is_compared_exactly_and_without_the_query() {
    let cases = [
        ("/chat", "/chat", Ok(None)),
        ("/chat", "/chat?x=/other", Ok(None)),
        ("/chat", "http://example.org/chat", Ok(None)),
        ("/", "http://example.org", Ok(None)),
        ("/chat", "/", Err(PATH)),
        ("/chat", "/chat/", Err(PATH)),
        ("/chat", "/Chat", Err(PATH)),
        ("/chat", "/x/../chat", Err(PATH)),
        ("/chat", "/%63hat", Err(PATH)),
        ("/chat", "*", Err(TARGET)),
    ];
    for (path, target, expected) in cases {
        let mut request = good();
        *request.uri_mut() = target.parse().unwrap();
        let options = HttpOptions {
            path: Some(path.to_owned()),
            ..options()
        };
        assert_eq!(admit(&request, &options), expected, "{path} {target}");
    }
}

#[test]
fn origins_off_the_list_are_refused_and_none_at_all_is_not() {
    type Case = (&'static [&'static [u8]], Result<Option<String>, Refusal>);
    let cases: &[Case] = &[
        (&[], Ok(None)),
        (&[b"https://a.example"], Ok(None)),
        (&[b"HTTPS://A.example"], Ok(None)),
        (&[b"https://b.example:8443"], Ok(None)),
        (&[b"https://b.example"], Err(FOREIGN)),
        (&[b"http://a.example"], Err(FOREIGN)),
        (&[b"https://a.example.evil"], Err(FOREIGN)),
        (&[b"https://a.example:443/"], Ok(None)),
        (&[b"https://x.c.example"], Ok(None)),
        (&[b"https://c.example"], Err(FOREIGN)),
        (&[b"https://a.example/x"], Err(FOREIGN)),
        (&[b"null"], Err(FOREIGN)),
        (&[b""], Err(FOREIGN)),
        (&[b"https://a.example", b"https://a.example"], Err(FOREIGN)),
    ];
    let options = HttpOptions {
        origins: [
            "https://a.example/",
            "https://b.example:8443",
            "https://*.c.example",
        ]
        .map(|origin| origin.parse().unwrap())
        .to_vec(),
        ..options()
    };
    for (values, expected) in cases {
        let request = with("origin", values);
        assert_eq!(admit(&request, &options), *expected, "{values:?}");
    }
}

#[test]
fn the_clients_first_listed_subprotocol_is_chosen() {
    type Case = (
        &'static [&'static [u8]],
        Result<Option<&'static str>, Refusal>,
    );
    let cases: &[Case] = &[
        (&[], Ok(None)),
        (&[b"other"], Ok(None)),
        (&[b"echo"], Ok(Some("echo"))),
        (&[b"Echo"], Ok(None)),
        (&[b"other, mirror, echo"], Ok(Some("mirror"))),
        (&[b"other", b"mirror", b"echo"], Ok(Some("mirror"))),
        (&[b",echo ,, other"], Ok(Some("echo"))),
        (&[b""], Ok(None)),
        (&[b" , "], Ok(None)),
        (&[b"", b"echo"], Ok(Some("echo"))),
        (&[b"echo echo"], Err(SUBPROTOCOLS)),
        (&[b"\"echo\""], Err(SUBPROTOCOLS)),
        (&[b"echo;q=1"], Err(SUBPROTOCOLS)),
        (&[b"echo, echo"], Err(SUBPROTOCOLS)),
        (&[b"other", b"other"], Err(SUBPROTOCOLS)),
        (&[b"echo, \xff"], Err(NOT_ASCII)),
    ];
    let options = HttpOptions {
        subprotocols: vec!["echo".to_owned(), "mirror".to_owned()],
        ..options()
    };
    for (values, expected) in cases {
        let request = with("sec-websocket-protocol", values);
        let outcome = admit(&request, &options);
        let outcome = outcome.as_ref().map(Option::as_deref);
        assert_eq!(outcome, expected.as_ref().copied(), "{values:?}");
    }
}

#[test]
fn an_asterisk_takes_the_first_subprotocol_that_is_offered() {
    let options = HttpOptions {
        subprotocols: vec!["echo".to_owned(), "*".to_owned()],
        ..options()
    };
    for (offered, chosen) in [
        (&b"other, echo"[..], Some("other")),
        (b"*", Some("*")),
        (b"", None),
    ] {
        let request = with("sec-websocket-protocol", &[offered]);
        assert_eq!(
            admit(&request, &options).as_ref().map(Option::as_deref),
            Ok(chosen)
        );
    }
    let request = with("sec-websocket-protocol", &[b"no token, echo"]);
    assert_eq!(admit(&request, &options), Err(SUBPROTOCOLS));
}

#[test]
fn the_number_of_offered_subprotocols_is_bounded() {
    let offer = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
        with("sec-websocket-protocol", &[names.join(",").as_bytes()])
    };
    assert_eq!(admit(&offer(SUBPROTOCOLS_MAX), &options()), Ok(None));
    assert_eq!(
        admit(&offer(SUBPROTOCOLS_MAX + 1), &options()),
        Err(SUBPROTOCOLS)
    );
}

#[test]
fn what_asks_for_no_websocket_is_no_attempt() {
    let plain: [&[(&str, &str)]; 4] = [
        &[],
        // From nginx, with every request.
        &[("connection", "upgrade")],
        &[("connection", "keep-alive")],
        &[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
        ],
    ];
    let attempts: [&[(&str, &str)]; 4] = [
        &[("upgrade", "WebSocket")],
        &[("sec-websocket-key", "")],
        &[("sec-websocket-protocol", "echo"), ("upgrade", "h2c")],
        &[("upgrade", "h2c, websocket")],
    ];
    let asked = |headers: &[(&'static str, &'static str)]| {
        let mut request = Request::new(());
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(*name, value);
        }
        is_attempt(&request)
    };
    assert!(!plain.iter().any(|headers| asked(headers)));
    assert!(attempts.iter().all(|headers| asked(headers)));
}
