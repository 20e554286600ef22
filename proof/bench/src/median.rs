//! Measuring: CPU time per unit of work, and the median of rounds.

use std::time::Duration;

use outlast_runtime::thread_cpu_time;

/// CPU time of `work`, which returns how many units it did, in nanoseconds per unit.
pub(crate) fn nanos_per_unit(work: impl FnOnce() -> u64) -> f64 {
    let before = thread_cpu_time();
    let units = work();
    per_unit(thread_cpu_time() - before, units)
}

/// `span` in nanoseconds per unit.
pub(crate) fn per_unit(span: Duration, units: u64) -> f64 {
    span.as_nanos() as f64 / units.max(1) as f64
}

/// The middle value; the mean of the two middle ones when their number is even.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
