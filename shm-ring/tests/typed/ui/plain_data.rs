use shm_ring::typed::{Plain, Sender};

#[derive(Clone, Copy)]
#[repr(C)]
struct Padded {
    small: u8,
    large: u64,
}

fn case_1(_: Sender<Plain<Padded>, ()>) {}
fn case_2(_: Sender<Plain<bool>, ()>) {}
fn case_3(_: Sender<Plain<*const u8>, ()>) {}
fn case_4(_: Sender<[String], ()>) {}
fn case_5(_: Sender<str, ()>) {}

fn main() {}
