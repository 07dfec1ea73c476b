//! See `bmp_fuzz::target::tls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bmp_fuzz::target::tls(data));
