//! Options of listening sockets and of those that they accept.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::config::Config;

/// Options of TCP sockets. On Linux, accepted sockets inherit each of them from the
/// listening socket, except the last.
#[derive(Clone, Debug)]
pub(crate) struct TcpOptions {
    /// `TCP_DEFER_ACCEPT`.
    pub(crate) defer_accept: Option<Duration>,
    /// `TCP_USER_TIMEOUT`.
    pub(crate) user_timeout: Option<Duration>,
    /// `SO_KEEPALIVE` with `TCP_KEEPIDLE`.
    pub(crate) keepalive: Option<Duration>,
    /// `SO_BUSY_POLL`.
    pub(crate) busy_poll: Option<Duration>,
    /// `SO_SNDBUF`.
    pub(crate) send_buffer: Option<NonZeroUsize>,
    /// `SO_RCVBUF`.
    pub(crate) receive_buffer: Option<NonZeroUsize>,
    /// `TCP_NOTSENT_LOWAT`.
    pub(crate) notsent_lowat: Option<NonZeroUsize>,
    /// `SO_INCOMING_CPU`.
    pub(crate) incoming_cpu: bool,
}

/// Probes of a silent peer before the connection ends, and the time between them.
const KEEPALIVE_RETRIES: u32 = 3;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

impl TcpOptions {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            defer_accept: config.defer_accept,
            user_timeout: config.user_timeout,
            keepalive: config.keepalive,
            busy_poll: config.socket_busy_poll,
            send_buffer: config.socket_send_buffer,
            receive_buffer: config.socket_receive_buffer,
            notsent_lowat: config.tcp_notsent_lowat,
            incoming_cpu: config.incoming_cpu,
        }
    }

    /// Sets them. `core` is the one that the socket's worker is pinned to.
    ///
    /// # Errors
    /// The name of the option, and the kernel's error.
    pub(super) fn apply(&self, socket: &impl AsFd, core: Option<usize>) -> io::Result<()> {
        let named =
            |name| move |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let socket = SockRef::from(socket);
        // A reply is complete when it is written: Nagle's algorithm would only delay it.
        socket.set_tcp_nodelay(true).map_err(named("TCP_NODELAY"))?;
        if let Some(timeout) = self.defer_accept {
            set_defer_accept(&*socket, timeout).map_err(named("TCP_DEFER_ACCEPT"))?;
        }
        if self.user_timeout.is_some() {
            socket
                .set_tcp_user_timeout(self.user_timeout)
                .map_err(named("TCP_USER_TIMEOUT"))?;
        }
        if let Some(idle) = self.keepalive {
            let keepalive = TcpKeepalive::new()
                .with_time(idle)
                .with_interval(KEEPALIVE_INTERVAL)
                .with_retries(KEEPALIVE_RETRIES);
            socket
                .set_tcp_keepalive(&keepalive)
                .map_err(named("SO_KEEPALIVE"))?;
        }
        if let Some(busy_poll) = self.busy_poll {
            let us = u32::try_from(busy_poll.as_micros()).unwrap_or(u32::MAX);
            socket.set_busy_poll(us).map_err(named("SO_BUSY_POLL"))?;
        }
        if let Some(size) = self.send_buffer {
            socket
                .set_send_buffer_size(size.get())
                .map_err(named("SO_SNDBUF"))?;
        }
        if let Some(size) = self.receive_buffer {
            socket
                .set_recv_buffer_size(size.get())
                .map_err(named("SO_RCVBUF"))?;
        }
        // Zero resets it on an inherited socket.
        let lowat = self.notsent_lowat.map_or(0, NonZeroUsize::get);
        match socket.set_tcp_notsent_lowat(u32::try_from(lowat).unwrap_or(u32::MAX)) {
            // It is set by default, and optional on a kernel that does not know it.
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {}
            result => result.map_err(named("TCP_NOTSENT_LOWAT"))?,
        }
        if let Some(core) = core.filter(|_| self.incoming_cpu) {
            socket
                .set_cpu_affinity(core)
                .map_err(named("SO_INCOMING_CPU"))?;
        }
        Ok(())
    }
}

/// Neither socket2 nor rustix has this option.
fn set_defer_accept(socket: &impl AsRawFd, timeout: Duration) -> io::Result<()> {
    // The kernel counts in seconds; zero would switch it off.
    let seconds = timeout.as_secs().max(1);
    let value = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
    let len = libc::socklen_t::try_from(size_of_val(&value)).expect("four bytes");
    // SAFETY: the pointer is that of a `c_int`, and the length its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const value).cast(),
            len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
