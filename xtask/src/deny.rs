//! Licences, bans and sources of all dependencies, and known vulnerabilities, by `cargo deny` where it is installed.

use crate::shell::Shell;
use crate::suite::Outcome;

/// Checks what this machine can check, and says loudly what it could not.
pub fn check() -> Outcome {
    if !matches!(Shell::cargo(&["deny", "--version"]).ask(), Ok((true, _))) {
        return skip("cargo-deny is not installed: advisories, licences, bans and sources were NOT checked");
    }
    Shell::cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"]).run().and_then(advisories)
}

fn advisories() -> Outcome {
    if !matches!(Shell::cargo(&["deny", "fetch", "db"]).ask(), Ok((true, _))) {
        return skip("the advisory database cannot be reached: advisories were NOT checked");
    }
    Shell::cargo(&["deny", "check", "advisories"]).run()
}

fn skip(why: &str) -> Outcome {
    eprintln!("SKIP: {why}");
    Outcome::Skipped(why.to_owned())
}
