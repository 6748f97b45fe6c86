#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| service_core::fuzz::values(input));
