//! A counting allocator: what the measured code allocates and keeps, and nothing of what drives it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts allocations made inside [`counted`].
pub struct Counting;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static MADE: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "the allocator trait is unsafe; each call is passed on unchanged")]
// SAFETY: every call goes to the system allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if INSIDE.get() {
            LIVE.set(LIVE.get().wrapping_add(layout.size()));
            MADE.set(MADE.get() + 1);
        }
        // SAFETY: the caller's promises about `layout` are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if INSIDE.get() {
            LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        }
        // SAFETY: the caller's promises about `pointer` and `layout` are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work` with the count on.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    INSIDE.set(true);
    let result = work();
    INSIDE.set(false);
    result
}

/// Bytes allocated and not freed inside [`counted`] on this thread.
pub fn live() -> usize {
    LIVE.get()
}

/// Allocations made inside [`counted`] on this thread.
pub fn made() -> usize {
    MADE.get()
}
