//! The labels of counters. Each set is fixed here: no peer can add to it.

use std::array;
use std::marker::PhantomData;

use hyper::StatusCode;

use super::number::Counter;
use crate::proto::{CloseCode, Violation};

/// A label of a fixed set.
pub(crate) trait Label: Copy {
    /// Its index in the set.
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

/// Declares a set of labels with their meanings and names.
macro_rules! labels {
    ($(#[$doc:meta])* $set:ident { $($(#[$meaning:meta])* $label:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $set {
            $($(#[$meaning])* $label,)*
        }

        impl $set {
            /// All of them, by index.
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
        /// Answered with an error status, or dropped over a limit.
        Refused = "refused",
        /// A plain request was answered.
        Served = "served",
        /// Over `handshake-timeout`.
        TimedOut = "timeout",
        /// The client closed before its request was complete.
        Abandoned = "abandoned",
        /// A proxy whose PROXY header names no client closed without a request.
        HealthCheck = "health_check",
        /// The server stopped.
        CutOff = "cut_off",
    }
}

labels! {
    /// Why a connection was refused.
    RefusalReason {
        /// 503: over `max-connections`.
        Full = "full",
        /// 429: over `max-connections-per-address`.
        Address = "address",
        /// 429: the address connects too often.
        Rate = "rate",
        /// No answer: over one of these limits, while the most are being answered.
        Drop = "overrun",
        /// No answer: the oldest handshake, evicted over `max-handshakes`.
        Handshakes = "handshakes",
        /// No answer: a handshake, evicted over `max-held-bytes`.
        HeldBytes = "held_bytes",
        /// 400: no request, or no handshake.
        Malformed = "malformed",
        /// 403: the page's origin may not connect.
        Origin = "origin",
        /// 404: no WebSocket at this path.
        Path = "path",
        /// 405: not a GET.
        Method = "method",
        /// 408: the request timed out.
        Timeout = "timeout",
        /// 426: another protocol, or another version of it.
        Version = "version",
        /// 431: the request head is too large.
        HeadTooLarge = "head_too_large",
        /// No acceptable TLS on a TLS port; TLS on a plain port.
        Tls = "tls",
        /// No valid PROXY header from a proxy of `proxy-protocol`.
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
        /// The client sent no TLS, or negotiation failed.
        Failed = "failed",
        /// The client sent a plain request, which was answered.
        Plain = "plain_http",
        /// Over `handshake-timeout`.
        TimedOut = "timeout",
        /// The client closed before its end.
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
        /// The client broke a rule of TLS, or sent too many records without data.
        Tls = "tls",
        /// The client did not answer the Ping of the idle timeout.
        Idle = "idle",
        /// The server stops.
        Drain = "drain",
        /// The handler closed it, or dropped it.
        Handler = "handler",
        /// The client read too little within the write timeout.
        SlowReader = "slow_reader",
        /// Evicted over `max-held-bytes`.
        HeldBytes = "held_bytes",
        /// Evicted over `max-tcp-memory`.
        TcpMemory = "tcp_memory",
        /// The client closed without a Close, or the connection broke.
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
    /// The code of a Close that the server initiates.
    pub(crate) fn close_code(self) -> CloseCode {
        match self {
            Self::HeldBytes | Self::TcpMemory => CloseCode::TRY_AGAIN_LATER,
            Self::Tls => CloseCode::POLICY,
            _ => CloseCode::GOING_AWAY,
        }
    }

    /// Whether the connection is cut because its client does not read, or for memory.
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
    fn close_code_has_the_label_of_its_number() {
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
    fn labels_are_ordered_by_index() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.index(), index);
        }
        for (index, reason) in EndReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }

    #[test]
    fn violation_may_end_with_its_own_code() {
        for violation in Violation::ALL {
            let code = Code::of(Some(violation.close_code()));
            assert!(EndReason::Violation.may_carry(code), "{violation:?}");
        }
    }
}
