//! The parts of a request that access lines can show.

use std::fmt;
use std::str::FromStr;

/// Declares the fields with their names in the settings, which are names of headers,
/// except the first.
macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// A field of an access line with a part of the client's request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AccessField {
            $($(#[$doc])* $field,)*
        }

        impl AccessField {
            /// All of them.
            pub const ALL: [Self; [$($name,)*].len()] = [$(Self::$field,)*];

            /// The name in the settings.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)*
                }
            }
        }
    };
}

fields! {
    /// The query of the request target.
    Query = "query",
    /// The Host header.
    Host = "host",
    /// The Origin header.
    Origin = "origin",
    /// The User-Agent header.
    UserAgent = "user-agent",
    /// The X-Request-ID header.
    XRequestId = "x-request-id",
    /// The header of W3C's trace context.
    Traceparent = "traceparent",
    /// The X-Forwarded-For header, unparsed.
    XForwardedFor = "x-forwarded-for",
    /// The Forwarded header, unparsed.
    Forwarded = "forwarded",
    /// The subprotocols that the client offers.
    SecWebSocketProtocol = "sec-websocket-protocol",
    /// The extensions that the client offers.
    SecWebSocketExtensions = "sec-websocket-extensions",
}

impl FromStr for AccessField {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|field| field.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name);
                format!("expected one of {}", names.join(", "))
            })
    }
}

impl fmt::Display for AccessField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
