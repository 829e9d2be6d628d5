//! The frames that a client sent on one connection, parsed by RFC 6455, section 5.2, without
//! any of the generator's own code.

use std::net::SocketAddr;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;

/// One frame, its payload unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) is_final: bool,
    pub(crate) opcode: u8,
    pub(crate) mask: [u8; 4],
    pub(crate) payload: Vec<u8>,
    /// Its end, in bytes after the handshake.
    pub(crate) end: usize,
}

/// All that came on one connection.
#[derive(Debug, Clone)]
pub(crate) struct Transcript {
    pub(crate) from: SocketAddr,
    /// The handshake's request.
    pub(crate) request: String,
    /// The bytes after it.
    pub(crate) bytes: Vec<u8>,
    /// The end of each read, in bytes after the handshake.
    pub(crate) read_ends: Vec<usize>,
}

impl Transcript {
    pub(crate) fn new(from: SocketAddr, reads: &[Vec<u8>]) -> Self {
        let all = reads.concat();
        let head_end = all.windows(4).position(|window| window == b"\r\n\r\n");
        let head_len = head_end.map_or(all.len(), |end| end + 4);
        let mut end = 0;
        let ends = reads.iter().map(|read| {
            end += read.len();
            end
        });
        Self {
            from,
            request: String::from_utf8_lossy(&all[..head_len]).into_owned(),
            read_ends: ends.filter_map(|end| end.checked_sub(head_len)).collect(),
            bytes: all[head_len..].to_vec(),
        }
    }

    /// The frames, which have to be whole.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut at = 0;
        while at < self.bytes.len() {
            let frame = frame_at(&self.bytes, at);
            at = frame.end;
            frames.push(frame);
        }
        frames
    }

    /// The frames that carry messages.
    pub(crate) fn data(&self) -> Vec<Frame> {
        let mut frames = self.frames();
        frames.retain(|frame| frame.opcode < CLOSE);
        frames
    }

    /// The number of messages, counted by their ends.
    pub(crate) fn messages(&self) -> usize {
        let data = self.data();
        data.iter().filter(|frame| frame.is_final).count()
    }

    /// Whether the last frame is a Close with code 1000.
    pub(crate) fn ended_well(&self) -> bool {
        self.frames()
            .last()
            .is_some_and(|frame| frame.opcode == CLOSE && frame.payload == [0x03, 0xe8])
    }

    /// The value of a field of the request.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.request.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn frame_at(bytes: &[u8], at: usize) -> Frame {
    let frame = &bytes[at..];
    assert_eq!(frame[0] & 0x70, 0, "no extension is in use");
    assert_eq!(frame[1] & 0x80, 0x80, "a client masks");
    let (len, header_len) = match frame[1] & 0x7f {
        126 => (u64::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => {
            let len = frame[2..10].try_into().expect("eight bytes");
            (u64::from_be_bytes(len), 10)
        }
        len => (u64::from(len), 2),
    };
    let len = usize::try_from(len).expect("it was received");
    let mask = frame[header_len..][..4].try_into().expect("four bytes");
    let masked = &frame[header_len + 4..][..len];
    let payload = masked
        .iter()
        .zip(<[u8; 4]>::into_iter(mask).cycle())
        .map(|(byte, key)| byte ^ key);
    Frame {
        is_final: frame[0] & 0x80 != 0,
        opcode: frame[0] & 0x0f,
        mask,
        payload: payload.collect(),
        end: at + header_len + 4 + len,
    }
}
