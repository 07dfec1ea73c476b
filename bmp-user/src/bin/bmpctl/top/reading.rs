//! What bmpd answers, and the thread that asks it again and again.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use bmp_user::control::{Client, CommandAnswer, Request, read_json};
use serde::Deserialize;

/// The display that has everything.
const COMMAND: &str = "display bmp session";
/// The longest wait before bmpd is looked for again.
const RECONNECT: Duration = Duration::from_secs(1);

/// What bmpd answered at one moment.
#[derive(Clone, Debug)]
pub(super) struct SessionsReading {
    /// The name of the device, from the prompt.
    pub(super) device: String,
    /// What the kernel should enforce and does not.
    pub(super) lost: Option<String>,
    /// In the order of the configuration.
    pub(super) sessions: Vec<SessionReading>,
    /// When the answer was there.
    pub(super) at: Instant,
}

/// News of bmpd.
#[derive(Clone, Debug)]
pub(super) enum SessionsArrival {
    /// An answer.
    Reading(SessionsReading),
    /// Why there is none.
    Lost(String),
}

/// A session, as `docs/reference/json.md` describes it. Fields that top does not show are left out,
/// and one that an older bmpd does not have is as if it were null.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SessionReading {
    pub(super) station: String,
    pub(super) port: Option<u16>,
    pub(super) role: Option<String>,
    pub(super) vpn_instance: String,
    pub(super) alias: Option<String>,
    pub(super) owner: String,
    pub(super) process: Option<ProcessReading>,
    pub(super) state: String,
    pub(super) phase: String,
    pub(super) reason: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) mend: Option<String>,
    pub(super) held: Option<HeldReading>,
    pub(super) age_seconds: u64,
    pub(super) uplink: Option<String>,
    pub(super) local_address: Option<String>,
    pub(super) local_port: Option<u16>,
    pub(super) established_count: u64,
    pub(super) source_changes: u64,
    pub(super) retry_in_seconds: Option<f64>,
    pub(super) connect_interface: SourceReading,
    pub(super) egress: EgressReading,
    pub(super) kernel: KernelReading,
    pub(super) feed: Option<FeedReading>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProcessReading {
    pub(super) pid: u32,
    pub(super) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HeldReading {
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) for_seconds: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SourceReading {
    pub(super) interface: Option<String>,
    pub(super) address: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EgressReading {
    pub(super) any: bool,
    pub(super) interfaces: Vec<String>,
    pub(super) enforcement: String,
    pub(super) why: Option<String>,
}

/// Counters of the kernel; `None` where nothing counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KernelReading {
    pub(super) tx_bytes: Option<u64>,
    pub(super) tx_packets: Option<u64>,
    pub(super) rx_bytes: Option<u64>,
    pub(super) retransmits: Option<u64>,
    pub(super) denied: Option<DeniedReading>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeniedReading {
    pub(super) interface: u64,
    pub(super) source: u64,
    pub(super) mark: u64,
    pub(super) no_pin: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FeedReading {
    pub(super) lag_bytes: Option<u64>,
    pub(super) dump: Option<DumpReading>,
}

/// How far a dump is. `None` where nothing is measured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DumpReading {
    pub(super) routes_told: Option<u64>,
    pub(super) routes_total: Option<u64>,
    pub(super) percent: Option<f64>,
    pub(super) remaining_seconds: Option<u64>,
    pub(super) begins_in_seconds: Option<f64>,
}

/// Asks bmpd for its sessions.
///
/// # Errors
///
/// `NoDaemon` if bmpd has ended. Also if it refuses to answer, or answers something else.
pub(super) fn read(client: &mut Client) -> anyhow::Result<SessionsReading> {
    let request = Request { command: COMMAND.to_owned(), json: true, ..Request::default() };
    let response = client.ask(&request)?;
    let text = match response.answer {
        CommandAnswer::Done(text) => text,
        CommandAnswer::Refused(why) => bail!("{}", why.trim_end()),
        _ => bail!("bmpd does not answer `{COMMAND}`"),
    };
    let sessions = read_json(&text)?;
    let device = response.prompt.trim_start_matches('<').trim_end_matches('>').to_owned();
    Ok(SessionsReading { device, lost: response.lost, sessions, at: Instant::now() })
}

/// Asks for the sessions at an interval. When bmpd has gone, it is looked for until it is back.
pub(super) struct SessionsFollower {
    client: Option<Client>,
    control: PathBuf,
    interval: Duration,
}

impl SessionsFollower {
    pub(super) fn new(client: Client, control: &Path, interval: Duration) -> Self {
        Self { client: Some(client), control: control.to_owned(), interval }
    }

    /// Sends what arrives, until nobody takes it any more.
    pub(super) fn follow(mut self, to: &SyncSender<SessionsArrival>) {
        loop {
            thread::sleep(if self.client.is_some() { self.interval } else { self.interval.min(RECONNECT) });
            let arrival = match self.next() {
                Ok(reading) => SessionsArrival::Reading(reading),
                Err(error) => {
                    self.client = None;
                    SessionsArrival::Lost(format!("{error:#}"))
                }
            };
            if to.send(arrival).is_err() {
                return;
            }
        }
    }

    fn next(&mut self) -> anyhow::Result<SessionsReading> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(&self.control)?),
        };
        read(client)
    }
}
