//! Shared code of the fuzz targets: inputs, and independent implementations to compare
//! with. Nothing here uses the code under test but [`core`], which drives it.

pub mod arrivals;
pub mod client;
pub mod core;
pub mod file;
pub mod forwarded;
pub mod frames;
pub mod handshake;
pub mod proxy_header;
pub mod reference;
pub mod second;
pub mod tls;
