//! The names that counters are told apart by. Each set is fixed here: nothing
//! that a peer sends can make it larger.

use std::array;
use std::marker::PhantomData;

use hyper::StatusCode;

use super::number::Counter;
use crate::proto::{CloseCode, Violation};

/// A label of a fixed set.
pub(crate) trait Label: Copy {
    /// Its place in the set.
    fn index(self) -> usize;
}

impl Label for Violation {
    fn index(self) -> usize {
        Self::index(self)
    }
}

/// A counter for each label of a set of `N`.
#[derive(Debug)]
pub(crate) struct Labelled<L, const N: usize> {
    counters: [Counter; N],
    set: PhantomData<fn(L)>,
}

impl<L: Label, const N: usize> Labelled<L, N> {
    pub(crate) fn add(&self, label: L) {
        self.counters[label.index()].add(1);
    }

    pub(crate) fn get(&self, label: L) -> u64 {
        self.counters[label.index()].get()
    }

    /// The sum over all labels.
    pub(crate) fn total(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

impl<L, const N: usize> Default for Labelled<L, N> {
    fn default() -> Self {
        Self {
            counters: array::from_fn(|_| Counter::default()),
            set: PhantomData,
        }
    }
}

/// Declares a set of labels: what they mean, what they are called.
macro_rules! labels {
    ($(#[$doc:meta])* $set:ident { $($(#[$meaning:meta])* $label:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $set {
            $($(#[$meaning])* $label,)*
        }

        impl $set {
            /// All of them, each in the place of its index.
            pub(crate) const ALL: [Self; Self::COUNT] = [$(Self::$label,)*];

            pub(crate) const COUNT: usize = [$($name,)*].len();

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$label => $name,)*
                }
            }
        }

        impl Label for $set {
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// How a handshake ended. Every accepted connection gets one of these.
    HandshakeOutcome {
        /// The connection is a WebSocket.
        Upgraded = "upgraded",
        /// An error status was answered, or nothing to one too many.
        Refused = "refused",
        /// A plain request was answered.
        Served = "served",
        /// It took too long.
        TimedOut = "timeout",
        /// The client left before its request was there.
        Abandoned = "abandoned",
        /// A proxy that speaks for itself left without a request: it has looked
        /// whether the server is there.
        HealthCheck = "health_check",
        /// The server stopped meanwhile.
        CutOff = "cut_off",
    }
}

labels! {
    /// Why a connection was refused.
    RefusalReason {
        /// 503: the server holds as many connections as it may.
        Full = "full",
        /// 429: the address has as many connections as it may.
        Address = "address",
        /// 429: the address connects too often.
        Rate = "rate",
        /// Over one of these limits, and as many are being told so as may be.
        Drop = "overrun",
        /// No answer: one handshake too many was in progress, and this was the oldest.
        Handshakes = "handshakes",
        /// No answer: the server held more than it may, for handshakes first.
        HeldBytes = "held_bytes",
        /// 400: no request, or no handshake.
        Malformed = "malformed",
        /// 403: the page's origin may not connect.
        Origin = "origin",
        /// 404: no WebSocket under this path.
        Path = "path",
        /// 405: not a GET.
        Method = "method",
        /// 408: the request took too long.
        Timeout = "timeout",
        /// 426: another protocol, or another version of it.
        Version = "version",
        /// 431: the request is too large.
        HeadTooLarge = "head_too_large",
        /// No TLS, or none that suits, where it is spoken; TLS where it is not.
        Tls = "tls",
        /// No PROXY header, or a wrong one, from where one must come.
        Proxy = "proxy",
        /// Any other status.
        Other = "other",
    }
}

labels! {
    /// How a TLS handshake ended.
    TlsOutcome {
        /// With TLS 1.2.
        Tls12 = "tls12",
        /// With TLS 1.3.
        Tls13 = "tls13",
        /// The client spoke no TLS, or nothing was agreed on.
        Failed = "failed",
        /// The client sent a plain request, and was told.
        Plain = "plain_http",
        /// It took too long.
        TimedOut = "timeout",
        /// The client left before its end.
        Abandoned = "abandoned",
    }
}

labels! {
    /// Why a WebSocket connection ended.
    EndReason {
        /// The client sent a Close.
        Client = "client",
        /// The client broke a rule or a limit.
        Violation = "violation",
        /// The client broke a rule of TLS, or sent too much that TLS allows and nobody
        /// needs.
        Tls = "tls",
        /// The client was silent for too long.
        Idle = "idle",
        /// The server stops.
        Drain = "drain",
        /// The handler closed it, or dropped it.
        Handler = "handler",
        /// The client did not read for too long.
        SlowReader = "slow_reader",
        /// The server held more than it may, and this client made it hold most.
        HeldBytes = "held_bytes",
        /// TCP had more memory than it may, and this client did not read.
        TcpMemory = "tcp_memory",
        /// The client left without a Close, or the connection broke.
        Gone = "gone",
    }
}

labels! {
    /// The code of the Close frame that ended a connection.
    Code {
        Normal = "1000",
        GoingAway = "1001",
        ProtocolError = "1002",
        Unsupported = "1003",
        InvalidPayload = "1007",
        Policy = "1008",
        TooBig = "1009",
        MissingExtension = "1010",
        Internal = "1011",
        Restart = "1012",
        TryAgain = "1013",
        BadGateway = "1014",
        /// A code of a library or an application, 3000 to 4999.
        Other = "other",
        /// No Close frame, or one without a code.
        None = "none",
    }
}

impl RefusalReason {
    pub(crate) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Self::Full,
            StatusCode::BAD_REQUEST => Self::Malformed,
            StatusCode::FORBIDDEN => Self::Origin,
            StatusCode::NOT_FOUND => Self::Path,
            StatusCode::METHOD_NOT_ALLOWED => Self::Method,
            StatusCode::REQUEST_TIMEOUT => Self::Timeout,
            StatusCode::UPGRADE_REQUIRED => Self::Version,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Self::HeadTooLarge,
            _ => Self::Other,
        }
    }
}

impl Code {
    pub(crate) fn of(code: Option<CloseCode>) -> Self {
        match code.map(CloseCode::get) {
            None => Self::None,
            Some(1000) => Self::Normal,
            Some(1001) => Self::GoingAway,
            Some(1002) => Self::ProtocolError,
            Some(1003) => Self::Unsupported,
            Some(1007) => Self::InvalidPayload,
            Some(1008) => Self::Policy,
            Some(1009) => Self::TooBig,
            Some(1010) => Self::MissingExtension,
            Some(1011) => Self::Internal,
            Some(1012) => Self::Restart,
            Some(1013) => Self::TryAgain,
            Some(1014) => Self::BadGateway,
            Some(_) => Self::Other,
        }
    }
}

impl EndReason {
    /// The code of a Close that the server sends by its own wish.
    pub(crate) fn close_code(self) -> CloseCode {
        match self {
            Self::HeldBytes | Self::TcpMemory => CloseCode::TRY_AGAIN_LATER,
            Self::Tls => CloseCode::POLICY,
            _ => CloseCode::GOING_AWAY,
        }
    }

    /// Whether the connection ends because its client does not read, or holds too much.
    pub(crate) fn is_eviction(self) -> bool {
        matches!(self, Self::SlowReader | Self::HeldBytes | Self::TcpMemory)
    }

    /// Whether a connection that ends for this reason can end with this code.
    pub(crate) fn may_carry(self, code: Code) -> bool {
        match self {
            Self::Client | Self::Handler => true,
            Self::Violation => matches!(
                code,
                Code::ProtocolError | Code::InvalidPayload | Code::TooBig | Code::None
            ),
            Self::Tls => matches!(code, Code::Policy | Code::None),
            Self::Idle | Self::Drain => matches!(code, Code::GoingAway | Code::None),
            Self::HeldBytes | Self::TcpMemory => matches!(code, Code::TryAgain | Code::None),
            Self::SlowReader | Self::Gone => code == Code::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Violation;

    #[test]
    fn a_code_has_the_label_of_its_number() {
        for number in 0..=u16::MAX {
            let Some(code) = CloseCode::received(number) else {
                continue;
            };
            let expected = if number < 3000 {
                number.to_string()
            } else {
                "other".to_owned()
            };
            assert_eq!(Code::of(Some(code)).name(), expected);
        }
        assert_eq!(Code::of(None).name(), "none");
    }

    #[test]
    fn labels_stand_in_the_places_of_their_indices() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.index(), index);
        }
        for (index, reason) in EndReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }

    #[test]
    fn a_violation_may_end_with_its_own_code() {
        for violation in Violation::ALL {
            let code = Code::of(Some(violation.close_code()));
            assert!(EndReason::Violation.may_carry(code), "{violation:?}");
        }
    }
}
