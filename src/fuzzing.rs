//! Functions for the fuzz targets in `fuzz/`, beyond the public interface. Compiled
//! with `--cfg fuzzing` only, and not stable.

pub use crate::http::fuzzing::{Gate, GateResult};
pub use crate::transport::proxy::fuzzing::{HeaderResult, read_proxy_header};
pub use crate::worker::fuzzing::Worker;

use std::ffi::OsString;

use hyper::header::{HeaderMap, HeaderValue};

use crate::cli::args::CommandLine;
use crate::cli::settings::{Effective, show};
use crate::config::forwarded_header::ForwardedHeader;
use crate::config::proxy_source::ProxySource;
use crate::net::peer::Peer;

/// The output of `ringback config` with these arguments and this environment, and the
/// arguments in effect, for comparison.
///
/// # Errors
/// The error line that a start would print.
pub fn configure(
    arguments: &[String],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(String, String), String> {
    let command_line = CommandLine::parse(arguments).map_err(|error| error.to_string())?;
    let effective = Effective::resolve(&command_line, variables)?;
    effective.config()?;
    Ok((show(&effective), format!("{:?}", effective.args())))
}

/// The client of a request with these values of a field, if these proxies are trusted;
/// and the name of the values' fault.
///
/// # Panics
/// If a value is no valid field value, or a proxy no network.
pub fn read_forwarded(
    header: ForwardedHeader,
    values: &[Vec<u8>],
    trusted: &[&str],
) -> (Option<Peer>, Option<String>) {
    let mut headers = HeaderMap::new();
    for value in values {
        let value = HeaderValue::from_bytes(value).expect("a field's value");
        headers.append(header.name(), value);
    }
    let source = |text: &&str| text.parse().expect("a network");
    let trusted: Vec<ProxySource> = trusted.iter().map(source).collect();
    let read = header.read(&headers, |peer| trusted.iter().any(|it| it.contains(peer)));
    (read.client, read.fault.map(|fault| format!("{fault:?}")))
}
