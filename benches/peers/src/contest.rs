//! What is to be measured, and the loop that does it.

use std::path::PathBuf;
use std::time::Duration;

use loadtest::interrupt::Interrupt;

use crate::order::Orders;
use crate::results::{Results, Run};
use crate::run::measure;
use crate::server::Server;
use crate::shape::Shape;

/// Who competes, under which loads, how often and for how long.
#[derive(Debug, Clone)]
pub struct Contest {
    /// The servers.
    pub servers: Vec<Server>,
    /// The loads.
    pub shapes: Vec<Shape>,
    /// How often each server is put under each load.
    pub rounds: u32,
    /// How long each time.
    pub duration: Duration,
    /// The load before that, which does not count.
    pub warmup: Duration,
    /// Decides the payloads and the orders.
    pub seed: u64,
    /// The server's core.
    pub server_core: usize,
    /// The generator's core.
    pub generator_core: usize,
    /// The generator's program.
    pub loadtest: PathBuf,
}

/// A run that has ended, and how far all of them have come.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Runs that have ended, this one included.
    pub done: usize,
    /// All runs of the contest.
    pub all: usize,
    /// The round, from 1.
    pub round: u32,
    /// The load.
    pub shape: Shape,
    /// The server's name.
    pub server: &'a str,
    /// What came of it.
    pub run: &'a Run,
}

impl Contest {
    /// How many runs there are.
    pub fn runs(&self) -> usize {
        self.servers.len() * self.shapes.len() * self.rounds as usize
    }

    /// Measures every server under every load once per round, so that what
    /// changes with time changes for all. A server that fails under a load is
    /// not put under it again. Ends early on an interrupt.
    pub fn hold(&self, interrupt: &Interrupt, mut show: impl FnMut(&Progress<'_>)) -> Results {
        let mut results = Results::new(self.shapes.len(), self.servers.len());
        let mut orders = Orders::new(self.seed);
        let mut done = 0;
        for round in 1..=self.rounds {
            for (shape_index, &shape) in self.shapes.iter().enumerate() {
                for index in orders.draw(self.servers.len()) {
                    done += 1;
                    let server = &self.servers[index];
                    if results.has_failed(shape_index, index) {
                        continue;
                    }
                    let run = measure(self, server, shape, interrupt);
                    // What was cut short is no failure of the server's.
                    if interrupt.is_asked() {
                        return results;
                    }
                    show(&Progress {
                        done,
                        all: self.runs(),
                        round,
                        shape,
                        server: &server.name,
                        run: &run,
                    });
                    results.add(shape_index, index, round, run);
                }
            }
        }
        results
    }
}
