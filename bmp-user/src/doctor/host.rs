//! The kernel, and what of it this process may use.

use std::{fs, path::Path};

use super::{DoctorFinding, Examined};
use crate::{
    config::{Config, KeyAlgorithm, KeychainConfig, SigningProtocol},
    pin::{self, DatapathOptions, KernelInspection},
    sys::tcp_ao,
    tls::{self, CertificateOfProfile},
};

/// The oldest kernel that takes the programs.
const OLDEST: (u32, u32) = (6, 1);

/// The type information that the kernel has of itself (BTF).
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Examines the kernel, and whether its programs could hold sessions with these options.
pub(super) fn examine(options: &DatapathOptions) -> Vec<DoctorFinding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings =
        vec![kernel(release.trim(), Path::new(BTF).exists()), capabilities(&pin::missing_capabilities())];
    let KernelInspection { cgroup, bpffs, programs } = pin::inspect(options);
    findings.push(match cgroup {
        Ok(None) => DoctorFinding::ok(Examined::Cgroup, "the host's cgroup v2 root can be had"),
        Ok(Some(why)) => DoctorFinding::warning(Examined::Cgroup, why),
        Err(error) => DoctorFinding::problem(Examined::Cgroup, format!("{error:#}")),
    });
    findings.push(match bpffs {
        Ok(path) => DoctorFinding::ok(Examined::Bpffs, format!("{} can be had", path.display())),
        Err(error) => DoctorFinding::problem(Examined::Bpffs, format!("{error:#}")),
    });
    findings.push(match programs {
        Ok(()) => DoctorFinding::ok(Examined::Programs, "this kernel's verifier takes the programs"),
        Err(error) => DoctorFinding::problem(Examined::Programs, format!("{error:#}")),
    });
    findings
}

/// Examines whether the kernel can sign with the key chains of a configuration.
pub(super) fn examine_signing(config: &Config) -> Option<DoctorFinding> {
    let has_ao = |chain: &KeychainConfig| {
        let mut algorithms = chain.keys.values().filter_map(|key| key.algorithm);
        algorithms.any(|algorithm| KeyAlgorithm::protocol(algorithm) == SigningProtocol::Ao)
    };
    let (chain, _) = config.keychains.iter().find(|(_, chain)| has_ao(chain))?;
    Some(signing(chain, tcp_ao::probe().is_ok()))
}

fn signing(chain: &str, is_there: bool) -> DoctorFinding {
    if is_there {
        return DoctorFinding::ok(Examined::Kernel, format!("TCP-AO is there, which keychain {chain} needs"));
    }
    let text = format!(
        "this kernel has no TCP-AO, which keychain {chain} needs: connections with it are down with not-supported"
    );
    DoctorFinding::problem(Examined::Kernel, text)
        .mended_by("a kernel from Linux 6.7 on with CONFIG_TCP_AO, or `algorithm md5` at both ends")
}

/// Examines the certificates of the TLS profiles of a configuration. Those that expire soon, or
/// cannot be read, are among the warnings about the configuration.
pub(super) fn examine_tls(config: &Config) -> Vec<DoctorFinding> {
    let finding = |certificate: &CertificateOfProfile| match tls::expiry_warning(certificate) {
        Some(text) if certificate.seconds_left() < 0 => Some(DoctorFinding::problem(Examined::Tls, text)),
        Some(_) => None,
        None => {
            let CertificateOfProfile { profile, certificate } = certificate;
            let (file, expires) = (certificate.file.display(), certificate.facts.expires);
            let text = format!("{file} of tls profile {profile} is valid until {expires} UTC");
            Some(DoctorFinding::ok(Examined::Tls, text))
        }
    };
    tls::certificates_of(config).iter().filter_map(finding).collect()
}

fn kernel(release: &str, has_btf: bool) -> DoctorFinding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = OLDEST;
    if version < OLDEST {
        return DoctorFinding::problem(
            Examined::Kernel,
            format!("Linux {release} is older than {major}.{minor}: the kernel cannot enforce"),
        );
    }
    if !has_btf {
        let text =
            format!("Linux {release} has no type information ({BTF}): it is built without CONFIG_DEBUG_INFO_BTF");
        return DoctorFinding::problem(Examined::Kernel, text);
    }
    DoctorFinding::ok(Examined::Kernel, format!("Linux {release}, with type information"))
}

fn capabilities(missing: &[&str]) -> DoctorFinding {
    if missing.is_empty() {
        return DoctorFinding::ok(Examined::Capabilities, "all that bmpd needs are effective");
    }
    DoctorFinding::problem(Examined::Capabilities, format!("{} missing here", missing.join(" and ")))
        .mended_by("run it as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
}

#[cfg(test)]
mod tests {
    use super::{super::FindingState, *};

    #[test]
    fn kernels_before_6_1_and_kernels_without_btf_are_problems() {
        let state = |release, has_btf| kernel(release, has_btf).state;
        for release in ["6.1.0-18-amd64", "6.12.1+", "7.2.13-cloud", "10.0"] {
            assert_eq!(state(release, true), FindingState::Ok, "{release}");
            assert_eq!(state(release, false), FindingState::Problem, "{release}");
        }
        for release in ["6.0.19", "5.15.0-100-generic", "", "x"] {
            assert_eq!(state(release, true), FindingState::Problem, "{release}");
        }
    }

    #[test]
    fn a_key_chain_without_tcp_ao_in_the_kernel_is_a_problem() {
        assert_eq!(signing("core", true).state, FindingState::Ok);
        let finding = signing("core", false);
        assert!(finding.state == FindingState::Problem && finding.text.contains("keychain core"), "{finding:?}");
        assert_eq!(examine_signing(&Config::default()), None);
    }

    #[test]
    fn each_missing_capability_is_named() {
        assert_eq!(capabilities(&[]).state, FindingState::Ok);
        let finding = capabilities(&["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(
            (finding.state, finding.text.as_str()),
            (FindingState::Problem, "CAP_BPF and CAP_PERFMON missing here")
        );
    }
}
