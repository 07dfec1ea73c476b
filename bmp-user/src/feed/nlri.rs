//! The bytes of an NLRI, in sixteen bytes of memory where they fit.

use bytes::BytesMut;

use super::{
    blocks::Blocks,
    memory::{MemoryMeter, MeteredBytes},
};

/// How many bytes fit: every IPv4 prefix with path identifier, and every usual IPv6 prefix.
const INLINE: usize = 15;
/// The last byte of an NLRI whose bytes are elsewhere.
const ELSEWHERE: u8 = u8::MAX;

/// An NLRI: its bytes, and their number in the last byte; or its place among [`LongNlris`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Nlri([u8; INLINE + 1]);

impl Nlri {
    /// An NLRI whose bytes fit; `None` if they do not.
    #[inline]
    pub(super) fn inline(bytes: &[u8]) -> Option<Self> {
        let mut nlri = [0; INLINE + 1];
        let (inline, length) = nlri.split_at_mut(INLINE);
        inline.get_mut(..bytes.len())?.copy_from_slice(bytes);
        length[0] = bytes.len() as u8;
        Some(Self(nlri))
    }

    /// All sixteen bytes as a number.
    #[inline]
    pub(super) fn number(self) -> u128 {
        u128::from_ne_bytes(self.0)
    }
}

/// The bytes of the NLRI that do not fit.
#[derive(Debug)]
pub(super) struct LongNlris {
    values: Blocks<Box<[u8]>>,
    /// Memory of the bytes themselves.
    memory: MeteredBytes,
}

/// Bytes that the allocator keeps about a piece of memory.
const ALLOCATION: usize = 16;

impl LongNlris {
    /// No NLRI. What they will take is counted in `meter`.
    pub(super) fn new(meter: &MemoryMeter) -> Self {
        Self { values: Blocks::new(meter), memory: MeteredBytes::new(meter) }
    }

    /// Memory, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.values.memory() + self.memory.get()
    }

    /// Memory in bytes, looked up. `all` are all NLRI that are there.
    #[cfg(test)]
    pub(super) fn walked_memory<'a>(&self, all: impl Iterator<Item = &'a Nlri>) -> usize {
        let elsewhere = all.filter(|nlri| nlri.0[INLINE] == ELSEWHERE);
        self.values.walked_memory() + elsewhere.map(|nlri| self.get(nlri).len() + ALLOCATION).sum::<usize>()
    }

    pub(super) fn insert(&mut self, bytes: &[u8]) -> Nlri {
        Nlri::inline(bytes).unwrap_or_else(|| self.insert_apart(bytes))
    }

    /// Inserts bytes that must not equal any other NLRI, however few they are.
    pub(super) fn insert_apart(&mut self, bytes: &[u8]) -> Nlri {
        let mut nlri = [0; INLINE + 1];
        let [a, b, c, d, ..] = &mut nlri;
        [*a, *b, *c, *d] = self.values.insert(bytes.into()).to_ne_bytes();
        nlri[INLINE] = ELSEWHERE;
        self.memory.set(self.memory.get() + bytes.len() + ALLOCATION);
        Nlri(nlri)
    }

    #[inline]
    pub(super) fn get<'a>(&'a self, nlri: &'a Nlri) -> &'a [u8] {
        match nlri.0 {
            [a, b, c, d, .., ELSEWHERE] => self.values.get(u32::from_ne_bytes([a, b, c, d])),
            [.., length] => nlri.0.get(..length.into()).unwrap_or_default(),
        }
    }

    /// Appends the bytes of all of them.
    #[inline]
    pub(super) fn put<'a>(&self, all: impl Iterator<Item = &'a Nlri>, out: &mut BytesMut) {
        // Collected on the stack first, so that the buffer grows for many at once.
        let mut some = [0; 128];
        let mut end = 0;
        for nlri in all {
            if end > some.len() - nlri.0.len() || nlri.0[INLINE] == ELSEWHERE {
                out.extend_from_slice(&some[..end]);
                end = 0;
            }
            match nlri.0 {
                [.., ELSEWHERE] => out.extend_from_slice(self.get(nlri)),
                [.., length] => {
                    // Copies all sixteen; the next NLRI overwrites the excess. A fixed number is
                    // quicker.
                    some[end..end + nlri.0.len()].copy_from_slice(&nlri.0);
                    end += usize::from(length);
                }
            }
        }
        out.extend_from_slice(&some[..end]);
    }

    pub(super) fn remove(&mut self, nlri: Nlri) {
        if let [a, b, c, d, .., ELSEWHERE] = nlri.0 {
            let bytes = self.values.remove(u32::from_ne_bytes([a, b, c, d])).len();
            self.memory.set(self.memory.get() - bytes - ALLOCATION);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nlri_of_any_length_comes_back_unchanged() {
        let mut long = LongNlris::new(&MemoryMeter::default());
        let values: Vec<Vec<u8>> = (0..300u16).map(|length| (0..length).map(|byte| byte as u8).collect()).collect();
        let kept: Vec<Nlri> = values.iter().map(|value| long.insert(value)).collect();
        assert!(kept.iter().zip(&values).all(|(nlri, value)| long.get(nlri) == value.as_slice()));
        let mut all = BytesMut::new();
        long.put(kept.iter(), &mut all);
        assert_eq!(all, values.concat());
        assert_eq!(size_of::<Nlri>(), 16);
        kept.into_iter().for_each(|nlri| long.remove(nlri));
        assert_eq!((long.memory.get(), long.values.len()), (0, 0));
    }
}
