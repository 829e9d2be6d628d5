//! Addresses, peers, accepted sockets, and queues of bytes, below TLS.

pub(crate) mod address;
pub(crate) mod byte_queue;
pub(crate) mod peer;
pub(crate) mod socket;
pub(crate) mod socket_memory;
