//! Lists of proxies, and the client that they name: both come from the same hops, so
//! that nothing is parsed here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arbitrary::{Result, Unstructured};
use ringback::{ForwardedHeader, Peer};

/// The proxies that are trusted.
pub const TRUSTED: [&str; 2] = ["10.0.0.0/8", "fd00::/8"];

/// Further hops are ignored.
const HOPS_MAX: usize = 32;

const MALFORMED: [&str; 8] = [
    "x",
    "192.0.2.1:",
    "192.0.2.1:65536",
    "192.0.2.1:-1",
    "192.0.2.256",
    "[2001:db8::1",
    "[2001:db8::1]1",
    "[192.0.2.1]:1",
];

/// The client, and the name of the fault in the list.
pub type Reading = (Option<Peer>, Option<&'static str>);

/// The fields of a request.
pub struct List {
    /// The header of the fields.
    pub header: ForwardedHeader,
    /// Their values, in order.
    pub fields: Vec<Vec<u8>>,
    /// The expected reading; `None` if it depends on what a client has written.
    pub reading: Option<Reading>,
}

impl List {
    /// Header (1 byte), how many hops (1 byte), the last hop and then those in front of
    /// it (6 bytes each), and what the client has written.
    ///
    /// # Errors
    /// Bytes that are missing.
    pub fn take(input: &mut Unstructured<'_>) -> Result<Self> {
        let header = match input.arbitrary::<u8>()? % 2 {
            0 => ForwardedHeader::XForwardedFor,
            _ => ForwardedHeader::Forwarded,
        };
        let mut hops = Vec::new();
        let mut fields = vec![Vec::new()];
        for _ in 0..input.arbitrary::<u8>()? % 40 {
            let hop = Hop::take(input)?;
            let [style, separator] = input.arbitrary()?;
            let element = match header {
                ForwardedHeader::XForwardedFor => hop.node(),
                ForwardedHeader::Forwarded => hop.element(style),
            };
            if !hops.is_empty() && separator % 5 == 0 {
                fields.push(Vec::new());
            }
            let field = fields.last_mut().expect("one at least");
            let behind = if field.is_empty() {
                ""
            } else {
                [",", ",", ", ", " ,\t, ,"][usize::from(separator % 4)]
            };
            field.splice(..0, [element.as_bytes(), behind.as_bytes()].concat());
            hops.push(hop);
        }
        let is_sendable = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
        let own = input.bytes(input.len())?.iter().copied();
        let own: Vec<u8> = own.filter(is_sendable).collect();
        let (reading, is_decided) = read(&hops);
        let reading = (is_decided || own.is_empty()).then_some(reading);
        if !own.is_empty() {
            let field = fields.last_mut().expect("one at least");
            field.splice(..0, [&own[..], b","].concat());
        }
        fields.reverse();
        Ok(Self {
            header,
            fields,
            reading,
        })
    }
}

/// The expected reading of hops, the last one first; and whether the bytes in front of
/// them are ignored.
fn read(hops: &[Hop]) -> (Reading, bool) {
    let mut client = None;
    for (at, hop) in hops.iter().enumerate() {
        match *hop {
            _ if at == HOPS_MAX => return ((client, Some("TooLong")), true),
            Hop::Known {
                peer, is_trusted, ..
            } => {
                client = Some(peer);
                if !is_trusted {
                    return ((client, None), true);
                }
            }
            Hop::Unknown(_) => return ((client, None), true),
            Hop::Malformed(_) => return ((client, Some("Malformed")), true),
        }
    }
    let fault = hops.is_empty().then_some("Missing");
    ((client, fault), false)
}

enum Hop {
    Known {
        node: String,
        peer: Peer,
        is_trusted: bool,
    },
    Unknown(&'static str),
    Malformed(&'static str),
}

impl Hop {
    fn take(input: &mut Unstructured<'_>) -> Result<Self> {
        let [kind, byte, form, port] = input.arbitrary::<[u8; 4]>()?;
        let host = Ipv4Addr::new(192, 0, 2, byte);
        let proxy = Ipv4Addr::new(10, byte, 0, 1);
        let ip: IpAddr = match kind % 8 {
            0 | 1 => proxy.into(),
            2 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, byte.into()).into(),
            3 => proxy.to_ipv6_mapped().into(),
            4 => host.into(),
            5 => match byte % 2 {
                0 => host.to_ipv6_mapped().into(),
                _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, byte.into()).into(),
            },
            6 => {
                return Ok(Self::Unknown(
                    ["unknown", "UnKnown", "_", "_hidden.1", "unix:"][usize::from(byte % 5)],
                ));
            }
            _ => {
                return Ok(Self::Malformed(
                    MALFORMED[usize::from(byte) % MALFORMED.len()],
                ));
            }
        };
        let bracketed = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = u16::from(port) * 257;
        let (node, peer) = match form % 4 {
            0 => (ip.to_string(), Peer::Host(ip)),
            1 => (bracketed, Peer::Host(ip)),
            2 => (format!("{bracketed}:_port"), Peer::Host(ip)),
            _ => (
                format!("{bracketed}:{port}"),
                SocketAddr::new(ip, port).into(),
            ),
        };
        Ok(Self::Known {
            node,
            peer,
            is_trusted: kind % 8 < 4,
        })
    }

    fn node(&self) -> String {
        match self {
            Self::Known { node, .. } => node.clone(),
            Self::Unknown(node) | Self::Malformed(node) => (*node).to_owned(),
        }
    }

    /// An element of `Forwarded`: the node among other parameters (RFC 7239, section 4).
    fn element(&self, style: u8) -> String {
        let node = self.node();
        let name = ["for", "For", " FOR\t"][usize::from(style % 3)];
        let value = match style / 3 % 3 {
            // A value that is no token has to be quoted.
            0 if !node.contains([':', '[', ']']) => node,
            1 => format!("\"\\{node}\""),
            _ => format!("\"{node}\""),
        };
        let before =
            ["", "proto=https;", "by=\"a,b\\\"c;for=\";", "host=x ; "][usize::from(style / 9 % 4)];
        let after = ["", ";", ";proto=http", " ; by=\"\\\\\""][usize::from(style / 36 % 4)];
        format!("{before}{name}={value}{after}")
    }
}
