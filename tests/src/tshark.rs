//! tshark as a second opinion about all BMP on a link.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use nix::sys::signal::Signal;
use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    netns::Netns,
    process::{ChildProgram, answer},
    wait::{PATIENCE, until},
};

/// A running capture.
#[derive(Debug)]
pub struct Tshark {
    process: ChildProgram,
    folder: TempDir,
    port: u16,
}

impl Tshark {
    /// Captures packets from and to `port` on `interface`. Start before the connections do: tshark
    /// must see their first packet to reassemble them.
    pub fn start(netns: &Netns, interface: &str, port: u16) -> Self {
        let folder = TempDir::with_prefix("lab-tshark-").expect("a temporary folder can be made");
        let mut command = netns.command(Program::Tshark);
        command.args(["-q", "-B", "64", "-i", interface, "-f", &format!("tcp port {port}"), "-w"]);
        let process = ChildProgram::start(command.arg(folder.path().join("capture")));
        process.wait_for_line("that it captures", 0, PATIENCE, |line| line.contains("Capturing on"));
        let capture = Self { process, folder, port };
        // tshark prints that line a moment before it captures.
        until("tshark captures", PATIENCE, || capture.file().metadata().is_ok_and(|file| file.len() > 0).then_some(()));
        capture
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("capture")
    }

    /// Ends the capture once the ends of all connections are in it.
    ///
    /// # Panics
    /// If a connection does not end.
    pub fn stop(mut self) -> TsharkReport {
        // An earlier stop would lose packets that are still in the kernel. The last packet may be
        // incomplete in the file, so tshark may fail here.
        let streams = |flags: &str| -> BTreeSet<String> {
            let shown = self.read(&["-Y", flags, "-T", "fields", "-e", "tcp.stream"]).output();
            let shown = shown.expect("tshark starts").stdout;
            String::from_utf8_lossy(&shown).lines().map(str::to_owned).collect()
        };
        until("all connections end in the capture", PATIENCE, || {
            let (begun, ended) = (streams("tcp.flags.syn == 1"), streams("tcp.flags.fin == 1 || tcp.flags.reset == 1"));
            (!begun.is_empty() && begun == ended).then_some(())
        });
        self.process.signal(Signal::SIGINT);
        self.process.wait();
        TsharkReport { capture: self }
    }

    fn read(&self, arguments: &[&str]) -> Command {
        let mut command = Program::Tshark.command();
        // Complaints about TCP do not matter, so tshark ignores sequence numbers. A packet may hold
        // more messages than its default tree depth.
        command.args(["-o", "tcp.analyze_sequence_numbers:FALSE", "-o", "gui.max_tree_depth:5000"]);
        command.args(["-d", &format!("tcp.port=={},bmp", self.port), "-r"]).arg(self.file()).args(arguments);
        command
    }
}

/// tshark's reading of a finished capture.
#[derive(Debug)]
pub struct TsharkReport {
    capture: Tshark,
}

impl TsharkReport {
    fn read(&self, arguments: &[&str]) -> String {
        answer(&mut self.capture.read(arguments))
    }

    /// Returns everything that tshark finds malformed or warns about, in BMP or the BGP inside it.
    pub fn complaints(&self) -> BTreeSet<String> {
        // tshark 4.4 takes a Peer Down of reason 6 without TLVs for malformed. A Loc-RIB whose
        // Peer Up names no table has no TLV to repeat (RFC 9069 section 5.3).
        let wrong = "bmp && (_ws.malformed || _ws.expert.severity >= \"Warning\") && !(bmp.peer.down.reason == 6)";
        let shown = self.read(&["-Y", wrong, "-T", "fields", "-e", "_ws.expert.message"]);
        shown.lines().flat_map(|line| line.split(',')).map(str::to_owned).collect()
    }

    /// Returns every BMP message of a type, in order, as tshark's JSON.
    pub fn messages(&self, kind: u8) -> Vec<Value> {
        // With its look at sequence numbers, tshark reads no message of a retransmission again.
        let once = ["-o", "tcp.analyze_sequence_numbers:TRUE"];
        let kinds = format!("bmp.type == {kind}");
        let shown = self.read(&[once[0], once[1], "-Y", &kinds, "-T", "json", "--no-duplicate-keys"]);
        let packets: Vec<Value> = serde_json::from_str(&shown).expect("tshark prints JSON");
        let of_packet = |packet: &Value| match &packet["_source"]["layers"]["bmp"] {
            Value::Array(messages) => messages.clone(),
            message => vec![message.clone()],
        };
        let kind = Value::from(kind.to_string());
        let is_wanted = |message: &Value| message["bmp.type"] == kind;
        packets.iter().flat_map(of_packet).filter(is_wanted).collect()
    }
}
