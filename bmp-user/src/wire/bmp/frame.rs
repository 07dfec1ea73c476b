//! Whole frames in a stream.

use std::iter::FusedIterator;

use super::{COMMON_HEADER, Error, MAX_FRAME, MessageType, Problem, VERSION};

/// A whole frame with a sound version and length. Its content may be damaged: see [`super::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    code: u8,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Makes a frame of bytes whose header is known to be sound.
    #[inline]
    pub(super) fn new(code: u8, bytes: &'a [u8]) -> Self {
        Self { code, bytes }
    }

    /// The type byte. Codes that are not assigned are framed like any other.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Its message type; `None` for a code that is not assigned.
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::from_code(self.code)
    }

    /// All bytes, common header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks that the frame is long enough for its type.
    ///
    /// # Errors
    ///
    /// [`Problem::Short`] if every message of the type is longer.
    #[inline]
    pub fn check_length(&self) -> Result<(), Error> {
        let Some(message) = self.message_type() else { return Ok(()) };
        let (need, found) = (message.fixed_part(), self.bytes.len());
        if found < need {
            return Err(Error::new(1, Problem::Short { what: message.as_str(), need, found }));
        }
        Ok(())
    }
}

/// Finds the whole frames at the start of `buf`.
///
/// Ends at the end of `buf`, or at a frame that is not whole yet: see [`Frames::consumed`]. A
/// header that cannot become a frame is an error, and the end, as soon as the wrong byte is there.
pub fn frames(buf: &[u8]) -> Frames<'_> {
    Frames { buf, consumed: 0, failed: false }
}

/// See [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    buf: &'a [u8],
    consumed: usize,
    failed: bool,
}

impl Frames<'_> {
    /// Bytes of the frames that were returned so far: the offset of the next frame.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rest = self.buf.get(self.consumed..)?;
        match first_frame(rest) {
            Ok(frame) => {
                let frame = frame?;
                self.consumed += frame.bytes.len();
                Some(Ok(frame))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error.after(self.consumed as u64)))
            }
        }
    }
}

impl FusedIterator for Frames<'_> {}

/// The first frame in `buf`; `None` if it is not whole yet.
#[inline]
fn first_frame(buf: &[u8]) -> Result<Option<Frame<'_>>, Error> {
    let Some(&[version, l0, l1, l2, l3, code]) = buf.first_chunk::<COMMON_HEADER>() else {
        return match buf.first() {
            Some(&version) if version != VERSION => Err(Error::new(0, Problem::Version(version))),
            _ => Ok(None),
        };
    };
    if version != VERSION {
        return Err(Error::new(0, Problem::Version(version)));
    }
    let said = u32::from_be_bytes([l0, l1, l2, l3]);
    let length = usize::try_from(said).unwrap_or(usize::MAX);
    if !(COMMON_HEADER..=MAX_FRAME).contains(&length) {
        return Err(Error::new(1, Problem::Length(said)));
    }
    Ok(buf.get(..length).map(|bytes| Frame { code, bytes }))
}
