use std::rc::{Rc, Weak};
use std::sync::Arc;

use rkyv::{Archive, Serialize};
use shm_ring::typed::Sender;

#[derive(Archive, Serialize)]
struct Node {
    next: Option<Rc<u32>>,
}

fn case_1(_: Sender<Rc<u32>, ()>) {}
fn case_2(_: Sender<Arc<String>, ()>) {}
fn case_3(_: Sender<Weak<u32>, ()>) {}
fn case_4(_: Sender<std::sync::Weak<u32>, ()>) {}
fn case_5(_: Sender<Vec<Arc<u32>>, ()>) {}
fn case_6(_: Sender<Node, ()>) {}

fn main() {}
