//! Prebuilt frames, and the replies to them.

use fastrand::Rng;

use super::frame::{HEADER_LEN_MAX, Header, MessageKind, OPCODE_CONTINUATION, apply_mask};
use super::stamp::{MessageId, STAMP_LEN_MAX, Stamper};

/// The longest part of a frame that is built for each message: in the worst case every byte of
/// the stamp is in a fragment of its own.
pub const HEAD_LEN_MAX: usize = STAMP_LEN_MAX * (HEADER_LEN_MAX + 1);

/// The frames and the replies of a pool are kept below this, in bytes each, as far as
/// [`TEMPLATES_MIN`] permits: with the buffers they have to fit in L2.
const ARENA_LEN: usize = 64 << 10;

/// Neighbouring messages must differ in their whole length, not in the stamp alone. Powers of
/// two, so that a template is found without a division.
const TEMPLATES_MIN: usize = 4;
const TEMPLATES_MAX: usize = 256;

/// The properties that all messages of a pool share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Text or binary.
    pub kind: MessageKind,
    /// Payload bytes.
    pub payload_len: usize,
    /// Frames each message is sent in, at least one.
    pub fragments: usize,
    /// Whether the reply is the unchanged frame, as from a raw TCP echo. Masks are zero then, so
    /// that all frames have the same header.
    pub raw: bool,
}

impl Shape {
    /// An unfragmented message.
    pub fn whole(kind: MessageKind, payload_len: usize) -> Self {
        Self {
            kind,
            payload_len,
            fragments: 1,
            raw: false,
        }
    }
}

/// Messages of one kind and length: prebuilt templates, each with random masks and a random
/// payload. [`MessageId`] selects one, and its stamp replaces the first payload bytes.
#[derive(Debug)]
pub struct FramePool {
    stamper: Stamper,
    shape: Shape,
    /// The number of templates less one.
    template_mask: usize,
    frame_len: usize,
    /// The start and end of the stamp in a frame. It is contiguous unless the message is
    /// fragmented within it.
    stamp_start: usize,
    stamp_end: usize,
    /// The positions of the stamp's bytes, where it is not contiguous.
    stamp_positions: Option<Vec<usize>>,
    /// Masked frames, one after the other, and the mask of each one's stamp.
    frames: Vec<u8>,
    masks: Vec<u128>,
    reply_header: Header,
    reply_len: usize,
    /// The replies to them, in the same order.
    replies: Vec<u8>,
}

/// The bytes that must come back for one message.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    head: [u8; HEADER_LEN_MAX + STAMP_LEN_MAX],
    head_len: usize,
    body: &'a [u8],
}

impl FramePool {
    /// Builds the templates; the same seed gives the same bytes.
    pub fn new(shape: Shape, seed: u64) -> Self {
        let Shape {
            kind, payload_len, ..
        } = shape;
        let mut random = Rng::with_seed(seed);
        let reply_mask = shape.raw.then_some([0; 4]);
        let reply_header = Header::new(kind.opcode(), payload_len, reply_mask);
        let reply_len = reply_header.as_bytes().len() + payload_len;
        let fitting = (ARENA_LEN / reply_len).clamp(TEMPLATES_MIN, TEMPLATES_MAX);
        // Rounded down to a power of two.
        let templates = 1 << fitting.ilog2();

        let mut pool = Self {
            stamper: Stamper::new(kind, payload_len, random.u64(..)),
            shape,
            template_mask: templates - 1,
            frame_len: 0,
            stamp_start: 0,
            stamp_end: 0,
            stamp_positions: None,
            frames: Vec::new(),
            masks: Vec::with_capacity(templates),
            reply_header,
            reply_len,
            replies: Vec::with_capacity(templates * reply_len),
        };
        pool.lay_out();
        pool.frames.reserve_exact(templates * pool.frame_len);
        let mut payload = vec![0; payload_len];
        for _ in 0..templates {
            fill(&mut payload, kind, &mut random);
            pool.push_template(&payload, &mut random);
        }
        pool
    }

    /// The length of a message's frames together, in bytes: the same for all.
    #[inline]
    pub fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// Payload bytes of a message: the same for all.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.shape.payload_len
    }

    /// The length of a reply, in bytes: the same for all.
    #[inline]
    pub fn reply_len(&self) -> usize {
        self.reply_len
    }

    /// Text or binary.
    pub fn kind(&self) -> MessageKind {
        self.shape.kind
    }

    /// Whether replies are the very bytes that were sent.
    pub(crate) fn is_raw(&self) -> bool {
        self.shape.raw
    }

    /// Writes the message's frames into `out`.
    ///
    /// # Panics
    /// When `out` is not [`frame_len`](Self::frame_len) bytes long.
    #[inline]
    pub fn write_frame(&self, id: MessageId, out: &mut [u8]) {
        let template = self.template(id);
        out.copy_from_slice(&self.frames[template * self.frame_len..][..self.frame_len]);
        self.put_stamp(id, template, out);
    }

    /// The message's frames in two parts, for a gathering write: the first is copied to `head`
    /// and its length returned, the second is borrowed from the pool.
    #[inline]
    pub fn split_frame(&self, id: MessageId, head: &mut [u8; HEAD_LEN_MAX]) -> (usize, &[u8]) {
        let template = self.template(id);
        let frame = &self.frames[template * self.frame_len..][..self.frame_len];
        let (start, body) = frame.split_at(self.stamp_end);
        head[..start.len()].copy_from_slice(start);
        self.put_stamp(id, template, head);
        (start.len(), body)
    }

    /// The bytes that must come back for the message.
    #[inline]
    pub fn reply(&self, id: MessageId) -> Reply<'_> {
        let start = self.template(id) * self.reply_len;
        let header = self.reply_header.as_bytes();
        let head_len = header.len() + self.stamper.len();
        let mut head = [0; HEADER_LEN_MAX + STAMP_LEN_MAX];
        head[..header.len()].copy_from_slice(header);
        head[header.len()..][..STAMP_LEN_MAX].copy_from_slice(&self.stamper.stamp(id));
        Reply {
            head,
            head_len,
            body: &self.replies[start + head_len..start + self.reply_len],
        }
    }

    /// Whether `bytes` are the message's whole reply: [`Reply::matches`] from 0 on, optimized for
    /// the steady state.
    ///
    /// # Panics
    /// When they are not [`reply_len`](Self::reply_len) bytes.
    #[inline]
    pub fn is_reply(&self, id: MessageId, bytes: &[u8]) -> bool {
        let template = &self.replies[self.template(id) * self.reply_len..][..self.reply_len];
        let header_len = self.reply_header.as_bytes().len();
        let stamp_end = header_len + self.stamper.len();
        let stamp = self.stamper.stamp(id);
        starts_with(template, &bytes[..header_len])
            && starts_with(&stamp, &bytes[header_len..stamp_end])
            && bytes[stamp_end..] == template[stamp_end..]
    }

    /// The message that a reply's stamp names, if the stamp is whole.
    pub(crate) fn identify(&self, reply: &[u8]) -> Option<MessageId> {
        let stamp = reply.get(self.reply_header.as_bytes().len()..)?;
        self.stamper.read(stamp.get(..self.stamper.len())?)
    }

    /// The header all replies have.
    pub(crate) fn reply_header(&self) -> &[u8] {
        self.reply_header.as_bytes()
    }

    /// The payload's parts, one for each frame: as even as can be, longer ones
    /// first.
    fn parts(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let Shape {
            payload_len,
            fragments,
            ..
        } = self.shape;
        let (base, longer) = (payload_len / fragments, payload_len % fragments);
        (0..fragments).map(move |index| {
            let start = index * base + index.min(longer);
            start..start + base + usize::from(index < longer)
        })
    }

    /// Finds out how long a message's frames are and where its stamp is.
    fn lay_out(&mut self) {
        let mut places = Vec::with_capacity(self.stamper.len());
        let mut at = 0;
        for part in self.parts() {
            let header = Header::new(0, part.len(), Some([0; 4]));
            at += header.as_bytes().len();
            let stamped = part.start.min(self.stamper.len())..part.end.min(self.stamper.len());
            places.extend((0..stamped.len()).map(|byte| at + byte));
            at += part.len();
        }
        self.frame_len = at;
        // An empty stamp has no position: the frame has no separate head, which would have any
        // number of fragments.
        self.stamp_start = places.first().copied().unwrap_or(0);
        self.stamp_end = places.last().map_or(self.stamp_start, |last| last + 1);
        let in_one_piece = self.stamp_end - self.stamp_start == places.len();
        self.stamp_positions = (!in_one_piece).then_some(places);
    }

    fn push_template(&mut self, payload: &[u8], random: &mut Rng) {
        self.replies.extend_from_slice(self.reply_header.as_bytes());
        self.replies.extend_from_slice(payload);
        let mut stamp_mask = [0; STAMP_LEN_MAX];
        let last = self.shape.fragments - 1;
        for (index, part) in self.parts().enumerate() {
            let mask = if self.shape.raw {
                [0; 4]
            } else {
                random.u32(..).to_ne_bytes()
            };
            let opcode = if index == 0 {
                self.shape.kind.opcode()
            } else {
                OPCODE_CONTINUATION
            };
            let header = Header::fragment(opcode, index == last, part.len(), Some(mask));
            self.frames.extend_from_slice(header.as_bytes());
            let payload_at = self.frames.len();
            self.frames.extend_from_slice(&payload[part.clone()]);
            apply_mask(&mut self.frames[payload_at..], mask);
            for (at, key) in part.zip(mask.into_iter().cycle()).take(STAMP_LEN_MAX) {
                if let Some(byte) = stamp_mask.get_mut(at) {
                    *byte = key;
                }
            }
        }
        self.masks.push(u128::from_le_bytes(stamp_mask));
    }

    /// Replaces the stamp in a frame, or in a prefix of it that contains the stamp.
    #[inline]
    fn put_stamp(&self, id: MessageId, template: usize, frame: &mut [u8]) {
        let stamp = u128::from_le_bytes(self.stamper.stamp(id));
        let stamp = (stamp ^ self.masks[template]).to_le_bytes();
        if self.stamp_positions.is_some() {
            return self.scatter(stamp, frame);
        }
        put(&mut frame[self.stamp_start..], &stamp, self.stamper.len());
    }

    /// Writes the bytes of a stamp that is not contiguous.
    #[cold]
    fn scatter(&self, stamp: [u8; STAMP_LEN_MAX], frame: &mut [u8]) {
        let places = self.stamp_positions.iter().flatten();
        for (&place, byte) in places.zip(stamp) {
            frame[place] = byte;
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
    fn template(&self, id: MessageId) -> usize {
        // Connections start at different templates.
        (id.sequence as usize).wrapping_add(id.connection as usize * 5) & self.template_mask
    }
}

impl Reply<'_> {
    /// Whether `bytes` are those of the reply from `at` on.
    ///
    /// # Panics
    /// When they reach past the reply's end.
    #[inline]
    pub fn matches(&self, at: usize, bytes: &[u8]) -> bool {
        let head = &self.head[..self.head_len];
        let Some(head) = head.get(at..) else {
            return *bytes == self.body[at - self.head_len..][..bytes.len()];
        };
        if bytes.len() <= head.len() {
            return *bytes == head[..bytes.len()];
        }
        let (start, rest) = bytes.split_at(head.len());
        *start == *head && *rest == self.body[..rest.len()]
    }

    /// The reply's byte at `at`.
    ///
    /// # Panics
    /// When `at` is past the reply's end.
    pub fn byte(&self, at: usize) -> u8 {
        match at.checked_sub(self.head_len) {
            None => self.head[at],
            Some(at) => self.body[at],
        }
    }
}

/// Fills a payload with random bytes. Text is printable ASCII, which every server has to accept.
fn fill(payload: &mut [u8], kind: MessageKind, random: &mut Rng) {
    match kind {
        MessageKind::Binary => random.fill(payload),
        MessageKind::Text => payload.fill_with(|| random.u8(b' '..=b'~')),
    }
}

/// Copies the stamp's first `len` bytes, with a store of constant length for
/// the two usual lengths.
#[inline]
fn put(out: &mut [u8], stamp: &[u8; STAMP_LEN_MAX], len: usize) {
    match len {
        8 => out[..8].copy_from_slice(&stamp[..8]),
        16 => out[..16].copy_from_slice(stamp),
        _ => out[..len].copy_from_slice(&stamp[..len]),
    }
}

/// Whether `whole` starts with `start`. For the lengths that headers and stamps
/// usually have, this compares integers, as three calls of the library's
/// function would cost more than all the rest about a short reply.
#[inline]
fn starts_with(whole: &[u8], start: &[u8]) -> bool {
    match (start, whole) {
        (&[a, b], &[c, d, ..]) => u16::from_ne_bytes([a, b]) == u16::from_ne_bytes([c, d]),
        _ => match (start.as_chunks::<8>(), whole.as_chunks::<8>()) {
            (([start], []), ([whole, ..], _)) => number(*start) == number(*whole),
            (([s, t], []), ([v, w, ..], _)) => {
                (number(*s) ^ number(*v)) | (number(*t) ^ number(*w)) == 0
            }
            _ => whole.starts_with(start),
        },
    }
}

#[inline]
fn number(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::frame::declared_len;

    const SIZES: [usize; 12] = [0, 1, 7, 8, 15, 16, 17, 32, 125, 126, 65_536, 1_048_576];

    #[test]
    fn a_frame_is_its_reply_masked() {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for len in SIZES {
                let pool = FramePool::new(Shape::whole(kind, len), 1);
                let id = MessageId {
                    connection: 7,
                    sequence: 1_234,
                };
                let mut frame = vec![0; pool.frame_len()];
                pool.write_frame(id, &mut frame);
                let payload_at = frame.len() - len;
                let mask = frame[payload_at - 4..payload_at].try_into().unwrap();
                apply_mask(&mut frame[payload_at..], mask);
                let mut reply = pool.reply_header().to_vec();
                reply.extend_from_slice(&frame[payload_at..]);
                assert!(pool.reply(id).matches(0, &reply), "{kind} {len}");
                if kind == MessageKind::Text {
                    assert!(frame[payload_at..].is_ascii());
                }
            }
        }
    }

    #[test]
    fn split_frame_and_write_frame_give_the_same_bytes() {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for (len, fragments) in SIZES
                .into_iter()
                .zip([1, 2, 3, 7, 20, 1].into_iter().cycle())
                // An empty payload, in enough fragments for the headers alone to be long.
                .chain([0, 1, 8, 16].map(|len| (len, 1024)))
            {
                let shape = Shape {
                    fragments,
                    ..Shape::whole(kind, len)
                };
                let pool = FramePool::new(shape, 2);
                let id = MessageId {
                    connection: 1,
                    sequence: 99,
                };
                let mut whole = vec![0; pool.frame_len()];
                pool.write_frame(id, &mut whole);
                let mut head = [0; HEAD_LEN_MAX];
                let (head_len, body) = pool.split_frame(id, &mut head);
                assert_eq!([&head[..head_len], body].concat(), whole);
            }
        }
    }

    /// Parses and unmasks frames by RFC 6455.
    fn unmasked(mut frames: &[u8]) -> (Vec<(u8, usize)>, Vec<u8>) {
        let (mut headers, mut payload) = (Vec::new(), Vec::new());
        while !frames.is_empty() {
            let (len, header_len) = declared_len(frames).unwrap();
            let len = usize::try_from(len).unwrap();
            let mask = frames[header_len..][..4].try_into().unwrap();
            let mut part = frames[header_len + 4..][..len].to_vec();
            apply_mask(&mut part, mask);
            headers.push((frames[0], len));
            payload.extend(part);
            frames = &frames[header_len + 4 + len..];
        }
        (headers, payload)
    }

    #[test]
    fn fragments_are_even_and_carry_the_whole_stamped_payload() {
        let id = MessageId {
            connection: 7,
            sequence: 1_234,
        };
        for (len, fragments) in [(0, 3), (2, 5), (10, 3), (20, 16), (20, 64), (70_000, 2)] {
            for kind in [MessageKind::Text, MessageKind::Binary] {
                let shape = Shape {
                    fragments,
                    ..Shape::whole(kind, len)
                };
                let pool = FramePool::new(shape, 4);
                let mut frames = vec![0; pool.frame_len()];
                pool.write_frame(id, &mut frames);
                let (headers, payload) = unmasked(&frames);
                assert_eq!(headers.len(), fragments);
                for (index, (first, part_len)) in headers.into_iter().enumerate() {
                    let opcode = if index == 0 { kind.opcode() } else { 0 };
                    let fin = if index + 1 == fragments { 0x80 } else { 0 };
                    assert_eq!(first, fin | opcode);
                    assert!(part_len.abs_diff(len / fragments) <= 1);
                }
                let reply = [pool.reply_header(), &payload].concat();
                assert!(
                    pool.reply(id).matches(0, &reply),
                    "{kind} {len} {fragments}"
                );
                assert!(pool.is_reply(id, &reply));
            }
        }
    }

    #[test]
    fn a_raw_echo_is_what_was_sent() {
        for len in SIZES {
            let shape = Shape {
                raw: true,
                ..Shape::whole(MessageKind::Binary, len)
            };
            let pool = FramePool::new(shape, 4);
            let id = MessageId {
                connection: 1,
                sequence: 2,
            };
            let mut frame = vec![0; pool.frame_len()];
            pool.write_frame(id, &mut frame);
            assert_eq!(pool.reply_len(), pool.frame_len());
            assert!(pool.reply(id).matches(0, &frame));
            assert!(pool.is_reply(id, &frame));
        }
    }

    #[test]
    fn neighbours_differ_and_masks_vary() {
        let pool = FramePool::new(Shape::whole(MessageKind::Binary, 1 << 20), 3);
        let frame = |connection, sequence| {
            let mut frame = vec![0; pool.frame_len()];
            let id = MessageId {
                connection,
                sequence,
            };
            pool.write_frame(id, &mut frame);
            frame
        };
        let one = frame(0, 0);
        for other in [frame(0, 1), frame(1, 0)] {
            assert_ne!(one[10..14], other[10..14], "masks");
            assert_ne!(one[1 << 19..], other[1 << 19..], "second halves");
        }
        let masks: std::collections::HashSet<_> = pool.masks.iter().collect();
        assert_eq!(masks.len(), TEMPLATES_MIN);
    }
}
