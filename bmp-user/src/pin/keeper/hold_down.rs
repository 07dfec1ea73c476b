//! Whether a session whose way is lost keeps its pin for now: `hold-down`. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::pin::{reason::DownCause, view::HoldDown};

/// The hold-down of one session.
#[derive(Debug, Default)]
pub(super) struct HoldDownTimer {
    /// When the way was lost.
    lost_at: Option<Instant>,
    /// When the pin is given up, unless the cause is mended before. Set while the session is held.
    until: Option<Instant>,
    /// True if the session asked for the end.
    is_ended: bool,
}

impl HoldDownTimer {
    /// Returns when the pin is given up, if the session is held.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Ends a hold-down before its time. Without one, does nothing.
    pub(super) fn end(&mut self) {
        self.is_ended |= self.until.is_some();
    }

    /// Holds a session whose way is lost for `cause`. `None` when its time is over.
    ///
    /// `time` is what is configured now. It counts from the loss.
    pub(super) fn hold(&mut self, cause: &DownCause, time: Duration, now: Instant) -> Option<HoldDown> {
        let until = *self.lost_at.get_or_insert(now) + time;
        if self.is_ended || now >= until {
            self.clear();
            return None;
        }
        self.until = Some(until);
        Some(HoldDown { cause: cause.clone(), until })
    }

    /// The way is not lost, or the session is down.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::reason::Reason;

    const TIME: Duration = Duration::from_secs(3);

    fn lost() -> DownCause {
        DownCause::without_mend(Reason::InterfaceDown, "interface up2 is down")
    }

    #[test]
    fn a_session_is_held_for_the_configured_time_after_the_loss() {
        let (mut timer, start) = (HoldDownTimer::default(), Instant::now());
        let held = timer.hold(&lost(), TIME, start).unwrap();
        assert_eq!((held.until, timer.deadline()), (start + TIME, Some(start + TIME)));
        assert_eq!(timer.hold(&lost(), TIME, start + TIME / 2).unwrap().until, start + TIME);
        assert_eq!(timer.hold(&lost(), TIME, start + TIME), None);
        assert_eq!(timer.deadline(), None);
    }

    #[test]
    fn another_time_counts_from_the_loss_too() {
        let (mut timer, start) = (HoldDownTimer::default(), Instant::now());
        timer.hold(&lost(), TIME, start).unwrap();
        assert_eq!(timer.hold(&lost(), TIME * 2, start + TIME / 2).unwrap().until, start + TIME * 2);
        assert_eq!(timer.hold(&lost(), TIME / 4, start + TIME / 2), None);
    }

    #[test]
    fn a_session_without_a_connection_ends_its_hold_down_and_no_later_one() {
        let (mut timer, start) = (HoldDownTimer::default(), Instant::now());
        timer.end();
        assert!(timer.hold(&lost(), TIME, start).is_some(), "an end before the loss is about another one");
        timer.end();
        assert_eq!(timer.hold(&lost(), TIME, start), None);
        assert!(timer.hold(&lost(), TIME, start).is_some(), "the next loss");
    }

    #[test]
    fn without_hold_down_a_session_is_never_held() {
        assert_eq!(HoldDownTimer::default().hold(&lost(), Duration::ZERO, Instant::now()), None);
    }
}
