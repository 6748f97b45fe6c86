//! A call between two processes that are awake costs no heap allocation and no system call, on either side.
//!
//! The experiment is the one of the bench row P18; this is the form that every test run asserts. It needs two
//! processors and the right to trace one's own child processes, which every user has unless a sandbox forbids it.
#![deny(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use unloaded::count_alloc::CountingAllocator;
use unloaded::{Argument, CALLS, Experiment, Failure, Roles};

#[path = "../../benches/src/unloaded/mod.rs"]
mod unloaded;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Names the role of a child process and its runtime directory; not set in the process that asserts.
const ROLE: &str = "UNLOADED_ROLE";
const DIRECTORY: &str = "UNLOADED_DIRECTORY";
/// The only thing that a child process runs.
const ROLE_TEST: &str = "role_of_a_child_process";

#[test]
fn an_unloaded_call_allocates_nothing_and_makes_no_system_call() -> Result<(), Failure> {
    let directory = PrivateDirectory::create()?;
    let roles = Roles { service: role("service", &directory)?, caller: role("caller", &directory)? };
    let mut experiment = match Experiment::start(roles)? {
        Ok(experiment) => experiment,
        Err(why) => {
            eprintln!("SKIP: nothing can be asserted here: {why:?}");
            return Ok(());
        }
    };
    for argument in [Argument::Words, Argument::Slice] {
        let cost = experiment.count(argument)?;
        println!("{argument:?}: {cost}");
        assert!(cost.is_measured(), "the machine is too busy for {CALLS} undisturbed calls; {argument:?}: {cost}");
        assert_eq!(cost.caller_allocations, 0, "the caller allocates; {argument:?}: {cost}");
        assert_eq!(cost.service_allocations, 0, "the service allocates; {argument:?}: {cost}");
        assert!(cost.is_free_of_system_calls(), "{argument:?}: {cost}");
    }
    Ok(())
}

#[test]
#[ignore = "run by the child processes of the test above"]
fn role_of_a_child_process() -> Result<(), Failure> {
    let (Some(role), Some(directory)) = (std::env::var_os(ROLE), std::env::var_os(DIRECTORY)) else {
        return Ok(());
    };
    let directory = PathBuf::from(directory);
    if role == "service" { unloaded::roles::serve(&directory) } else { unloaded::roles::call(&directory) }
}

fn role(name: &str, directory: &PrivateDirectory) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", ROLE_TEST, "--ignored", "--nocapture"]);
    command.env(ROLE, name).env(DIRECTORY, directory.path());
    Ok(command)
}

/// A runtime directory of this test's own, gone when the test is.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn create() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("switchboard-unloaded-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Left-overs of a failed run harm nobody: the name holds this process's number.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
