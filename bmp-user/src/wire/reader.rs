//! Takes fields off bytes.

/// A field that ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short {
    /// The offset of the field.
    pub(super) at: usize,
    pub(super) what: &'static str,
    /// How many bytes it needs, at least.
    pub(super) need: usize,
    /// How many there are.
    pub(super) found: usize,
}

/// Takes fields off a slice, and knows the offset of the next one.
#[derive(Clone, Debug)]
pub(super) struct ByteReader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> ByteReader<'a> {
    /// Reads `bytes` from its byte `at` on.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { rest: bytes.get(at..).unwrap_or_default(), at }
    }

    /// The offset of the next field.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The rest of the bytes. Does not take them.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.short(count, what))?;
        self.advance(count, rest);
        Ok(taken)
    }

    /// Takes the next `count` bytes as a reader of their own, with the same offsets.
    pub(super) fn part(&mut self, count: usize, what: &'static str) -> Result<Self, Short> {
        let at = self.at;
        self.bytes(count, what).map(|rest| Self { rest, at })
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Short> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.short(N, what))?;
        self.advance(N, rest);
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, Short> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Short> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Short> {
        self.array(what).map(u32::from_be_bytes)
    }

    fn advance(&mut self, count: usize, rest: &'a [u8]) {
        self.rest = rest;
        self.at += count;
    }

    fn short(&self, need: usize, what: &'static str) -> Short {
        Short { at: self.at, what, need, found: self.rest.len() }
    }
}
