//! TLS in the kernel: its keys, and records of any type (Documentation/networking/tls.rst of the
//! kernel's source, linux/tls.h).
//!
//! A connection with keys encrypts what write(2) is given, in records of application data.

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::AsRawFd,
};

use zeroize::Zeroizing;

/// The bytes of a nonce (RFC 8446 §5.3; it is 12 for each of the ciphers).
const NONCE: usize = 12;

/// A cipher suite of TLS 1.3 that the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelCipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl KernelCipher {
    fn code(self) -> u16 {
        match self {
            Self::Aes128Gcm => libc::TLS_CIPHER_AES_GCM_128,
            Self::Aes256Gcm => libc::TLS_CIPHER_AES_GCM_256,
            Self::ChaCha20Poly1305 => libc::TLS_CIPHER_CHACHA20_POLY1305,
        }
    }

    /// How many bytes of the nonce linux/tls.h has as `salt`, in front of the `iv`.
    fn salt(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => libc::TLS_CIPHER_AES_GCM_128_SALT_SIZE,
            Self::ChaCha20Poly1305 => 0,
        }
    }
}

/// The keys of one direction of a connection.
pub(crate) struct KernelKeys<'a> {
    pub(crate) cipher: KernelCipher,
    pub(crate) key: &'a [u8],
    /// The part of the nonce that stays (RFC 8446 §5.3), 12 bytes.
    pub(crate) iv: &'a [u8],
    /// The number of the next record.
    pub(crate) sequence: u64,
}

impl KernelKeys<'_> {
    /// Returns `struct tls12_crypto_info_…`. All of them have the same members in the same order.
    fn info(&self) -> Zeroizing<Vec<u8>> {
        // With room for the longest, so that no copy stays behind where the buffer was.
        let mut info = Zeroizing::new(Vec::with_capacity(2 * (size_of::<u16>() + size_of::<u64>() + NONCE + 32)));
        let (salt, iv) = self.iv.split_at(self.cipher.salt().min(self.iv.len()));
        info.extend_from_slice(&libc::TLS_1_3_VERSION.to_ne_bytes());
        info.extend_from_slice(&self.cipher.code().to_ne_bytes());
        info.extend_from_slice(iv);
        info.extend_from_slice(self.key);
        info.extend_from_slice(salt);
        info.extend_from_slice(&self.sequence.to_be_bytes());
        info
    }
}

/// The direction that keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsDirection {
    Send,
    Receive,
}

/// Has the kernel's TLS on an established connection. It changes nothing until there are keys. The
/// kernel loads its module `tls` if it must.
///
/// # Errors
///
/// `NotFound` if the kernel has no TLS.
pub(crate) fn attach(socket: &impl AsRawFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")
}

/// Sets the keys of a direction.
///
/// # Errors
///
/// The kernel does not know the cipher, or has keys for the direction already.
pub(crate) fn set_keys(socket: &impl AsRawFd, direction: TlsDirection, keys: &KernelKeys<'_>) -> io::Result<()> {
    let option = match direction {
        TlsDirection::Send => libc::TLS_TX,
        TlsDirection::Receive => libc::TLS_RX,
    };
    set(socket, libc::SOL_TLS, option, &keys.info())
}

fn set(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes, which the value has.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Room for a control message of one byte: the type of a record.
#[repr(C, align(8))]
struct RecordTypeRoom([u8; CONTROL]);

/// `CMSG_SPACE(1)` on a machine of 64 bits, and more than that of one of 32.
const CONTROL: usize = 24;

impl RecordTypeRoom {
    /// Returns a header of a message with one slice and this room.
    fn header(&mut self, slice: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: all members are integers or pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.msg_iov = slice;
        header.msg_iovlen = 1;
        header.msg_control = self.0.as_mut_ptr().cast();
        // SAFETY: a computation. The types of the member differ between C libraries.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(1) } as _;
        header
    }
}

/// Sends a record that is not application data. Does not wait.
///
/// # Errors
///
/// As of sendmsg(2).
pub(crate) fn try_send(socket: &impl AsRawFd, record_type: u8, bytes: &[u8]) -> io::Result<usize> {
    let mut room = RecordTypeRoom([0; CONTROL]);
    let mut slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let header = room.header(&mut slice);
    // SAFETY: the header has room for one control message of one byte, so the first is there; its
    // members and its byte of data are within the room. sendmsg(2) reads the slice alone.
    let sent = unsafe {
        let control = libc::CMSG_FIRSTHDR(&raw const header);
        (*control).cmsg_level = libc::SOL_TLS;
        (*control).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*control).cmsg_len = libc::CMSG_LEN(1) as _;
        libc::CMSG_DATA(control).write(record_type);
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What was received of records of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedRecord {
    /// `ContentType` of RFC 8446 §5.1. `None` at the end of the TCP stream.
    pub(crate) record_type: Option<u8>,
    /// How many bytes of the room were written.
    pub(crate) bytes: usize,
}

/// Receives decrypted bytes of one record, or of several of one type. Does not wait.
///
/// # Errors
///
/// `EBADMSG` for a record that is not the far end's, `EMSGSIZE` for one that is too long, `EINVAL`
/// for one of another version; else as of recvmsg(2).
pub(crate) fn try_receive(socket: &impl AsRawFd, bytes: &mut [u8]) -> io::Result<ReceivedRecord> {
    let mut room = RecordTypeRoom([0; CONTROL]);
    let mut slice = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut header = room.header(&mut slice);
    // SAFETY: the kernel writes at most as many bytes as the slice and the room have.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written the control messages that the header has, and `CMSG_FIRSTHDR`
    // returns null if there is none. One of this type has a byte of data.
    let record_type = unsafe {
        libc::CMSG_FIRSTHDR(&raw const header).as_ref().and_then(|control| {
            let is_type = control.cmsg_level == libc::SOL_TLS && control.cmsg_type == libc::TLS_GET_RECORD_TYPE;
            is_type.then(|| libc::CMSG_DATA(control).read())
        })
    };
    Ok(ReceivedRecord { record_type, bytes: received })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    fn info(cipher: KernelCipher, key: &[u8]) -> Vec<u8> {
        let iv = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        KernelKeys { cipher, key, iv: &iv, sequence: 258 }.info().to_vec()
    }

    #[test]
    fn keys_have_the_layout_of_the_kernel() {
        let gcm = info(KernelCipher::Aes256Gcm, &[7; 32]);
        assert_eq!(gcm.len(), size_of::<libc::tls12_crypto_info_aes_gcm_256>());
        let salt = offset_of!(libc::tls12_crypto_info_aes_gcm_256, salt);
        assert_eq!(gcm[salt..salt + 4], [1, 2, 3, 4]);
        let iv = offset_of!(libc::tls12_crypto_info_aes_gcm_256, iv);
        assert_eq!(gcm[iv..iv + 8], [5, 6, 7, 8, 9, 10, 11, 12]);
        let key = offset_of!(libc::tls12_crypto_info_aes_gcm_256, key);
        assert_eq!(gcm[key..key + 32], [7; 32]);
        let sequence = offset_of!(libc::tls12_crypto_info_aes_gcm_256, rec_seq);
        assert_eq!(gcm[sequence..], [0, 0, 0, 0, 0, 0, 1, 2]);
        let short = info(KernelCipher::Aes128Gcm, &[7; 16]);
        assert_eq!(short.len(), size_of::<libc::tls12_crypto_info_aes_gcm_128>());
        let chacha = info(KernelCipher::ChaCha20Poly1305, &[7; 32]);
        assert_eq!(chacha.len(), size_of::<libc::tls12_crypto_info_chacha20_poly1305>());
        let iv = offset_of!(libc::tls12_crypto_info_chacha20_poly1305, iv);
        assert_eq!(chacha[iv..iv + 12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn the_room_has_place_for_the_type_of_a_record() {
        // SAFETY: a computation.
        assert!(unsafe { libc::CMSG_SPACE(1) } as usize <= CONTROL);
    }
}
