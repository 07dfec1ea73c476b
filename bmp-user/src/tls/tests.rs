use std::{
    fs,
    io::{IoSlice, Read as _, Write as _},
    process::Command,
};

use programs::Program;
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::config::CertificateFingerprint;

const CONFIGURATION: &str = "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=unused\n[ca]\n\
                             basicConstraints=critical,CA:TRUE\n[leaf]\nbasicConstraints=CA:FALSE\n\
                             subjectAltName=DNS:station.example.net,IP:127.0.0.1\n";

/// A folder with a CA (`ca.pem`), a certificate of it (`own.pem`, `own.key`), and another key.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        fs::write(files.path("openssl.cnf"), CONFIGURATION).unwrap();
        let new = "-config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        files.openssl(&format!("req -x509 -days 20 -extensions ca -keyout ca.key -out ca.pem -subj /CN=Lab {new}"));
        files.openssl(&format!("req -new -keyout own.key -out own.csr -subj /CN=station/O=Example {new}"));
        files.openssl("x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 10 -extfile openssl.cnf -extensions leaf -out own.pem");
        files.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out other.key");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let mut command: Command = Program::Openssl.command();
        let done = command.current_dir(self.0.path()).args(arguments.split_whitespace()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn profile(&self) -> TlsProfileConfig {
        TlsProfileConfig {
            trusted_ca: Some(self.path("ca.pem")),
            certificate: Some(self.path("own.pem")),
            private_key: Some(self.path("own.key")),
            ..TlsProfileConfig::default()
        }
    }

    fn loaded(&self, profile: &TlsProfileConfig) -> TlsProfile {
        TlsProfile::load("lab", profile).unwrap()
    }
}

fn why(profile: &TlsProfileConfig) -> String {
    let error = TlsProfile::load("lab", profile).expect_err("it cannot be used");
    assert_eq!(error.reason, Reason::TlsProfileUnusable);
    error.why
}

#[test]
fn a_profile_says_what_is_wrong_with_its_files() {
    let (files, whole) = (Files::new(), Files::profile);
    let with_key = |name: &str| TlsProfileConfig { private_key: Some(files.path(name)), ..whole(&files) };
    let with_ca = |path: PathBuf| TlsProfileConfig { trusted_ca: Some(path), ..whole(&files) };
    assert!(why(&with_key("missing")).contains("No such file"));
    assert!(why(&with_key("other.key")).contains("is not the key of"));
    assert!(why(&with_key("own.pem")).contains("has no private key in PEM"));
    assert!(why(&with_ca(files.path("own.key"))).contains("has no certificate in PEM"));
    assert!(why(&with_ca(files.0.path().to_owned())).contains("no regular file"));
    assert!(
        why(&TlsProfileConfig { private_key: None, ..whole(&files) }).contains("`certificate` needs `private-key`")
    );
    assert!(
        why(&TlsProfileConfig { certificate: None, ..whole(&files) }).contains("`private-key` needs `certificate`")
    );
    let named = TlsProfileConfig { verify_name: Some("a.example.net".to_owned()), ..TlsProfileConfig::default() };
    assert!(why(&named).contains("`verify-name` needs `trusted-ca` or `fingerprint`"));
    fs::write(files.path("long.pem"), vec![b'\n'; (1 << 20) + 1]).unwrap();
    assert!(why(&with_ca(files.path("long.pem"))).contains("more than 1048576 bytes"));
    nix::unistd::mkfifo(&files.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(why(&with_ca(files.path("fifo"))).contains("no regular file"));
    let nothing = files.loaded(&TlsProfileConfig::default());
    let far = std::net::Ipv4Addr::LOCALHOST.into();
    assert!(nothing.to_connect(far).unwrap_err().why.contains("`trusted-ca` or `fingerprint`"));
    assert!(nothing.to_accept().unwrap_err().why.contains("`certificate` and `private-key`"));
    let debug = format!("{:?}", files.loaded(&whole(&files)));
    assert_eq!(debug, "TlsProfile { name: \"lab\", .. }");
}

#[test]
fn a_certificate_says_whose_it_is_and_when_it_expires() {
    let files = Files::new();
    let profile = files.loaded(&files.profile());
    let own = profile.certificates().iter().find(|certificate| certificate.role == CertificateRole::Own).unwrap();
    assert_eq!(own.facts.subject.raw(), "CN=station, O=Example");
    let (begins, expires) = (own.facts.begins.as_unix(), own.facts.expires.as_unix());
    assert_eq!(expires - begins, 10 * DAY);
    assert!(sys::unix_time().abs_diff(begins) < 3600, "{begins}");
}

#[test]
fn a_damaged_file_is_refused_without_a_panic() {
    let files = Files::new();
    for name in ["ca.pem", "own.pem", "own.key"] {
        let whole = fs::read(files.path(name)).unwrap();
        for at in (0..whole.len()).step_by(7) {
            for byte in [0, b'-', b'A', 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                fs::write(files.path(name), &damaged).unwrap();
                let _ = TlsProfile::load("lab", &files.profile());
            }
            fs::write(files.path(name), &whole[..at]).unwrap();
            let _ = TlsProfile::load("lab", &files.profile());
        }
        fs::write(files.path(name), &whole).unwrap();
    }
    files.loaded(&files.profile());
}

#[test]
fn a_profile_knows_its_certificates_and_when_they_expire() {
    let files = Files::new();
    let config = Config { tls_profiles: [("lab".to_owned(), files.profile())].into(), ..Config::default() };
    let certificates = certificates_of(&config);
    let shown: Vec<_> = certificates
        .iter()
        .map(|one| {
            (one.certificate.role, one.certificate.facts.subject.to_string(), (one.seconds_left() + 60) / 86_400)
        })
        .collect();
    let [ca, own] = [(CertificateRole::TrustedCa, "CN=Lab", 20), (CertificateRole::Own, "CN=station, O=Example", 10)];
    assert_eq!(shown, [ca, own].map(|(role, subject, days)| (role, subject.to_owned(), days)));
    let warned: Vec<_> = certificates.iter().filter_map(expiry_warning).collect();
    assert_eq!(warned.len(), 2);
    assert!(warned[1].starts_with("the certificate of CN=station, O=Example in /"), "{warned:?}");
}

#[test]
fn a_certificate_is_warned_of_as_its_end_comes_nearer() {
    let day = 86_400;
    let cases = [
        (31 * day, None),
        (30 * day - 1, Some(30)),
        (7 * day, Some(30)),
        (7 * day - 1, Some(7)),
        (day - 1, Some(1)),
        (0, Some(1)),
        (-1, Some(0)),
    ];
    for (left, due) in cases {
        assert_eq!(warned_days(left), due, "{left}");
    }
}

#[test]
fn files_that_change_are_read_again_and_bad_ones_are_not_used() {
    let (files, profiles) = (Files::new(), TlsProfiles::default());
    let config = Config { tls_profiles: [("lab".to_owned(), files.profile())].into(), ..Config::default() };
    let loaded = || profiles.known()["lab"].loaded.clone();
    profiles.look(&config, false);
    let first = loaded().unwrap();
    profiles.look(&config, false);
    assert!(Arc::ptr_eq(&first, &loaded().unwrap()), "nothing has changed");
    profiles.look(&config, true);
    let again = loaded().unwrap();
    assert!(!Arc::ptr_eq(&first, &again));
    fs::copy(files.path("other.key"), files.path("own.key")).unwrap();
    profiles.look(&config, false);
    assert!(Arc::ptr_eq(&again, &loaded().unwrap()), "the new key does not fit");
    profiles.look(&Config::default(), false);
    assert!(profiles.known().is_empty());
}

/// Returns two connected ends.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Connects with one profile to the other.
async fn shake_hands(
    client: &TlsProfile,
    server: &TlsProfile,
) -> (Result<TlsStream, TlsError>, Result<TlsStream, TlsError>) {
    let (near, far) = connected().await;
    let address = near.peer_addr().unwrap().ip();
    tokio::join!(TlsStream::connect(near, client, address), TlsStream::accept(far, server))
}

#[tokio::test]
async fn bytes_arrive_as_they_were_sent_and_the_end_is_announced() {
    let files = Files::new();
    let profile = files.loaded(&files.profile());
    let (client, server) = shake_hands(&profile, &profile).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!(client.report().peer, Some(crate::escape::Untrusted::new("CN=station, O=Example")));
    assert_eq!(server.report().peer, client.report().peer);
    let sent: Vec<u8> = (0..5_000_000_u32).map(|byte| byte as u8 ^ (byte >> 9) as u8).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        let mut at = 0;
        while at < sent.len() {
            let slices =
                [IoSlice::new(&sent[at..(at + 3).min(sent.len())]), IoSlice::new(sent.get(at + 3..).unwrap_or(&[]))];
            match client.try_write_vectored(&slices) {
                Ok(taken) => at += taken,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    client.socket().writable().await.unwrap();
                }
            }
        }
        client.close();
        while !client.try_flush().unwrap() {
            client.socket().writable().await.unwrap();
        }
        client.shutdown().await.unwrap();
        client
    });
    let mut read = Vec::new();
    server.read_to_end(&mut read).await.unwrap();
    assert!(read == expected);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn an_end_without_an_announcement_is_an_error() {
    let files = Files::new();
    let profile = files.loaded(&files.profile());
    let (client, server) = shake_hands(&profile, &profile).await;
    drop(client.unwrap());
    let error = server.unwrap().read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_name_or_a_fingerprint_that_is_another_is_refused() {
    let files = Files::new();
    let server = files.loaded(&TlsProfileConfig { trusted_ca: None, ..files.profile() });
    let refused = async |change: &dyn Fn(&mut TlsProfileConfig)| {
        let mut client = TlsProfileConfig { trusted_ca: Some(files.path("ca.pem")), ..TlsProfileConfig::default() };
        change(&mut client);
        shake_hands(&files.loaded(&client), &server).await.0.err().map(|error| error.reason)
    };
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(refused(&|_| {}).await, None, "by its address");
    assert_eq!(refused(&|client| client.verify_name = name("station.example.net")).await, None);
    let other = refused(&|client| client.verify_name = name("other.example.net")).await;
    assert_eq!(other, Some(Reason::CertificateMismatch));
    let wrong = Some(CertificateFingerprint([0; 32]));
    assert_eq!(refused(&|client| client.fingerprint = wrong).await, Some(Reason::CertificateMismatch));
    let stranger = Files::new();
    let ca = Some(stranger.path("ca.pem"));
    assert_eq!(refused(&|client| client.trusted_ca.clone_from(&ca)).await, Some(Reason::UnknownCa));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_a_ca_is_trusted() {
    let files = Files::new();
    let server = files.loaded(&files.profile());
    let client = TlsProfileConfig { trusted_ca: Some(files.path("ca.pem")), ..TlsProfileConfig::default() };
    let (client, server) = shake_hands(&files.loaded(&client), &server).await;
    let why = server.err().unwrap();
    assert!(why.reason == Reason::TlsFailed && why.why.contains("presents no certificate"), "{why:?}");
    // The client has done its part before. It is told in its first read.
    let error = client.unwrap().read_to_end(&mut Vec::new()).await.unwrap_err();
    let said = TlsError::within(&error).unwrap();
    assert!(said.why.contains("certificate_required"), "{said:?}");
}

#[tokio::test]
async fn what_is_no_tls_is_refused_at_once() {
    let files = Files::new();
    let profile = files.loaded(&files.profile());
    for bytes in [&b"\x03\0\0\0\x06\x04"[..], b"GET / HTTP/1.1\r\n\r\n", b""] {
        let (near, far) = connected().await;
        let plain = std::thread::spawn({
            let (mut near, bytes) = (near.into_std().unwrap(), bytes.to_vec());
            near.set_nonblocking(false).unwrap();
            move || {
                near.write_all(&bytes).unwrap();
                // The far end may have ended the connection already.
                let _ = near.shutdown(std::net::Shutdown::Write);
                let _ = near.read(&mut [0; 100]);
            }
        });
        let refused = TlsStream::accept(far, &profile).await.err().unwrap();
        assert_eq!(refused.reason, Reason::NotTls, "{bytes:?}: {refused}");
        plain.join().unwrap();
    }
}
