#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| shm_ring::fuzz::segment_headers(input));
