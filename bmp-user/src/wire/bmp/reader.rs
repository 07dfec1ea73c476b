//! A place in a frame that is being parsed.

use super::{Error, Problem};

/// Takes fields off a frame, and knows where in it that is.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `frame` from its byte `at` on.
    pub(super) fn new(frame: &'a [u8], at: usize) -> Self {
        Self { rest: frame.get(at..).unwrap_or_default(), at }
    }

    /// Where the next field starts, in bytes from the start of the frame.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left, without taking it.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.short(count, what))?;
        self.advance(count, rest);
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.short(N, what))?;
        self.advance(N, rest);
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_be_bytes)
    }

    fn advance(&mut self, count: usize, rest: &'a [u8]) {
        self.rest = rest;
        self.at += count;
    }

    fn short(&self, need: usize, what: &'static str) -> Error {
        Error::new(self.at, Problem::Short { what, need, found: self.rest.len() })
    }
}
