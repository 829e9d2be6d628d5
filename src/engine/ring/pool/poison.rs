//! Has `AddressSanitizer` find whoever touches memory that is the kernel's.
//!
//! Compiled with `--cfg asan`, as `tests/asan/run.sh` does; else there is nothing
//! that would watch, and this is nothing.

/// Whether something watches. Where nothing does, a buffer's turn costs nothing here.
pub(super) const IS_WATCHED: bool = cfg!(asan);

#[cfg(all(asan, test))]
pub(super) use watched::is_forbidden;
#[cfg(asan)]
pub(super) use watched::{allow, forbid};

#[cfg(not(asan))]
pub(super) fn allow(_start: std::ptr::NonNull<u8>, _len: usize) {}

#[cfg(not(asan))]
pub(super) fn forbid(_start: std::ptr::NonNull<u8>, _len: usize) {}

#[cfg(asan)]
mod watched {
    use std::ffi::c_void;
    use std::ptr::NonNull;

    unsafe extern "C" {
        fn __asan_poison_memory_region(start: *const c_void, len: usize);
        fn __asan_unpoison_memory_region(start: *const c_void, len: usize);
        #[cfg(test)]
        fn __asan_address_is_poisoned(address: *const c_void) -> std::ffi::c_int;
    }

    pub(in super::super) fn allow(start: NonNull<u8>, len: usize) {
        // SAFETY: changes what the sanitizer notes of these addresses, and no more.
        unsafe { __asan_unpoison_memory_region(start.as_ptr().cast(), len) };
    }

    pub(in super::super) fn forbid(start: NonNull<u8>, len: usize) {
        // SAFETY: as above.
        unsafe { __asan_poison_memory_region(start.as_ptr().cast(), len) };
    }

    #[cfg(test)]
    pub(in super::super) fn is_forbidden(address: NonNull<u8>) -> bool {
        // SAFETY: asks what the sanitizer notes of an address.
        unsafe { __asan_address_is_poisoned(address.as_ptr().cast()) != 0 }
    }
}
