//! PROXY headers, versions 1 and 2.

use bmp_user::wire::proxy::{MAX_PROXY_LINE, ProxyHeader, ProxyHeaderError, ProxyHeaderReader};

use crate::memory::within;

/// The longest header of version 2, in bytes.
const LONGEST: usize = 16 + 65_535;

/// Reads a header from pieces, whose size the first byte says. What is read must not depend on the
/// pieces, and must not count what follows the header.
pub fn proxy(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, usize::from(*size).max(1)), whole);
    match whole {
        Ok(Some((header, length))) => {
            assert!(length <= LONGEST && length <= bytes.len());
            assert!(length <= MAX_PROXY_LINE || bytes.starts_with(b"\r\n\r\n"));
            assert_eq!(read(&bytes[..length], length), Ok(Some((header, length))));
            assert_eq!(read(&bytes[..length - 1], length), Ok(None));
            if let ProxyHeader::Client(client) = header {
                assert_eq!(client.ip(), client.ip().to_canonical());
                assert!(!client.ip().is_unspecified() && !client.ip().is_multicast());
            }
        }
        Ok(None) => assert!(bytes.len() < LONGEST),
        Err(error) => assert!(error.offset <= MAX_PROXY_LINE as u64),
    }
}

/// Returns the header and its length; `None` if it is not whole.
fn read(bytes: &[u8], size: usize) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let mut reader = ProxyHeaderReader::default();
    let mut used = 0;
    for piece in bytes.chunks(size) {
        let taken = within(4 * MAX_PROXY_LINE, 0, piece.len(), || reader.take(piece))?;
        used += taken.used;
        assert_eq!(reader.bytes_read(), used);
        match taken.header {
            Some(header) => return Ok(Some((header, used))),
            None => assert_eq!(taken.used, piece.len()),
        }
    }
    Ok(None)
}
