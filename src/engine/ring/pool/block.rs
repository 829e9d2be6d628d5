//! Memory whose address the kernel is told.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

/// What the kernel wants a ring of buffers to be aligned to.
const PAGE: usize = 4096;

/// Zeroed memory that the kernel is told about by its address.
pub(super) struct Block {
    pub(super) start: NonNull<u8>,
    pub(super) layout: Layout,
}

impl Block {
    pub(super) fn zeroed(len: usize) -> Self {
        let layout = Layout::from_size_align(len, PAGE).expect("a length in memory");
        assert!(len > 0);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            alloc::handle_alloc_error(layout)
        };
        Self { start, layout }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed only here.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}
