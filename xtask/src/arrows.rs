//! Which crate may know which: arrows between crates go down only, and rivals stay in `benches`.

use serde_json::Value;

use crate::shell::Shell;
use crate::suite::Outcome;

/// A crate of the workspace, and those below it that it may know.
struct Layer {
    name: &'static str,
    knows: &'static [&'static str],
}

/// From the bottom to the top. Tests of a crate may use any crate that stands further up in this list.
const LAYERS: [Layer; 11] = [
    Layer { name: "test-support", knows: &[] },
    Layer { name: "shm-ring", knows: &[] },
    Layer { name: "service-core", knows: &[] },
    Layer { name: "service-macros", knows: &[] },
    Layer { name: "service-local", knows: &["shm-ring", "service-core"] },
    Layer { name: "switchboard", knows: &["service-core", "service-macros", "service-local"] },
    Layer { name: "switchboard-cli", knows: &["shm-ring", "switchboard"] },
    Layer { name: "soak", knows: &["test-support", "shm-ring", "switchboard"] },
    Layer { name: "loom-tests", knows: &["shm-ring"] },
    Layer { name: "xtask", knows: &[] },
    Layer { name: "benches", knows: &["shm-ring", "service-core", "switchboard"] },
];

/// The package that holds the rivals; nobody must have to build it.
const RIVALS_HOME: &str = "benches";
/// What is measured against; a dependency of `benches` only.
const RIVALS: [&str; 8] = ["iceoryx2", "ipc-channel", "shaq", "shmipc", "tarpc", "tonic", "zenoh", "rtrb"];
/// The generated code knows services, not memory: so do the crates that make it.
const MEMORY: [&str; 5] = ["libc", "memmap2", "nix", "rustix", "shm-ring"];

/// Compares the manifests of all members with the layers.
pub fn check() -> Outcome {
    let metadata = match Shell::cargo(&["metadata", "--format-version", "1", "--no-deps"]).ask() {
        Ok((true, text)) => text,
        Ok((false, _)) => return Outcome::Failed("`cargo metadata` failed".to_owned()),
        Err(error) => return Outcome::Failed(format!("`cargo metadata`: {error}")),
    };
    match serde_json::from_str(&metadata) {
        Ok(metadata) => Outcome::of_findings(&findings(&metadata)),
        Err(error) => Outcome::Failed(format!("`cargo metadata` gave no JSON: {error}")),
    }
}

fn findings(metadata: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    if packages.is_empty() {
        findings.push("cargo names no package".to_owned());
    }
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = LAYERS.iter().position(|layer| layer.name == name) else {
            findings.push(format!("`{name}` has no place among the layers (xtask/src/arrows.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().map_or(&[][..], Vec::as_slice) {
            let is_dev = dependency["kind"].as_str() == Some("dev");
            findings.extend(wrong(layer, dependency["name"].as_str().unwrap_or_default(), is_dev));
        }
        let is_default =
            metadata["workspace_default_members"].as_array().is_some_and(|members| members.contains(&package["id"]));
        if name == RIVALS_HOME && is_default {
            findings.push(format!("`{RIVALS_HOME}` is a default member"));
        }
    }
    findings
}

/// What is wrong with an arrow from the crate in this layer to `dependency`.
fn wrong(layer: usize, dependency: &str, is_dev: bool) -> Option<String> {
    let Layer { name, knows } = LAYERS[layer];
    let is_below = LAYERS[..layer].iter().any(|below| below.name == dependency);
    if RIVALS.contains(&dependency) && name != RIVALS_HOME {
        return Some(format!("`{name}` depends on the rival `{dependency}`"));
    }
    if name == "service-macros" && MEMORY.contains(&dependency) {
        return Some(format!("`{name}` must not know memory, and depends on `{dependency}`"));
    }
    if LAYERS.iter().all(|layer| layer.name != dependency) {
        return None;
    }
    let allowed = if is_dev { is_below } else { knows.contains(&dependency) };
    (!allowed).then(|| format!("`{name}` must not know `{dependency}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> usize {
        LAYERS.iter().position(|layer| layer.name == name).expect("it has a place")
    }

    #[test]
    fn an_arrow_upwards_is_found() {
        assert!(wrong(place("shm-ring"), "service-core", false).is_some());
        assert!(wrong(place("service-core"), "service-local", true).is_some());
        assert!(wrong(place("service-local"), "shm-ring", false).is_none());
    }

    #[test]
    fn a_rival_outside_the_benches_is_found() {
        assert!(wrong(place("switchboard-cli"), "iceoryx2", true).is_some());
        assert!(wrong(place("benches"), "iceoryx2", false).is_none());
    }

    #[test]
    fn a_package_without_a_place_is_found() {
        let metadata = serde_json::json!({ "packages": [{ "name": "stranger", "id": "1", "dependencies": [] }] });
        assert_eq!(findings(&metadata).len(), 1);
    }
}
