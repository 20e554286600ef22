//! A counting allocator: what the measured code allocates and keeps, and nothing of what drives it.
#![allow(
    unsafe_code,
    reason = "the allocator trait is unsafe, and glibc's own account is reached through libc"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts what happens inside [`counted`].
pub(crate) struct Counting;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static MADE: Cell<usize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize, made: usize) {
    if INSIDE.get() {
        LIVE.set(LIVE.get().wrapping_add(more).wrapping_sub(less));
        MADE.set(MADE.get() + made);
    }
}

// SAFETY: every call goes to the system allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0, 1);
        // SAFETY: the caller's promises about `layout` are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0, 1);
        // SAFETY: the caller's promises about `layout` are handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size(), 1);
        // SAFETY: the caller's promises about `pointer`, `layout` and `size` are handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size(), 0);
        // SAFETY: the caller's promises about `pointer` and `layout` are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work` with the count on.
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> T {
    INSIDE.set(true);
    let result = work();
    INSIDE.set(false);
    result
}

/// Bytes allocated and not freed inside [`counted`] on this thread.
pub(crate) fn live() -> usize {
    LIVE.get()
}

/// Allocations made inside [`counted`] on this thread.
pub(crate) fn made() -> usize {
    MADE.get()
}

/// Bytes that the whole process has from glibc's `malloc`, its bookkeeping and the C code of the crypto included.
pub(crate) fn in_use() -> usize {
    // SAFETY: the call takes nothing and returns a plain struct.
    let account = unsafe { libc::mallinfo2() };
    account.uordblks + account.hblkhd
}
