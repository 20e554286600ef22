//! From a trace that differs to a shorter one that still does.

use super::{play::Difference, trace::Trace};

/// Most traces played while shrinking one.
pub const SHRINK_RUNS_MAX: usize = 600;

/// Drops what comes after the difference, then steps: halves first and single ones in the end, again until none can be
/// spared. `differs` plays a trace on a ground of its own each time. Returns the shortest trace that was found with its
/// difference; `None` when `trace` does not differ again.
pub async fn shrink(
    trace: &Trace,
    mut differs: impl AsyncFnMut(Trace) -> Option<Difference>,
) -> Option<(Trace, Difference)> {
    let mut best = (trace.clone(), differs(trace.clone()).await?);
    let mut runs = 1;
    let mut size = trace.steps.len();
    while size > 0 {
        let cut = (best.1.at + 1).min(best.0.steps.len());
        best.0.steps.truncate(cut);
        size = size.min(cut.max(1));
        let mut at = 0;
        let mut is_shorter = false;
        while at < best.0.steps.len() && runs < SHRINK_RUNS_MAX {
            let mut candidate = best.0.clone();
            candidate.steps.drain(at..(at + size).min(candidate.steps.len()));
            runs += 1;
            match differs(candidate.clone()).await {
                Some(difference) => {
                    candidate.steps.truncate(difference.at + 1);
                    best = (candidate, difference);
                    is_shorter = true;
                }
                None => at += size,
            }
        }
        if size > 1 || !is_shorter {
            size /= 2;
        }
    }
    Some(best)
}
