//! Attacks from where a PROXY header must come: a network that is trusted may
//! have more in it than the proxy.

use std::net::{Shutdown, SocketAddr};

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::noise;
use crate::siege::{SHAKING_HANDS, Siege, Toll};

on_every_engine![headers_that_never_end, garbage_instead_of_headers,];

/// Trusts everybody who comes to its second address.
fn lay(engine: Engine, flags: &[&str]) -> (Siege, SocketAddr) {
    let mut command = crate::common::server::binary();
    command
        .args(["--listen=127.0.0.1:0", "--listen=[::1]:0", "--threads=1"])
        .args(["--no-pin", "--proxy-protocol=::1", "--engine", engine])
        .args(flags);
    let server = Server::spawn(&mut command, 2);
    let trusted = server.addresses()[1];
    (Siege::around(server), trusted)
}

/// With as many bytes to follow as may be.
const LONG: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0";

fn headers_that_never_end(engine: Engine) {
    const CONNECTIONS: usize = 1000;
    let (siege, trusted) = lay(engine, &["--handshake-timeout=1500ms"]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::dial(trusted);
            raw.send(&LONG[..index % (LONG.len() + 1)]);
            raw
        })
        .collect();
    // Some that are in the middle of it go on, a byte at a time.
    let mut bytes = 0;
    wait_until("all are let go", || {
        for raw in raws.iter_mut().skip(LONG.len()).step_by(LONG.len() + 1) {
            bytes += usize::from(!raw.has_news() && raw.try_send(b"x"));
        }
        raws.iter().all(Raw::has_news)
    });
    for raw in &mut raws {
        assert!(raw.rest_until_cut().is_empty());
    }
    siege.wait_for_retreat();
    drop(raws);
    siege.lift(Toll::endless_handshakes(CONNECTIONS, bytes));
}

fn garbage_instead_of_headers(engine: Engine) {
    const CONNECTIONS: usize = 600;
    let (siege, trusted) = lay(engine, &[]);
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(trusted);
        let mut bytes = noise(index as u64, [20, 64, 16 * 1024][index % 3]);
        // Further and further into what is read.
        let good = LONG.len().min(index % 20);
        bytes[..good].copy_from_slice(&LONG[..good]);
        raw.try_send(&bytes);
        // It may be cut already.
        let _ = raw.stream().shutdown(Shutdown::Write);
        assert!(raw.rest_until_cut().is_empty());
    }
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .bytes(CONNECTIONS * 5500)
        .held(20, SHAKING_HANDS);
    siege.lift(toll);
}
