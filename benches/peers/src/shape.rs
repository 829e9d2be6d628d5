//! How much load a server is put under, and in what portions.

use std::fmt;
use std::str::FromStr;

use loadtest::plan::{CONNECTIONS_MAX, PAYLOAD_LEN_MAX, WINDOW_MAX};
use loadtest::units::{format_size, parse_count, parse_size};
use serde::Serialize;

/// A closed loop: so many connections, so many messages in flight on each, so
/// many payload bytes in each message. Written `50x256x32`, `50x2x16k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Connections.
    pub connections: u32,
    /// Messages in flight on each of them.
    pub window: u32,
    /// Bytes of a message's payload.
    pub payload_len: usize,
}

/// What `--shapes` may name: shapes, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shapes(pub Vec<Shape>);

impl Shape {
    /// What servers are compared by unless told otherwise: chats, chats in
    /// bursts, floods of small messages, floods of large ones.
    pub const DEFAULT: [Self; 4] = [
        Self::new(100, 1, 32),
        Self::new(100, 16, 32),
        Self::new(50, 256, 32),
        Self::new(50, 2, 16 << 10),
    ];

    /// What else shows a server's strengths and weaknesses.
    pub const FURTHER: [Self; 5] = [
        Self::new(1, 1, 32),
        Self::new(1000, 1, 32),
        Self::new(100, 16, 1 << 10),
        Self::new(20, 1, 64 << 10),
        Self::new(8, 1, 1 << 20),
    ];

    const fn new(connections: u32, window: u32, payload_len: usize) -> Self {
        Self {
            connections,
            window,
            payload_len,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = format_size(self.payload_len);
        f.pad(&format!("{} × {} × {size}", self.connections, self.window))
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('x').collect();
        let [connections, window, payload_len] = parts[..] else {
            return Err("write a shape as CONNECTIONSxIN_FLIGHTxBYTES: 50x256x32".to_owned());
        };
        let payload_len = match parse_size(payload_len)? {
            len if len <= PAYLOAD_LEN_MAX => len,
            _ => return Err(format!("at most {}", format_size(PAYLOAD_LEN_MAX))),
        };
        Ok(Self {
            connections: count(connections, CONNECTIONS_MAX)?,
            window: count(window, WINDOW_MAX)?,
            payload_len,
        })
    }
}

impl FromStr for Shapes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shapes = Vec::new();
        for name in text.split(',') {
            match name {
                "default" => shapes.extend(Shape::DEFAULT),
                "all" => shapes.extend(Shape::DEFAULT.into_iter().chain(Shape::FURTHER)),
                shape => shapes.push(shape.parse()?),
            }
        }
        Ok(Self(shapes))
    }
}

fn count(text: &str, max: u32) -> Result<u32, String> {
    u32::try_from(parse_count(text)?)
        .ok()
        .filter(|count| (1..=max).contains(count))
        .ok_or_else(|| format!("write a number from 1 to {max}, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_as_it_is_documented() {
        assert_eq!("50x256x32".parse(), Ok(Shape::new(50, 256, 32)));
        assert_eq!("1kx1x16KiB".parse(), Ok(Shape::new(1000, 1, 16 << 10)));
        assert_eq!(
            "8x1x1m".parse::<Shape>().unwrap().to_string(),
            "8 × 1 × 1 MiB"
        );
    }

    #[test]
    fn what_is_no_shape_is_refused_with_advice() {
        for text in [
            "", "1", "1x1", "1x1x1x1", "0x1x32", "1x0x32", "axbxc", "1x1x65m", "1x1x-1",
        ] {
            assert!(text.parse::<Shape>().is_err(), "{text}");
        }
        assert!("1x2".parse::<Shape>().unwrap_err().contains("50x256x32"));
    }

    #[test]
    fn lists_may_be_named() {
        let shapes = |text: &str| text.parse::<Shapes>().unwrap().0;
        assert_eq!(shapes("default"), Shape::DEFAULT);
        assert_eq!(
            shapes("all").len(),
            Shape::DEFAULT.len() + Shape::FURTHER.len()
        );
        let (first, second) = (Shape::new(1, 1, 32), Shape::new(2, 1, 32));
        assert_eq!(shapes("1x1x32,2x1x32"), [first, second]);
        assert!("1x1x32,".parse::<Shapes>().is_err());
    }
}
