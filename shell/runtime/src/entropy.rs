//! Random bytes from the kernel: seeds for the machines in `core`, which draw everything else from them.

use std::io;

/// `N` bytes from `getrandom(2)`, fit for keys.
///
/// # Errors
/// When the kernel has no `getrandom`, or a sandbox forbids it.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let rest = &mut bytes[filled..];
        // SAFETY: the pointer and length describe `rest`, which is ours to write.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        let first: [u8; 32] = super::bytes().unwrap();
        let second: [u8; 32] = super::bytes().unwrap();
        assert_ne!(first, second);
    }
}
