//! Real `ENOBUFS`: clients that say more at once than a ring's pool has buffers.

use std::time::Duration;

use super::client::{BINARY, Client, Step, TEXT, frame, noise, reply};
use super::rig::on_engine;
use crate::config::engine_kind::EngineKind;
use crate::sys::calls;

const CLIENTS: usize = 300;

/// Bytes of what each of them says: eight small buffers. All of them together are
/// more than twice as many as there are.
const SAYS: usize = 30_000;

#[test]
fn clients_say_more_at_once_than_the_pool_takes() {
    super::run(EngineKind::Ring, |kind| {
        let payload = noise(SAYS);
        on_engine(kind, async |rig| {
            calls::plan(None);
            let streams: Vec<_> = (0..CLIENTS).map(|_| rig.connect(b"")).collect();
            // All are received for before anybody speaks.
            rig.run_for(Duration::from_millis(20)).await;
            let mut clients: Vec<_> = streams.into_iter().map(Client::new).collect();
            for client in &clients {
                // The engine does not run meanwhile: this is its thread.
                client.say(&frame(BINARY, &payload));
            }
            rig.clients(move || {
                for client in &mut clients {
                    client.expect(&reply(BINARY, &payload));
                }
                for client in &mut clients {
                    client.take(&Step {
                        send: frame(TEXT, b"once more"),
                        expect: reply(TEXT, b"once more"),
                    });
                    client.close();
                }
            })
            .await;
            let without = calls::tally().without_buffer;
            assert!(without > 0, "there were buffers for all");
        });
    });
}
