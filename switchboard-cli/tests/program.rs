//! Runs the program as a user does.

mod run;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use run::{Directory, Process, stdout_of};

const KEYS: [&str; 13] = [
    "accuracy",
    "calls_per_s",
    "p50_ns",
    "p99_ns",
    "uds_p50_ns",
    "echo_spin_p50_ns",
    "floor_two_lines_ns",
    "echo_park_p50_ns",
    "futex_rtt_ns",
    "uds_echo_p50_ns",
    "killed_calls",
    "kill_notice_ms",
    "recovered",
];

#[test]
fn demo_prints_one_object_keeps_its_promises_and_leaves_nothing() {
    let temporary = Directory::new();
    let output = temporary.program(&["demo", "--json"]).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON value and nothing else");
    let object = found.as_object().expect("it is an object");
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    let mut promised = KEYS;
    keys.sort_unstable();
    promised.sort_unstable();
    assert_eq!(keys, promised);

    let number = |key: &str| found[key].as_f64().unwrap_or_else(|| panic!("`{key}` is no number in {found}"));
    assert!(number("accuracy") >= 0.95, "{found}");
    assert!(number("kill_notice_ms") <= 100.0, "{found}");
    assert_eq!(found["recovered"], true);
    for key in KEYS.iter().filter(|key| key.ends_with("_ns") || **key == "calls_per_s") {
        assert!(number(key) > 0.0, "`{key}` in {found}");
    }
    let killed = |key: &str| found["killed_calls"][key].as_u64().unwrap_or_else(|| panic!("`{key}` in {found}"));
    assert_eq!(killed("hung"), 0, "{found}");
    assert!(killed("not_run") + killed("may_have_run") + killed("ran") >= 1, "{found}");
    assert_eq!(found["killed_calls"].as_object().map(serde_json::Map::len), Some(4));

    assert_eq!(temporary.entries(), [""; 0]);
}

#[test]
fn interrupted_demo_ends_its_processes_and_removes_its_directory() {
    interrupt_demo_by(Signal::SIGTERM);
}

#[test]
fn demo_whose_terminal_is_gone_clears_up_too() {
    interrupt_demo_by(Signal::SIGHUP);
}

fn interrupt_demo_by(signal: Signal) {
    let temporary = Directory::new();
    let mut command = temporary.program(&["demo"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut demo = Process::start(&mut command);
    let mut said = BufReader::new(demo.child.stderr.take().expect("it was piped")).lines();
    let begun = said.any(|line| line.is_ok_and(|line| line.contains("beside the machine's limits")));
    assert!(begun, "the demo ended before it measured an echo");

    let started = children_of(demo.child.id());
    demo.signal(signal);
    let last = said.last().expect("it says why it ends").expect("it is text");
    assert_eq!(last, format!("switchboard: the demo was ended by {signal}"));
    assert_eq!(demo.wait().code(), Some(128 + signal as i32));
    assert_eq!(temporary.entries(), [""; 0]);
    // The demo waits for its children before it ends, so nobody has their numbers now.
    for pid in started {
        assert!(kill(Pid::from_raw(pid), None).is_err(), "pid {pid} outlives the demo");
    }
}

#[test]
fn a_served_instance_is_listed_with_its_pid_until_it_ends() {
    let runtime = Directory::new();
    let mut server = Process::serve(&runtime, &["serve", "echo", "--instance", "blue"]);
    let pid = server.child.id();
    let listed: serde_json::Value =
        serde_json::from_str(&stdout_of(&mut runtime.program(&["list", "--json"]))).expect("it is JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["pid"], pid);
    let address = listed[0]["address"].as_str().unwrap_or_default();
    assert!(address.ends_with("echo@blue"), "{address}");

    server.signal(Signal::SIGTERM);
    assert!(server.wait().success());
    assert_eq!(stdout_of(&mut runtime.program(&["list", "--json"])), "[]\n");
}

#[test]
fn a_served_instance_whose_terminal_is_gone_is_taken_down() {
    let runtime = Directory::new();
    let mut server = Process::serve(&runtime, &["serve", "echo"]);
    server.signal(Signal::SIGHUP);
    assert!(server.wait().success());
}

#[test]
fn a_killed_instance_is_not_listed() {
    let runtime = Directory::new();
    let mut server = Process::serve(&runtime, &["serve", "digits"]);
    server.signal(Signal::SIGKILL);
    server.wait();
    assert_eq!(stdout_of(&mut runtime.program(&["list"])), "no live instance\n");
}

#[test]
fn list_shows_an_instance_per_line_under_a_head() {
    let runtime = Directory::new();
    let servers = [["serve", "digits"], ["serve", "echo"]].map(|args| Process::serve(&runtime, &args));
    let listed = stdout_of(&mut runtime.program(&["list"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(lines[0].starts_with("INSTANCE") && lines[0].ends_with("PID"), "{listed}");
    for (line, server) in lines[1..].iter().zip(&servers) {
        assert!(line.ends_with(&server.child.id().to_string()), "{listed}");
    }
}

#[test]
fn an_instance_that_lives_already_is_not_served_twice() {
    let runtime = Directory::new();
    let _first = Process::serve(&runtime, &["serve", "echo"]);
    let second = runtime.program(&["serve", "echo"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.starts_with("switchboard: cannot serve `echo@1`: "), "{said}");
}

#[test]
fn an_instance_that_is_no_name_is_refused() {
    let runtime = Directory::new();
    let refused = runtime.program(&["serve", "echo", "--instance", "a/b"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.starts_with("switchboard: cannot serve `echo@a/b`: "), "{said}");
}

#[test]
fn an_unknown_service_is_refused_with_the_ones_there_are() {
    let runtime = Directory::new();
    let refused = runtime.program(&["serve", "weather"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("weather") && said.contains("digits, echo"), "{said}");
}

#[test]
fn zero_workers_are_refused() {
    let runtime = Directory::new();
    let refused = runtime.program(&["serve", "echo", "--workers", "0"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--workers"), "{said}");
}

/// The processes that `pid` has started and not waited for.
fn children_of(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}
