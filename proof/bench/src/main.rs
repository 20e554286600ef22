//! Benchmarks with their machine's floor.

fn main() {}
