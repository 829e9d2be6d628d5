//! The core under test, driven as an engine drives it.

use ringback::proto::{CloseCode, Echo, Isa, Limits as CoreLimits, Next, TAIL_ROOM, Violation};

use crate::arrivals::Cuts;
use crate::reference::{Answer, End, Fault, Limits, Reference, Style};

/// The bytes after those that have arrived: if the core reads them, it sees frames.
const STALE: [u8; 8] = [0x81, 0x81, 0x88, 0x80, 0x89, 0x80, 0xff, 0x7f];

struct Core {
    echo: Echo,
    isa: Isa,
    limits: CoreLimits,
    kept: Vec<u8>,
    consumed: usize,
}

impl Core {
    fn new(limits: &Limits, isa: Isa) -> Self {
        Self {
            echo: Echo::new(),
            isa,
            limits: CoreLimits {
                message_bytes: limits.message_bytes.unwrap_or(u64::MAX),
                fragments: limits.fragments,
                window: usize::try_from(limits.window).expect("a small window"),
            },
            kept: Vec::new(),
            consumed: 0,
        }
    }

    fn arrive(&mut self, bytes: &[u8]) -> Answer {
        let mut buf = [&self.kept, bytes].concat();
        let filled = buf.len();
        buf.extend(STALE.iter().cycle().take(TAIL_ROOM));
        let step = self
            .echo
            .advance_on(self.isa, &self.limits, &mut buf, filled);
        self.kept = buf[step.consumed..filled].to_vec();
        self.consumed += step.consumed;
        Answer {
            reply: buf[step.reply].to_vec(),
            consumed: self.consumed,
            end: match step.next {
                Next::Read => None,
                Next::Close(code) => Some(End::Closed(code.map(CloseCode::get))),
                Next::CloseWith(violation) => Some(End::Failed(fault(violation))),
                Next::Reset(violation) => Some(End::Aborted(fault(violation))),
            },
            messages: step.messages,
            fragments: step.others.fragments,
            pings: step.others.pings,
            pongs: step.others.pongs,
        }
    }
}

fn fault(violation: Violation) -> Fault {
    Fault {
        name: violation.name(),
        code: violation.close_code().get(),
    }
}

/// Feeds a stream to the core and to the reference, in the same pieces, and compares
/// every answer; then once more in one piece, and compares the whole.
///
/// # Panics
/// If they differ.
pub fn check(limits: &Limits, stream: &[u8], cuts: &Cuts) {
    let mut totals = Vec::new();
    for isa in Isa::available() {
        for cuts in [cuts, &Cuts::Whole] {
            totals.push(check_cut(limits, stream, cuts, isa));
        }
    }
    let (first, others) = totals.split_first().expect("there is a baseline");
    for other in others {
        same_over_all(first, other);
    }
}

/// The whole reply, how it ended, and whether it depends on the cuts.
struct Total {
    reply: Vec<u8>,
    end: Option<End>,
    is_torn: bool,
}

fn check_cut(limits: &Limits, stream: &[u8], cuts: &Cuts, isa: Isa) -> Total {
    let mut core = Core::new(limits, isa);
    let mut reference = Reference::new(*limits, Style::Frames);
    let mut total = Total {
        reply: Vec::new(),
        end: None,
        is_torn: false,
    };
    for piece in cuts.apply(stream) {
        let answer = core.arrive(piece);
        let expected = reference.arrive(piece);
        assert_eq!(
            answer,
            expected,
            "{} bytes after {}, with {}",
            piece.len(),
            core.consumed,
            isa.name()
        );
        total.reply.extend(answer.reply);
        total.end = total.end.or(answer.end);
        total.is_torn |= reference.torn.is_some();
    }
    total
}

fn same_over_all(one: &Total, other: &Total) {
    assert_eq!(
        one.is_torn, other.is_torn,
        "the reference depends on the cut"
    );
    if !one.is_torn {
        assert_eq!(one.reply, other.reply, "the reply depends on the cut");
        assert_eq!(one.end, other.end, "the end depends on the cut");
        return;
    }
    // One may have found the text invalid before its frame began to go out.
    let common = |total: &Total| match total.end {
        Some(End::Failed(_)) => total.reply.len() - 4,
        _ => total.reply.len(),
    };
    let len = common(one).min(common(other));
    assert_eq!(one.reply[..len], other.reply[..len], "before what is torn");
}
