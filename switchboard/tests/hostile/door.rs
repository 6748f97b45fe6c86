//! Attacks at the door and by calling: whatever can be sent, asked for, or left undone.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::overheard::{LONGEST_MESSAGE, MOST_DESCRIPTORS, Socket, Words};
use crate::siege::{Ground, Step};
use test_support::random::Random;

/// Connections that an attack keeps at the same time.
const KEPT: usize = 16;

/// Connections of the silent crowd.
const CROWD: usize = 200;

fn random_bytes(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]));
    bytes
}

/// A real message with a few bytes changed, or cut short, or too long.
fn spoilt(random: &mut Random, words: &[u8]) -> Vec<u8> {
    let mut spoilt = words.to_vec();
    match random.below(4) {
        0 => spoilt.truncate(random.below(words.len() as u64) as usize),
        1 => {
            let len = random.below((LONGEST_MESSAGE - words.len()) as u64) as usize;
            spoilt.extend(random_bytes(random, len));
        }
        _ => {
            for _ in 0..=random.below(3) {
                let at = random.below(words.len() as u64) as usize;
                spoilt[at] = random.next() as u8;
            }
        }
    }
    spoilt
}

/// Garbage, half greetings, spoilt greetings, greetings at the wrong time.
pub fn garbage(mut ground: Ground) -> Step {
    let words = Words::overheard(&ground);
    let mut kept = Vec::new();
    Step::by(1, move || {
        let Ok(socket) = Socket::connect(&ground.socket()) else { return 0 };
        let random = &mut ground.random;
        match random.below(6) {
            0 => {
                let len = random.below(LONGEST_MESSAGE as u64) as usize;
                socket.say(&random_bytes(random, len));
            }
            1 => {
                socket.say(&words.grow);
            }
            2 => {
                socket.say(&words.hello);
                socket.say(&words.hello);
            }
            3 => {
                socket.say(&words.hello);
                socket.say(&spoilt(random, &words.grow));
            }
            4 => {
                socket.say(b"");
            }
            _ => {
                socket.say(&spoilt(random, &words.hello));
            }
        }
        kept.push(socket);
        if kept.len() > KEPT {
            kept.swap_remove(random.below(KEPT as u64) as usize);
        }
        1
    })
}

/// Descriptors that nobody asked for: of every kind, up to as many as the kernel passes.
pub fn descriptors(mut ground: Ground) -> Step {
    let words = Words::overheard(&ground);
    let open = |path: &str, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).expect("it is there");
    let unsealed = rustix::fs::memfd_create("unsealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let unsealed = unsealed.expect("a descriptor is left");
    rustix::fs::ftruncate(&unsealed, 1 << 20).expect("a file can have any size");
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("two descriptors are left");
    let kinds: Vec<OwnedFd> = vec![
        reader,
        writer,
        unsealed,
        open("/", OFlags::RDONLY),
        open("/dev/zero", OFlags::RDWR),
        open("/proc/self/maps", OFlags::RDONLY),
        open("/", OFlags::PATH),
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("a descriptor is left"),
    ];
    Step::by(1, move || {
        let Ok(socket) = Socket::connect(&ground.socket()) else { return 0 };
        let random = &mut ground.random;
        let count = [1, 2, 3, 4, 5, 32, 252, MOST_DESCRIPTORS][random.below(8) as usize];
        let gifts: Vec<_> = (0..count).map(|_| kinds[random.below(kinds.len() as u64) as usize].as_fd()).collect();
        match random.below(3) {
            // Before, in and after the greeting.
            0 => socket.hand_over(b"gifts", &gifts),
            1 => socket.hand_over(&words.hello, &gifts),
            _ => socket.say(&words.hello) && socket.hand_over(&words.grow, &gifts),
        };
        1
    })
}

/// Descriptors whose end takes as long as their sender likes: TCP sockets that linger over what nobody reads. Kernels before
/// 6.16 do not let a service refuse them; there, nothing is handed over.
pub fn lingering(mut ground: Ground) -> Step {
    const LINGERS: Duration = Duration::from_secs(3600);
    let words = Words::overheard(&ground);
    let reader = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = reader.local_addr().expect("it is bound");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("it is Linux");
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let can_be_refused = (numbers.next(), numbers.next()) >= (Some(6), Some(16));
    let mut unread = Vec::new();
    Step::by(1, move || {
        let Ok(socket) = Socket::connect(&ground.socket()) else { return 0 };
        let mut writer = TcpStream::connect(address).expect("it listens");
        unread.push(reader.accept().expect("it was connected"));
        writer.set_nonblocking(true).expect("it is a socket");
        while writer.write(&[0; 1 << 16]).is_ok() {}
        rustix::net::sockopt::set_socket_linger(&writer, Some(LINGERS)).expect("it is a socket");
        let handed_over = can_be_refused
            && match ground.random.below(2) {
                0 => socket.hand_over(&words.hello, &[writer.as_fd()]),
                _ => socket.say(&words.hello) && socket.hand_over(&words.grow, &[writer.as_fd()]),
            };
        if !handed_over {
            // Who closes it is us, and we do not wait.
            rustix::net::sockopt::set_socket_linger(&writer, None).expect("it is a socket");
        }
        drop((writer, socket));
        let other = Socket::connect(&ground.socket()).expect("the service listens");
        assert!(other.say(&words.hello));
        other.hear().expect("the service answers others meanwhile");
        1
    })
}

/// Connections that say nothing, or wait for nothing after their greeting.
pub fn crowd(mut ground: Ground) -> Step {
    let words = Words::overheard(&ground);
    let mut crowd = Vec::new();
    Step::by(1, move || {
        let Ok(socket) = Socket::connect(&ground.socket()) else { return 0 };
        if ground.random.one_in(4) {
            socket.say(&words.hello);
        }
        crowd.push(socket);
        if crowd.len() > CROWD {
            crowd.swap_remove(ground.random.below(CROWD as u64) as usize);
        }
        1
    })
}

/// Whole handshakes, one after the other, by the product's client and by hand.
pub fn connects(mut ground: Ground) -> Step {
    let words = Words::overheard(&ground);
    Step::by(1, move || {
        if ground.random.one_in(2) {
            return ground.client().map_or(0, |_| 1);
        }
        let Ok(socket) = Socket::connect(&ground.socket()) else { return 0 };
        socket.say(&words.hello);
        socket.hear().map_or(0, |_| 1)
    })
}

/// Asks for room again and again and never reads an answer.
pub fn growth(ground: Ground) -> Step {
    let words = Words::overheard(&ground);
    Step::by(1, move || {
        let Ok(socket) = Socket::connect(&ground.socket()) else { return 0 };
        socket.say(&words.hello);
        // The service ends the connection when it cannot answer.
        (0..2000).take_while(|_| socket.say(&words.grow)).count() as u64
    })
}

/// Calls that are given up at once, while large replies are made for them.
pub fn abandoned(mut ground: Ground) -> Step {
    let client = ground.client();
    Step::by(1, move || {
        let Ok(client) = &client else { return 0 };
        for _ in 0..20 {
            let client = client.clone().with_timeout(Duration::from_micros(ground.random.below(50)));
            // How it ends is of no interest: mostly it is too late.
            let _ = client.zeros(ground.random.below(1 << 20));
        }
        20
    })
}

/// Calls by many threads, as fast as they can.
pub fn flood(ground: Ground) -> Step {
    const THREADS: usize = 8;
    const CALLS: u64 = 200;
    let client = ground.client();
    Step::by(THREADS, move || {
        let Ok(client) = &client else { return 0 };
        // They are good requests, so each is answered, however many there are.
        let call =
            || (0..CALLS).inspect(|number| drop(client.mark(*number, b"flood").expect("an answer"))).count() as u64;
        thread::scope(|scope| {
            let callers: Vec<_> = (0..THREADS).map(|_| scope.spawn(call)).collect();
            callers.into_iter().map(|caller| caller.join().expect("no panic")).sum()
        })
    })
}
