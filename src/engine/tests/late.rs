//! Operations that complete when another connection has the place of theirs.

use super::client::{Client, End, Step, TEXT, frame, reply};
use super::rig::on_engine;
use crate::config::engine_kind::EngineKind;

fn word() -> Step {
    Step {
        send: frame(TEXT, b"a word"),
        expect: reply(TEXT, b"a word"),
    }
}

#[test]
fn a_late_completion_reaches_no_other_connection() {
    super::run(EngineKind::Ring, |kind| {
        on_engine(kind, async |rig| {
            let mut first = Client::new(rig.connect(b""));
            rig.clients(move || {
                first.take(&word());
                first.close();
            })
            .await;
            rig.run_until("the first is over", || rig.open() == 0).await;
            let mut second = Client::new(rig.connect(b""));
            let mut second = rig
                .clients(move || {
                    second.take(&word());
                    second
                })
                .await;
            rig.ring().complete_again_for_the_first();
            rig.clients(move || {
                second.take(&word());
                second.close();
                assert_eq!(second.end, Some(End::Closed));
            })
            .await;
        });
    });
}
