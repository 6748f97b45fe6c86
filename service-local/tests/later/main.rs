//! Calls that are answered later than they are taken, and calls that handlers make.
#![deny(unsafe_code)]

mod desk;
mod nested;
mod styles;

#[test]
#[ignore = "run by processes that other tests start"]
fn role_of_a_child_process() {
    test_support::child::play(&[nested::CALLER, styles::SERVICE]);
}
