//! Addresses, peers, accepted sockets, and queues of bytes: what TLS stands on.

pub(crate) mod address;
pub(crate) mod byte_queue;
pub(crate) mod peer;
pub(crate) mod socket;
pub(crate) mod socket_memory;
