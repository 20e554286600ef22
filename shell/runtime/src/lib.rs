//! Sockets, clocks, entropy, threads: the one place that opens them.
