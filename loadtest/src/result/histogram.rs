//! Histograms as text: HDR V2 format, deflated, in base64. It is what `.hlog`
//! files and the tools around them hold (it begins with `HISTFAAA`).

use data_encoding::BASE64;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use thiserror::Error;

use crate::outcome::{EncodedLatencies, Histogram, Latencies, histogram};

/// Why a text is no histogram of this crate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// It is not base64.
    #[error("a histogram is not in base64")]
    Base64,
    /// The encoded bytes are no histogram.
    #[error("a histogram is not in HDR V2 format: {0}")]
    Hdr(String),
    /// It is a histogram with other bounds or another precision.
    #[error("a histogram has other bounds than those of loadtest")]
    Bounds,
}

/// Writes a histogram.
///
/// # Panics
/// When a counter is beyond `i64::MAX`, which no run reaches.
pub fn encode(histogram: &Histogram) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("counters fit, and a Vec takes everything");
    BASE64.encode(&bytes)
}

/// Reads a histogram that has the bounds of [`histogram`].
///
/// # Errors
/// [`DecodeError`], for any other text.
pub fn decode(text: &str) -> Result<Histogram, DecodeError> {
    let bytes = BASE64
        .decode(text.as_bytes())
        .map_err(|_| DecodeError::Base64)?;
    if !is_whole(&bytes) {
        return Err(DecodeError::Hdr("it is cut off".to_owned()));
    }
    let decoded: Histogram = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| DecodeError::Hdr(error.to_string()))?;
    let own = histogram();
    let is_own = decoded.low() == own.low()
        && decoded.high() == own.high()
        && decoded.sigfig() == own.sigfig();
    if is_own {
        Ok(decoded)
    } else {
        Err(DecodeError::Bounds)
    }
}

/// Whether the length in the head is that of the bytes. The decoder would not notice that a part
/// of the checksum at the end is missing.
fn is_whole(bytes: &[u8]) -> bool {
    let length = bytes.get(4..8).and_then(|word| word.try_into().ok());
    length.is_some_and(|word| bytes.len() - 8 == u32::from_be_bytes(word) as usize)
}

/// Writes the three histograms of some messages.
pub fn encode_latencies(latencies: &Latencies) -> EncodedLatencies {
    EncodedLatencies {
        response_ns: encode(&latencies.response_ns),
        service_ns: encode(&latencies.service_ns),
        lag_ns: encode(&latencies.lag_ns),
    }
}

/// Reads the three histograms of some messages.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_latencies(encoded: &EncodedLatencies) -> Result<Latencies, DecodeError> {
    Ok(Latencies {
        response_ns: decode(&encoded.response_ns)?,
        service_ns: decode(&encoded.service_ns)?,
        lag_ns: decode(&encoded.lag_ns)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::LATENCY_NS_MAX;

    #[test]
    fn a_histogram_survives_its_text() {
        let mut random = fastrand::Rng::with_seed(7);
        for samples in [0, 1, 2, 1_000] {
            let mut original = histogram();
            for _ in 0..samples {
                let magnitude = random.u32(0..41);
                let value_ns = random.u64(0..1 << magnitude).min(LATENCY_NS_MAX);
                original.record(value_ns).unwrap();
            }
            let text = encode(&original);
            assert!(text.starts_with("HISTFAAA"), "{text}");
            let decoded = decode(&text).unwrap();
            assert_eq!(decoded, original);
            assert_eq!(decoded.max(), original.max());
            assert_eq!(encode(&decoded), text);
        }
    }

    #[test]
    fn text_without_a_histogram_is_an_error() {
        let text = encode(&histogram());
        assert_eq!(decode("€"), Err(DecodeError::Base64));
        assert!(matches!(decode(""), Err(DecodeError::Hdr(_))));
        assert!(matches!(decode("AAAA"), Err(DecodeError::Hdr(_))));
        for len in (0..text.len()).step_by(4) {
            assert!(decode(&text[..len]).is_err(), "{len}");
        }
        let foreign = Histogram::new_with_bounds(1, 1_000, 2).unwrap();
        assert_eq!(decode(&encode(&foreign)), Err(DecodeError::Bounds));
    }
}
