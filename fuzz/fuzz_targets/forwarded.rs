//! The client of a request from trusted proxies, whatever the client has written in
//! front of their elements.
//!
//! Input: as `List::take` reads it.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use ringback::fuzzing::read_forwarded;
use ringback_fuzz::forwarded::{List, TRUSTED};

fuzz_target!(|data: &[u8]| {
    let Ok(list) = List::take(&mut Unstructured::new(data)) else {
        return;
    };
    let (client, fault) = read_forwarded(list.header, &list.fields, &TRUSTED);
    if let Some(reading) = list.reading {
        let shown: Vec<_> = list.fields.iter().map(|it| it.escape_ascii()).collect();
        assert_eq!((client, fault.as_deref()), reading, "{shown:?}");
    }
});
