//! The fault cases: each that `docs/fault-cases.md` calls shown is a test of that name, and no test of it is missing there.

use std::fs;

use crate::shell::root;
use crate::source::workspace_files;
use crate::suite::Outcome;

const PAGE: &str = "docs/fault-cases.md";
/// Rows behind this heading name cases that have no test yet.
const NOT_YET: &str = "## Not yet";

/// Compares the page with the tests.
pub fn check() -> Outcome {
    let page = match fs::read_to_string(root().join(PAGE)) {
        Ok(page) => page,
        Err(error) => return Outcome::Failed(format!("{PAGE}: {error}")),
    };
    let mut tests = String::new();
    let read = workspace_files(root()).and_then(|files| {
        files.iter().try_for_each(|file| {
            tests.push_str(&fs::read_to_string(file)?);
            Ok(())
        })
    });
    match read {
        Ok(()) => Outcome::of_findings(&findings(&page, &tests)),
        Err(error) => Outcome::Failed(format!("the sources cannot be read: {error}")),
    }
}

fn findings(page: &str, tests: &str) -> Vec<String> {
    let (shown, not_yet) = page.split_once(NOT_YET).unwrap_or((page, ""));
    let (shown, not_yet) = (names(shown), names(not_yet));
    let mut findings = Vec::new();
    if shown.is_empty() {
        findings.push(format!("{PAGE} names no case"));
    }
    let missing = shown.iter().filter(|name| !is_there(name, tests));
    findings.extend(missing.map(|name| format!("{PAGE}: there is no test `{name}`")));
    let there = not_yet.iter().filter(|name| is_there(name, tests));
    findings.extend(there.map(|name| format!("{PAGE}: `{name}` is said to be missing, and there is a test")));
    findings
}

/// The names in the first column of the page's tables.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect()
}

/// A function of that name, a test that is made over every backing, or one of a list of attacks.
fn is_there(name: &str, tests: &str) -> bool {
    ["fn NAME()", "for_every_backing!(NAME,", "    NAME => "]
        .iter()
        .any(|form| tests.contains(&form.replace("NAME", name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "| case | sentence |\n|---|---|\n| `a_b` | s |\n\n## Not yet\n| `c` | why |\n";

    #[test]
    fn a_page_that_agrees_with_the_tests_has_no_findings() {
        assert_eq!(findings(PAGE, "#[test]\nfn a_b() {}"), [] as [String; 0]);
        assert_eq!(findings(PAGE, "for_every_backing!(a_b, |backing| {})"), [] as [String; 0]);
    }

    #[test]
    fn a_case_without_a_test_and_a_test_that_is_called_missing_are_found() {
        let found = findings(PAGE, "fn c() {}");
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
