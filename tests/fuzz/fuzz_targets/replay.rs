//! See `bmp_fuzz::target::replay`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bmp_fuzz::target::replay(data));
