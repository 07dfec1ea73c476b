//! Wireshark's decoder, as `tshark`.

use std::fs;

use bmp_user::wire::bmp::frames;
use etherparse::PacketBuilder;
use programs::Program;

use super::{judge, through};

/// The port that tshark decodes as BMP.
const PORT: u16 = 11019;

/// Makes a capture file of one TCP connection (pcap(5)), with a packet for each message.
fn pcap(stream: &[u8]) -> Vec<u8> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const ETHERNET: u32 = 1;
    const LONGEST: u32 = 0x4_0000;
    let mut file = Vec::new();
    for field in [MAGIC, 2 << 16 | 4, 0, 0, LONGEST, ETHERNET] {
        file.extend(field.to_be_bytes());
    }
    let mut sequence = 1;
    for frame in frames(stream) {
        let message = frame.expect("the stream is BMP").bytes();
        let headers = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
        let packet = headers.tcp(40_000, PORT, sequence, 65_535).ack(1);
        let mut bytes = Vec::new();
        packet.write(&mut bytes, message).expect("a message fits into a packet");
        let length = bytes.len() as u32;
        for field in [0, sequence, length, length] {
            file.extend(field.to_be_bytes());
        }
        file.extend(bytes);
        sequence += message.len() as u32;
    }
    file
}

/// Returns complaints about unreadable messages.
fn complaints(stream: &[u8]) -> Vec<String> {
    const FIELDS: [&str; 4] = ["bmp.type", "_ws.malformed", "_ws.expert.severity", "_ws.expert.message"];
    const WARNING: u32 = 0x60_0000;
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), pcap(stream)).expect("the file is writable");
    let mut tshark = Program::Tshark.command();
    tshark.arg("-r").arg(file.path()).args([
        "-d",
        &format!("tcp.port=={PORT},bmp"),
        "-T",
        "fields",
        "-E",
        "occurrence=a",
    ]);
    tshark.args(["-E", "aggregator=;"]).args(FIELDS.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().expect("tshark starts; Debian has it in the package tshark");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let mut read = 0;
    let mut complaints = Vec::new();
    for line in stdout.lines() {
        let [kind, malformed, severities, messages] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        read += kind.split(';').filter(|kind| !kind.is_empty()).count();
        let severe =
            severities.split(';').filter_map(|word| word.parse().ok()).any(|severity: u32| severity >= WARNING);
        if !malformed.is_empty() || severe {
            complaints.push(format!("type {kind}: {malformed} {messages}"));
        }
    }
    assert_eq!(read, frames(stream).count(), "tshark read every message");
    complaints
}

#[test]
fn tshark_finds_nothing_malformed_in_messages_to_stations() {
    for stream in &through() {
        judge("tshark", stream, complaints);
    }
}
