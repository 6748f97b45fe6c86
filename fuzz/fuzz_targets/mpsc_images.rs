#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| shm_ring::fuzz::mpsc_images(input));
