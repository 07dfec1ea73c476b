//! See `bmp_fuzz::target::bgp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bmp_fuzz::target::bgp(data));
