//! Names that name nothing: refused before anything is made, with what is allowed.

use switchboard::prelude::*;

use crate::echo::{EchoClient, EchoServer, Place, Plain, short};

/// What each kind of name refuses.
fn bad() -> Vec<String> {
    let fixed = ["", "/", "a/b", "../a", "..", ".", "a\0b", "\0", "a b", "a\n", "ä"];
    let mut bad: Vec<String> = fixed.map(str::to_owned).into();
    bad.push("x".repeat(10_000));
    bad
}

fn is_told(what: &str, name: &str, status: &Status) {
    assert_eq!(short(status), "INVALID_ARGUMENT NotRun", "{what} {name:.20?}: {status}");
    let text = status.message();
    assert!(text.len() < 400, "{what} {name:.20?}: {} bytes of text", text.len());
    assert!(text.lines().count() == 1 && !text.contains('\0'), "{what}: {text:?}");
}

#[test]
fn a_bad_name_of_a_service_an_instance_or_a_namespace_is_refused_and_makes_nothing() {
    let place = Place::new();
    let board = place.board();
    for name in bad() {
        let status = Switchboard::builder()
            .in_process(false)
            .runtime_dir(place.file(""))
            .namespace(&name)
            .map(|_| ())
            .unwrap_err();
        is_told("namespace", &name, &status);
        for address in [name.clone(), format!("test.echo@{name}"), format!("svc://{name}/test.echo")] {
            is_told("to connect to", &name, &EchoClient::connect(&board, &address).unwrap_err());
            is_told("to serve", &name, &board.serve(&address, EchoServer::new(Plain)).start().unwrap_err());
        }
    }
    assert_eq!(std::fs::read_dir(place.file("")).unwrap().count(), 0, "nothing was made");
}
