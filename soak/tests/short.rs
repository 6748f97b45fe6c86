//! The short forms of both programs, with unoptimised processes.
#![forbid(unsafe_code)]

use std::process::Command;

#[test]
fn three_hundred_kills_at_random_moments_lose_nothing_and_leave_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_switchboard-soak")).args(["--kills", "300"]).output();
    let output = output.expect("the program was built with this test");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{errors}");
    let figure = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix("figure: ")?.strip_prefix(name)?.strip_prefix(" = "));
        let value = line.and_then(|rest| rest.split_whitespace().next()).expect("the figure is printed");
        value.parse::<u64>().expect("it is a whole number")
    };
    assert!(figure("kills") >= 300);
    for worked in ["kills that met a call or a send under way", "calls", "frames", "calls told that they did not run"] {
        assert!(figure(worked) > 0, "the processes were not at work: {worked} = 0");
    }
}

/// How much others notice is for the long form to say: here others are at work on the machine.
#[test]
fn whoever_is_stopped_in_the_middle_of_its_work_goes_on_and_misses_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_switchboard-stopped")).args(["--slices", "4"]).output();
    let output = output.expect("the program was built with this test");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}\n{errors}");
    assert_eq!(
        said.lines().filter(|line| line.starts_with("figure: effect of the stop")).count(),
        5,
        "{said}\n{errors}"
    );
}
