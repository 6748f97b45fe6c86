//! Rival: iceoryx2's request-response, 64 B, both sides polling busily.
//!
//! Used as its own documentation shows: loan, write the payload, send; receive, loan the response, send. Polling is
//! its fastest form; its blocking form adds an event per message.

use std::time::Duration;

use iceoryx2::port::client::Client;
use iceoryx2::prelude::{LogLevel, Node, NodeBuilder, ipc, set_log_level};
use iceoryx2::service::port_factory::request_response::PortFactory;

use crate::payload::{self, Payload};
use crate::peer::{Peer, PeerEnd};
use crate::subject::{Failure, Samples, Subject};

/// The role of the peer process.
pub const ROLE: &str = "iceoryx2";
/// The request that sends the peer back to waiting for a command. Its checksum is wrong, so no call can be it.
const REST: Payload = [u64::MAX; 8];

/// A client of iceoryx2, and the peer that answers it.
#[derive(Debug)]
pub struct Iceoryx2 {
    client: Client<ipc::Service, Payload, (), Payload, ()>,
    _node: Node<ipc::Service>,
    peer: Peer,
}

impl Iceoryx2 {
    /// Starts the peer on `peer_core` and connects to it.
    ///
    /// # Errors
    /// What iceoryx2 or starting the process answers.
    pub fn start(peer_core: usize) -> Result<Self, Failure> {
        let service = format!("switchboard-bench/{}", std::process::id());
        let peer = Peer::start(ROLE, &[&service])?;
        let (node, factory) = open(&service)?;
        let client = factory.client_builder().create()?;
        peer.pin(peer_core)?;
        Ok(Self { client, _node: node, peer })
    }

    #[inline]
    fn call(client: &Client<ipc::Service, Payload, (), Payload, ()>, body: Payload) -> Result<Payload, Failure> {
        let pending = client.loan_uninit()?.write_payload(body).send()?;
        loop {
            if let Some(response) = pending.receive()? {
                return Ok(*response);
            }
            std::hint::spin_loop();
        }
    }
}

impl Subject for Iceoryx2 {
    fn name(&self) -> &str {
        "iceoryx2 request-response"
    }

    fn run(&mut self, time: Duration, samples: &mut Samples) -> Result<f64, Failure> {
        self.peer.go()?;
        let timed = samples.time_calls(time, |body| Self::call(&self.client, body));
        Self::call(&self.client, REST)?;
        timed
    }
}

/// The peer's side: answers until the parent wants it to end.
///
/// # Errors
/// What iceoryx2 answers, or a request with a wrong checksum.
pub fn serve(mut end: PeerEnd, service: &str) -> Result<(), Failure> {
    let (_node, factory) = open(service)?;
    let server = factory.server_builder().create()?;
    end.ready()?;
    while end.wait_for_go() {
        let mut resting = false;
        while !resting {
            let Some(request) = server.receive()? else {
                std::hint::spin_loop();
                continue;
            };
            resting = *request == REST;
            let reply =
                if resting { REST } else { payload::answer(&request).ok_or("a request with a wrong checksum")? };
            request.loan_uninit()?.write_payload(reply).send()?;
        }
    }
    Ok(())
}

type Opened = (Node<ipc::Service>, PortFactory<ipc::Service, Payload, (), Payload, ()>);

fn open(service: &str) -> Result<Opened, Failure> {
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>()?;
    let name = service.try_into()?;
    let factory = node.service_builder(&name).request_response::<Payload, Payload>().open_or_create()?;
    Ok((node, factory))
}
