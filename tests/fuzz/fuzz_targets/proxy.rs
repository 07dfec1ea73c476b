//! See `bmp_fuzz::target::proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bmp_fuzz::target::proxy(data));
