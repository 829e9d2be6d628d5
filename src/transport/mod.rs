//! From a listening socket to a stream of a client's bytes: listeners, the PROXY header,
//! TLS, and the stream that is one or the other.

pub(crate) mod listener;
pub(crate) mod proxy;
pub(crate) mod stream;
pub(crate) mod tls;
