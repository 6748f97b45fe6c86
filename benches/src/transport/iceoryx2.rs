//! Rival: iceoryx2's publish-subscribe without loss: a publisher that finds no room tries again until it does.
//!
//! Used as its own documentation shows: loan, write the payload, send; the subscriber polls.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{BackpressureStrategy, LogLevel, Node, NodeBuilder, ipc, set_log_level};
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use super::{Inlet, Outlet};
use crate::message::{Bytes64, MOST_SENDERS, Message};
use crate::payload;
use crate::subject::Failure;

/// Messages that fit between a publisher and the subscriber.
const BUFFER: usize = 1024;

/// The sending end.
#[derive(Debug)]
pub struct Publishing {
    publisher: Publisher<ipc::Service, payload::Payload, ()>,
    _node: Node<ipc::Service>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Subscribing {
    subscriber: Subscriber<ipc::Service, payload::Payload, ()>,
    _node: Node<ipc::Service>,
}

impl Publishing {
    /// Joins the service of this name as a publisher.
    ///
    /// # Errors
    /// What iceoryx2 answers.
    pub fn open(service: &str) -> Result<Self, Failure> {
        let (node, factory) = open(service)?;
        let publisher =
            factory.publisher_builder().backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()?;
        Ok(Self { publisher, _node: node })
    }
}

impl Subscribing {
    /// Joins the service of this name as its subscriber.
    ///
    /// # Errors
    /// What iceoryx2 answers.
    pub fn open(service: &str) -> Result<Self, Failure> {
        let (node, factory) = open(service)?;
        let subscriber = factory.subscriber_builder().buffer_size(BUFFER).create()?;
        Ok(Self { subscriber, _node: node })
    }
}

impl Outlet<Bytes64> for Publishing {
    #[inline]
    fn put(&mut self, message: &Bytes64) -> Result<(), Failure> {
        let words = payload::from_bytes(message.bytes().try_into()?);
        self.publisher.loan_uninit()?.write_payload(words).send()?;
        Ok(())
    }
}

impl Inlet<Bytes64> for Subscribing {
    #[inline]
    fn take(&mut self, mut read: impl FnMut(&[u8])) -> Result<(), Failure> {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                read(&payload::to_bytes(&sample));
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}

type Opened = (Node<ipc::Service>, PortFactory<ipc::Service, payload::Payload, ()>);

fn open(service: &str) -> Result<Opened, Failure> {
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>()?;
    let factory = node
        .service_builder(&service.try_into()?)
        .publish_subscribe::<payload::Payload>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(BUFFER)
        .max_publishers(MOST_SENDERS)
        .max_subscribers(1)
        .max_nodes(2 * MOST_SENDERS)
        .open_or_create()?;
    Ok((node, factory))
}
