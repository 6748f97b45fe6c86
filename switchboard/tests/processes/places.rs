//! Where services are found: runtime directories, namespaces, and the environment that names them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use switchboard::prelude::*;

use crate::notary::{self, NAME, NotaryClient, Place, SOCKET, short, verdict};
use test_support::child::Child;

const NAMESPACE: &str = "SWITCHBOARD_NAMESPACE";

#[test]
fn processes_find_each_other_by_the_environment_alone() {
    let place = Place::new();
    let environment = [place.environment(), (NAMESPACE, "blue".into())];
    let service = notary::start_service(&environment);
    assert!(place.runtime_dir().join("blue").join(SOCKET).exists());
    assert_eq!(Child::start("client", &environment).ask("call"), "right");
    let board = Switchboard::builder()
        .in_process(false)
        .runtime_dir(place.runtime_dir())
        .namespace("blue")
        .unwrap()
        .open()
        .unwrap();
    let listed = board.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].address.to_string(), "svc://blue/test.notary@1");
    assert_eq!(listed[0].pid, service.id());
}

#[test]
fn namespaces_do_not_see_each_other() {
    let place = Place::new();
    let in_namespace = |name: &str| [place.environment(), (NAMESPACE, name.into())];
    let _blue = notary::start_service(&in_namespace("blue"));
    assert_eq!(Child::start("client", &in_namespace("green")).ask("call"), "NOT_FOUND NotRun");
    assert_eq!(Child::start("client", &[place.environment()]).ask("call"), "NOT_FOUND NotRun");
    let _green = notary::start_service(&in_namespace("green"));
    for namespace in ["blue", "green"] {
        let board =
            Switchboard::builder().in_process(false).runtime_dir(place.runtime_dir()).namespace(namespace).unwrap();
        assert_eq!(board.open().unwrap().list().unwrap().len(), 1, "{namespace}");
    }
    assert_eq!(place.board().list().unwrap(), []);
    let client = NotaryClient::connect(&place.board(), "svc://green/test.notary").unwrap();
    assert_eq!(verdict(1, b"", &client.quick(1, b"")), "right", "an address may name a namespace");
}

#[test]
fn runtime_directories_do_not_see_each_other() {
    let (one, other) = (Place::new(), Place::new());
    let _service = notary::start_service(&[one.environment()]);
    assert_eq!(Child::start("client", &[other.environment()]).ask("call"), "NOT_FOUND NotRun");
    assert_eq!(Child::start("client", &[one.environment()]).ask("call"), "right");
}

#[test]
fn a_bad_namespace_in_the_environment_is_told() {
    let place = Place::new();
    let environment = [place.environment(), (NAMESPACE, "a/b".into())];
    assert_eq!(Child::start("client", &environment).ask("call"), "INVALID_ARGUMENT NotRun");
}

fn mode(path: PathBuf) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_missing_runtime_directory_is_made_for_this_user_alone() {
    let place = Place::new();
    let dir = place.file("not/there/yet");
    let board = Switchboard::builder().in_process(false).runtime_dir(&dir).open().unwrap();
    assert_eq!(board.list().unwrap(), []);
    for made in [place.file("not"), place.file("not/there"), dir.clone(), dir.join("default")] {
        assert_eq!(mode(made.clone()), 0o700, "{}", made.display());
    }
}

fn refusal(dir: PathBuf) -> String {
    let status = Switchboard::builder().in_process(false).runtime_dir(&dir).open().unwrap_err();
    assert_eq!(short(&status), "FAILED_PRECONDITION NotRun", "{status}");
    assert!(status.message().contains(dir.to_str().unwrap()), "{status}");
    status.message().to_owned()
}

#[test]
fn a_runtime_directory_that_is_none_is_refused() {
    let place = Place::new();
    let file = place.file("file");
    std::fs::write(&file, "").unwrap();
    assert!(refusal(file.clone()).contains("cannot be opened: Not a directory"));
    assert!(refusal(file.join("below")).contains("cannot be made"));
}

#[test]
fn a_runtime_directory_that_others_can_write_is_refused() {
    let place = Place::new();
    let dir = place.file("open");
    std::fs::create_dir(&dir).unwrap();
    for mode in [0o777, 0o702, 0o720, 0o1777] {
        std::fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        let why = refusal(dir.clone());
        assert!(why.contains(&format!("{mode:o}")) && why.contains("others write"), "{why}");
    }
}

#[test]
fn a_namespace_that_others_can_write_is_refused() {
    let place = Place::new();
    let board = place.board();
    let dir = place.runtime_dir().join("default");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    for status in [board.list().unwrap_err(), NotaryClient::connect(&board, NAME).unwrap_err()] {
        assert_eq!(short(&status), "FAILED_PRECONDITION NotRun", "{status}");
        assert!(status.message().contains("777"), "{status}");
    }
}
