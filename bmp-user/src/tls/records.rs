//! Records, cut anywhere, as far as they are looked at beside rustls and the kernel.

use std::io::{self, IoSlice, Read, Write};

use tokio::net::TcpStream;

/// How often a read looks for bytes where what arrived has none to give. A far end may send empty
/// records without end.
pub(super) const READ_ROUNDS: usize = 64;
/// The bytes in front of each record (RFC 8446 §5.1).
const RECORD_HEADER: usize = 5;

/// The types of handshake messages after the handshake (RFC 8446 §4).
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Reads a stream of records up to the end of the header or of the record that it is in. So nothing
/// of what follows the handshake is read before it is known who decrypts it.
#[derive(Debug)]
pub struct TlsRecordReader<R> {
    stream: R,
    header: [u8; RECORD_HEADER],
    /// How many bytes of the header there are.
    known: usize,
    /// How many bytes of the record are to come.
    to_come: usize,
}

impl<R> TlsRecordReader<R> {
    /// Begins at the begin of a record.
    pub fn new(stream: R) -> Self {
        Self { stream, header: [0; RECORD_HEADER], known: 0, to_come: 0 }
    }

    /// Returns the stream behind it.
    pub fn stream_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// Returns true between two records.
    pub fn is_between_records(&self) -> bool {
        self.known == 0 && self.to_come == 0
    }
}

impl<R: Read> Read for TlsRecordReader<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.to_come > 0 {
            let most = room.len().min(self.to_come);
            let read = self.stream.read(room.get_mut(..most).unwrap_or_default())?;
            self.to_come -= read;
            return Ok(read);
        }
        let most = room.len().min(RECORD_HEADER - self.known);
        let read = self.stream.read(room.get_mut(..most).unwrap_or_default())?;
        for (place, byte) in self.header.iter_mut().skip(self.known).zip(room.iter().take(read)) {
            *place = *byte;
        }
        self.known += read;
        if self.known == RECORD_HEADER {
            let [_, _, _, high, low] = self.header;
            (self.known, self.to_come) = (0, usize::from(u16::from_be_bytes([high, low])));
        }
        Ok(read)
    }
}

/// The socket as rustls reads and writes it.
pub(super) struct SocketIo<'a>(pub(super) &'a TcpStream);

impl Read for SocketIo<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }
}

impl Write for SocketIo<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the handshake messages after the handshake ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterHandshake {
    /// Nothing.
    Nothing,
    /// The far end changes its keys.
    KeyUpdate,
    /// A message of this type, which must not come there.
    Unexpected(u8),
}

/// Handshake messages, cut anywhere. Their bodies do not count here.
#[derive(Debug, Default)]
pub struct HandshakeMessages {
    /// The begin of the message that is on its way: its type and its length.
    header: [u8; 4],
    /// How many bytes of the header there are.
    known: usize,
    /// How many bytes of its body are to come.
    to_come: usize,
}

impl HandshakeMessages {
    /// Takes the next bytes of records of handshake messages.
    pub fn take(&mut self, mut bytes: &[u8]) -> AfterHandshake {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.to_come > 0 {
                let skipped = self.to_come.min(bytes.len());
                self.to_come -= skipped;
                bytes = bytes.get(skipped..).unwrap_or(&[]);
                continue;
            }
            if let Some(place) = self.header.get_mut(self.known) {
                *place = first;
            }
            self.known += 1;
            bytes = rest;
            if self.known < self.header.len() {
                continue;
            }
            let [message, length @ ..] = self.header;
            (self.known, self.to_come) = (0, length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)));
            match message {
                NEW_SESSION_TICKET => {}
                KEY_UPDATE => return AfterHandshake::KeyUpdate,
                other => return AfterHandshake::Unexpected(other),
            }
        }
        AfterHandshake::Nothing
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tickets(lengths: &[u8]) -> Vec<u8> {
        let ticket =
            |length: &u8| [&[NEW_SESSION_TICKET, 0, 0, *length], vec![24; usize::from(*length)].as_slice()].concat();
        lengths.iter().flat_map(ticket).collect()
    }

    proptest! {
        #[test]
        fn a_key_update_is_found_behind_tickets_wherever_records_cut_them(
            lengths in prop::collection::vec(any::<u8>(), 0..5),
            cuts in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut stream = tickets(&lengths);
            let before = stream.len();
            stream.extend([KEY_UPDATE, 0, 0, 1, 0]);
            let (mut messages, mut taken) = (HandshakeMessages::default(), 0);
            for cut in cuts.iter().cycle() {
                let part = &stream[taken..stream.len().min(taken + cut)];
                taken += part.len();
                let after = messages.take(part);
                // The header of the key update is complete with its fourth byte.
                let is_complete = taken >= before + 4;
                prop_assert_eq!(after, if is_complete { AfterHandshake::KeyUpdate } else { AfterHandshake::Nothing });
                if is_complete {
                    break;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_read_never_crosses_the_end_of_a_record(
            lengths in prop::collection::vec(0_usize..300, 1..6),
            rooms in prop::collection::vec(1_usize..400, 1..20),
        ) {
            let mut stream = Vec::new();
            let mut ends = Vec::new();
            for length in &lengths {
                stream.extend([22, 3, 3]);
                stream.extend(u16::try_from(*length).unwrap().to_be_bytes());
                stream.resize(stream.len() + length, 7);
                ends.push(stream.len());
            }
            let (mut reader, mut taken) = (TlsRecordReader::new(stream.as_slice()), 0);
            for room in rooms.iter().cycle() {
                let read = reader.read(&mut vec![0; *room]).unwrap();
                prop_assert!(!ends.iter().any(|end| taken < *end && *end < taken + read));
                taken += read;
                prop_assert_eq!(reader.is_between_records(), taken == 0 || ends.contains(&taken));
                if read == 0 {
                    break;
                }
            }
            prop_assert_eq!(taken, stream.len());
        }
    }

    #[test]
    fn other_messages_are_unexpected() {
        assert_eq!(HandshakeMessages::default().take(&[13, 0, 0, 0]), AfterHandshake::Unexpected(13));
    }
}
