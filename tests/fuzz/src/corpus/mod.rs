//! Seeds for libFuzzer and for tests: real captures in pieces small enough for many changes, and
//! synthetic pieces for the rest.

mod made;
mod real;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bmp_user::wire::bmp::{Message, frames};
pub use real::{captures, captures_are_there, captures_v3, folder};

use crate::target::HistoryStep;

/// A configuration with every command.
pub const CONFIGURATION: &str = include_str!("everything.conf");
/// Lines that an operator types, and the requests of `bmpctl` for them.
pub const OPERATOR: &str = include_str!("operator.txt");

/// The longest useful piece, in bytes.
const LONGEST: usize = 4096;
/// Most pieces of one kind.
const ENOUGH: usize = 300;

/// Returns the seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let seeds = match target {
        "bmp" => bmp(),
        "bgp" => bgp(),
        "update" => update(),
        "mrt" => real::records().into_iter().chain(made::records()).collect(),
        "replay" => replay(),
        "config" => config(),
        "control" => control(),
        "feed" => feed(),
        "keychain" => keychains(),
        "certificate" => certificates(),
        "tls" => tls_records(),
        "proxy" => proxy_headers(),
        other => panic!("there is no target {other}"),
    };
    // Each seed once, in the order of discovery.
    let mut seen = BTreeSet::new();
    seeds.into_iter().filter(|seed| seen.insert(seed.clone())).collect()
}

/// Returns the words of the command language, in libFuzzer's format.
pub fn dictionary() -> String {
    let words: BTreeSet<_> = CONFIGURATION.split_whitespace().chain(OPERATOR.split_whitespace()).collect();
    let plain = words.into_iter().filter(|word| word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'));
    plain.map(|word| format!("\"{word}\"\n")).collect()
}

fn bmp() -> Vec<Vec<u8>> {
    let mut seeds = pieces(real::frames_of_captures());
    seeds.extend(captures().into_iter().map(|(_, stream)| stream[..stream.len().min(LONGEST)].to_vec()));
    seeds.extend(made::frames());
    seeds
}

fn bgp() -> Vec<Vec<u8>> {
    let messages = pieces(bgp_messages()).into_iter().chain(made::messages());
    messages.flat_map(|message| [0, 1].map(|choice| [&[choice], &message[..]].concat())).collect()
}

fn update() -> Vec<Vec<u8>> {
    const UPDATE: u8 = 2;
    let updates = bgp_messages().into_iter().filter(|message| message.get(18) == Some(&UPDATE));
    let bodies = pieces(updates.map(|message| message[19..].to_vec())).into_iter().chain(made::updates());
    bodies.flat_map(|body| [0, 1, 2].map(|choice| [&[choice], &body[..]].concat())).collect()
}

/// Returns every BGP message in the captures.
fn bgp_messages() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for frame in real::frames_of_captures() {
        let Some(Ok(frame)) = frames(&frame).next() else { continue };
        match Message::parse(&frame) {
            Ok(Message::PeerUp(up)) => messages.extend([up.sent_open.to_vec(), up.received_open.to_vec()]),
            Ok(Message::RouteMonitoring(_, update)) => messages.push(update.to_vec()),
            Ok(Message::PeerDown(down)) => messages.push(down.data.to_vec()),
            _ => {}
        }
    }
    messages
}

fn replay() -> Vec<Vec<u8>> {
    let mut files = real::files();
    files.push(made::records().concat());
    files.extend(made::records());
    let packed: Vec<_> = files.iter().flat_map(|file| [made::gzipped(file), made::bzipped(file)]).collect();
    files.extend(packed);
    files
}

fn config() -> Vec<Vec<u8>> {
    // The whole, each part between lines with only a mark, and each line.
    let parts = CONFIGURATION.split("\n#\n").map(|part| part.as_bytes().to_vec());
    let mut lines = CONFIGURATION.lines().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>();
    lines.sort();
    [CONFIGURATION.as_bytes().to_vec()].into_iter().chain(parts).chain(lines).collect()
}

fn control() -> Vec<Vec<u8>> {
    let whole = OPERATOR.as_bytes().to_vec();
    let lines = OPERATOR.lines().map(|line| line.as_bytes().to_vec());
    let configuring = format!("system-view\n{CONFIGURATION}").into_bytes();
    [whole, configuring].into_iter().chain(lines).collect()
}

fn feed() -> Vec<Vec<u8>> {
    let mut histories = Vec::new();
    let mut streams: Vec<_> = captures().into_iter().map(|(_, stream)| stream).collect();
    streams.push(made::frames().concat());
    for stream in &streams {
        // From the beginning, so that peers are up. Then a longer part with the same beginning.
        let beginning = &stream[..stream.len().min(LONGEST)];
        for part in [beginning, &stream[..stream.len().min(4 * LONGEST)]] {
            let mut history = Vec::new();
            for (number, piece) in part.chunks(1000).enumerate() {
                HistoryStep::Send(number % 5 % 2, &[]).put(&mut history);
                HistoryStep::Send(0, piece).put(&mut history);
                HistoryStep::Take(40 * number).put(&mut history);
            }
            histories.push(history.clone());
            HistoryStep::Hold(0).put(&mut history);
            HistoryStep::Send(0, part).put(&mut history);
            HistoryStep::Quiet(0).put(&mut history);
            HistoryStep::Release(0).put(&mut history);
            HistoryStep::Return.put(&mut history);
            histories.push(history.clone());
            // Another daemon on the same relay announces the same, beside the first and after it.
            let mut claimed = history.clone();
            HistoryStep::Send(2, part).put(&mut claimed);
            histories.push(claimed.clone());
            HistoryStep::Reconnect(2).put(&mut claimed);
            HistoryStep::Claim(2, part).put(&mut claimed);
            histories.push(claimed);
            HistoryStep::Send(1, part).put(&mut history);
            HistoryStep::Reconnect(0).put(&mut history);
            histories.push(history);
        }
    }
    let frames = made::frames();
    for (number, one) in frames.iter().enumerate() {
        let mut history = Vec::new();
        HistoryStep::Send(0, &frames[0]).put(&mut history);
        HistoryStep::Send(number % 2, one).put(&mut history);
        histories.push(history);
    }
    histories
}

/// Returns certificates of openssl, and what is inside them.
fn certificates() -> Vec<Vec<u8>> {
    let whole: [&[u8]; 3] = [
        include_bytes!("certificates/ca.der"),
        include_bytes!("certificates/leaf.der"),
        include_bytes!("certificates/rsa.der"),
    ];
    whole.into_iter().flat_map(|der| [der.to_vec(), der[4..].to_vec()]).collect()
}

/// Returns pieces of whole and of damaged TLS streams, and handshake messages that follow a
/// handshake.
fn tls_records() -> Vec<Vec<u8>> {
    let pieces = [[1, 200, 0, 5, 130].as_slice(), &[1, 0], &[1, 4, 127], &[1]];
    // The first byte says how many damages there are; each is a place and a change.
    let damaged = [(0, 22), (3, 1), (5, 2), (40, 0x80), (130, 1), (600, 1), (1500, 0xff)]
        .map(|(place, change): (u16, u8)| [&[0x41], place.to_be_bytes().as_slice(), &[change], &[9, 250]].concat());
    let ticket = |length: u8| [&[4, 0, 0, length], vec![1; usize::from(length)].as_slice()].concat();
    let key_update = vec![24, 0, 0, 1, 1];
    let messages =
        [vec![ticket(9), ticket(200), key_update.clone()], vec![key_update], vec![ticket(0), vec![13, 0, 0, 2]]];
    let messages = messages.map(|messages| [&[0], messages.concat().as_slice()].concat());
    pieces.map(<[u8]>::to_vec).into_iter().chain(damaged).chain(messages).collect()
}

/// Returns PROXY headers of both versions, each with BMP behind it. The first byte is the size of
/// the pieces.
fn proxy_headers() -> Vec<Vec<u8>> {
    let lines = [
        "PROXY TCP4 192.0.2.9 203.0.113.1 4711 5000\r\n",
        "PROXY TCP6 2001:db8::9 2001:db8::1 4711 5000\r\n",
        "PROXY TCP6 ::ffff:192.0.2.9 ::1 0 65535\r\n",
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN 192.0.2.9 203.0.113.1 4711 5000\r\n",
    ];
    let ends = |bytes: usize| [vec![0x20; bytes], vec![1, 2, 3, 4]].concat();
    let binary = [(0x21, 0x11, ends(8)), (0x21, 0x21, ends(32)), (0x20, 0, vec![]), (0x21, 0, vec![4, 0, 1, 0])];
    let binary = binary.into_iter().flat_map(|(command, transport, ends)| {
        let with_more = [ends.clone(), vec![4, 0, 60], vec![0; 60]].concat();
        [ends, with_more].map(|rest| {
            let length = u16::try_from(rest.len()).expect("the rest is short").to_be_bytes();
            [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, transport], &length, &rest].concat()
        })
    });
    let headers = lines.map(|line| line.as_bytes().to_vec()).into_iter().chain(binary);
    let pieces = |header: Vec<u8>| [1, 9, 255].map(|size| [&[size], &header[..], &[3, 0, 0, 0, 6, 4]].concat());
    headers.flat_map(pieces).collect()
}

/// Returns key chains of up to four keys, whose lifetimes follow one another, overlap, or leave a
/// gap. Each key is its id, what it has, and four times of two bytes.
fn keychains() -> Vec<Vec<u8>> {
    let key = |number: u8, has: u8, overlap: i16| {
        let begin = 1000 * i16::from(number);
        let [send, receive] = [[begin, 1000 + overlap], [begin - overlap.abs(), 1000 + 2 * overlap.abs()]];
        let times = send.into_iter().chain(receive).flat_map(i16::to_be_bytes);
        [number, has].into_iter().chain(times).collect::<Vec<u8>>()
    };
    let mut chains = vec![key(1, 0b1100, 0)];
    for overlap in [-200, 0, 200] {
        for has in [0, 0b1000, 0b0100_0000, 0b1100_0000] {
            chains.extend((1..5).map(|keys| (1..=keys).flat_map(|number| key(number, has, overlap)).collect()));
        }
    }
    // Keys that are not whole, and one of TCP MD5 among others.
    chains.push([key(1, 1, 0), key(2, 2, 0), key(3, 0, 0)].concat());
    chains.push([key(1, 0, 0), key(2, 0b1100_0000, 0)].concat());
    chains
}

/// Picks up to [`ENOUGH`] short pieces that differ in beginning or length.
fn pieces(all: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut seen = BTreeSet::new();
    let mut differs = |piece: &Vec<u8>| seen.insert((piece.get(..20).map(<[u8]>::to_vec), piece.len()));
    let short = all.into_iter().filter(|piece| !piece.is_empty() && piece.len() <= LONGEST);
    short.filter(|piece| differs(piece)).take(ENOUGH).collect()
}

/// Returns a folder of data beside the checkout.
fn beside(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name)
}
