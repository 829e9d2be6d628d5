//! Prebuilt frames, and the replies to them.

use fastrand::Rng;

use super::frame::{Header, MessageKind, apply_mask};
use super::stamp::{MessageId, STAMP_LEN_MAX, Stamper};

/// The longest header together with the longest stamp.
pub const HEAD_LEN_MAX: usize = 14 + STAMP_LEN_MAX;

/// The frames and the replies of a deck are kept below this, in bytes each, as
/// far as [`CARDS_MIN`] permits: with the buffers they have to fit in L2.
const ARENA_LEN: usize = 64 << 10;

/// Neighbouring messages must differ in their whole length, not in the stamp
/// alone. Powers of two, so that a card is found without a division.
const CARDS_MIN: usize = 4;
const CARDS_MAX: usize = 256;

/// Messages of one kind and length: some prebuilt cards, each with a random
/// mask and a random payload, of which [`MessageId`] selects one and whose
/// first payload bytes it replaces with its stamp.
#[derive(Debug)]
pub struct Deck {
    stamper: Stamper,
    kind: MessageKind,
    /// The number of cards less one.
    card_mask: usize,
    frame_header_len: usize,
    frame_len: usize,
    /// Masked frames, one after the other, and each one's mask repeated.
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
    head: [u8; HEAD_LEN_MAX],
    head_len: usize,
    body: &'a [u8],
}

impl Deck {
    /// Builds the cards; the same seed gives the same bytes.
    pub fn new(kind: MessageKind, payload_len: usize, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let reply_header = Header::new(kind.opcode(), payload_len, None);
        let reply_len = reply_header.as_bytes().len() + payload_len;
        let fitting = (ARENA_LEN / reply_len).clamp(CARDS_MIN, CARDS_MAX);
        // Rounded down to a power of two.
        let cards = 1 << fitting.ilog2();

        let mut deck = Self {
            stamper: Stamper::new(kind, payload_len, random.u64(..)),
            kind,
            card_mask: cards - 1,
            frame_header_len: reply_header.as_bytes().len() + 4,
            frame_len: reply_len + 4,
            frames: Vec::with_capacity(cards * (reply_len + 4)),
            masks: Vec::with_capacity(cards),
            reply_header,
            reply_len,
            replies: Vec::with_capacity(cards * reply_len),
        };
        let mut payload = vec![0; payload_len];
        for _ in 0..cards {
            fill(&mut payload, kind, &mut random);
            deck.push_card(&payload, random.u32(..).to_ne_bytes());
        }
        deck
    }

    /// The length of a masked frame, in bytes: the same for all.
    #[inline]
    pub fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// The length of a reply, in bytes: the same for all.
    #[inline]
    pub fn reply_len(&self) -> usize {
        self.reply_len
    }

    /// Text or binary.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Writes the message's frame into `out`.
    ///
    /// # Panics
    /// When `out` is not [`frame_len`](Self::frame_len) bytes long.
    #[inline]
    pub fn write_frame(&self, id: MessageId, out: &mut [u8]) {
        let card = self.card(id);
        out.copy_from_slice(&self.frames[card * self.frame_len..][..self.frame_len]);
        let stamp = self.masked_stamp(id, card);
        put(
            &mut out[self.frame_header_len..],
            &stamp,
            self.stamper.len(),
        );
    }

    /// The message's frame in two parts, for a gathering write: the first is
    /// copied to `head` and its length returned, the second is the deck's own.
    #[inline]
    pub fn split_frame(&self, id: MessageId, head: &mut [u8; HEAD_LEN_MAX]) -> (usize, &[u8]) {
        let card = self.card(id);
        let frame = &self.frames[card * self.frame_len..][..self.frame_len];
        let head_len = self.frame_header_len + self.stamper.len();
        let (header, _) = frame.split_at(self.frame_header_len);
        head[..header.len()].copy_from_slice(header);
        let stamp = self.masked_stamp(id, card);
        put(&mut head[header.len()..], &stamp, self.stamper.len());
        (head_len, &frame[head_len..])
    }

    /// The bytes that must come back for the message.
    #[inline]
    pub fn reply(&self, id: MessageId) -> Reply<'_> {
        let start = self.card(id) * self.reply_len;
        let header = self.reply_header.as_bytes();
        let head_len = header.len() + self.stamper.len();
        let mut head = [0; HEAD_LEN_MAX];
        head[..header.len()].copy_from_slice(header);
        head[header.len()..][..STAMP_LEN_MAX].copy_from_slice(&self.stamper.stamp(id));
        Reply {
            head,
            head_len,
            body: &self.replies[start + head_len..start + self.reply_len],
        }
    }

    /// Whether `bytes` are those of the message's whole reply: what
    /// [`Reply::matches`] says from 0 on, made for the steady state.
    ///
    /// # Panics
    /// When they are not [`reply_len`](Self::reply_len) bytes.
    #[inline]
    pub fn is_reply(&self, id: MessageId, bytes: &[u8]) -> bool {
        let card = &self.replies[self.card(id) * self.reply_len..][..self.reply_len];
        let header_len = self.reply_header.as_bytes().len();
        let stamp_end = header_len + self.stamper.len();
        let stamp = self.stamper.stamp(id);
        starts_with(card, &bytes[..header_len])
            && starts_with(&stamp, &bytes[header_len..stamp_end])
            && bytes[stamp_end..] == card[stamp_end..]
    }

    /// Which message a reply's payload says it belongs to, if it says so.
    pub(crate) fn identify(&self, reply: &[u8]) -> Option<MessageId> {
        let stamp = reply.get(self.reply_header.as_bytes().len()..)?;
        self.stamper.read(stamp.get(..self.stamper.len())?)
    }

    /// The header all replies have.
    pub(crate) fn reply_header(&self) -> &[u8] {
        self.reply_header.as_bytes()
    }

    fn push_card(&mut self, payload: &[u8], mask: [u8; 4]) {
        self.replies.extend_from_slice(self.reply_header.as_bytes());
        self.replies.extend_from_slice(payload);
        let header = Header::new(self.kind.opcode(), payload.len(), Some(mask));
        self.frames.extend_from_slice(header.as_bytes());
        let payload_at = self.frames.len();
        self.frames.extend_from_slice(payload);
        apply_mask(&mut self.frames[payload_at..], mask);
        let key = u32::from_le_bytes(mask);
        self.masks
            .push(u128::from(key) * 0x0000_0001_0000_0001_0000_0001_0000_0001);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
    fn card(&self, id: MessageId) -> usize {
        // Connections start at different cards.
        (id.sequence as usize).wrapping_add(id.connection as usize * 5) & self.card_mask
    }

    #[inline]
    fn masked_stamp(&self, id: MessageId, card: usize) -> [u8; STAMP_LEN_MAX] {
        let stamp = u128::from_le_bytes(self.stamper.stamp(id));
        (stamp ^ self.masks[card]).to_le_bytes()
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

/// Fills a payload with bytes that nobody can guess. Text is printable ASCII,
/// the plainest that every server has to take.
fn fill(payload: &mut [u8], kind: MessageKind, random: &mut Rng) {
    match kind {
        MessageKind::Binary => random.fill(payload),
        MessageKind::Text => payload.fill_with(|| random.u8(b' '..=b'~')),
    }
}

/// Copies the stamp's first `len` bytes, with a store of constant length for
/// the two lengths that occur in earnest.
#[inline]
fn put(out: &mut [u8], stamp: &[u8; STAMP_LEN_MAX], len: usize) {
    match len {
        8 => out[..8].copy_from_slice(&stamp[..8]),
        16 => out[..16].copy_from_slice(stamp),
        _ => out[..len].copy_from_slice(&stamp[..len]),
    }
}

/// Whether `whole` starts with `start`. For the lengths that headers and stamps
/// have in earnest this compares integers, as three calls of the library's
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

    const SIZES: [usize; 12] = [0, 1, 7, 8, 15, 16, 17, 32, 125, 126, 65_536, 1_048_576];

    #[test]
    fn a_frame_is_its_reply_masked() {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for len in SIZES {
                let deck = Deck::new(kind, len, 1);
                let id = MessageId {
                    connection: 7,
                    sequence: 1_234,
                };
                let mut frame = vec![0; deck.frame_len()];
                deck.write_frame(id, &mut frame);
                let payload_at = frame.len() - len;
                let mask = frame[payload_at - 4..payload_at].try_into().unwrap();
                apply_mask(&mut frame[payload_at..], mask);
                let mut reply = deck.reply_header().to_vec();
                reply.extend_from_slice(&frame[payload_at..]);
                assert!(deck.reply(id).matches(0, &reply), "{kind} {len}");
                if kind == MessageKind::Text {
                    assert!(frame[payload_at..].is_ascii());
                }
            }
        }
    }

    #[test]
    fn both_ways_to_send_a_frame_agree() {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for len in SIZES {
                let deck = Deck::new(kind, len, 2);
                let id = MessageId {
                    connection: 1,
                    sequence: 99,
                };
                let mut whole = vec![0; deck.frame_len()];
                deck.write_frame(id, &mut whole);
                let mut head = [0; HEAD_LEN_MAX];
                let (head_len, body) = deck.split_frame(id, &mut head);
                assert_eq!([&head[..head_len], body].concat(), whole);
            }
        }
    }

    #[test]
    fn neighbours_differ_and_masks_vary() {
        let deck = Deck::new(MessageKind::Binary, 1 << 20, 3);
        let frame = |connection, sequence| {
            let mut frame = vec![0; deck.frame_len()];
            let id = MessageId {
                connection,
                sequence,
            };
            deck.write_frame(id, &mut frame);
            frame
        };
        let one = frame(0, 0);
        for other in [frame(0, 1), frame(1, 0)] {
            assert_ne!(one[10..14], other[10..14], "masks");
            assert_ne!(one[1 << 19..], other[1 << 19..], "second halves");
        }
        let masks: std::collections::HashSet<_> = deck.masks.iter().collect();
        assert_eq!(masks.len(), CARDS_MIN);
    }
}
