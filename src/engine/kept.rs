//! What a connection keeps of a frame until the rest of it comes.

/// Memory that a connection may have over from more that it kept before.
const SPARE: usize = 1024;

/// Keeps `rest` and nothing else. An idle connection holds no memory for this:
/// an empty vector has none. Neither does one that once kept much hold it for a
/// little.
pub(super) fn keep(kept: &mut Vec<u8>, rest: &[u8]) {
    if rest.is_empty() {
        *kept = Vec::new();
        return;
    }
    kept.clear();
    kept.extend_from_slice(rest);
    if kept.capacity() > 4 * rest.len() + SPARE {
        kept.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_with_what_is_kept() {
        let mut kept = Vec::new();
        keep(&mut kept, &[1; 16_000]);
        assert_eq!(kept, [1; 16_000]);
        keep(&mut kept, &[2; 3]);
        assert_eq!(kept, [2; 3]);
        assert!(kept.capacity() <= 3 * 4 + SPARE, "{}", kept.capacity());
        keep(&mut kept, &[]);
        assert_eq!(kept.capacity(), 0);
    }
}
