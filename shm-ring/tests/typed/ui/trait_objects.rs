use shm_ring::typed::Sender;

trait Shape {
    fn area(&self) -> f64;
}

fn case_1(_: Sender<Box<dyn Shape>, ()>) {}
fn case_2(_: Sender<dyn Shape, ()>) {}
fn case_3(_: Sender<&u32, ()>) {}
fn case_4(_: Sender<fn(), ()>) {}

fn main() {}
