//! What the compiler says about types that are no messages: in the project's words, at the user's token.

use std::process::Command;

/// The compiler whose own words are in `typed/ui/*.stderr`.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn types_that_are_no_messages_do_not_compile() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(COMPILER) {
        eprintln!("SKIPPED: the expected text is that of {COMPILER}x, this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/typed/ui/*.rs");
}
