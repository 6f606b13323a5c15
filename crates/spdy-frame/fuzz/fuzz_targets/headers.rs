#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spdy_frame_fuzz::headers(data));
