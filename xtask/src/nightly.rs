//! The nightly toolchain and its components: for proofs that the stable compiler cannot run.

use crate::shell::Shell;
use crate::suite::Outcome;

/// The toolchain as cargo and rustup name it on the command line.
pub const TOOLCHAIN: &str = "nightly";

/// Sees to it that a nightly toolchain with these components is there; adds components where that is possible.
///
/// # Errors
/// `Skipped`, with what is missing and could not be had.
pub fn require(components: &[&str]) -> Result<(), Outcome> {
    let rustc = format!("rustc +{TOOLCHAIN} --version");
    if !matches!(Shell::line(&rustc).ask(), Ok((true, _))) {
        return Err(skip("there is no nightly toolchain"));
    }
    let list = format!("rustup component list --installed --toolchain {TOOLCHAIN}");
    let installed = Shell::line(&list).ask().map(|(_, text)| text).unwrap_or_default();
    for component in components {
        let is_there = installed.lines().any(|line| line.starts_with(component));
        let add = format!("rustup component add --toolchain {TOOLCHAIN} {component}");
        if !is_there && Shell::line(&add).run() != Outcome::Passed {
            return Err(skip(&format!("the component {component} of the nightly toolchain cannot be had")));
        }
    }
    Ok(())
}

fn skip(why: &str) -> Outcome {
    eprintln!("SKIP: {why}");
    Outcome::Skipped(why.to_owned())
}
