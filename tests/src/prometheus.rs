//! A real Prometheus that scrapes a real bmpd.

use std::{fs, net::SocketAddr};

use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http,
    netns::Netns,
    process::ChildProgram,
    wait::{PATIENCE, until},
};

/// Where Prometheus listens in its namespace.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    netns: Netns,
    _process: ChildProgram,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts Prometheus in `netns`, with a configuration and files beside it, and waits until it
    /// is ready.
    pub fn start(netns: &Netns, configuration: &str, files: &[(&str, &str)]) -> Self {
        let folder = TempDir::with_prefix("lab-prometheus-").expect("a temporary folder can be made");
        for (name, text) in files.iter().chain(&[("prometheus.yml", configuration)]) {
            fs::write(folder.path().join(name), text).expect("a temporary file can be written");
        }
        let process = ChildProgram::start(
            netns
                .command(Program::Prometheus)
                .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={ADDRESS}")),
        );
        until("Prometheus is ready", 3 * PATIENCE, || {
            http::connect(netns, ADDRESS).ok()?;
            (http::get(netns, ADDRESS, "/-/ready").status == 200).then_some(())
        });
        Self { netns: netns.clone(), _process: process, _folder: folder }
    }

    /// Returns the answer of Prometheus to an API request.
    pub fn api(&self, path: &str) -> Value {
        http::get(&self.netns, ADDRESS, path).json()["data"].clone()
    }

    /// Returns the series that a query finds now.
    ///
    /// # Panics
    /// If Prometheus refuses the query.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let answer = http::get(&self.netns, ADDRESS, &format!("/api/v1/query?query={}", encoded(query)));
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        answer.json()["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

/// Encodes text for the query of a URL (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
