//! Socket addresses between Rust's form and the kernel's.

use std::{
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

/// Room for an IPv4 or an IPv6 socket address: the larger of the two, with the alignment of both.
pub(crate) type Name = libc::sockaddr_in6;

/// A name with nothing in it.
pub(crate) fn empty() -> Name {
    // SAFETY: a socket address is plain integers, for which all zeroes is a value.
    unsafe { mem::zeroed() }
}

/// Writes `address` into `name`; returns how many bytes of it the kernel must read.
pub(crate) fn write(address: SocketAddr, name: &mut Name) -> libc::socklen_t {
    let len = match address {
        SocketAddr::V4(address) => {
            let short: *mut libc::sockaddr_in = (&raw mut *name).cast();
            // SAFETY: `Name` is at least as large and as aligned as `sockaddr_in`, and ours to write.
            unsafe {
                short.write(libc::sockaddr_in {
                    sin_family: family(libc::AF_INET),
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                });
            }
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            name.sin6_family = family(libc::AF_INET6);
            name.sin6_port = address.port().to_be();
            name.sin6_flowinfo = address.flowinfo();
            name.sin6_addr.s6_addr = address.ip().octets();
            name.sin6_scope_id = address.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    u32::try_from(len).expect("an address is a few bytes")
}

/// Reads what the kernel wrote; IPv4-mapped addresses come out as IPv4. `None` for any other family.
pub(crate) fn read(name: &Name) -> Option<SocketAddr> {
    match i32::from(name.sin6_family) {
        libc::AF_INET => {
            let short: *const libc::sockaddr_in = (&raw const *name).cast();
            // SAFETY: `Name` is at least as large and as aligned as `sockaddr_in`; every bit pattern is a value of it.
            let short = unsafe { short.read() };
            let ip = Ipv4Addr::from(short.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::from((ip, u16::from_be(short.sin_port))))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            match ip.to_ipv4_mapped() {
                Some(ip) => Some(SocketAddr::from((ip, port))),
                None => Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id))),
            }
        }
        _ => None,
    }
}

fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("address families are small numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["127.0.0.1:9", "203.0.113.7:65535", "[::1]:80", "[2001:db8::7]:7900"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = empty();
            write(address, &mut name);
            assert_eq!(read(&name), Some(address));
        }
    }

    #[test]
    fn a_mapped_address_is_ipv4_and_an_unknown_family_is_nobody() {
        let mut name = empty();
        write("[::ffff:192.0.2.1]:5".parse().unwrap(), &mut name);
        assert_eq!(read(&name), Some("192.0.2.1:5".parse().unwrap()));
        assert_eq!(read(&empty()), None);
    }
}
