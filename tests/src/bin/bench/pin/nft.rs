//! The tool of operators today: nftables rules in the router's output chain.

use std::{
    io::{self, Write as _},
    process::Stdio,
};

use programs::Program;

use crate::links::{BenchLinks, STATION};

/// A rule about one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowRule {
    /// Counts the flow.
    Counts,
    /// Drops packets of the flow that would leave by another interface.
    DropsElsewhere,
}

impl FlowRule {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counts => "nftables rule that counts",
            Self::DropsElsewhere => "nftables rule that drops elsewhere",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Counts => "counter",
            Self::DropsElsewhere => "oifname != \"to-station\" drop",
        }
    }
}

/// Returns the version of nft, or the reason why there is none.
pub(crate) fn version() -> Result<String, String> {
    let output = Program::Nft.command().arg("--version").output().map_err(|error| format!("nft: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.split_whitespace().find_map(|word| word.strip_prefix('v'));
    Ok(number.unwrap_or(&text).to_owned())
}

/// Rules in force. Dropping them removes them.
pub(crate) struct LoadedRules<'a>(&'a BenchLinks);

impl<'a> LoadedRules<'a> {
    /// Loads a rule for a flow from the router to a port of the station.
    pub(crate) fn load(links: &'a BenchLinks, protocol: &str, port: u16, rule: FlowRule) -> io::Result<Self> {
        let text = format!(
            "table inet bench {{
               chain out {{
                 type filter hook output priority 0
                 ip daddr {STATION} {protocol} dport {port} {}
               }}
             }}",
            rule.words()
        );
        nft(links, &text)?;
        Ok(Self(links))
    }

    /// Returns the number of counted packets.
    pub(crate) fn counted(&self) -> io::Result<u64> {
        let output = self.0.router.command(Program::Nft).args(["list", "table", "inet", "bench"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        let packets = words.next().and_then(|word| word.parse().ok());
        packets.ok_or_else(|| io::Error::other(format!("nft shows no counter:\n{text}")))
    }
}

impl Drop for LoadedRules<'_> {
    fn drop(&mut self) {
        // Ignored: the rules end with the namespace.
        let _ = nft(self.0, "delete table inet bench");
    }
}

/// Runs `nft -f -`.
fn nft(links: &BenchLinks, text: &str) -> io::Result<()> {
    let mut command = links.router.command(Program::Nft);
    let mut nft = command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // The temporary closes the pipe after the write.
    nft.stdin.take().ok_or_else(|| io::Error::other("nft has no input"))?.write_all(text.as_bytes())?;
    let output = nft.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("nft: {}of\n{text}", String::from_utf8_lossy(&output.stderr))))
}
