//! Every example runs from its line in the README, says something and ends well.

use std::path::Path;
use std::process::Command;

/// The examples of this package, by name.
fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = std::fs::read_dir(folder).expect("there are examples");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let examples = paths.filter(|path| path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").is_file());
    examples.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}

/// The README's command that runs an example; without optimization, which would take minutes to build.
fn command_of(example: &str) -> Vec<&'static str> {
    let readme = include_str!("../README.md");
    let mut lines = readme.lines().filter(|line| line.starts_with("cargo run"));
    let words = lines.find_map(|line| {
        let words: Vec<_> = line.split_whitespace().skip(1).filter(|word| *word != "--release").collect();
        words.windows(2).any(|pair| pair == ["--example", example]).then_some(words)
    });
    words.unwrap_or_else(|| panic!("the README does not say how to run {example}"))
}

#[test]
fn each_example_runs_from_its_line_in_the_readme() {
    let examples = examples();
    assert!(!examples.is_empty());
    for example in examples {
        let command = command_of(&example);
        let ran = Command::new(env!("CARGO")).args(&command).output().expect("cargo can be started");
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "cargo {}: {}\n{errors}", command.join(" "), ran.status);
        assert!(!ran.stdout.is_empty(), "cargo {}: nothing was said", command.join(" "));
    }
}
