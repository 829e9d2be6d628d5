//! An upgraded connection: to the engine, and to its handler.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;

use super::Worker;
use crate::engine::Upgraded;
use crate::engine::messages::channel::Channel;
use crate::handler::MessageSocket;
use crate::http::{Accept, UpgradedStream};
use crate::limits::admission::Permit;
use crate::observe::connection_record::ConnectionRecord;
use crate::observe::log_limit::{ENDED_EARLY, HANDLER_PANICS, log_limited};
use crate::observe::metrics::Counters;
use crate::observe::metrics::label::EndReason;
use crate::proto::CloseCode;
use crate::sys::task::{catch, panic_message};
use crate::transport::stream::Transport;

impl Worker {
    /// Gives an upgraded connection to the engine, and runs its handler, if it has one.
    pub(super) async fn hand_over(
        &self,
        handover: UpgradedStream,
        record: Rc<ConnectionRecord>,
        permit: Permit,
    ) {
        let subprotocol = handover.subprotocol.as_deref();
        tracing::trace!(subprotocol, "upgraded");
        if let Some(subprotocol) = subprotocol {
            record.agreed(subprotocol);
        }
        let peer = record.peer();
        match handover.stream.into_transport() {
            Ok(transport) => {
                drop(record);
                let channel = self.adopt(transport, handover.leftover, permit);
                if let (Some(channel), Some(request)) = (channel, handover.request) {
                    let subprotocol = handover.subprotocol;
                    let socket =
                        MessageSocket::new(Rc::clone(&channel), peer, request, subprotocol);
                    self.run_handler(&channel, socket).await;
                }
            }
            Err(error) => {
                log_limited!(debug, ENDED_EARLY, %error, "a connection ended before it was served");
                let counters = &self.settings.counters;
                counters.count_end(EndReason::Gone, None);
                record.ended(EndReason::Gone, None);
            }
        }
    }

    /// Gives a connection to the engine; the way to it, where there is a handler.
    fn adopt(
        &self,
        transport: Transport,
        leftover: Bytes,
        mut permit: Permit,
    ) -> Option<Rc<Channel>> {
        permit.forget_record_if_unwanted();
        let (permit, handler) = if self.handler.is_some() {
            (permit.companion(), Some(Channel::new(permit)))
        } else {
            (permit, None)
        };
        let channel = handler.clone();
        match transport {
            Transport::Socket(socket) => Rc::clone(&self.engine).adopt(Upgraded {
                socket,
                leftover,
                permit,
                handler,
            }),
            Transport::Tls(stream) => self.encrypted.adopt(stream, leftover, permit, handler),
        }
        channel
    }

    /// Runs the handler of a connection, which keeps its place until the handler returns.
    async fn run_handler(&self, channel: &Channel, socket: MessageSocket) {
        let Some(handler) = self.handler.clone() else {
            return;
        };
        // The call may panic as well as what it returns.
        if let Err(panic) = catch(Box::pin(async move { handler(socket).await })).await {
            report_handler_panic(&self.settings.counters, &*panic);
            channel.close(CloseCode::INTERNAL_ERROR, "");
        }
    }
}

/// Refuses with 500 where `accept` panics.
pub(super) fn guard_accept(accept: Accept, counters: Arc<Counters>) -> Accept {
    Arc::new(move |request| {
        catch_unwind(AssertUnwindSafe(|| accept(request))).unwrap_or_else(|panic| {
            report_handler_panic(&counters, &*panic);
            Err(StatusCode::INTERNAL_SERVER_ERROR)
        })
    })
}

fn report_handler_panic(counters: &Counters, panic: &(dyn Any + Send)) {
    counters.handler_panics.add(1);
    let reason = panic_message(panic);
    log_limited!(warn, HANDLER_PANICS, %reason, "a handler's panic ended its connection");
}
