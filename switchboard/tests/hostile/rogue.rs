//! A service that spoils the memory which it shares with its clients: they get answers or errors, in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::Trust;
use switchboard::prelude::*;
use test_support::child::{Child, Line};
use test_support::memory::Memory;

use crate::siege::{BesiegedClient, BesiegedServer, MINUTES, NAME, RUNTIME_DIR, Wall, answer_to};
use crate::spoil::{OURS, spoil_any};
use crate::support::TempDir;
use test_support::random::Random;

/// What a caller waits for.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(20);

/// No call may take longer, on a loaded machine.
const HUNG: Duration = Duration::from_secs(10);

/// Role: serves, and spoils all memory of its connections meanwhile.
pub fn serve(mut parent: Line) {
    let seed = Random::seed();
    eprintln!("rogue service: seed {seed}");
    let board = Switchboard::from_env().expect("the directory is ours");
    // Lives on, whatever becomes of its own memory.
    let _running = board.serve(NAME, BesiegedServer::new(Wall)).workers(2).start().expect("the name is free");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(seed);
            while !stop.load(Ordering::Relaxed) {
                let (memories, _) = Memory::of_this_process(OURS);
                spoil_any(&memories, &mut random);
                thread::sleep(Duration::from_millis(1));
            }
        });
        parent.say("serving");
        assert_eq!(parent.hear(), None);
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn clients_of_a_service_that_spoils_their_memory_get_answers_or_errors_in_time() {
    let minutes = std::env::var(MINUTES).ok().map(|text| text.parse().expect("a number of minutes"));
    let duration = Duration::from_secs_f64(minutes.map_or(1.0, |minutes: f64| minutes * 60.0));
    for trust in [Trust::CHECKED, Trust::ISOLATED] {
        let dir = TempDir::new();
        let mut service = Child::start("rogue service", &[(RUNTIME_DIR, dir.path())]);
        service.expect("serving");
        let board = Switchboard::builder()
            .in_process(false)
            .runtime_dir(dir.path())
            .trust(trust)
            .open()
            .expect("the directory is ours");
        let until = Instant::now() + duration;
        let (mut right, mut wrong, mut failed, mut connections) = (0_u64, 0_u64, 0_u64, 0_u64);
        while Instant::now() < until {
            // The handshake itself may meet spoilt memory.
            let Ok(client) = BesiegedClient::connect(&board, NAME) else {
                failed += 1;
                continue;
            };
            let client = client.with_timeout(GIVEN_UP_AFTER);
            connections += 1;
            for number in 0..50 {
                let filler = vec![number as u8; [8, 3000, 70_000][number as usize % 3]];
                let began = Instant::now();
                match client.mark(number, &filler) {
                    Ok(answer) if answer == answer_to(number, &filler) => right += 1,
                    // It wrote that itself.
                    Ok(_) => wrong += 1,
                    Err(_) => failed += 1,
                }
                assert!(began.elapsed() < HUNG, "a call with a deadline took {:?}", began.elapsed());
            }
        }
        let figure = |what: &str, value: u64| println!("figure: {trust} rogue service: {what} = {value}");
        figure("connections", connections);
        figure("calls answered right", right);
        figure("calls answered wrong", wrong);
        figure("calls that failed", failed);
        assert!(failed > 0, "no attack was noticed");
    }
}
