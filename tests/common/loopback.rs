//! Addresses that stay free until a test listens on them.

use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// An address at which nothing else listens. A free port of 127.0.0.1 may be another
/// test's a moment later; this address is in a part of 127.0.0.0/8 of its own.
pub(crate) fn unused_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Relaxed));
    SocketAddr::from((ip, 9001))
}

/// A port that is free on all addresses, and that the kernel gives to no other socket
/// by itself: its own range begins at 32768.
pub(crate) fn unused_port() -> u16 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let process = u16::try_from(process::id() % 3000).expect("small");
    20_000 + 4 * process + u16::from(NEXT.fetch_add(1, Relaxed) % 4)
}
