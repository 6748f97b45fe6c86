//! A stranger at the door of a real service, over a real socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use service_core::{Context, Handler, MethodDescriptor, MethodIndex, ReplySink, ServiceDescriptor, Shape, Status};
use shm_ring::Trust;
use shm_ring::cells::BODY_WORDS;
use shm_ring::lane::ClientLane;
use shm_ring::rendezvous::{Connection, Received, RuntimeDir};

use crate::client::open_lane;
use crate::handshake::{FromClient, FromServer};
use crate::stream::Rings;
use crate::{LocalRuntime, RunningService, trust};

/// What the service is called, and its socket.
const NAME: &str = "fuzz";
const INSTANCE: &str = "fuzz@1";

/// Every answer comes within this time, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most bytes that a `Grow` of a stranger may ask for here: the memory for it is made.
const MOST_GROWN: u64 = 1 << 18;

/// Says anything, hands over descriptors, and puts any words into its lane if it is let in. The service answers in
/// messages of the protocol only, and the next client is let in.
pub fn door(input: &[u8]) {
    STAGE.with(|stage| {
        let stranger = stage.knock();
        let mut lane = None;
        let mut rest = input;
        while let Some((kind, behind)) = rest.split_first() {
            let (len, behind) = behind.split_first().unwrap_or((&0, &[]));
            let (said, behind) = behind.split_at(usize::from(*len).min(behind.len()));
            rest = behind;
            let fds: Vec<BorrowedFd<'_>> = (0..kind >> 6).map(|_| stage.runtime_dir_fd.as_fd()).collect();
            let message = match kind % 4 {
                0 => said.to_vec(),
                1 => hello(kind >> 2).to_bytes(),
                2 if kind & 4 != 0 => {
                    streams(&stranger, kind >> 3 & 7, said);
                    continue;
                }
                2 => FromClient::Grow { len: said.len() as u64 * 1000 }.to_bytes(),
                _ => {
                    if lane.is_none() {
                        lane = heard(&stranger).and_then(opened);
                    }
                    if let Some(lane) = &lane {
                        puts(lane, said);
                    }
                    continue;
                }
            };
            if matches!(FromClient::read(&message), Ok(FromClient::Grow { len }) if len > MOST_GROWN) {
                continue;
            }
            // A service that has hung up is as good.
            let _ = stranger.send(&message, &fds);
        }
        drop(stranger);
        stage.lets_an_honest_client_in();
    });
}

/// Announces rings of its own, perhaps for another shape than it says or by a wrong number, writes into them, and perhaps
/// gives them up.
fn streams(stranger: &Connection, kind: u8, said: &[u8]) {
    const SHAPES: [Shape; 4] = [Shape::Unary, Shape::ServerStream, Shape::ClientStream, Shape::BothWays];
    let (of, said) = said.split_first().unwrap_or((&0, &[]));
    let (number, shape) = (u64::from(of >> 4), SHAPES[usize::from(of & 3)]);
    let trust = if kind & 1 == 0 { Trust::CHECKED } else { Trust::ISOLATED };
    let (rings, fds) = Rings::make(SHAPES[usize::from(of >> 2 & 3)], trust).expect("there is memory");
    let ends = rings.client_ends(trust, None).expect("the rings are new");
    if let Some(mut producer) = ends.producer {
        // A full ring is as good.
        let _ = producer.try_send(said);
    }
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let _ = stranger.send(&FromClient::Streams { number, shape }.to_bytes(), &fds);
    if kind & 2 != 0 {
        let _ = stranger.send(&FromClient::Streamed { number }.to_bytes(), &[]);
    }
}

/// The next message of the service; `None` if it hung up or has nothing to say.
fn heard(stranger: &Connection) -> Option<Received> {
    let received = stranger.try_receive().ok()??;
    let message = FromServer::read(&received.bytes);
    assert!(message.is_ok(), "{message:?}");
    Some(received)
}

/// The lane that a welcome brings, whole or in two parts.
fn opened(welcome: Received) -> Option<ClientLane> {
    let Ok(FromServer::Welcome { lane, trust, .. }) = FromServer::read(&welcome.bytes) else { return None };
    let trust = trust::accept(Trust::CHECKED, trust).expect("a service grants a mode that is strict enough");
    Some(open_lane(welcome, lane, trust).expect("a service sends good segments").0)
}

/// A frame of any words.
fn puts(lane: &ClientLane, said: &[u8]) {
    let Ok(mut claim) = lane.requests.try_claim() else { return };
    let Some((kind, words)) = said.split_first() else { return };
    let mut body = [0; BODY_WORDS];
    for (to, chunk) in body.iter_mut().zip(words.chunks(8)) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        *to = u64::from_le_bytes(word);
    }
    claim.commit(kind % 2 + 1, words.len() as u16, &body);
    lane.ring();
}

/// A service that runs as long as the thread that fuzzes it.
struct Stage {
    dir: Arc<RuntimeDir>,
    runtime_dir_fd: OwnedFd,
    path: PathBuf,
    _running: RunningService,
}

thread_local!(static STAGE: Stage = Stage::new());

impl Stage {
    fn new() -> Self {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("switchboard-fuzz-{}-{number}", std::process::id()));
        let runtime =
            LocalRuntime::builder().runtime_dir(&path).spin(Duration::ZERO).open().expect("a fresh directory");
        let address = NAME.parse().expect("a name");
        let running = runtime.serve(address, Arc::new(Nothing::new())).workers(1).start().expect("nobody serves there");
        let dir = Arc::new(RuntimeDir::open(&path.join("default")).expect("the service made it"));
        let runtime_dir_fd = std::fs::File::open(&path).expect("it is there").into();
        Self { dir, runtime_dir_fd, path, _running: running }
    }

    fn knock(&self) -> Connection {
        Connection::connect(&self.dir, INSTANCE, PATIENCE).expect("the service listens")
    }

    fn lets_an_honest_client_in(&self) {
        let client = self.knock();
        client.send(&hello(1).to_bytes(), &[]).expect("it listens");
        let welcome = client.receive_within(PATIENCE).expect("it does not hang up").expect("it answers");
        let said = FromServer::read(&welcome.bytes);
        assert!(opened(welcome).is_some(), "{said:?}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left in the temporary directory then does no harm.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A service without methods that can be called; of the one that there is, it takes rings.
struct Nothing(ServiceDescriptor);

impl Nothing {
    fn new() -> Self {
        let streams = MethodDescriptor { shape: Shape::BothWays, ..MethodDescriptor::of::<(), ()>("streams") };
        Self(ServiceDescriptor { trait_name: "Nothing".to_owned(), version: String::new(), methods: vec![streams] })
    }
}

impl Handler for Nothing {
    fn descriptor(&self) -> &ServiceDescriptor {
        &self.0
    }

    fn call(&self, _: &Context<'_>, method: MethodIndex, _: &[u8], _: &mut dyn ReplySink) -> Result<(), Status> {
        Err(self.0.unknown_method(method))
    }
}

fn hello(trust: u8) -> FromClient {
    FromClient::Hello { instance: INSTANCE.to_owned(), trust, build: [0; 32] }
}
