//! What the compiler says about traits that are no services: at the user's token, with what is allowed.

use std::process::Command;

/// The compiler whose own words are in `ui-types/*.stderr`.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn traits_that_are_no_services_are_refused_at_the_users_token() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

#[test]
fn types_that_are_no_messages_are_refused_at_the_users_token() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(COMPILER) {
        eprintln!("SKIPPED: the expected text is that of {COMPILER}x, this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui-types/*.rs");
}
