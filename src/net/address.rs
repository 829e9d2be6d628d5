//! The address of a listener.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use socket2::SockAddr;

/// The prefix of a Unix-domain socket's name.
const UNIX: &str = "unix:";

/// The longest path of a Unix-domain socket: `sun_path` less its end.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// The address of a listener: `127.0.0.1:9001`, `[::1]:9001`, `unix:/run/echo.sock`,
/// or `unix:@echo` for a name in Linux' abstract namespace, which is no file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An address and a port, over TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a Unix-domain stream socket, or a name after an `@`.
    Unix(PathBuf),
}

impl Address {
    /// The address and port, if it has them.
    pub fn internet(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The file of a Unix-domain socket, if it has one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) if abstract_name(path).is_none() => Some(path),
            _ => None,
        }
    }

    /// Whether the kernel chooses the port.
    pub(crate) fn is_any_port(&self) -> bool {
        self.internet().is_some_and(|address| address.port() == 0)
    }

    /// The address as the kernel takes it.
    ///
    /// # Errors
    /// A path that is longer than the kernel's 107 bytes.
    pub(crate) fn to_kernel(&self) -> io::Result<SockAddr> {
        match self {
            Self::Tcp(address) => Ok((*address).into()),
            Self::Unix(path) => match abstract_name(path) {
                Some(name) => {
                    let name = [&[0], name].concat();
                    SockAddr::unix(std::ffi::OsStr::from_bytes(&name))
                }
                None => SockAddr::unix(path),
            },
        }
    }

    /// The address from the kernel; `None` for another family, or a Unix-domain socket
    /// without a name.
    pub(crate) fn from_kernel(address: &SockAddr) -> Option<Self> {
        if let Some(address) = address.as_socket() {
            return Some(Self::Tcp(address));
        }
        if let Some(path) = address.as_pathname() {
            return Some(Self::Unix(path.to_owned()));
        }
        let name = address.as_abstract_namespace()?;
        let name = [b"@", name].concat();
        Some(Self::Unix(std::ffi::OsStr::from_bytes(&name).into()))
    }
}

/// The name after the `@`.
fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(b"@")
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix(UNIX) {
            Some("" | "@") => Err("expected a path after unix:".to_owned()),
            Some(path) => {
                let address = Self::Unix(path.into());
                address.to_kernel().map_err(|_too_long| {
                    format!("the path must be at most {UNIX_PATH_BYTES_MAX} bytes long")
                })?;
                Ok(address)
            }
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "expected an address and port such as 127.0.0.1:9001 or [::1]:9001, or \
                 unix:/path/of/socket"
                    .to_owned()
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_survives_display_and_kernel_form() {
        for name in [
            "127.0.0.1:9001",
            "[::1]:9001",
            "unix:/run/echo.sock",
            "unix:echo.sock",
            "unix:@echo",
        ] {
            let address: Address = name.parse().expect("an address");
            assert_eq!(address.to_string(), name);
            let kernel = address.to_kernel().expect("an address");
            assert_eq!(Address::from_kernel(&kernel), Some(address));
        }
    }

    #[test]
    fn invalid_address_is_refused_with_an_example() {
        let refused = "localhost:9001".parse::<Address>().expect_err("a name");
        assert!(refused.contains("127.0.0.1:9001"), "{refused}");
        for name in ["unix:", "unix:@"] {
            let refused = name.parse::<Address>().expect_err("no path");
            assert!(refused.contains("path"), "{refused}");
        }
        let long = format!("unix:/{}", "x".repeat(108));
        let refused = long.parse::<Address>().expect_err("too long");
        assert!(refused.contains("at most 107 bytes"), "{refused}");
    }

    #[test]
    fn only_a_path_is_a_file() {
        let file = |name: &str| {
            let address: Address = name.parse().expect("an address");
            address.file().map(Path::to_owned)
        };
        assert_eq!(file("unix:/run/x"), Some("/run/x".into()));
        assert_eq!(file("unix:@x"), None);
        assert_eq!(file("127.0.0.1:1"), None);
    }
}
