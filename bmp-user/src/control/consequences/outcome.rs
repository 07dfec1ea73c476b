//! What becomes of what a change has begun: sessions, BGP peers, relays and replays are looked at until each has come to something, for a
//! bounded time. What is not decided by then is said as it stands.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{About, Said, Severity};

/// How long a commit waits for what it has begun. A next hop that is not there is known after three seconds (`mcast_solicit` times
/// `retrans_time_ms`, arp(7)).
pub(in crate::control) const PATIENCE: Duration = Duration::from_millis(3500);
/// How often it looks: at first, and when that has not been enough.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));
/// Looks at the short interval.
const AT_FIRST: u32 = 20;
/// After this time it is said that the commit waits.
const SILENCE: Duration = Duration::from_millis(400);
/// Sentences of one kind and severity at most.
const MOST: usize = 20;

/// What something has come to, and what is to be said of that, if anything.
pub(super) enum Outcome {
    /// It may become something else soon.
    Open(Option<Said>),
    /// It is worth no more waiting.
    Settled(Option<Said>),
}

/// Looks at something once.
type Look<'a> = Box<dyn Fn() -> Outcome + Send + 'a>;

/// The consequences of a change, in the order in which they are said.
#[derive(Default)]
pub(super) struct Consequences<'a>(Vec<(About, Consequence<'a>)>);

enum Consequence<'a> {
    Known(Said),
    Awaited(Look<'a>),
}

impl<'a> Consequences<'a> {
    /// Something that is so already.
    pub(super) fn say(&mut self, about: About, said: Said) {
        self.0.push((about, Consequence::Known(said)));
    }

    /// Something that has to come to something first.
    pub(super) fn wait_for(&mut self, about: About, look: impl Fn() -> Outcome + Send + 'a) {
        self.0.push((about, Consequence::Awaited(Box::new(look))));
    }

    /// Waits until all of them have come to something, for at most [`PATIENCE`]. `waiting` is told how many are waited for if that takes
    /// a moment.
    pub(super) async fn said(self, waiting: impl Fn(usize)) -> Vec<Said> {
        let began = Instant::now();
        let mut said: Vec<_> = Vec::with_capacity(self.0.len());
        let mut open = Vec::new();
        for (place, (about, consequence)) in self.0.into_iter().enumerate() {
            match consequence {
                Consequence::Known(known) => said.push((about, Some(known))),
                Consequence::Awaited(look) => {
                    said.push((about, None));
                    open.push((place, look));
                }
            }
        }
        let mut told = false;
        for looks in 0_u32.. {
            open.retain(|(place, look)| {
                let (known, is_open) = match look() {
                    Outcome::Open(known) => (known, true),
                    Outcome::Settled(known) => (known, false),
                };
                if let Some((_, said)) = said.get_mut(*place) {
                    *said = known;
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
            sleep(if looks < AT_FIRST { LOOKS.0 } else { LOOKS.1 }).await;
        }
        bounded(said.into_iter().filter_map(|(about, said)| Some((about, said?))))
    }
}

/// At most [`MOST`] sentences of a kind and severity, and how many more there are.
fn bounded(all: impl Iterator<Item = (About, Said)>) -> Vec<Said> {
    let (mut said, mut counts) = (Vec::new(), Vec::<((About, Severity), usize)>::new());
    for (about, one) in all {
        let kind = (about, one.severity);
        let at = counts.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            counts.push((kind, 0));
            counts.len() - 1
        });
        let Some((_, count)) = counts.get_mut(at) else { continue };
        *count += 1;
        if *count <= MOST {
            said.push(one);
        }
    }
    for ((about, severity), count) in counts.into_iter().filter(|(_, count)| *count > MOST) {
        let (what, command) = about.in_words();
        let text = format!("and {} more {what} (`{command}` shows all)", count - MOST);
        said.push(Said { severity, text });
    }
    said
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    fn info(text: &str) -> Option<Said> {
        Some(Said::info(text.to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_open_is_waited_for_and_said_as_it_stands_in_the_end() {
        let (looks, told) = (AtomicU32::new(0), AtomicU32::new(0));
        let mut consequences = Consequences::default();
        consequences.wait_for(About::Session, || Outcome::Open(info("never")));
        consequences.wait_for(About::Session, || match looks.fetch_add(1, Relaxed) {
            0..9 => Outcome::Open(info("not yet")),
            _ => Outcome::Settled(info("up")),
        });
        consequences.say(About::Relay, Said::info("closed".to_owned()));
        let began = Instant::now();
        let said = consequences.said(|waiting| told.store(waiting as u32, Relaxed)).await;
        let texts: Vec<_> = said.iter().map(|said| said.text.as_str()).collect();
        assert_eq!(texts, ["never", "up", "closed"]);
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE + LOOKS.1 * 2);
        assert_eq!((looks.load(Relaxed), told.load(Relaxed)), (10, 1), "what is settled is not looked at again");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_where_all_is_known() {
        let mut consequences = Consequences::default();
        consequences.wait_for(About::Peer, || Outcome::Settled(None));
        let began = Instant::now();
        assert!(consequences.said(|_| ()).await.is_empty());
        assert!(began.elapsed().is_zero());
    }

    #[tokio::test]
    async fn a_long_list_is_cut_for_each_kind_and_severity() {
        let mut consequences = Consequences::default();
        for number in 0..260 {
            consequences.say(About::Session, Said::warning(number.to_string()));
            consequences.say(About::Peer, Said::info(number.to_string()));
        }
        consequences.say(About::Session, Said::info("alone".to_owned()));
        let said = consequences.said(|_| ()).await;
        assert_eq!(said.len(), 2 * MOST + 1 + 2);
        let last: Vec<_> = said.iter().rev().take(2).map(ToString::to_string).collect();
        assert_eq!(
            last,
            [
                "Info: and 240 more BGP peers (`display bgp peer` shows all).",
                "Warning: and 240 more sessions (`display bmp session` shows all)."
            ]
        );
    }
}
