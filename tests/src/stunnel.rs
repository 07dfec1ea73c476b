//! stunnel(8), which speaks TLS in front of a station that does not.

use std::net::SocketAddr;

use programs::Program;
use tempfile::TempDir;

use crate::{
    netns::Netns,
    process::ChildProgram,
    tls::{TestCa, TestCertificate},
    wait::PATIENCE,
};

/// A running stunnel.
#[derive(Debug)]
pub struct Stunnel {
    _process: ChildProgram,
    _folder: TempDir,
}

impl Stunnel {
    /// Starts stunnel, which takes TLS 1.3 on one address and hands on what it decrypts to another.
    /// It demands a certificate of a CA. It listens on return.
    pub fn start(
        netns: &Netns,
        from: impl Into<SocketAddr>,
        to: impl Into<SocketAddr>,
        certificate: &TestCertificate,
        ca: &TestCa,
    ) -> Self {
        let folder = TempDir::with_prefix("lab-stunnel-").expect("a temporary folder can be made");
        let configuration = format!(
            "foreground = yes
pid =
syslog = no
[bmp]
accept = {}
connect = {}
cert = {}
key = {}
CAfile = {}
verifyChain = yes
requireCert = yes
sslVersionMin = TLSv1.3
",
            from.into(),
            to.into(),
            certificate.certificate.display(),
            certificate.key.display(),
            ca.file().display()
        );
        let file = folder.path().join("stunnel.conf");
        std::fs::write(&file, configuration).expect("a temporary file can be written");
        let process = ChildProgram::start(netns.command(Program::Stunnel).arg(file));
        process.wait_for_line("that it is configured", 0, PATIENCE, |line| line.contains("Configuration successful"));
        Self { _process: process, _folder: folder }
    }
}
