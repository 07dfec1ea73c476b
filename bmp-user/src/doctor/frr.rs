//! FRR beside bmpd: whether its BMP module is loaded, and whether it would report routes.
//!
//! bgpd loads the module with `-M bmp` in `bgpd_options` of `daemons`. In `frr.conf` a block
//! `bmp targets` names where it connects and what it monitors. Pre-policy routes need
//! `soft-reconfiguration inbound` of each neighbor: without it bgpd does not keep them
//! (docs.frrouting.org, BMP).

use std::{fs, io, path::Path};

use super::{DoctorFinding, Examined};
use crate::config::Config;

/// Examines the files in FRR's folder. Nothing is found where there is no bgpd.
pub(super) fn examine(folder: &Path, config: Option<&Config>) -> Vec<DoctorFinding> {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let daemons = match read("daemons") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![unreadable(folder, "daemons", &error)],
    };
    if setting(&daemons, "bgpd").as_deref() != Some("yes") {
        return Vec::new();
    }
    let mut findings = vec![module(&daemons, folder)];
    match read("frr.conf").or_else(|_| read("bgpd.conf")) {
        Ok(text) => findings.extend(targets(&text, config)),
        Err(error) => findings.push(unreadable(folder, "frr.conf", &error)),
    }
    findings
}

fn unreadable(folder: &Path, name: &str, error: &io::Error) -> DoctorFinding {
    DoctorFinding::skipped(Examined::Frr, format!("cannot read {}: {error}", folder.join(name).display()))
}

/// Returns the value of a line `NAME=VALUE` or `NAME="VALUE"` of the file `daemons`.
fn setting(daemons: &str, name: &str) -> Option<String> {
    let value =
        |line: &str| Some(line.trim().strip_prefix(name)?.strip_prefix('=')?.trim().trim_matches('"').to_owned());
    daemons.lines().rev().find_map(value)
}

fn module(daemons: &str, folder: &Path) -> DoctorFinding {
    let options = setting(daemons, "bgpd_options").unwrap_or_default();
    let mut words = options.split_whitespace().peekable();
    let mut loads_bmp = false;
    while let Some(word) = words.next() {
        let named = if word == "-M" { words.peek().copied() } else { word.strip_prefix("-M") };
        loads_bmp |= named.is_some_and(|name| name == "bmp" || name.ends_with("bgpd_bmp.so"));
    }
    if loads_bmp {
        return DoctorFinding::ok(Examined::Frr, "bgpd loads its BMP module");
    }
    DoctorFinding::problem(Examined::Frr, "bgpd does not load its BMP module: FRR reports nothing").mended_by(format!(
        "add `-M bmp` to bgpd_options in {}, then `systemctl restart frr`, which ends its BGP sessions",
        folder.join("daemons").display()
    ))
}

/// What a configuration of bgpd says about BMP.
#[derive(Debug, Default, PartialEq, Eq)]
struct BmpSettings {
    /// The addresses and ports of `bmp connect ADDRESS port N`, as written.
    connects: Vec<(String, u16)>,
    /// True if any RIB is monitored, and if one is before policy.
    monitors: bool,
    monitors_pre_policy: bool,
    /// Neighbors and peer groups that are activated or defined, and those with
    /// `soft-reconfiguration inbound`.
    neighbors: Vec<String>,
    soft: Vec<String>,
}

fn parse(text: &str) -> BmpSettings {
    let mut found = BmpSettings::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["bmp", "connect", address, "port", port, ..] => {
                found.connects.extend(port.parse().ok().map(|port| ((*address).to_owned(), port)));
            }
            ["bmp", "monitor", rest @ ..] => {
                found.monitors = true;
                found.monitors_pre_policy |= rest.contains(&"pre-policy");
            }
            ["neighbor", name, "remote-as", ..] => found.neighbors.push((*name).to_owned()),
            ["neighbor", name, "peer-group", group] => {
                found.neighbors.push((*name).to_owned());
                // A member has what its group has.
                if found.soft.iter().any(|soft| soft == group) {
                    found.soft.push((*name).to_owned());
                }
            }
            ["neighbor", name, "soft-reconfiguration", "inbound"] => found.soft.push((*name).to_owned()),
            _ => {}
        }
    }
    // Groups get the setting in an address family, after their members are named.
    for line in text.lines() {
        if let ["neighbor", name, "peer-group", group] = line.split_whitespace().collect::<Vec<_>>().as_slice()
            && found.soft.iter().any(|soft| soft == group)
        {
            found.soft.push((*name).to_owned());
        }
    }
    found
}

fn targets(text: &str, config: Option<&Config>) -> Vec<DoctorFinding> {
    let settings = parse(text);
    let mut findings = Vec::new();
    let listens: Vec<u16> = config
        .into_iter()
        .flat_map(|config| config.relays.values())
        .filter_map(|relay| Some(relay.listen?.port()))
        .collect();
    if settings.connects.is_empty() {
        let mend = match listens.first() {
            Some(port) => {
                format!("`bmp targets NAME` with `bmp connect 127.0.0.1 port {port} min-retry 1000 max-retry 5000`")
            }
            None => "`bmp targets NAME` with `bmp connect ADDRESS port N min-retry 1000 max-retry 5000`".to_owned(),
        };
        findings.push(
            DoctorFinding::warning(Examined::Frr, "bgpd has no `bmp connect`: it reports to nobody").mended_by(mend),
        );
        return findings;
    }
    if !listens.is_empty() && !settings.connects.iter().any(|(_, port)| listens.contains(port)) {
        let ports: Vec<_> = settings.connects.iter().map(|(address, port)| format!("{address} port {port}")).collect();
        let listens: Vec<_> = listens.iter().map(ToString::to_string).collect();
        findings.push(DoctorFinding::warning(
            Examined::Frr,
            format!(
                "bgpd reports to {} and no relay of bmpd listens there (they listen on port {})",
                ports.join(", "),
                listens.join(", ")
            ),
        ));
    }
    if !settings.monitors {
        let text = "bgpd has no `bmp monitor`: it reports peers and no routes";
        findings.push(
            DoctorFinding::problem(Examined::Frr, text)
                .mended_by("`bmp monitor ipv4 unicast pre-policy` in `bmp targets`"),
        );
    }
    let hard: Vec<_> = settings.neighbors.iter().filter(|name| !settings.soft.contains(name)).cloned().collect();
    if settings.monitors_pre_policy && !hard.is_empty() {
        let mut names = hard;
        names.sort();
        names.dedup();
        let text = format!(
            "bgpd keeps no routes before policy of neighbor {}: `bmp monitor … pre-policy` reports none",
            names.join(", ")
        );
        findings.push(
            DoctorFinding::warning(Examined::Frr, text)
                .mended_by(format!("`neighbor {} soft-reconfiguration inbound` in its address family", names[0])),
        );
    }
    if findings.is_empty() {
        findings.push(DoctorFinding::ok(Examined::Frr, "bgpd reports routes by BMP"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::FindingState, *};

    const GOOD: &str = "router bgp 64512\n neighbor 192.0.2.1 remote-as 64513\n bmp targets bmpd\n  \
        bmp monitor ipv4 unicast pre-policy\n  bmp connect 127.0.0.1 port 5000 min-retry 1000 max-retry 5000\n exit\n \
        address-family ipv4 unicast\n  neighbor 192.0.2.1 soft-reconfiguration inbound\n exit-address-family\n";

    fn texts(text: &str) -> Vec<(FindingState, String)> {
        targets(text, None).into_iter().map(|finding| (finding.state, finding.text)).collect()
    }

    #[test]
    fn a_bgpd_with_module_monitor_and_soft_reconfiguration_is_well() {
        assert_eq!(texts(GOOD), [(FindingState::Ok, "bgpd reports routes by BMP".to_owned())]);
        for options in ["-A 127.0.0.1 -M bmp", "-Mbmp", "-M rpki -M bmp", "-M /usr/lib/frr/modules/bgpd_bmp.so"] {
            let daemons = format!("bgpd=yes\nbgpd_options=\"{options}\"\n");
            assert_eq!(module(&daemons, Path::new("/etc/frr")).state, FindingState::Ok, "{options}");
        }
    }

    #[test]
    fn each_missing_part_of_frrs_configuration_is_found() {
        let without = |part: &str| {
            let lines: Vec<_> = GOOD.lines().filter(|line| !line.contains(part)).collect();
            texts(&lines.join("\n"))
        };
        let state = |part| without(part).first().map(|(state, _)| *state);
        assert_eq!(state("bmp monitor"), Some(FindingState::Problem));
        assert_eq!(state("bmp connect"), Some(FindingState::Warning));
        assert_eq!(state("soft-reconfiguration"), Some(FindingState::Warning));
        let daemons = "bgpd=yes\nbgpd_options=\"  -A 127.0.0.1\"\n";
        assert_eq!(module(daemons, Path::new("/etc/frr")).state, FindingState::Problem);
    }

    #[test]
    fn members_have_soft_reconfiguration_from_their_group() {
        let grouped = GOOD
            .replace(
                "192.0.2.1 remote-as 64513",
                "EDGE remote-as 64513\n neighbor EDGE peer-group\n neighbor 192.0.2.9 peer-group EDGE",
            )
            .replace("192.0.2.1 soft", "EDGE soft");
        assert_eq!(texts(&grouped), [(FindingState::Ok, "bgpd reports routes by BMP".to_owned())]);
    }

    #[test]
    fn a_host_without_frr_or_without_bgpd_has_no_finding() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(examine(folder.path(), None), []);
        fs::write(folder.path().join("daemons"), "bgpd=no\n").unwrap();
        assert_eq!(examine(folder.path(), None), []);
        fs::write(folder.path().join("daemons"), "bgpd=yes\nbgpd_options=\"-M bmp\"\n").unwrap();
        fs::write(folder.path().join("frr.conf"), GOOD).unwrap();
        assert_eq!(examine(folder.path(), None).len(), 2);
    }
}
