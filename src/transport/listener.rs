//! Listening sockets: one for each worker and address. TCP sockets share the port; a
//! Unix-domain socket, and an inherited one, is shared itself.

mod accepting;
mod options;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Config;
use crate::config::error::Error;
use crate::net::address::Address;
pub(crate) use accepting::{Accepting, UnixOptions};
use options::TcpOptions;

/// The listening sockets of one address.
#[derive(Debug)]
pub(crate) struct Listening {
    /// With the port that the kernel chose.
    pub(crate) address: Address,
    /// One for each worker.
    pub(crate) sockets: Vec<OwnedFd>,
    /// They are inherited.
    pub(crate) is_adopted: bool,
}

/// Opens listening sockets.
#[derive(Clone, Debug)]
pub(crate) struct Listeners {
    backlog: NonZeroU32,
    unix_mode: u32,
    tcp: TcpOptions,
    /// The ports of listed IPv4 addresses.
    ipv4_ports: Vec<u16>,
    /// The core that each worker is pinned to, if any.
    cores: Vec<Option<usize>>,
}

impl Listeners {
    pub(crate) fn new(config: &Config, cores: Vec<Option<usize>>) -> Self {
        Self {
            backlog: config.backlog,
            unix_mode: config.unix_mode,
            tcp: TcpOptions::new(config),
            ipv4_ports: ipv4_ports(config),
            cores,
        }
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// [`Error::Listen`], also if another server's socket would share the port: each
    /// server would get half of the clients.
    pub(crate) fn open(&self, address: &Address) -> Result<Listening, Error> {
        let opened = match address {
            Address::Tcp(internet) => self.open_tcp(*internet),
            Address::Unix(_) => self.open_unix(address),
        };
        opened.map_err(|source| Error::Listen {
            address: address.clone(),
            source,
        })
    }

    /// Listens with inherited sockets that are bound to this address. Every worker gets
    /// one of them, and each of them a worker.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub(crate) fn adopt(&self, address: Address, given: Vec<OwnedFd>) -> Result<Listening, Error> {
        let adopted = self.share_out(&address, given);
        match adopted {
            Ok(sockets) => Ok(Listening {
                address,
                sockets,
                is_adopted: true,
            }),
            Err(source) => Err(Error::Listen { address, source }),
        }
    }

    /// Refuses inherited sockets that serve IPv4 on `[::]`, if an IPv4 address with the
    /// same port is now listed: it would be in use.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub(crate) fn check_handed_over(&self, sockets: &[(Address, OwnedFd)]) -> Result<(), Error> {
        let is_in_the_way = |(address, socket): &&(Address, OwnedFd)| {
            address.internet().is_some_and(|internet| {
                let is_any = internet.is_ipv6() && internet.ip().is_unspecified();
                is_any
                    && self.ipv4_ports.contains(&internet.port())
                    && SockRef::from(socket)
                        .only_v6()
                        .is_ok_and(|only_v6| !only_v6)
            })
        };
        match sockets.iter().find(is_in_the_way) {
            None => Ok(()),
            Some((address, _socket)) => Err(Error::Listen {
                address: address.clone(),
                source: io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "the running server accepts IPv4 on this address, and an IPv4 address is now \
                     listed with the same port: restart the server instead of reloading it",
                ),
            }),
        }
    }

    fn share_out(&self, address: &Address, given: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
        let count = given.len();
        let mut sockets = given;
        for index in count..self.cores.len() {
            sockets.push(sockets[index % count].try_clone()?);
        }
        for (index, socket) in sockets.iter().enumerate() {
            SockRef::from(socket).set_nonblocking(true)?;
            if let Some(internet) = address.internet() {
                self.expect_families(internet, socket);
                // A shared socket is bound to no core.
                let is_own = count == self.cores.len();
                let core = self.cores.get(index).copied().flatten();
                self.tcp.apply(socket, core.filter(|_| is_own))?;
            }
        }
        Ok(sockets)
    }

    /// All sockets are bound before any of them listens, so the kernel spreads
    /// connections over all of them from the first on.
    fn open_tcp(&self, address: SocketAddr) -> io::Result<Listening> {
        if address.port() != 0 {
            // Without SO_REUSEPORT, which fails if the port is in use. A port that the
            // kernel chooses is free.
            bind_tcp(address, false, &self.ipv4_ports)?;
        }
        let first = bind_tcp(address, true, &self.ipv4_ports)?;
        let address = first
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut bound = vec![first];
        for _ in 1..self.cores.len() {
            bound.push(bind_tcp(address, true, &self.ipv4_ports)?);
        }
        for (socket, &core) in bound.iter().zip(&self.cores) {
            self.tcp.apply(socket, core)?;
        }
        for socket in &bound {
            self.listen(socket)?;
        }
        Ok(Listening {
            address: address.into(),
            sockets: bound.into_iter().map(OwnedFd::from).collect(),
            is_adopted: false,
        })
    }

    fn open_unix(&self, address: &Address) -> io::Result<Listening> {
        if let Some(path) = address.file() {
            remove_stale(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.to_kernel()?)?;
        if let Some(path) = address.file() {
            // No client can connect before it listens.
            fs::set_permissions(path, fs::Permissions::from_mode(self.unix_mode))?;
        }
        self.listen(&socket)?;
        Ok(Listening {
            address: address.clone(),
            sockets: self.share_out(address, vec![socket.into()])?,
            is_adopted: false,
        })
    }

    /// Warns of an inherited socket that serves IPv6 only, which cannot be changed once it
    /// is bound.
    fn expect_families(&self, address: SocketAddr, socket: &OwnedFd) {
        let serves_ipv6_alone = SockRef::from(socket).only_v6().unwrap_or(false);
        if serves_ipv6_alone && takes_ipv4(address, &self.ipv4_ports) {
            tracing::warn!(
                %address,
                "the inherited socket serves IPv6 only: restart the server, or set BindIPv6Only= \
                 in the socket unit"
            );
        }
    }

    fn listen(&self, socket: &Socket) -> io::Result<()> {
        socket.listen(i32::try_from(self.backlog.get()).unwrap_or(i32::MAX))
    }
}

/// Whether a socket for this address serves IPv4 as well: `[::]` does, unless an IPv4
/// address with the same port is listed.
fn takes_ipv4(address: SocketAddr, ipv4_ports: &[u16]) -> bool {
    address.is_ipv6() && address.ip().is_unspecified() && !ipv4_ports.contains(&address.port())
}

/// The fixed ports of all IPv4 addresses.
pub(crate) fn ipv4_ports(config: &Config) -> Vec<u16> {
    let listen = config.listen.iter().chain(&config.tls_listen);
    let addresses = listen.filter_map(Address::internet).chain(config.admin);
    let fixed = addresses.filter(|address| address.is_ipv4() && address.port() != 0);
    fixed.map(|address| address.port()).collect()
}

/// The address to bind: `[::]` becomes `0.0.0.0` if the kernel has no IPv6.
pub(crate) fn for_this_kernel(address: SocketAddr) -> SocketAddr {
    let has_ipv6 = || match Socket::new(Domain::IPV6, Type::STREAM, None) {
        Ok(_) => true,
        Err(error) => {
            let errno = rustix::io::Errno::from_io_error(&error);
            errno != Some(rustix::io::Errno::AFNOSUPPORT)
        }
    };
    if address.is_ipv6() && address.ip().is_unspecified() && !has_ipv6() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))
    } else {
        address
    }
}

/// The same for all addresses of a configuration, each once; logs what changes.
pub(crate) fn all_for_this_kernel(mut config: Config) -> Config {
    let replace = |address: &mut SocketAddr| {
        let replaced = for_this_kernel(*address);
        if replaced != *address {
            tracing::warn!("this kernel has no IPv6: {address} is listened on as {replaced}");
            *address = replaced;
        }
    };
    for list in [&mut config.listen, &mut config.tls_listen] {
        let mut seen: Vec<Address> = Vec::new();
        for mut address in list.drain(..) {
            let before = address.clone();
            if let Address::Tcp(internet) = &mut address {
                replace(internet);
            }
            // Addresses that are listed twice stay so, and are refused.
            if address == before || !seen.contains(&address) {
                seen.push(address);
            }
        }
        *list = seen;
    }
    config.admin.as_mut().map(replace);
    config
}

/// A bound socket that does not listen yet.
pub(crate) fn bind_tcp(
    address: SocketAddr,
    share_port: bool,
    ipv4_ports: &[u16],
) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // Set in any case, since net.ipv6.bindv6only has the default.
        socket.set_only_v6(!takes_ipv4(address, ipv4_ports))?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Removes the file of a socket without a listener, such as of a killed server.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_socket {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the file exists and is no socket",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpStream;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    fn listeners(workers: usize) -> Listeners {
        Listeners::new(&Config::default(), vec![None; workers])
    }

    fn any() -> Address {
        "127.0.0.1:0".parse().expect("an address")
    }

    fn internet(listening: &Listening) -> SocketAddr {
        listening.address.internet().expect("TCP")
    }

    #[test]
    fn workers_share_one_port() {
        let listening = listeners(3).open(&any()).expect("bound");
        let address = internet(&listening);
        assert_ne!(address.port(), 0);
        assert_eq!(listening.sockets.len(), 3);
        for socket in &listening.sockets {
            let bound = SockRef::from(socket).local_addr().expect("bound");
            assert_eq!(bound.as_socket(), Some(address));
        }
        TcpStream::connect(address).expect("it listens");
    }

    #[test]
    fn port_of_another_server_with_reuseport_is_in_use() {
        let first = listeners(2).open(&any()).expect("bound");
        let refused = listeners(2).open(&first.address).expect_err("in use");
        assert!(
            refused.to_string().contains(&first.address.to_string()),
            "{refused}"
        );
        assert!(matches!(
            refused,
            Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse
        ));
    }

    /// A port that the kernel gives to no other socket by itself.
    fn own_port(number: u16) -> u16 {
        let process = u16::try_from(std::process::id() % 4000).expect("small");
        20_000 + 2 * process + number
    }

    #[test]
    fn ipv6_and_ipv4_loopback_share_a_port() {
        let port = own_port(0);
        let six = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        let _six = listeners(1).open(&six.into()).expect("IPv6 loopback");
        let four = SocketAddr::from(([127, 0, 0, 1], port));
        listeners(1)
            .open(&four.into())
            .expect("the same port on IPv4");
    }

    /// All addresses of the machine, of either family.
    fn connects(port: u16) -> [bool; 2] {
        ["127.0.0.1", "::1"].map(|host| TcpStream::connect((host, port)).is_ok())
    }

    #[test]
    fn unspecified_ipv6_serves_ipv4_unless_ipv4_is_listed_with_the_port() {
        let port = own_port(1);
        let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        let both = listeners(2).open(&any.into()).expect("bound");
        assert_eq!(connects(port), [true, true]);
        let beside = Address::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        listeners(1).open(&beside).expect_err("in use");
        drop(both);

        let six = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        for ipv4 in ["0.0.0.0", "127.0.0.1"] {
            let four: Address = format!("{ipv4}:{port}").parse().expect("an address");
            let config = Config {
                listen: vec![six.into(), four.clone()],
                ..Config::default()
            };
            let listeners = Listeners::new(&config, vec![None]);
            let alone = listeners.open(&six.into()).expect("bound");
            assert_eq!(connects(port), [false, true]);
            let _four = listeners.open(&four).expect("side by side");
            assert_eq!(connects(port), [true, true]);
            drop(alone);
        }
        let admin = Config {
            listen: vec![six.into()],
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            ..Config::default()
        };
        assert_eq!(ipv4_ports(&admin), [port]);
        assert!(!takes_ipv4(six, &ipv4_ports(&admin)));
    }

    #[test]
    fn every_worker_gets_an_inherited_socket_and_each_socket_a_worker() {
        for (given, workers) in [(1, 3), (3, 3), (3, 2)] {
            let listening = listeners(given).open(&any()).expect("bound");
            let adopted = listeners(workers)
                .adopt(listening.address, listening.sockets)
                .expect("shared out");
            assert_eq!(adopted.sockets.len(), given.max(workers));
        }
    }

    #[test]
    fn accepted_socket_has_the_options_of_its_listener() {
        let mut config = Config {
            defer_accept: Some(Duration::from_secs(1)),
            user_timeout: Some(Duration::from_secs(7)),
            keepalive: Some(Duration::from_secs(90)),
            socket_send_buffer: NonZeroUsize::new(20_000),
            socket_receive_buffer: NonZeroUsize::new(30_000),
            tcp_notsent_lowat: NonZeroUsize::new(50_000),
            incoming_cpu: true,
            ..Config::default()
        };
        // More than net.core.busy_read needs a capability.
        config.socket_busy_poll = Some(Duration::ZERO);
        let listeners = Listeners::new(&config, vec![Some(0)]);
        let listening = listeners.open(&any()).expect("bound");
        let listener = SockRef::from(&listening.sockets[0]);
        assert_eq!(listener.cpu_affinity().expect("set"), 0);

        let mut client = TcpStream::connect(internet(&listening)).expect("connected");
        // It is accepted once bytes have arrived.
        client.write_all(b"x").expect("sent");
        listener.set_nonblocking(false).expect("blocks");
        let (accepted, _) = listener.accept().expect("accepted");
        assert!(accepted.tcp_nodelay().expect("read"));
        assert!(accepted.keepalive().expect("read"));
        assert_eq!(
            accepted.tcp_keepalive_time().expect("read"),
            Duration::from_secs(90)
        );
        assert_eq!(
            accepted.tcp_user_timeout().expect("read"),
            Some(Duration::from_secs(7))
        );
        // The kernel doubles the values.
        assert_eq!(accepted.send_buffer_size().expect("read"), 40_000);
        assert_eq!(accepted.recv_buffer_size().expect("read"), 60_000);
        assert_eq!(accepted.tcp_notsent_lowat().expect("read"), 50_000);
    }

    /// Without a limit, the kernel takes megabytes.
    #[test]
    fn kernel_queues_little_for_a_client_that_does_not_read() {
        let config = Config::default();
        let lowat = config.tcp_notsent_lowat.expect("a limit").get();
        let listening = listeners(1).open(&any()).expect("bound");
        let narrow = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        narrow.set_recv_buffer_size(4096).expect("set");
        narrow
            .connect(&internet(&listening).into())
            .expect("connected");
        let listener = SockRef::from(&listening.sockets[0]);
        listener.set_nonblocking(false).expect("blocks");
        let (mut accepted, _) = listener.accept().expect("accepted");
        accepted.set_nonblocking(true).expect("set");
        let mut taken = 0;
        while let Ok(len) = accepted.write(&vec![1; 1 << 20]) {
            taken += len;
        }
        assert!((lowat..2 * lowat).contains(&taken), "{taken}");
    }

    #[test]
    fn file_at_the_path_is_kept_unless_it_is_a_dead_socket() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("echo.sock");
        let address = Address::Unix(path.clone());

        fs::write(&path, "precious").expect("written");
        let refused = listeners(1).open(&address).expect_err("in the way");
        assert!(refused.to_string().contains("no socket"), "{refused}");
        assert_eq!(fs::read(&path).expect("kept"), b"precious");
        fs::remove_file(&path).expect("removed");

        let live = listeners(2).open(&address).expect("bound");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let refused = listeners(1).open(&address).expect_err("in use");
        assert!(refused.to_string().contains("in use"), "{refused}");

        drop(live);
        assert!(path.exists(), "the file stays");
        listeners(1)
            .open(&address)
            .expect("the dead socket is replaced");
    }

    #[tokio::test]
    async fn unix_socket_client_is_local_and_has_the_send_buffer() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("echo.sock");
        let mut listening = listeners(1)
            .open(&Address::Unix(path.clone()))
            .expect("bound");
        let socket = listening.sockets.pop().expect("one");
        let options = UnixOptions {
            send_buffer: NonZeroUsize::new(20_000),
        };
        let accepting = Accepting::new(socket, options).expect("on the runtime");
        let _client = UnixStream::connect(&path).expect("connected");
        let (stream, peer) = accepting.accept().await.expect("accepted");
        assert!(matches!(stream, crate::net::socket::Socket::Unix(_)));
        let accepted = SockRef::from(&stream);
        assert_eq!(accepted.send_buffer_size().expect("read"), 40_000);
        assert_eq!(peer, crate::net::peer::Peer::Local);
    }
}
