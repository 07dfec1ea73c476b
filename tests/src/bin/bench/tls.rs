//! A dump over TLS, beside a plain sender that encrypts as many bytes with the same cipher, and
//! beside the same dump without TLS.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use lab::{
    tls::TestCa,
    tls_station::{client_config, server_config},
};
use rustls::{ClientConfig, ClientConnection, ServerConfig, StreamOwned, pki_types::ServerName};

use crate::{
    BenchSetting, PATIENCE,
    dump::{check, one, settled},
    feeder::BgpFeeder,
    links::{PEER, PLAIN_PORT, STATION, STATION_PORT},
    ordinal,
    report::{BenchReport, RatioGoal, Samples},
    say,
    station::{CountingStation, read_encrypted},
    subject::{BenchSubject, SubjectKind, bgp_address},
};

const BENCH: &str = "tls";
/// Dumps that are taken together. The kernel counts user time in ticks of 10 ms, and a dump takes
/// about one.
const DUMPS: usize = 10;
/// The port of the session without TLS is the usual one, and this one has TLS.
const TLS_PORT: u16 = STATION_PORT + 10;
/// How long the plain sender's receiver waits for bytes.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The dumps of one session.
#[derive(Default)]
struct Dumps {
    time: Samples,
    user: Samples,
    system: Samples,
    bytes: usize,
    /// Whether the kernel has encrypted a dump.
    in_kernel: bool,
}

pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let ca = TestCa::new("bench");
    let certificate = ca.issue("station", "station", &format!("IP:{STATION}"), 2);
    let (server, client) = (server_config(&certificate), client_config(&ca));
    say("tls: bmpd is loaded")?;
    let subject = BenchSubject::with_tls(&setting.links, &ca.file(), TLS_PORT)?;
    let mut feeder = BgpFeeder::connect(&setting.links.peer, PEER.0, PEER.1, bgp_address())?;
    feeder.send(&setting.table.bytes)?;
    settled(&subject, setting)?;
    let station = |port| CountingStation::listen(&setting.links.station, SocketAddr::from((STATION, port)));
    let (mut without, mut with, mut sender) = (Dumps::default(), Dumps::default(), Samples::default());
    for run in 0..=setting.runs {
        say(&format!("tls: {}", ordinal(run)))?;
        // In turns, so that a changing load hits all alike. A station listens in its turn alone:
        // the other one's session would wait for a handshake.
        without.add(run, &station(STATION_PORT)?, &subject, setting, report)?;
        with.add(run, &station(TLS_PORT)?.with_tls(Arc::clone(&server)), &subject, setting, report)?;
        for _ in 0..DUMPS {
            let took = send(setting, with.bytes, &server, &client)?;
            if run > 0 {
                sender.push(took.as_secs_f64());
            }
        }
    }
    let where_to = if with.in_kernel { "the kernel" } else { "user space" };
    report.note(format!("tls: the session is encrypted in {where_to}; the plain sender encrypts in user space."));
    report.ratio(
        BENCH,
        "time, to that of a plain sender with the same cipher".to_owned(),
        with.time.median() / sender.median(),
        RatioGoal::AtMost(1.5),
    );
    if with.in_kernel {
        report.ratio(
            BENCH,
            "user time, to that without TLS".to_owned(),
            with.user.median() / without.user.median(),
            RatioGoal::AtMost(1.3),
        );
    }
    let milliseconds = |samples: &Samples| samples.each(|seconds| 1e3 * seconds);
    for (subject, dumps) in [("bmpd, without TLS", &without), ("bmpd, with TLS", &with)] {
        report.row(BENCH, subject, "bytes sent", "bytes", one(dumps.bytes as f64));
        report.row(BENCH, subject, "time", "ms", milliseconds(&dumps.time));
        report.row(BENCH, subject, "processor time, user", "ms", milliseconds(&dumps.user));
        report.row(BENCH, subject, "processor time, system", "ms", milliseconds(&dumps.system));
    }
    report.row(BENCH, "plain sender with TLS", "time", "ms", milliseconds(&sender));
    Ok(())
}

impl Dumps {
    /// Takes the dumps of a run. The first run is the warm-up.
    fn add(
        &mut self,
        run: usize,
        station: &CountingStation,
        subject: &BenchSubject,
        setting: &BenchSetting,
        report: &mut BenchReport,
    ) -> io::Result<()> {
        let before = subject.cpu();
        // A session without a connection does not say who encrypts it, so the last one stays.
        let mut last = None;
        for _ in 0..DUMPS {
            drop(last.take());
            let count = station.count(setting.routes())?;
            count.wait_connected(PATIENCE)?;
            let counted = count.wait_done(PATIENCE)?;
            check(SubjectKind::Bmpd, &counted, setting, report)?;
            self.bytes = counted.bytes as usize;
            if run > 0 {
                self.time.push(counted.since_accept.as_secs_f64());
            }
            last = Some(count);
        }
        let after = subject.cpu();
        self.in_kernel |= is_in_kernel(subject);
        if run > 0 {
            self.user.push((after.0 - before.0).as_secs_f64() / DUMPS as f64);
            self.system.push((after.1 - before.1).as_secs_f64() / DUMPS as f64);
        }
        Ok(())
    }
}

fn is_in_kernel(subject: &BenchSubject) -> bool {
    subject.sessions().iter().any(|session| session["tls"]["in_kernel"] == true)
}

/// Sends this many bytes by TLS and returns how long it took, from accept to the last byte.
fn send(
    setting: &BenchSetting,
    size: usize,
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> io::Result<Duration> {
    let address = SocketAddr::from((STATION, PLAIN_PORT));
    let listener = CountingStation::listen(&setting.links.station, address)?;
    let bytes = vec![0; size];
    let server = Arc::clone(server);
    let taking = std::thread::spawn(move || -> io::Result<Duration> {
        let accept = || {
            let stream = listener.accept(PATIENCE)?;
            stream.set_read_timeout(Some(LONGEST_PAUSE))?;
            Ok(stream)
        };
        read_encrypted(accept, server, size)
    });
    let stream = setting.links.router.enter(|| TcpStream::connect(address))?;
    stream.set_nodelay(true)?;
    let tls = ClientConnection::new(Arc::clone(client), ServerName::from(std::net::IpAddr::from(STATION)));
    let mut stream = StreamOwned::new(tls.map_err(io::Error::other)?, stream);
    stream.write_all(&bytes)?;
    stream.flush()?;
    taking.join().map_err(|_| io::Error::other("the plain receiver failed"))?
}
