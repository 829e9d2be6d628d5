//! What a server prints, kept from the terminal.

use std::collections::VecDeque;
use std::io::{self, PipeWriter, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How much of it is kept, in bytes: the last of it.
const KEPT_MAX: usize = 4 << 10;

/// The end of what servers printed, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Printed {
    tail: Arc<Mutex<VecDeque<u8>>>,
}

impl Printed {
    /// Forgets what there is, and gives a server something to print to. It is
    /// read until all its processes have closed it, so none of them ever waits.
    ///
    /// # Errors
    /// The kernel's, when there are no more files or threads.
    pub fn begin(&mut self) -> io::Result<PipeWriter> {
        // A process that outlives its server goes on printing to the old one.
        self.tail = Arc::default();
        let tail = Arc::clone(&self.tail);
        let (mut reader, writer) = io::pipe()?;
        thread::Builder::new()
            .name("server-output".to_owned())
            .spawn(move || {
                let mut buffer = [0; KEPT_MAX];
                while let Ok(len @ 1..) = reader.read(&mut buffer) {
                    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                    tail.extend(&buffer[..len]);
                    let excess = tail.len().saturating_sub(KEPT_MAX);
                    tail.drain(..excess);
                }
            })?;
        Ok(writer)
    }

    /// The lines that are kept, of which the first may lack its beginning.
    pub fn lines(&self) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::poll;
    use super::*;
    use std::io::Write;

    #[test]
    fn the_last_of_it_is_kept() {
        let mut printed = Printed::default();
        let mut writer = printed.begin().expect("a pipe");
        writeln!(writer, "first").expect("it is read");
        for _ in 0..1_000 {
            writeln!(writer, "and so on").expect("it is read");
        }
        writeln!(writer, "last").expect("it is read");
        poll(|| (printed.lines().last().map(String::as_str) == Some("last")).then_some(()));
        let lines = printed.lines();
        assert!(!lines.contains(&"first".to_owned()));
        assert!(lines.iter().map(String::len).sum::<usize>() <= KEPT_MAX);

        printed.begin().expect("another pipe");
        writeln!(writer, "late").expect("it is still read");
        assert_eq!(printed.lines(), Vec::<String>::new());
    }
}
