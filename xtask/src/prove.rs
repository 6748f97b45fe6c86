//! `cargo xtask prove`: the long forms of what `cargo xtask test` samples, and what only the nightly compiler can check.
//!
//! One table says what is proved by which command; `--list` prints it. Each command can as well be typed by hand.

use std::process::ExitCode;
use std::time::Duration;

use crate::evidence::{self, Record};
use crate::nightly;
use crate::shell::Shell;
use crate::suite::Outcome;
use crate::test::{self, Timed};

/// One proof: what it shows, and the command that shows it.
#[derive(Debug)]
struct Proof {
    name: &'static str,
    shows: &'static str,
    /// A line for the shell, run from the workspace's root.
    command: &'static str,
    /// Components of the nightly toolchain that it needs; none for the stable one.
    nightly: &'static [&'static str],
}

/// Every ring and its arena on the heap, one schedule each: the sample that `cargo xtask test` runs too.
const MIRI_SAMPLE: Proof = Proof {
    name: "miri-sample",
    shows: "no undefined behaviour in the rings on the heap, one schedule",
    command: "MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-disable-weak-memory-emulation' \
        CARGO_TARGET_DIR=target/miri \
        cargo +nightly miri test --package shm-ring --lib --test threads -- \
        arena:: cells:: slot:: released_lags frames_of a_close_ends",
    nightly: &["miri", "rust-src"],
};

const PROOFS: &[Proof] = &[
    Proof {
        name: "counts",
        shows: "how much there is of product, tests and unsafe",
        command: "cargo xtask counts",
        nightly: &[],
    },
    Proof {
        name: "loom",
        shows: "every model holds, and every weakened twin fails its model",
        command: "cargo xtask test loom",
        nightly: &[],
    },
    Proof {
        name: "loom-deep",
        shows: "the models hold with up to four preemptions of each thread",
        command: "RUSTFLAGS='--cfg loom' LOOM_MAX_PREEMPTIONS=4 CARGO_TARGET_DIR=target/loom \
            cargo test --profile loom --package loom-tests -- --nocapture",
        nightly: &[],
    },
    Proof {
        name: "price-of-trust",
        shows: "what a call costs in each mode of trust (on a busy machine: `chrt -f 10` before the program)",
        command: "cargo run --release --package switchboard --example price_of_trust",
        nightly: &[],
    },
    MIRI_SAMPLE,
    Proof {
        name: "miri",
        shows: "the rings between threads under 64 schedules each (weak memory is loom's part: Miri's own model of it \
            does not cope with words that stand where bytes stood)",
        command: "MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-disable-weak-memory-emulation -Zmiri-many-seeds=0..64' \
            CARGO_TARGET_DIR=target/miri \
            cargo +nightly miri test --package shm-ring --test threads",
        nightly: &["miri", "rust-src"],
    },
    Proof {
        name: "tsan",
        shows: "no data race between threads that ThreadSanitizer can see (without a test that counts late wake-ups, which \
            so slow a program has)",
        command: "RUSTFLAGS='-Zsanitizer=thread' CARGO_TARGET_DIR=target/tsan cargo +nightly test -Zbuild-std \
            --target x86_64-unknown-linux-gnu --package shm-ring --lib --test threads --test mpsc -- \
            --skip ten_thousand",
        nightly: &["rust-src"],
    },
    Proof {
        name: "kills-rings",
        shows: "a process that is killed after any instruction of a send, a receive, a claim, an opening or a closing leaves \
            a whole frame or none, and nothing behind (of a long opening: the first two rounds of each loop)",
        command: "SWITCHBOARD_KILLS=all cargo test --release --package shm-ring --test kills -- --nocapture",
        nightly: &[],
    },
    Proof {
        name: "kills-calls",
        shows: "a client or a service that is killed after any instruction of a call, a reply or a connecting leaves an exact \
            outcome, and nothing behind (of a connecting: the first two rounds of each loop)",
        command: "SWITCHBOARD_KILLS=all cargo test --release --package switchboard --test kills -- --nocapture",
        nightly: &[],
    },
    Proof {
        name: "soak",
        shows: "20,000 services, clients, consumers and producers are killed at random moments: nothing lost, twice, torn, hung \
            or left",
        command: "cargo xtask soak --kills 20000",
        nightly: &[],
    },
    Proof {
        name: "stopped",
        shows: "whoever is stopped in the middle of its work adds at most a fifth to the 99th percentile of others",
        command: "cargo run --release --package soak --bin switchboard-stopped",
        nightly: &[],
    },
    Proof {
        name: "asan",
        shows: "no access outside of what is allocated or mapped that AddressSanitizer or a guard page can see, by the \
            tests and under attack (without a test that counts late wake-ups, those that weigh memory or run short of \
            it, and those that run cargo; tests forget handles to play dead, so leaks are not looked for)",
        command: "export RUSTFLAGS='-Zsanitizer=address' ASAN_OPTIONS=detect_leaks=0 CARGO_TARGET_DIR=target/asan; \
            cargo +nightly test --target x86_64-unknown-linux-gnu --package shm-ring --lib --tests -- \
            --skip ten_thousand --skip without_growth --skip limits:: --skip compile --skip each_example && \
            cargo +nightly test --target x86_64-unknown-linux-gnu --package switchboard --test hostile -- --nocapture",
        nightly: &["rustc"],
    },
    Proof {
        name: "sealed",
        shows: "large requests as sealed memory: what they cost beside copies, and that nothing else is taken for them",
        command: "cargo test --release --package switchboard --test processes -- sealed:: --nocapture && \
            cargo test --release --package switchboard --test hostile -- sealed:: --nocapture",
        nightly: &[],
    },
    Proof {
        name: "hostile",
        shows: "each hostile program attacks for so many minutes: no crash, no hang, no wrong reply, nothing left behind",
        command: "export SWITCHBOARD_HOSTILE_MINUTES=${MINUTES:-10} && \
            SHM_RING_HOSTILE_SECONDS=60 cargo test --release --package shm-ring --test hostile -- --nocapture --test-threads=1 && \
            cargo test --release --package switchboard --test hostile -- --nocapture",
        nightly: &[],
    },
    Proof {
        name: "reconnects",
        shows: "100,000 clients come to a service and go, and neither memory nor descriptors nor threads grow",
        command: "SWITCHBOARD_RECONNECTS=100000 cargo test --release --package switchboard --test bad_input -- \
            reconnect_100k --nocapture",
        nightly: &[],
    },
    Proof {
        name: "bad-input",
        shows: "limits that are reached, signals every 100 us, process numbers that come again: typed errors, nothing left",
        command: "cargo test --package shm-ring --package switchboard --test bad_input -- --nocapture",
        nightly: &[],
    },
    Proof {
        name: "trust",
        shows: "what each trust mode costs the receiver of a ring",
        command: "cargo run --release --package shm-ring --example trust_price",
        nightly: &[],
    },
    Proof {
        name: "churn",
        shows: "100,000 producers come to a queue and go, and neither memory nor descriptors nor lanes grow",
        command: "SHM_RING_CHURN=100000 cargo test --release --package shm-ring --test queue -- \
            producers_come_and_go_without_growth --nocapture",
        nightly: &[],
    },
    Proof {
        name: "stream",
        shows: "a billion bytes in frames of random sizes reach another process as they were sent",
        command: "SHM_RING_STREAM=1000000000 cargo test --release --package shm-ring --test spsc -- \
            mixed_sizes_random_1e9_bytes --nocapture",
        nightly: &[],
    },
    Proof {
        name: "properties",
        shows: "the rings behave as a plain queue under 20,000 random histories of operations each",
        command: "PROPTEST_CASES=20000 cargo test --release --package shm-ring --lib --tests -- plain_queue whatever_is_written",
        nightly: &[],
    },
    Proof {
        name: "fuzz",
        shows: "images of shared memory, references, handshakes, messages, names and operations of any content are answered \
            by a value or a typed error, in bounded work, inside the memory (AddressSanitizer)",
        command: "cargo xtask fuzz --minutes ${MINUTES:-16}",
        nightly: &[],
    },
    Proof {
        name: "mutants",
        shows: "at least 90 of 100 small changes of rings, slots, doorbells, segments, arenas and rendezvous fail a test \
            (the shards that were run before are counted, see cargo xtask mutants --help)",
        command: "cargo xtask mutants --figures",
        nightly: &[],
    },
];

/// Names, for the shell, how many minutes a proof is to run.
const MINUTES: &str = "MINUTES";

/// Lists the proofs, or runs the named ones, or all; with `report` keeps their figures and writes the evidence page.
pub fn run(list: bool, report: bool, minutes: Option<f64>, only: &[String]) -> ExitCode {
    if let Some(unknown) = only.iter().find(|name| PROOFS.iter().all(|proof| proof.name != name.as_str())) {
        eprintln!("there is no proof `{unknown}`; `cargo xtask prove --list` names them");
        return ExitCode::FAILURE;
    }
    let chosen = PROOFS.iter().filter(|proof| only.is_empty() || only.iter().any(|name| name == proof.name));
    if list {
        for Proof { name, shows, command, .. } in chosen {
            println!("{name}: {shows}\n    {command}");
        }
        return ExitCode::SUCCESS;
    }
    let mut results: Vec<_> = chosen.map(|proof| run_one(proof, report, minutes)).collect();
    if report && let Err(error) = evidence::write_page(PROOFS.iter().map(|proof| (proof.name, proof.shows))) {
        results.push(("report", Outcome::Failed(error.to_string()), Duration::ZERO));
    }
    test::summary(&results)
}

fn run_one(proof: &Proof, report: bool, minutes: Option<f64>) -> Timed {
    let mut output = String::new();
    let (name, outcome, took) = test::timed(proof.name, || {
        let (outcome, text) = prove(proof, minutes);
        output = text;
        outcome
    });
    if report {
        let kept = Record::of(proof.shows, &typed(proof.command, minutes), &outcome, took, &output).keep(name);
        if let Err(error) = kept {
            return (name, Outcome::Failed(format!("the record of `{name}` cannot be kept: {error}")), took);
        }
    }
    (name, outcome, took)
}

/// The command with the number of minutes that it ran, as a person would type it.
fn typed(command: &str, minutes: Option<f64>) -> String {
    let Some((before, rest)) = command.split_once("${MINUTES:-") else { return command.to_owned() };
    let Some((usual, after)) = rest.split_once('}') else { return command.to_owned() };
    let minutes = minutes.map_or_else(|| usual.to_owned(), |minutes| minutes.to_string());
    format!("{before}{minutes}{after}")
}

/// Miri's sample, for `cargo xtask test`.
pub fn miri_sample() -> Outcome {
    prove(&MIRI_SAMPLE, None).0
}

/// How it ended, and what it printed.
fn prove(proof: &Proof, minutes: Option<f64>) -> (Outcome, String) {
    if !proof.nightly.is_empty()
        && let Err(skipped) = nightly::require(proof.nightly)
    {
        return (skipped, String::new());
    }
    let mut line = Shell::line(proof.command);
    if let Some(minutes) = minutes {
        line = line.env(MINUTES, minutes.to_string());
    }
    match line.run_and_read() {
        // A filter may have gone stale: tests that are not there fail nothing.
        Ok((true, output)) if runs_tests(proof.command) && evidence::passed_tests(&output) == 0 => {
            (Outcome::Failed(format!("`{}` ran no test", proof.command)), output)
        }
        Ok((true, output)) => (Outcome::Passed, output),
        Ok((false, output)) => (Outcome::Failed(format!("`{}`", proof.command)), output),
        Err(error) => (Outcome::Failed(format!("`{}`: {error}", proof.command)), String::new()),
    }
}

/// Whether a command says how many tests passed.
fn runs_tests(command: &str) -> bool {
    ["cargo test ", "cargo +nightly test ", " miri test "].iter().any(|program| command.contains(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minutes_that_a_proof_ran_stand_in_its_command() {
        assert_eq!(typed("a ${MINUTES:-16} b", Some(0.5)), "a 0.5 b");
        assert_eq!(typed("a ${MINUTES:-16} b", None), "a 16 b");
        assert_eq!(typed("a b", Some(3.0)), "a b");
    }

    #[test]
    fn every_proof_has_a_name_of_its_own_and_says_what_it_needs() {
        for (index, proof) in PROOFS.iter().enumerate() {
            assert!(PROOFS[..index].iter().all(|other| other.name != proof.name), "{} twice", proof.name);
            assert_eq!(proof.command.contains("+nightly"), !proof.nightly.is_empty(), "{}", proof.name);
        }
    }
}
