//! How much there is of what: product and tests, `unsafe`, assertions that stay in release builds.

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use crate::evidence;
use crate::shell::root;
use crate::source::{code_of, is_unsafe, workspace_files};

/// Crates whose `src` is shipped.
const PRODUCT: [&str; 6] =
    ["shm-ring", "service-core", "service-macros", "service-local", "switchboard", "switchboard-cli"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    product: usize,
    tests: usize,
    unsafe_blocks: usize,
    unsafe_files: usize,
    assertions: usize,
}

/// Counts lines of Rust that are neither empty nor comments, and prints the figures.
pub fn run() -> ExitCode {
    match count(root()) {
        Ok(counts) => {
            let Counts { product, tests, unsafe_blocks, unsafe_files, assertions } = counts;
            evidence::print("lines of product code", product);
            evidence::print("lines of test code", tests);
            evidence::print("test lines for each product line", format!("{:.2}", tests as f64 / product.max(1) as f64));
            evidence::print("uses of unsafe in the product", format!("{unsafe_blocks} in {unsafe_files} files"));
            evidence::print("assertions that stay in release builds", assertions);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the sources cannot be read: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count(root: &Path) -> io::Result<Counts> {
    let mut files = Vec::new();
    for file in workspace_files(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        files.push((name, fs::read_to_string(&file)?));
    }
    let for_tests: Vec<_> = files.iter().flat_map(|(name, text)| modules_for_tests(name, text)).collect();
    let mut counts = Counts::default();
    for (name, text) in &files {
        let is_product = PRODUCT.iter().any(|package| name.starts_with(&format!("{package}/src/")));
        // The bench, this program and the examples are neither.
        let is_test =
            ["/tests/", "loom-tests/", "test-support/", "soak/", "fuzz"].iter().any(|mark| name.contains(mark));
        if is_product || is_test {
            // What is fuzzed, and what tests a module from inside, lies in the crate whose insides it needs.
            let is_shipped = is_product && !name.contains("/src/fuzz");
            let is_module = |path: &String| name.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '/']));
            counts.add(is_shipped && !for_tests.iter().any(is_module), text);
        }
    }
    Ok(counts)
}

/// Whether a line leaves out what follows it unless it is compiled for tests or models.
fn is_for_tests(line: &str) -> bool {
    line.starts_with("#[cfg(") && line.contains("test") && !line.contains("not(test")
}

/// The files of modules that a file declares for tests only, without their endings.
fn modules_for_tests(name: &str, text: &str) -> Vec<String> {
    let (folder, file) = name.rsplit_once('/').unwrap_or_default();
    let folder = match file.strip_suffix(".rs").unwrap_or(file) {
        "mod" | "lib" | "main" => folder.to_owned(),
        module => format!("{folder}/{module}"),
    };
    let lines: Vec<_> = text.lines().collect();
    let declared = lines.windows(2).filter(|pair| is_for_tests(pair[0]));
    let named = declared.filter_map(|pair| pair[1].rsplit_once("mod ")?.1.strip_suffix(';'));
    named.map(|module| format!("{folder}/{module}")).collect()
}

impl Counts {
    fn add(&mut self, is_product: bool, text: &str) {
        // Unit tests stand at the end of their file.
        let (code, tests) = match text.find("\nmod tests {") {
            Some(at) if is_product => text.split_at(at),
            _ if is_product => (text, ""),
            _ => ("", text),
        };
        self.tests += lines(tests).count();
        self.product += lines(code).count();
        let blocks = lines(code).filter(|line| is_unsafe(line)).count();
        self.unsafe_blocks += blocks;
        self.unsafe_files += usize::from(blocks > 0);
        let asserts = |line: &String| line.trim_start().starts_with("assert") && !line.contains("debug_assert");
        self.assertions += lines(code).filter(asserts).count();
    }
}

fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(code_of).filter(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_its_unit_tests_are_told_apart_and_comments_do_not_count() {
        let text =
            "//! Page.\nfn f() {\n    // why\n    assert!(true);\n}\n\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
        let mut counts = Counts::default();
        counts.add(true, text);
        // The line that says so is counted as what it stands before in no file: it is one of the code's.
        assert_eq!((counts.product, counts.tests, counts.assertions), (4, 3, 1));
    }

    #[test]
    fn modules_that_are_there_for_tests_only_are_found() {
        let text = "#[cfg(all(test, not(loom)))]\nmod aimed;\nmod claim;\n#[cfg(not(loom))]\nmod queue;\n\
            #[cfg(any(test, loom))]\npub(crate) mod machine;\n";
        assert_eq!(modules_for_tests("ring/src/mpsc/mod.rs", text), ["ring/src/mpsc/aimed", "ring/src/mpsc/machine"]);
        assert_eq!(modules_for_tests("ring/src/raw.rs", text)[0], "ring/src/raw/aimed");
    }

    #[test]
    fn all_of_a_test_file_is_test_code() {
        let mut counts = Counts::default();
        counts.add(false, "fn f() {\n    unsafe { g() }\n}\n");
        assert_eq!((counts.product, counts.tests, counts.unsafe_blocks), (0, 3, 0));
    }
}
