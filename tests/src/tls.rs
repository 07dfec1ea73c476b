//! TLS as openssl(1) speaks it: certificates, stations and clients that are none of bmpd's own.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
};

use bytes::BytesMut;
use programs::Program;
use tempfile::TempDir;

use crate::{
    bmp::{self, ReceivedFrame},
    netns::Netns,
    process::{INSTALL, answer},
    topology::{STATION, STATION_PORT},
    trial::RELAY,
    wait::{PATIENCE, WatchedValue},
};

/// The names of the usual station's certificate.
pub const STATION_NAMES: &str = "DNS:station.example.net,IP:198.51.100.7";

/// Returns the lines of a TLS profile.
pub fn profile(name: &str, ca: &TestCa, own: Option<&TestCertificate>, more: &str) -> String {
    let own = own.map(TestCertificate::lines).unwrap_or_default();
    format!("tls profile {name}\n trusted-ca {}\n{own}{more}", ca.file().display())
}

/// Returns a relay, and a session by `up2` with a TLS profile.
pub fn session(transport: &str, profile: &str) -> String {
    let relay = format!("bmp-relay lab\n listen {} port {}\n", RELAY.ip(), RELAY.port());
    format!(
        "{relay}bmp\n bmp-session {STATION}\n  {transport} port {STATION_PORT} tls {profile}\n  \
         connect-interface up2\n"
    )
}

/// The options of a new key.
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

const CONFIGURATION: &str = "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=unused\n[ca]\n\
                             basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";

/// A CA, and the folder with all its files.
#[derive(Debug)]
pub struct TestCa {
    folder: TempDir,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct TestCertificate {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

impl TestCa {
    /// Makes a CA with a certificate of its own.
    pub fn new(name: &str) -> Self {
        let ca = Self { folder: TempDir::with_prefix("lab-ca-").expect("a temporary folder can be made") };
        std::fs::write(ca.path("openssl.cnf"), CONFIGURATION).expect("a temporary file can be written");
        let mut command = ca.openssl(&["req", "-x509", "-days", "30", "-config", "openssl.cnf", "-extensions", "ca"]);
        command.args(NEW_KEY).args(["-keyout", "ca.key", "-out", "ca.pem", "-subj", &format!("/CN={name}")]);
        answer(&mut command);
        ca
    }

    /// Returns the file with the CA's certificate.
    pub fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Returns the folder of all files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a certificate for a subject and its other names, such as `DNS:a.example,IP:192.0.2.1`.
    /// With 0 days it expires at once.
    pub fn issue(&self, file: &str, subject: &str, names: &str, days: u32) -> TestCertificate {
        let [key, request, extensions, certificate] = ["key", "csr", "ext", "pem"].map(|kind| format!("{file}.{kind}"));
        let mut command = self.openssl(&["req", "-new", "-config", "openssl.cnf"]);
        command.args(NEW_KEY).args(["-keyout", &key, "-out", &request, "-subj", &format!("/CN={subject}")]);
        answer(&mut command);
        let text = format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n");
        std::fs::write(self.path(&extensions), text).expect("a temporary file can be written");
        let mut command = self.openssl(&["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key"]);
        command.args(["-CAcreateserial", "-days", &days.to_string(), "-extfile", &extensions, "-out", &certificate]);
        answer(&mut command);
        TestCertificate { certificate: self.path(&certificate), key: self.path(&key) }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn openssl(&self, arguments: &[&str]) -> Command {
        let mut command = Program::Openssl.command();
        command.current_dir(self.folder.path()).args(arguments);
        command
    }
}

impl TestCertificate {
    /// Returns the fingerprint as openssl prints it, without what is before it.
    pub fn fingerprint(&self) -> String {
        let mut command = Program::Openssl.command();
        command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&self.certificate);
        answer(&mut command).trim().rsplit('=').next().unwrap_or_default().to_owned()
    }

    /// Returns the lines of a TLS profile that presents the certificate.
    pub fn lines(&self) -> String {
        format!(" certificate {}\n private-key {}\n", self.certificate.display(), self.key.display())
    }

    /// Takes the place of another certificate, as a renewal does.
    pub fn replace(&self, other: &Self) {
        for (from, to) in [(&self.key, &other.key), (&self.certificate, &other.certificate)] {
            std::fs::rename(from, to).expect("both are in one folder");
        }
    }
}

/// An openssl(1) that holds a TLS connection, or waits for it. What it receives is taken for BMP.
#[derive(Debug)]
pub struct OpensslPeer {
    child: Child,
    input: Option<ChildStdin>,
    received: Arc<WatchedValue<OpensslRecord>>,
    readers: Vec<JoinHandle<()>>,
}

/// What an openssl(1) has received and said.
#[derive(Debug, Default)]
pub struct OpensslRecord {
    /// Whole BMP messages.
    pub frames: Vec<ReceivedFrame>,
    /// What it printed of errors and of the connection.
    pub said: String,
}

impl OpensslRecord {
    /// Returns the number of messages of type `kind`.
    pub fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.kind() == kind).count()
    }
}

impl OpensslPeer {
    /// Starts `openssl s_server` on an address, with further arguments.
    pub fn station(
        netns: &Netns,
        address: impl Into<SocketAddr>,
        certificate: &TestCertificate,
        arguments: &[&str],
    ) -> Self {
        let address = address.into().to_string();
        let mut command = netns.command(Program::Openssl);
        command.args(["s_server", "-quiet", "-accept", &address]);
        command.arg("-cert").arg(&certificate.certificate).arg("-key").arg(&certificate.key).args(arguments);
        Self::start(command)
    }

    /// Starts `openssl s_client` to an address, with further arguments.
    pub fn client(netns: &Netns, to: impl Into<SocketAddr>, arguments: &[&str]) -> Self {
        let to = to.into().to_string();
        let mut command = netns.command(Program::Openssl);
        command.args(["s_client", "-quiet", "-connect", &to]).args(arguments);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start openssl: {e}{INSTALL}"));
        let received = Arc::<WatchedValue<OpensslRecord>>::default();
        let mut readers = Vec::new();
        if let Some(mut stdout) = child.stdout.take() {
            let received = Arc::clone(&received);
            readers.push(thread::spawn(move || {
                let (mut stream, mut block) = (BytesMut::new(), [0; 65_536]);
                while let Ok(read @ 1..) = stdout.read(&mut block) {
                    stream.extend_from_slice(&block[..read]);
                    received.change(|record| {
                        if let Err(why) = bmp::split(&mut stream, &mut record.frames) {
                            record.said.push_str(&why);
                        }
                    });
                }
            }));
        }
        if let Some(mut stderr) = child.stderr.take() {
            let received = Arc::clone(&received);
            readers.push(thread::spawn(move || {
                let mut block = [0; 4096];
                while let Ok(read @ 1..) = stderr.read(&mut block) {
                    let text = String::from_utf8_lossy(&block[..read]).into_owned();
                    received.change(|record| record.said.push_str(&text));
                }
            }));
        }
        let input = child.stdin.take();
        Self { child, input, received, readers }
    }

    /// Sends bytes to the far end.
    pub fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(bytes).and_then(|()| input.flush()).expect("openssl reads its input");
    }

    /// Waits until the record satisfies `wanted`.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`], with what openssl has said.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&OpensslRecord) -> bool) {
        let seen = self.received.wait_for(PATIENCE, |record| wanted(record).then_some(()));
        if seen.is_none() {
            let record = self.received.lock();
            let kinds: Vec<_> = (0..=bmp::ROUTE_MIRRORING).map(|kind| record.count(kind)).collect();
            panic!("openssl did not see {what}: messages by type {kinds:?}, and it said {}", record.said);
        }
    }
}

impl Drop for OpensslPeer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}
