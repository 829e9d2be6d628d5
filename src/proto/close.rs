//! Close codes and close payloads (RFC 6455 sections 5.5.1 and 7.4).

use super::violation::Violation;

/// A status code of a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the endpoint goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1007: the payload does not match the message's type.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the peer did what is not wanted here, and no other code says more.
    pub const POLICY: Self = Self(1008);
    /// 1009: the message is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: the server met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1013: the server is overloaded; registered with IANA, not in RFC 6455.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code as a number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Takes a code off the wire, if an endpoint may send it.
    ///
    /// 1000 to 1003 and 1007 to 1014 are registered with IANA for use in Close
    /// frames; 3000 to 4999 belong to libraries and applications. 1004 is
    /// reserved, 1005, 1006 and 1015 must never be sent (section 7.4.1).
    pub const fn received(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The unmasked Close frame that carries this code and no reason.
    pub const fn frame(self) -> [u8; CLOSE_FRAME_LEN] {
        let [high, low] = self.0.to_be_bytes();
        [0x88, 2, high, low]
    }
}

impl Violation {
    /// The code of the Close frame that answers it (RFC 6455 section 7.4.1).
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidCloseReason | Self::InvalidText => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooLong | Self::TooManyFragments => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// The length of a Close frame with a code and no reason.
pub const CLOSE_FRAME_LEN: usize = 4;

/// Checks the unmasked payload of a client's Close frame.
///
/// An empty payload carries no code and is valid.
///
/// # Errors
/// The rule of section 5.5.1 or 7.4 that the payload breaks.
pub fn check_payload(payload: &[u8]) -> Result<Option<CloseCode>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::TruncatedCloseCode),
        [high, low, reason @ ..] => {
            let code = CloseCode::received(u16::from_be_bytes([*high, *low]))
                .ok_or(Violation::InvalidCloseCode)?;
            match simdutf8::basic::from_utf8(reason) {
                Ok(_) => Ok(Some(code)),
                Err(_) => Err(Violation::InvalidCloseReason),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_judged_as_the_registry_says() {
        for code in 0..=u16::MAX {
            let never = [1004, 1005, 1006, 1015].contains(&code);
            let sendable = !never && (1000..1016).contains(&code) || (3000..5000).contains(&code);
            let expected = if sendable {
                Ok(Some(CloseCode(code)))
            } else {
                Err(Violation::InvalidCloseCode)
            };
            assert_eq!(check_payload(&code.to_be_bytes()), expected, "code {code}");
        }
    }

    #[test]
    fn a_payload_is_empty_or_holds_a_code_and_a_utf8_reason() {
        assert_eq!(check_payload(b""), Ok(None));
        assert_eq!(check_payload(&[3]), Err(Violation::TruncatedCloseCode));
        assert_eq!(
            check_payload("\u{3}\u{e8}bye, \u{20ac}".as_bytes()),
            Err(Violation::InvalidCloseCode),
            "U+00E8 in UTF-8 is two bytes, so this code is 0x03c3"
        );
        assert_eq!(
            check_payload(b"\x03\xe8bye, \xe2\x82\xac"),
            Ok(Some(CloseCode::NORMAL))
        );
        assert_eq!(
            check_payload(b"\x03\xe8bye, \xe2\x82"),
            Err(Violation::InvalidCloseReason)
        );
    }

    #[test]
    fn a_close_frame_is_unmasked_and_carries_the_code() {
        assert_eq!(CloseCode::GOING_AWAY.frame(), [0x88, 0x02, 0x03, 0xe9]);
    }
}
