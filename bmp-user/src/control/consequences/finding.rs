//! Findings about the sessions, BGP peers, relays and replays that a change has started. Each is
//! looked at until its outcome is known, for a bounded time. After that time the last finding
//! counts.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Remark, RemarkSubject, Severity};

/// How long a commit waits for outcomes. The kernel gives up an absent next hop after three seconds
/// (`mcast_solicit` times `retrans_time_ms`, arp(7)).
pub(in crate::control) const PATIENCE: Duration = Duration::from_millis(3500);
/// Interval of the first [`QUICK_LOOKS`] looks, and of the later ones.
const QUICK_INTERVAL: Duration = Duration::from_millis(10);
const INTERVAL: Duration = Duration::from_millis(50);
const QUICK_LOOKS: u32 = 20;
/// After this time the operator gets a notice that the commit waits.
const SILENCE: Duration = Duration::from_millis(400);
/// Remarks of one subject and severity at most.
const MOST: usize = 20;

/// The outcome at one look, and the remark about it, if any.
pub(super) enum Finding {
    /// The outcome may change soon.
    Open(Option<Remark>),
    /// No more waiting is needed.
    Settled(Option<Remark>),
}

/// Looks at a subject once.
type Look<'a> = Box<dyn Fn() -> Finding + Send + 'a>;

/// The consequences of a change, in the order in which they are printed.
#[derive(Default)]
pub(super) struct Consequences<'a>(Vec<(RemarkSubject, Consequence<'a>)>);

enum Consequence<'a> {
    Known(Remark),
    Awaited(Look<'a>),
}

impl<'a> Consequences<'a> {
    /// Adds a consequence that is known already.
    pub(super) fn add(&mut self, subject: RemarkSubject, remark: Remark) {
        self.0.push((subject, Consequence::Known(remark)));
    }

    /// Adds a subject whose outcome is not known yet.
    pub(super) fn wait_for(&mut self, subject: RemarkSubject, look: impl Fn() -> Finding + Send + 'a) {
        self.0.push((subject, Consequence::Awaited(Box::new(look))));
    }

    /// Waits at most [`PATIENCE`] until all outcomes are known, and returns the remarks. If that
    /// takes a moment, calls `waiting` with the number of open outcomes.
    pub(super) async fn settle(self, waiting: impl Fn(usize)) -> Vec<Remark> {
        let began = Instant::now();
        let mut remarks: Vec<_> = Vec::with_capacity(self.0.len());
        let mut open = Vec::new();
        for (place, (subject, consequence)) in self.0.into_iter().enumerate() {
            match consequence {
                Consequence::Known(known) => remarks.push((subject, Some(known))),
                Consequence::Awaited(look) => {
                    remarks.push((subject, None));
                    open.push((place, look));
                }
            }
        }
        let mut told = false;
        for looks in 0_u32.. {
            open.retain(|(place, look)| {
                let (known, is_open) = match look() {
                    Finding::Open(known) => (known, true),
                    Finding::Settled(known) => (known, false),
                };
                if let Some((_, remark)) = remarks.get_mut(*place) {
                    *remark = known;
                }
                is_open
            });
            if open.is_empty() || began.elapsed() >= PATIENCE {
                break;
            }
            if !told && began.elapsed() >= SILENCE {
                told = true;
                waiting(open.len());
            }
            sleep(if looks < QUICK_LOOKS { QUICK_INTERVAL } else { INTERVAL }).await;
        }
        bounded(remarks.into_iter().filter_map(|(subject, remark)| Some((subject, remark?))))
    }
}

/// Returns at most [`MOST`] remarks of a subject and severity, and how many more there are.
fn bounded(all: impl Iterator<Item = (RemarkSubject, Remark)>) -> Vec<Remark> {
    let (mut remarks, mut counts) = (Vec::new(), Vec::<((RemarkSubject, Severity), usize)>::new());
    for (subject, remark) in all {
        let kind = (subject, remark.severity);
        let at = counts.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            counts.push((kind, 0));
            counts.len() - 1
        });
        let Some((_, count)) = counts.get_mut(at) else { continue };
        *count += 1;
        if *count <= MOST {
            remarks.push(remark);
        }
    }
    for ((subject, severity), count) in counts.into_iter().filter(|(_, count)| *count > MOST) {
        let (what, command) = subject.plural_and_command();
        let text = format!("and {} more {what} (`{command}` shows all)", count - MOST);
        remarks.push(Remark { severity, text });
    }
    remarks
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    fn info(text: &str) -> Option<Remark> {
        Some(Remark::info(text.to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_outcome_is_awaited_and_its_last_finding_counts() {
        let (looks, told) = (AtomicU32::new(0), AtomicU32::new(0));
        let mut consequences = Consequences::default();
        consequences.wait_for(RemarkSubject::Session, || Finding::Open(info("never")));
        consequences.wait_for(RemarkSubject::Session, || match looks.fetch_add(1, Relaxed) {
            0..9 => Finding::Open(info("not yet")),
            _ => Finding::Settled(info("up")),
        });
        consequences.add(RemarkSubject::Relay, Remark::info("closed".to_owned()));
        let began = Instant::now();
        let remarks = consequences.settle(|waiting| told.store(waiting as u32, Relaxed)).await;
        let texts: Vec<_> = remarks.iter().map(|remark| remark.text.as_str()).collect();
        assert_eq!(texts, ["never", "up", "closed"]);
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE + INTERVAL * 2);
        assert_eq!((looks.load(Relaxed), told.load(Relaxed)), (10, 1), "a settled outcome is not looked at again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_does_not_wait_where_all_outcomes_are_known() {
        let mut consequences = Consequences::default();
        consequences.wait_for(RemarkSubject::Peer, || Finding::Settled(None));
        let began = Instant::now();
        assert!(consequences.settle(|_| ()).await.is_empty());
        assert!(began.elapsed().is_zero());
    }

    #[tokio::test]
    async fn a_long_list_is_cut_for_each_kind_and_severity() {
        let mut consequences = Consequences::default();
        for number in 0..260 {
            consequences.add(RemarkSubject::Session, Remark::warning(number.to_string()));
            consequences.add(RemarkSubject::Peer, Remark::info(number.to_string()));
        }
        consequences.add(RemarkSubject::Session, Remark::info("alone".to_owned()));
        let remarks = consequences.settle(|_| ()).await;
        assert_eq!(remarks.len(), 2 * MOST + 1 + 2);
        let last: Vec<_> = remarks.iter().rev().take(2).map(ToString::to_string).collect();
        assert_eq!(
            last,
            [
                "Info: and 240 more BGP peers (`display bgp peer` shows all).",
                "Warning: and 240 more sessions (`display bmp session` shows all)."
            ]
        );
    }
}
