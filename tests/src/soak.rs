//! Long campaigns: a loop that usually runs a few times runs many times on request.

/// Names the variable that requests a long campaign, unless it is empty or 0. `cargo xtask test`
/// passes it on.
const SOAK: &str = "BMPD_SOAK";

/// True if a long campaign is requested.
pub fn is_requested() -> bool {
    std::env::var(SOAK).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Returns the number of rounds: `usually`, or `soak` in a long campaign.
pub fn times(usually: usize, soak: usize) -> usize {
    if is_requested() { soak } else { usually }
}
