//! AS numbers in an AS_PATH (RFC 4271 §5.1.2, RFC 5065, RFC 6793).

/// Segment types of paths through a confederation (RFC 5065 §3): their AS numbers mean nothing
/// outside.
const CONFEDERATION: [u8; 2] = [3, 4];
/// The type of an ordered segment.
const SEQUENCE: u8 = 2;

/// The value of an AS_PATH or AS4_PATH.
#[derive(Clone, Copy, Debug)]
pub struct AsPath<'a> {
    value: &'a [u8],
    as_size: usize,
}

/// One segment of a path.
#[derive(Clone, Copy, Debug)]
struct PathSegment<'a> {
    kind: u8,
    numbers: &'a [u8],
}

impl<'a> AsPath<'a> {
    /// Reads a value. `as_size` is the size of an AS number in bytes: 2 or 4.
    pub fn new(value: &'a [u8], as_size: usize) -> Self {
        Self { value, as_size }
    }

    /// The segments, up to one that is not whole.
    fn segments(self) -> impl Iterator<Item = PathSegment<'a>> {
        let mut rest = self.value;
        std::iter::from_fn(move || {
            let (&[kind, count], behind) = rest.split_first_chunk()?;
            let (numbers, after) = behind.split_at_checked(usize::from(count) * self.as_size)?;
            rest = after;
            Some(PathSegment { kind, numbers })
        })
    }

    fn numbers(self, segment: PathSegment<'a>) -> impl DoubleEndedIterator<Item = u32> {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        segment.numbers.chunks_exact(self.as_size).map(number)
    }

    /// Decides whether the path has an AS, in a segment of any type.
    pub fn contains(self, asn: u32) -> bool {
        self.segments().any(|segment| self.numbers(segment).any(|number| number == asn))
    }

    /// The AS that the path begins in: the last one, outside confederations. `None` for an empty
    /// path, and for one that ends with a set (RFC 6811 §2).
    pub fn origin(self) -> Option<u32> {
        let last = self.segments().filter(|segment| !CONFEDERATION.contains(&segment.kind)).last()?;
        if last.kind == SEQUENCE { self.numbers(last).next_back() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_the_last_as_of_the_last_sequence() {
        let origin = |value: &[u8], size| AsPath::new(value, size).origin();
        assert_eq!(origin(&[2, 2, 0xfd, 0xe8, 0xfd, 0xe9], 2), Some(65001));
        assert_eq!(origin(&[2, 1, 0, 1, 0x11, 0x70], 4), Some(70000));
        assert_eq!(origin(&[2, 1, 0, 1, 1, 1, 0, 2], 2), None);
        assert_eq!(origin(&[2, 1, 0, 1, 3, 1, 0, 2], 2), Some(1));
        assert_eq!(origin(&[], 4), None);
        assert_eq!(origin(&[2, 9, 0], 2), None);
    }

    #[test]
    fn a_path_contains_the_numbers_of_all_its_segments() {
        let path = AsPath::new(&[2, 1, 0, 1, 1, 2, 0, 2, 0, 3], 2);
        assert_eq!([1, 2, 3, 4].map(|asn| path.contains(asn)), [true, true, true, false]);
    }
}
