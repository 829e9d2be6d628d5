//! Listeners, the PROXY header, TLS, and the stream over a socket or TLS.

pub(crate) mod listener;
pub(crate) mod proxy;
pub(crate) mod stream;
pub(crate) mod tls;
