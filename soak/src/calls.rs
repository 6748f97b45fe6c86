//! Services and their clients: the processes of a site of calls.

use std::thread;
use std::time::{Duration, Instant};

use switchboard::prelude::*;
use test_support::child::Line;

use crate::gang::{self, Member};
use crate::log::{Event, Log};
use test_support::random::{Random, fill};

/// Where it is served.
const NAME: &str = "soak.notary";

/// Of the service.
pub const WORKERS: usize = 2;

/// Each call's own; far more than it needs on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(5);

/// How much later than its deadline a call may end.
const GRACE: Duration = Duration::from_secs(1);

/// Longest filler, in bytes: past what a connection begins with room for.
const LONGEST: u64 = 20_000;

#[service]
trait Notary {
    /// Notes that it runs, takes so many microseconds, and answers with what fits this call only.
    fn attest(&self, ctx: &Context<'_>, number: u64, filler: &[u8], us: u64) -> Result<Vec<u8>, Status>;
}

struct Desk(Log);

impl Notary for Desk {
    fn attest(&self, _ctx: &Context<'_>, number: u64, filler: &[u8], us: u64) -> Result<Vec<u8>, Status> {
        self.0.note(number, Event::Began);
        let answer = answer_to(number, filler);
        if us > 0 {
            // That it takes time is what it is for.
            thread::sleep(Duration::from_micros(us));
        }
        self.0.note(number, Event::Finished);
        Ok(answer)
    }
}

fn answer_to(number: u64, filler: &[u8]) -> Vec<u8> {
    let mut answer = (!number).to_le_bytes().to_vec();
    answer.extend_from_slice(filler);
    answer
}

/// Role: serves until it is killed. At "rest" it says "resting" once nobody is connected; "stop" ends the service.
pub fn serve(mut parent: Line) {
    let board = Switchboard::from_env().expect("the directory is ours");
    let log = Log::of_this_process();
    let serving = Log::of_this_process();
    let running = board.serve(NAME, NotaryServer::new(Desk(log))).workers(WORKERS).start();
    let running = running.expect("who served here before is dead");
    serving.note(gang::serial(), Event::Serving);
    while let Some(order) = parent.hear() {
        match &order[..] {
            "rest" => {
                while running.connections() > 0 {
                    thread::sleep(Duration::from_micros(200));
                }
                parent.say("resting");
            }
            "stop" => break,
            other => panic!("`{other}` is no order"),
        }
    }
    running.stop();
    parent.say("stopped");
}

/// Role: calls from all its threads until it is killed or told to end.
pub fn call(parent: Line) {
    let board = Switchboard::from_env().expect("the directory is ours");
    gang::work(parent, move |member| call_on(&board, &member));
}

fn call_on(board: &Switchboard, member: &Member<'_>) {
    let mut random = Random::new(member.first);
    let mut client = None;
    let mut number = member.first;
    while member.goes_on() {
        let Some(connected) = &client else {
            client = connect(board, member);
            continue;
        };
        if call_once(connected, number, member, &mut random) {
            member.did_one();
            if random.one_in(4) {
                thread::sleep(Duration::from_micros(random.below(2_000)));
            }
        } else {
            // Until the service is there again.
            thread::sleep(Duration::from_micros(300));
        }
        number += 1;
        if random.one_in(200) {
            client = None;
        }
    }
}

fn connect(board: &Switchboard, member: &Member<'_>) -> Option<NotaryClient> {
    match NotaryClient::connect(board, NAME) {
        Ok(client) => return Some(client.with_timeout(DEADLINE)),
        Err(status) if matches!(status.code(), Code::NotFound | Code::Unavailable) => {}
        Err(status) => {
            eprintln!("connecting failed: {status}");
            member.log.note(member.first, Event::Failed);
        }
    }
    thread::sleep(Duration::from_micros(300));
    None
}

/// Makes one call and notes how it ended; `true` if it was answered.
fn call_once(client: &NotaryClient, number: u64, member: &Member<'_>, random: &mut Random) -> bool {
    let len = if random.one_in(4) { random.below(LONGEST) } else { 16 };
    let mut filler = vec![0; len as usize];
    fill(number, &mut filler);
    let us = if random.one_in(2) { 0 } else { random.below(400) };
    member.log.note(number, Event::Sent);
    let sent = Instant::now();
    let result = client.attest(number, &filler, us);
    let took = sent.elapsed();
    let event = match &result {
        _ if took > DEADLINE + GRACE => Event::Late,
        Ok(answer) if *answer == answer_to(number, &filler) => Event::Answered,
        Ok(_) => Event::Wrong,
        Err(status) => match (status.code(), status.outcome()) {
            (Code::Unavailable | Code::NotFound, Outcome::NotRun) => Event::NotRun,
            (Code::Unavailable, Outcome::MayHaveRun) => Event::Doubtful,
            // Nobody is stopped here: who is not answered by then was forgotten.
            (Code::DeadlineExceeded, _) => Event::Late,
            _ => Event::Failed,
        },
    };
    member.log.note(number, event);
    if matches!(event, Event::Late | Event::Failed) {
        eprintln!("call {number:#x} ended after {took:?}: {result:?}");
    }
    event == Event::Answered
}
