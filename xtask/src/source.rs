//! What the text of the sources must keep: where `unsafe` may stand, and which comments it and the atomics need.
//!
//! The compiler denies most of this already; the list of files is what it cannot know. Adding a file to [`MAY_BE_UNSAFE`]
//! is a decision, and the reason stands beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::shell::root;
use crate::suite::Outcome;

/// Files in which `unsafe` may stand, and why.
const MAY_BE_UNSAFE: &[(&str, &str)] = &[
    ("shm-ring/src/raw.rs", "keeps all raw shared memory in one place"),
    ("shm-ring/src/raw/guarded.rs", "puts a file's memory between guard pages, at a fixed address"),
    ("shm-ring/src/raw/window.rs", "views of that memory whose bounds are checked once"),
    ("shm-ring/src/raw/view.rs", "words of memory that is mapped for reading only"),
    ("shm-ring/src/raw/copy_out.rs", "copies of bytes that a peer may be writing, one by an instruction"),
    ("shm-ring/src/trust.rs", "one function is a promise of its caller's about a peer"),
    ("shm-ring/src/copy.rs", "copies over raw pointers, one by an instruction"),
    ("shm-ring/src/segment/sealed.rs", "one function gives a payload in place: its memory is sealed against writing"),
    ("shm-ring/src/typed/archive.rs", "one function reads archives of trusted writers without validation"),
    ("shm-ring/src/spsc/frame.rs", "one function gives a payload in place: the assumption of `Checked`"),
    ("shm-ring/src/mpsc/frame.rs", "one function gives a payload in place: the assumption of `Checked`"),
    ("shm-ring/src/arena/reader.rs", "gives payloads in place, on the caller's word that nobody writes them"),
    ("service-core/src/assured.rs", "messages are read unvalidated on the user's word; no transport knows their types"),
    ("service-local/src/trust.rs", "says of a peer what its mode assumes, for messages and for payloads in place"),
    ("shm-ring/src/fork.rs", "a page of its own that the kernel wipes in a forked child"),
    ("shm-ring/src/clock.rs", "the time-stamp counter is an intrinsic"),
    ("shm-ring/src/rendezvous/identity.rs", "peer credentials that the safe wrappers lack"),
    ("shm-ring/src/rendezvous/gifts.rs", "a socket option that the safe wrappers lack"),
    ("shm-ring/src/tasks/tokio.rs", "tokio wants a promise that a descriptor stays open"),
    ("shm-ring/tests/queue/forked.rs", "forks, to see what a child keeps of its parent's queues"),
    ("shm-ring/tests/queue/trust.rs", "makes the mode that is a promise, and asks for a mapping that must be refused"),
    ("shm-ring/examples/trust_price.rs", "makes the mode that is a promise, to measure it"),
    ("shm-ring/tests/trust/modes.rs", "makes the mode that is a promise"),
    ("shm-ring/tests/fork.rs", "forks, to see what a child has of its parent's segments"),
    ("test-support/src/forked.rs", "forks, for tests of what a child has of its parent's"),
    ("test-support/src/limits.rs", "maps memory until the kernel gives no more"),
    ("test-support/src/memory.rs", "maps shared memory once more, to be written as a hostile peer would"),
    ("switchboard/examples/price_of_trust.rs", "to be trusted takes a promise"),
    ("switchboard/tests/trusted.rs", "makes the mode that is a promise"),
    ("test-support/src/storm.rs", "a signal handler, for tests of interrupted system calls"),
    ("benches/src/bare/memory.rs", "rings without checks, to hold the checked ones against"),
    ("benches/src/transport/shaq.rs", "joining a ring of shaq's is unsafe"),
    ("benches/src/unloaded/count_alloc.rs", "a counting allocator; `GlobalAlloc` is unsafe to implement"),
];

/// Crates whose root denies `unsafe` instead of forbidding it, so that the files above can allow it.
const DENIES: [&str; 5] = ["shm-ring", "service-core", "service-local", "benches", "test-support"];

/// How far above an unsafe block its reason may begin, in lines.
const SAFETY_WITHIN: usize = 5;
/// How far above an atomic operation its reason may begin, in lines.
const ORDERING_WITHIN: usize = 6;
/// Orderings that need a reason.
const STRONG: [&str; 4] = ["Ordering::Acquire", "Ordering::Release", "Ordering::AcqRel", "Ordering::SeqCst"];

/// Reads every Rust file of the workspace.
pub fn check() -> Outcome {
    match findings(root()) {
        Ok(findings) => Outcome::of_findings(&findings),
        Err(error) => Outcome::Failed(format!("the sources cannot be read: {error}")),
    }
}

/// All Rust files of the workspace's packages, sorted.
pub fn workspace_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            ["src", "tests", "benches", "examples"]
                .iter()
                .try_for_each(|part| rust_files(&path.join(part), &mut files))?;
        }
    }
    files.sort();
    Ok(files)
}

fn findings(root: &Path) -> io::Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in workspace_files(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        findings.extend(findings_in(&name, &fs::read_to_string(&file)?));
    }
    Ok(findings)
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Compile-fail examples are there to be wrong.
        if path.is_dir() && path.ends_with("ui") {
            continue;
        } else if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Everything wrong with one file; `name` is its path from the workspace's root.
fn findings_in(name: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = root_attribute(name, text).into_iter().collect::<Vec<_>>();
    let may_be_unsafe = MAY_BE_UNSAFE.iter().any(|(file, _)| *file == name);
    let is_ring = name.starts_with("shm-ring/src/");
    let mut in_tests = false;
    for (index, line) in lines.iter().enumerate() {
        let code = &code_of(line);
        // By convention the tests are the last item of a file.
        in_tests |= *line == "#[cfg(test)]";
        let place = format!("{name}:{}", index + 1);
        if is_unsafe(code) {
            if !may_be_unsafe {
                findings.push(format!("{place}: `unsafe` is not allowed here (see xtask/src/source.rs)"));
            }
            if needs_reason(code) && !has_above(&lines, index, SAFETY_WITHIN, "SAFETY:") {
                findings.push(format!("{place}: no `SAFETY:` within {SAFETY_WITHIN} lines above"));
            }
        }
        if is_ring && !in_tests && is_strong(code) && !has_above(&lines, index, ORDERING_WITHIN, "ORDERING:") {
            findings.push(format!("{place}: no `ORDERING:` within {ORDERING_WITHIN} lines above"));
        }
    }
    findings
}

/// The root of each library and program must forbid `unsafe`, or deny it where a file may allow it.
fn root_attribute(name: &str, text: &str) -> Option<String> {
    let (package, file) = name.split_once('/')?;
    if !matches!(file, "src/lib.rs" | "src/main.rs") {
        return None;
    }
    let attribute = if DENIES.contains(&package) { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
    let is_there = text.lines().any(|line| line.starts_with(attribute));
    (!is_there).then(|| format!("{name}: `{attribute}` is missing"))
}

/// The line up to a comment, without what stands in quotes.
pub fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut in_quotes = false;
    let mut escaped = false;
    for letter in line.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_quotes => escaped = true,
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            _ => code.push(letter),
        }
    }
    code.find("//").map_or(code.clone(), |comment| code[..comment].to_owned())
}

pub fn is_unsafe(code: &str) -> bool {
    code.match_indices("unsafe").any(|(at, word)| {
        let is_end_of_name = code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let forms = [" {", " fn", " impl", " extern", " trait", "("];
        !is_end_of_name && forms.iter().any(|form| code[at + word.len()..].starts_with(form))
    })
}

/// An `unsafe fn` states what its caller must keep instead, in its documentation.
fn needs_reason(code: &str) -> bool {
    !code.contains("unsafe fn")
}

fn is_strong(code: &str) -> bool {
    !code.trim_start().starts_with("use ") && STRONG.iter().any(|ordering| code.contains(ordering))
}

fn has_above(lines: &[&str], index: usize, within: usize, word: &str) -> bool {
    lines[index.saturating_sub(within)..=index].iter().any(|line| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: &str = "shm-ring/src/raw.rs";

    #[test]
    fn unsafe_outside_the_list_is_found() {
        let text = "// SAFETY: none\nunsafe { f() }\n";
        assert_eq!(findings_in("service-core/src/names.rs", text).len(), 1);
        assert_eq!(findings_in(RING, text), [] as [String; 0]);
    }

    #[test]
    fn a_block_without_a_reason_is_found() {
        let text = "let x = unsafe { f() };\n";
        assert_eq!(findings_in(RING, text).len(), 1);
    }

    #[test]
    fn a_strong_ordering_needs_a_reason_and_a_relaxed_one_does_not() {
        assert_eq!(findings_in(RING, "word.store(1, Ordering::Release);\n").len(), 1);
        let with_reason = "// ORDERING: Release, pairs with a load.\nword.store(1, Ordering::Release);\n";
        assert_eq!(findings_in(RING, with_reason), [] as [String; 0]);
        assert_eq!(findings_in(RING, "word.load(Ordering::Relaxed);\n"), [] as [String; 0]);
    }

    #[test]
    fn a_root_that_does_not_forbid_unsafe_is_found() {
        assert_eq!(findings_in("service-macros/src/lib.rs", "//! Names.\n").len(), 1);
        assert_eq!(
            findings_in("service-macros/src/lib.rs", "//! Names.\n#![forbid(unsafe_code)]\n"),
            [] as [String; 0]
        );
    }
}
