//! Long campaigns: what runs a few times in everybody's tests runs many times when somebody asks for it.

/// Asks for it when it is set to anything but nothing or 0 (`cargo xtask test` passes it on).
const SOAK: &str = "BMPD_SOAK";

/// Whether the long campaigns are asked for.
pub fn asked() -> bool {
    std::env::var(SOAK).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// How often something is done: `usually`, or `soak` times in a long campaign.
pub fn times(usually: usize, soak: usize) -> usize {
    if asked() { soak } else { usually }
}
