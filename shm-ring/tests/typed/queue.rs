//! A queue between processes: its creator states the type, and whoever opens it is told.

use shm_ring::Error;
use shm_ring::mpsc::{QueueAddress, QueueOptions};
use shm_ring::typed::Plain;

use super::support::backings::fresh_path;
use super::support::role::{Child, line};
use super::{Order, Quote, cells};

fn address() -> QueueAddress {
    QueueAddress::new("typed", "orders").unwrap()
}

/// Opens the queue in the directory that it is told with another type, then with the right one, and sends three orders.
#[test]
#[ignore = "a role of another test"]
fn producer_of_orders() {
    let Some(mut line) = line() else { return };
    let options = QueueOptions::new().runtime_dir(line.hear().unwrap().as_ref());
    line.say(options.open_of::<Plain<Quote>>(&address()).unwrap_err());
    let mut sender = options.open_of::<Order>(&address()).unwrap();
    for id in 0..3 {
        sender.send(&Order::of(id, 100 * id as u32)).unwrap();
    }
    line.say("sent");
}

#[test]
fn a_process_learns_the_type_of_a_queue_when_it_opens_it() {
    let directory = fresh_path();
    let mut receiver =
        QueueOptions::new().runtime_dir(&directory).lane(cells()).create_of::<Order>(&address()).unwrap();
    let mut producer = Child::start("queue::producer_of_orders");
    producer.say(directory.display());
    let refused = producer.hear();
    assert!(refused.starts_with("messages here are `Quote` (plain data, "), "{refused}");
    assert!(refused.contains("those of the other side are `Order` (rkyv 0.8 archive, "), "{refused}");
    assert_eq!(producer.hear(), "sent");
    for id in 0..3 {
        let order = receiver.recv().unwrap();
        assert_eq!(*order.read().unwrap(), Order::of(id, 100 * id as u32));
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_queue_of_bytes_has_no_type() {
    let directory = fresh_path();
    let options = QueueOptions::new().runtime_dir(&directory);
    let queue = options.create(&address()).unwrap();
    let opened = options.open_of::<Order>(&address());
    drop(queue);
    std::fs::remove_dir_all(directory).unwrap();
    let Err(Error::TypeMismatch { theirs, .. }) = &opened else { panic!("{opened:?}") };
    assert!(theirs.starts_with("of no stated type"), "{theirs}");
}
