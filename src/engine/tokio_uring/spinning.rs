//! Busy polling on a runtime that looks at its ring only when it parks.

use std::io;
use std::time::Instant;

use crate::engine::Settings;
use crate::engine::spin::Spin;

/// Spins whenever it pays, for ever; ends only with an error.
///
/// A task that merely yields keeps the runtime from parking, and what the other
/// tasks ask of the ring is submitted when it parks. A no-op is an operation
/// like theirs: waiting for it parks the runtime, which submits all there is,
/// and ends the park at once. Entering the kernel for it also completes what
/// has become ready.
pub(super) async fn spin(settings: &Settings) -> io::Error {
    let mut spin = Spin::new(settings.busy_poll);
    loop {
        settings.activity.arrived().await;
        loop {
            let now = Instant::now();
            if settings.activity.take() {
                spin.event(now);
            }
            if !spin.goes_on(now) {
                break;
            }
            if let Err(error) = tokio_uring::no_op().await {
                return error;
            }
        }
    }
}
