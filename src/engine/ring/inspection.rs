//! What tests ask of the engine that nobody else has to know.

use io_uring::opcode;

use super::RingEngine;
use super::token::{Key, Op, Token};

impl RingEngine {
    /// Whether no buffer of the pool is in use, and none is lost.
    pub(crate) fn has_all_buffers(&self) -> bool {
        self.schedule(|scheduler| scheduler.driver.pool.is_whole())
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
