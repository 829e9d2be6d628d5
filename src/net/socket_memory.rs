//! The kernel's memory of one TCP socket.

use std::os::fd::{AsFd, AsRawFd};

/// Its memory, in bytes, with the kernel's overhead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketMemory {
    /// Bytes not sent yet, and sent but not acknowledged.
    pub(crate) send_queue: u32,
    /// The send queue, the receive queue, and the reserve of both.
    pub(crate) total: u64,
}

/// The numbers of `SO_MEMINFO`, in the kernel's order: `SK_MEMINFO_…` of
/// `linux/sock_diag.h`.
const NUMBERS: usize = 9;
const RECEIVE_QUEUE: usize = 0;
const SET_ASIDE: usize = 4;
const SEND_QUEUE: usize = 5;

impl SocketMemory {
    /// `None` if the kernel does not report it. A Unix-domain socket has no send queue.
    pub(crate) fn of(socket: impl AsFd) -> Option<Self> {
        let mut numbers = [0_u32; NUMBERS];
        let mut len = libc::socklen_t::try_from(size_of_val(&numbers)).expect("a few bytes");
        // SAFETY: the descriptor is borrowed for the call; the pointers are those of
        // numbers that live as long, and `len` is the size of the first.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                (&raw mut numbers).cast(),
                &raw mut len,
            )
        };
        let parts = [RECEIVE_QUEUE, SET_ASIDE, SEND_QUEUE].map(|part| u64::from(numbers[part]));
        (result == 0).then(|| Self {
            send_queue: numbers[SEND_QUEUE],
            total: parts.iter().sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn unread_bytes_count_until_they_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("there");
        let (mut server, _) = listener.accept().expect("accepted");
        server.set_nonblocking(true).expect("set");
        assert_eq!(SocketMemory::of(&server).expect("reported").send_queue, 0);
        let mut sent = 0;
        while let Ok(len) = server.write(&vec![1; 65_536]) {
            sent += len;
        }
        let full = SocketMemory::of(&server).expect("reported");
        assert!(full.send_queue > 4096, "{full:?}");
        assert!(full.total >= full.send_queue.into(), "{full:?}");
        let unread = SocketMemory::of(&client).expect("reported");
        assert!(unread.total > 4096 && unread.send_queue == 0, "{unread:?}");
        let mut received = vec![0; sent];
        client.read_exact(&mut received).expect("all of it");
        let after = SocketMemory::of(&server).expect("reported");
        assert!(after.send_queue < full.send_queue, "{after:?}");
    }

    #[test]
    fn a_unix_socket_has_no_send_queue() {
        let (mut one, _other) = UnixStream::pair().expect("a pair");
        one.write_all(b"x").expect("written");
        assert_eq!(SocketMemory::of(&one).map_or(0, |it| it.send_queue), 0);
    }
}
