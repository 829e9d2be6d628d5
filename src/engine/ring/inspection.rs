//! What tests ask of the engine that nobody else has to know.

use io_uring::opcode;

use super::RingEngine;
use super::token::{Key, Op, Token};

impl RingEngine {
    /// Whether no buffer of the pool is in use, and none is lost.
    pub(crate) fn has_all_buffers(&self) -> bool {
        self.schedule(|scheduler| scheduler.driver.pool.is_whole())
    }

    /// Whether a reply is yet to be sent, apart from those that are awaited.
    pub(crate) fn has_unsent_replies(&self) -> bool {
        self.schedule(|scheduler| {
            scheduler.driver.replies.iter().any(|reply| {
                let socket = scheduler.connections.get_mut(reply.place);
                socket.is_none_or(|socket| !socket.awaits_reply())
            })
        })
    }

    /// Has operations of this engine's first connection complete once more.
    pub(crate) fn complete_again_for_the_first(&self) {
        self.schedule(|scheduler| {
            for op in [Op::Receive, Op::Reply, Op::Room, Op::Cancel] {
                let late = opcode::Nop::new().build();
                let late = late.user_data(Token::new(op, Key::new(0, 0)).pack());
                // SAFETY: names no memory.
                unsafe { scheduler.driver.uring.push(late) };
            }
        });
    }
}
