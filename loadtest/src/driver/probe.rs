//! A single connection before a run, to check that a server serves.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Endpoints;
use super::endpoint::Endpoint;
use super::opening::{Closed, OpenProgress, Opening};
use super::transport::Transport;
use crate::client::Handshake;
use crate::plan::{Plan, Protocol};

/// The interval at which `goes_on` is polled.
const POLL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The connect timeout of an address: the caller tries again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Close 1000, masked with zeros, as a client sends it.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

impl Endpoints {
    /// Completes an opening handshake with each of the plan's servers. `goes_on` is polled
    /// meanwhile.
    ///
    /// # Errors
    /// The error of the first server that failed.
    pub fn probe(&self, plan: &Plan, goes_on: &mut dyn FnMut() -> bool) -> Result<(), String> {
        for endpoint in self.all() {
            let failed = |closed| format!("{}: {}", endpoint.target, reason_of(closed));
            self.open(endpoint, plan, goes_on).map_err(failed)?;
        }
        Ok(())
    }

    fn open(
        &self,
        endpoint: &Endpoint,
        plan: &Plan,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Closed> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let (_, stream) = self
            .first_to_answer(endpoint, deadline, goes_on)
            .map_err(Closed::Connect)?;
        let mut transport = endpoint.transport(stream).map_err(Closed::Connect)?;
        let handshake = (plan.protocol == Protocol::WebSocket).then(|| {
            let mut nonce = [0; 16];
            fastrand::Rng::new().fill(&mut nonce);
            Handshake::new(&endpoint.target, &plan.headers, &plan.subprotocols, nonce)
        });
        let is_websocket = handshake.is_some();
        let mut opening = Opening::new(handshake, 0, 0);
        loop {
            let readable = is_readable(&transport, &opening).map_err(Closed::Connect)?;
            if let OpenProgress::Open(_) = opening.step(&mut transport, readable)? {
                break;
            }
            if !goes_on() {
                return Err(Closed::Connect(io::ErrorKind::Interrupted.into()));
            }
        }
        if is_websocket {
            // If the Close is lost, the server sees the end of the stream.
            let _ = transport.write(&CLOSE);
        }
        transport.close();
        Ok(())
    }
}

/// Waits for the socket for a moment; returns whether it is readable.
fn is_readable(transport: &Transport, opening: &Opening) -> io::Result<bool> {
    let mut flags = PollFlags::IN;
    flags.set(PollFlags::OUT, opening.wants_out());
    let mut fds = [PollFd::new(transport.socket(), flags)];
    match poll(&mut fds, Some(&POLL_INTERVAL)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let events = fds[0].revents();
    Ok(events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
}

fn reason_of(closed: Closed) -> String {
    match closed {
        Closed::Connect(error) if error.kind() == io::ErrorKind::Interrupted => {
            "no answer to the handshake".to_owned()
        }
        Closed::Connect(error) => error.to_string(),
        Closed::Handshake(error) => error.to_string(),
    }
}
