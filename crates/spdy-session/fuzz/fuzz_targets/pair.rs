#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spdy_session_fuzz::pair(data));
