//! How an operator reaches in: the control socket and what `display` answers.

mod client;
mod protocol;
mod report;
mod server;
mod text;

use std::{net::IpAddr, sync::Arc};

use anyhow::{Context as _, anyhow};
use tokio::sync::watch;

pub use client::ask;
pub use protocol::{DEFAULT_PATH, LINE_MAX, Request, Response};
pub use server::{ControlSocket, serve};

use crate::{
    config::{Command, Config, Display, View, parse_line, print},
    feed::Feed,
    pin::Pins,
    session::Sessions,
};

/// What a command can see.
#[derive(Clone, Debug)]
pub struct Context {
    /// The running configuration.
    pub config: watch::Receiver<Arc<Config>>,
    /// The sessions.
    pub sessions: Sessions,
    /// Their pins.
    pub pins: Pins,
    /// The feed.
    pub feed: Feed,
}

impl Context {
    /// Carries out one request.
    pub fn execute(&self, request: &Request) -> Response {
        match self.try_execute(request) {
            Ok(answer) => Response::Done(answer),
            Err(error) => Response::Refused(format!("{error:#}")),
        }
    }

    fn try_execute(&self, request: &Request) -> anyhow::Result<String> {
        let config = Arc::clone(&self.config.borrow());
        let command = parse_line(&View::User, &request.command, true).map_err(|error| anyhow!("{error}"))?;
        match command {
            Command::Display(Display::BmpSession { station, verbose, .. }, _) => {
                self.display_sessions(&config, station, verbose, request.json)
            }
            Command::Display(Display::CurrentConfiguration, _) if request.json => {
                Err(anyhow!("display current-configuration has no JSON form: leave out --json"))
            }
            Command::Display(Display::CurrentConfiguration, _) => Ok(print(&config)),
            _ => Err(anyhow!("only display commands are carried out over the control socket")),
        }
    }

    fn display_sessions(
        &self,
        config: &Config,
        station: Option<IpAddr>,
        verbose: bool,
        json: bool,
    ) -> anyhow::Result<String> {
        let reports = report::sessions(self, config, station);
        if let Some(station) = station
            && reports.is_empty()
        {
            return Err(anyhow!("no bmp-session {station} is configured"));
        }
        if json {
            let mut text = serde_json::to_string_pretty(&reports).context("cannot write the answer as JSON")?;
            text.push('\n');
            return Ok(text);
        }
        Ok(text::sessions(&reports, verbose))
    }
}
