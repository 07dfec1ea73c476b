//! Numbers for people.

use std::time::Duration;

/// Returns `999 B`, `1.2 KiB`, `34.5 MiB`.
pub(super) fn bytes(number: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut units) = (number, UNITS.iter());
    let mut unit = units.next();
    // What would be rounded to 1024.0 belongs to the next unit.
    while number >= 1023.95
        && let Some(next) = units.next()
    {
        number /= 1024.0;
        unit = Some(next);
    }
    let digits = usize::from(unit != Some(&"B"));
    format!("{number:.digits$} {}", unit.unwrap_or(&""))
}

/// Returns a rate in bytes a second: `1.2 MiB/s`.
pub(super) fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// Returns `12s`, `3m05s`, `2h10m`, `4d02h`: the two largest units.
pub(super) fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// Returns a bar with its number: `██░░░░ 34 %`.
pub(super) fn bar(percent: f64) -> String {
    const WIDTH: usize = 6;
    let percent = percent.clamp(0.0, 100.0);
    let full = (percent / 100.0 * WIDTH as f64) as usize;
    format!("{}{} {:.0} %", "█".repeat(full), "░".repeat(WIDTH - full), percent.floor())
}

/// Returns `2 s` or `0.5 s`.
pub(super) fn interval(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
