#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| service_local::fuzz::handshakes(input));
