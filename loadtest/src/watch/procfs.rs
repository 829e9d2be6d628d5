//! Files of `/proc` about processes and threads, see proc(5).

use std::fmt::{self, Write};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::str::{self, FromStr};

pub(super) use host::stat::{Schedstat, Stat};
use rustix::io::Errno;
use rustix::param::page_size;

/// Reads files of `/proc` into one buffer, as it is done often during a measurement.
#[derive(Debug, Default)]
pub(super) struct Procfs {
    path: String,
    content: Vec<u8>,
}

impl Procfs {
    /// The state of a process. Its ticks are those of all its threads, including those that have
    /// ended.
    pub(super) fn process_stat(&mut self, pid: u32) -> io::Result<Stat> {
        Stat::parse(self.read(format_args!("/proc/{pid}/stat"))?).ok_or_else(malformed)
    }

    /// The state of one thread.
    pub(super) fn thread_stat(&mut self, pid: u32, tid: i32) -> io::Result<Stat> {
        Stat::parse(self.read(format_args!("/proc/{pid}/task/{tid}/stat"))?).ok_or_else(malformed)
    }

    /// The run time and run-queue wait of one thread. The scheduler updates the run time at every
    /// switch and tick, so it lags by at most one tick, and the wait when the thread gets its
    /// core.
    pub(super) fn schedstat(&mut self, pid: u32, tid: i32) -> io::Result<Schedstat> {
        let text = self.read(format_args!("/proc/{pid}/task/{tid}/schedstat"))?;
        Schedstat::parse(text).ok_or_else(malformed)
    }

    /// The context switches of one thread.
    pub(super) fn switches(&mut self, pid: u32, tid: i32) -> io::Result<Switches> {
        let text = self.read(format_args!("/proc/{pid}/task/{tid}/status"))?;
        parse_switches(text).ok_or_else(malformed)
    }

    /// The children of one thread that have not been waited for. While threads and processes end,
    /// some may be missing.
    pub(super) fn children(&mut self, pid: u32, tid: i32) -> io::Result<Vec<u32>> {
        let text = self.read(format_args!("/proc/{pid}/task/{tid}/children"))?;
        Ok(numbers(text).collect())
    }

    /// The threads of a process. While threads end, some may be missing.
    pub(super) fn threads(&mut self, pid: u32) -> io::Result<Vec<i32>> {
        self.path.clear();
        let _ = write!(self.path, "/proc/{pid}/task");
        numeric_entries(&self.path)
    }

    /// The resident memory of a process in bytes.
    pub(super) fn rss_bytes(&mut self, pid: u32) -> io::Result<u64> {
        let text = self.read(format_args!("/proc/{pid}/statm"))?;
        let resident_pages: u64 = numbers(text).nth(1).ok_or_else(malformed)?;
        Ok(resident_pages * page_size() as u64)
    }

    fn read(&mut self, path: fmt::Arguments<'_>) -> io::Result<&[u8]> {
        self.path.clear();
        // Writing to a string does not fail.
        let _ = self.path.write_fmt(path);
        self.content.clear();
        // `fs::read` would probe with small reads, as these files have size 0.
        self.content.reserve(4096);
        File::open(&self.path)?.read_to_end(&mut self.content)?;
        Ok(&self.content)
    }
}

/// All processes, except those that end meanwhile.
pub(super) fn processes() -> io::Result<Vec<u32>> {
    numeric_entries("/proc")
}

/// Whether the error means that the process or thread has ended: the file does not exist, or it
/// ended after the open.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::SRCH)
}

/// The number of context switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Switches {
    pub(super) voluntary: u64,
    pub(super) involuntary: u64,
}

fn parse_switches(text: &[u8]) -> Option<Switches> {
    let count = |name: &[u8]| {
        let mut lines = text.split(|&byte| byte == b'\n');
        numbers(lines.find_map(|line| line.strip_prefix(name))?).next()
    };
    Some(Switches {
        voluntary: count(b"voluntary_ctxt_switches:")?,
        involuntary: count(b"nonvoluntary_ctxt_switches:")?,
    })
}

fn numbers<T: FromStr>(text: &[u8]) -> impl Iterator<Item = T> {
    let words = text.split(u8::is_ascii_whitespace);
    words.filter_map(|word| str::from_utf8(word).ok()?.parse().ok())
}

fn numeric_entries<T: FromStr>(directory: &str) -> io::Result<Vec<T>> {
    let entries = fs::read_dir(directory)?.filter_map(Result::ok);
    Ok(entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "unexpected text in /proc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voluntary_and_involuntary_switches_are_parsed() {
        let status = b"Name:\tx\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        let expected = Switches {
            voluntary: 150,
            involuntary: 7,
        };
        assert_eq!(parse_switches(status), Some(expected));
        assert_eq!(parse_switches(b"Name:\tx\n"), None);
    }

    #[test]
    fn a_missing_process_is_gone() {
        let mut procfs = Procfs::default();
        let error = procfs
            .schedstat(std::process::id(), -1)
            .expect_err("no such");
        assert!(is_gone(&error));
        assert!(is_gone(&Errno::SRCH.into()));
        assert!(!is_gone(&Errno::MFILE.into()));
    }
}
