//! The journal of systemd, written in its own protocol, in which a line has fields.
//!
//! The protocol is systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`: a datagram is an entry, a field is
//! `NAME=value` and a newline, or, for a value with newlines, `NAME`, a newline, the length in 64
//! bits (little-endian), the value and a newline.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::{fs::MetadataExt as _, net::UnixDatagram},
    },
    path::Path,
};

use tracing::Level;

use super::record::LogRecord;
use crate::sys;

/// Where the journal listens (systemd-journald.service(8)).
const SOCKET: &str = "/run/systemd/journal/socket";

/// The variable that names the stream of the journal which systemd connects standard output and
/// standard error to, as `DEVICE:INODE` (systemd.exec(5)).
const STREAM: &str = "JOURNAL_STREAM";

/// True if standard error is a stream of the journal, and not something that a shell has put in its
/// place.
pub(super) fn is_stderr() -> bool {
    let stream = std::env::var(STREAM).unwrap_or_default();
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    File::from(stderr).metadata().is_ok_and(|metadata| names(&stream, metadata.dev(), metadata.ino()))
}

fn names(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(named_device, named_inode)| {
        named_device.parse() == Ok(device) && named_inode.parse() == Ok(inode)
    })
}

/// The journal as a sink: each write is one entry.
pub(super) struct JournalSink(UnixDatagram);

impl JournalSink {
    /// # Errors
    ///
    /// Fails if no journal listens on this host, or if no descriptor is available.
    pub(super) fn open() -> io::Result<Self> {
        Self::open_at(Path::new(SOCKET))
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        let error =
            |error: io::Error| io::Error::new(error.kind(), format!("no journal at {}: {error}", path.display()));
        socket.connect(path).map_err(error)?;
        Ok(Self(socket))
    }
}

impl Write for JournalSink {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.send(entry) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sys::wait_writable(self.0.as_raw_fd())?,
                // systemd has started another journal: the socket is the same file.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.0.connect(SOCKET)?;
                    return self.0.send(entry);
                }
                sent => return sent,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encodes a record as an entry. Its fields are named `BMPD_` and the name in capitals.
pub(super) fn entry(record: &LogRecord) -> Vec<u8> {
    let mut entry = Vec::new();
    push_field(&mut entry, "MESSAGE", &record.text);
    push_field(&mut entry, "PRIORITY", priority(record.level));
    push_field(&mut entry, "SYSLOG_IDENTIFIER", "bmpd");
    for (name, value) in &record.fields {
        push_field(&mut entry, &format!("BMPD_{}", name.to_ascii_uppercase()), value);
    }
    entry
}

fn push_field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// The priority of syslog(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LogRecord {
        LogRecord {
            level: Level::WARN,
            text: "session 10.0.0.1: down: interface-down: e1 has no carrier".to_owned(),
            fields: vec![("session", "10.0.0.1".to_owned()), ("reason", "interface-down".to_owned())],
        }
    }

    #[test]
    fn an_entry_has_message_priority_and_fields() {
        let entry = String::from_utf8(entry(&record())).unwrap();
        assert_eq!(
            entry,
            "MESSAGE=session 10.0.0.1: down: interface-down: e1 has no carrier\nPRIORITY=4\n\
             SYSLOG_IDENTIFIER=bmpd\nBMPD_SESSION=10.0.0.1\nBMPD_REASON=interface-down\n"
        );
    }

    #[test]
    fn a_value_with_a_newline_cannot_forge_a_field() {
        let mut forging = record();
        forging.fields = vec![("relay", "a\nPRIORITY=0".to_owned())];
        let entry = entry(&forging);
        let expected = b"BMPD_RELAY\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n";
        assert!(entry.ends_with(expected), "{:?}", String::from_utf8_lossy(&entry));
    }

    #[test]
    fn each_write_is_one_datagram_for_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = JournalSink::open_at(&path).unwrap();
        for text in ["one\n", "two\n"] {
            sink.write_all(text.as_bytes()).unwrap();
        }
        let mut buffer = [0; 64];
        for text in ["one\n", "two\n"] {
            let length = journal.recv(&mut buffer).unwrap();
            assert_eq!(buffer.get(..length), Some(text.as_bytes()));
        }
    }

    #[test]
    fn only_the_stream_that_systemd_names_is_the_journal() {
        assert!(names("8:42", 8, 42));
        for stream in ["", "8", "8:43", "9:42", "8:42:1", "a:b"] {
            assert!(!names(stream, 8, 42), "{stream:?}");
        }
    }
}
