//! What the fuzz targets share: inputs, and a second opinion on what must come
//! of them. Nothing here uses the code that is on trial but [`core`], which
//! drives it.

pub mod arrivals;
pub mod client;
pub mod core;
pub mod file;
pub mod forwarded;
pub mod frames;
pub mod handshake;
pub mod introduction;
pub mod reference;
pub mod second;
pub mod tls;
