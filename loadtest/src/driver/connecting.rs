//! Opening of connections: those of the plan, and those that replace others.

use std::io;

use super::Worker;
use super::connection::{Connection, Role};
use super::opening::{Closed, Opening};
use super::phases::Phase;
use crate::client::Handshake;
use crate::failure::Failure;
use crate::plan::Protocol;

/// The most concurrent handshakes of a thread without `--connect-rate`: enough to keep a server
/// busy, and below the usual accept queue.
const OPENING_MAX: u32 = 64;

impl Worker<'_> {
    /// Connections of the plan that this thread has.
    pub(super) fn planned(&self) -> u32 {
        super::planned(self.plan, self.share)
    }

    /// When the next connection may be begun, if any is left.
    pub(super) fn next_connect_ns(&self) -> Option<u64> {
        match self.phase {
            Phase::Connect if self.begun < self.planned() => {
                let due_ns = at_rate(u64::from(self.number(self.begun)), self.plan.connect_pace());
                // A requested rate is kept, however long the handshakes take.
                let may_begin = self.plan.connect_rate.is_some() || self.opening < OPENING_MAX;
                may_begin.then_some(due_ns)
            }
            Phase::WarmUp | Phase::Measure => {
                let rate = self.plan.churn_rate?;
                let threads = u64::from(self.share.threads);
                let index = self.churned * threads + u64::from(self.share.thread);
                // The first replacement comes one period after the start.
                Some(self.shared.start_ns() + at_rate(index + 1, rate))
            }
            _ => None,
        }
    }

    /// Begins the connections that are due.
    pub(super) fn connect_due(&mut self, now_ns: u64) -> Result<(), Failure> {
        while self
            .next_connect_ns()
            .is_some_and(|due_ns| due_ns <= now_ns)
        {
            if self.phase == Phase::Connect {
                let (index, number) = (self.begun, self.number(self.begun));
                self.begun += 1;
                self.opening += 1;
                self.opening_max = self.opening_max.max(self.opening);
                let role = match number {
                    _ if number < self.plan.connections => Role::Load(index),
                    _ if number < self.plan.connections + self.plan.idle_connections => Role::Idle,
                    _ => Role::Slow,
                };
                self.connect(number, role, None)?;
            } else {
                let load_connections = self.load_connections.len() as u64;
                let index = u32::try_from(self.churned % load_connections).unwrap_or(0);
                let planned = u64::from(self.planned());
                let number = self.number_of(planned + self.churned);
                self.churned += 1;
                self.connect(number, Role::Load(index), Some(index))?;
            }
        }
        Ok(())
    }

    /// The number, over all threads, of one of this thread's connections.
    fn number(&self, index: u32) -> u32 {
        self.number_of(u64::from(index))
    }

    /// Numbers of churned connections wrap at the stamps' 24 bits.
    fn number_of(&self, index: u64) -> u32 {
        let number = index * u64::from(self.share.threads) + u64::from(self.share.thread);
        (number & 0xff_ffff) as u32
    }

    fn connect(&mut self, number: u32, role: Role, replaces: Option<u32>) -> Result<(), Failure> {
        let handshake = match self.plan.protocol {
            Protocol::RawTcp => None,
            Protocol::WebSocket => {
                let mut nonce = [0; 16];
                self.state.random.fill(&mut nonce);
                Some(Handshake::new(
                    &self.endpoints.of_connection(number).target,
                    &self.plan.headers,
                    &self.plan.subprotocols,
                    nonce,
                ))
            }
        };
        let mut opening = Opening::new(handshake, self.plan.skip, self.state.now_ns());
        opening.replaces = replaces;
        let slow = role == Role::Slow;
        let transport = self
            .endpoints
            .connect(number, slow)
            .map_err(|error| self.no_connection(number, error))?;
        self.sockets
            .insert(Connection::new(number, role, transport, opening))?;
        Ok(())
    }

    pub(super) fn no_connection(&self, number: u32, source: io::Error) -> Failure {
        Failure::Connect {
            target: self.endpoints.of_connection(number).target.to_string(),
            connection: number,
            source,
        }
    }

    /// A step of a connection's opening.
    pub(super) fn open_step(&mut self, slot: usize, readable: bool) -> Result<(), Failure> {
        let Some(connection) = self.sockets.at(slot) else {
            return Ok(());
        };
        let number = connection.id;
        let opening = connection.opening.as_ref();
        let replaces = opening.and_then(|opening| opening.replaces);
        match connection.open(readable, &mut self.state) {
            Ok(false) => self.sockets.watch(slot),
            Ok(true) => self.on_open(slot, replaces),
            Err(Closed::Connect(error)) => Err(self.no_connection(number, error)),
            Err(Closed::Handshake(source)) => Err(Failure::Handshake {
                target: self.endpoints.of_connection(number).target.to_string(),
                connection: number,
                source,
            }),
        }
    }

    fn on_open(&mut self, slot: usize, replaces: Option<u32>) -> Result<(), Failure> {
        let now_ns = self.state.now_ns();
        let early = std::mem::take(&mut self.state.early);
        let Some(connection) = self.sockets.at(slot) else {
            return Ok(());
        };
        connection.begin(now_ns);
        self.state.recorder.counts.skipped += u64::from(self.plan.skip);
        if !early.is_empty() {
            connection.take_early(&early, &mut self.state)?;
        }
        match (connection.role, replaces) {
            (_, Some(index)) => self.replace(index, slot)?,
            (Role::Load(index), None) => self.load_connections[index as usize] = slot,
            (Role::Slow, None) => self.slow_readers.push(slot),
            _ => {}
        }
        if replaces.is_none() {
            self.opening -= 1;
            self.shared.count_open();
        }
        self.work(slot, false, false)
    }

    /// Moves the load of a connection to its replacement, which then closes the old one: the load
    /// always has all its connections.
    fn replace(&mut self, index: u32, slot: usize) -> Result<(), Failure> {
        let old = std::mem::replace(&mut self.load_connections[index as usize], slot);
        self.state.recorder.counts.replaced += 1;
        if let Some([old, new]) = self.sockets.pair(old, slot) {
            old.retire(new);
        }
        self.work(old, false, false)
    }
}

/// When event number `index` of a rate is due, in nanoseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are positive, and a cast saturates"
)]
fn at_rate(index: u64, rate: f64) -> u64 {
    (index as f64 * 1e9 / rate) as u64
}
