//! What a server is started from.

use super::{Server, Signals};
use crate::config::Config;
use crate::config::error::Error;
use crate::handler::Handler;
use crate::server::signals::Interrupt;

/// A server that is yet to be started: an echo, unless it gets a handler.
#[must_use]
pub struct Builder {
    config: Config,
    handler: Option<Handler>,
}

impl Builder {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            handler: None,
        }
    }

    /// Has `handler` serve the connections.
    pub fn handler(mut self, handler: Handler) -> Self {
        self.handler = Some(handler);
        self
    }

    /// Starts the server. It accepts connections when this returns.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start(self) -> Result<Server, Error> {
        let handler = self.handler.as_ref();
        Server::launch(self.config, None, handler, &Interrupt::default())
    }

    /// Starts the server and serves until SIGTERM or SIGINT and the drain that follows.
    ///
    /// # Errors
    /// Why the server could not start, or that a worker failed.
    pub fn run(self) -> Result<(), Error> {
        let mut signals = Signals::catch()?;
        let handler = self.handler.as_ref();
        match Server::start_interruptibly(self.config, None, handler, &mut signals) {
            Ok(server) => server.run_until_signal(signals),
            Err(Error::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
