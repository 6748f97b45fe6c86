//! Which texts are names and addresses, and what is said about the others.

use service_core::{Address, Code, InstanceId, NameError, NameKind, Namespace, Outcome, ServiceName, Status};

fn service_error(text: &str) -> NameError {
    ServiceName::new(text).unwrap_err()
}

#[test]
fn labels_joined_by_dots_are_service_names() {
    let longest = format!("{}.{}", "a".repeat(32), "b".repeat(31));
    for text in ["digits", "text.embed", "A-1._.z", "-", &longest] {
        assert_eq!(ServiceName::new(text).unwrap().to_string(), text);
    }
}

#[test]
fn the_first_refused_byte_is_told() {
    for (text, at) in [
        ("", 0),
        (".a", 0),
        ("a..b", 2),
        ("a.", 2),
        ("a/b", 1),
        ("../etc", 0),
        ("a\0b", 1),
        ("a b", 1),
        ("straße", 4),
        ("a.b@1", 3),
    ] {
        let error = service_error(text);
        assert_eq!((error.at(), error.kind()), (at, NameKind::Service), "{text:?}: {error}");
    }
}

#[test]
fn lengths_are_limited_to_the_byte() {
    assert!(ServiceName::new(&"a".repeat(64)).is_ok());
    assert_eq!(service_error(&"a".repeat(65)).at(), 64);
    let longest = format!("{}.{}", "a".repeat(32), "b".repeat(31));
    assert!(ServiceName::new(&longest).is_ok());
    assert_eq!(service_error(&format!("{longest}c")).at(), 64);
    assert!(InstanceId::new(&"1".repeat(16)).is_ok());
    assert_eq!(InstanceId::new(&"1".repeat(17)).unwrap_err().at(), 16);
    assert!(Namespace::new(&"n".repeat(64)).is_ok());
    assert_eq!(Namespace::new(&"n".repeat(65)).unwrap_err().at(), 64);
    assert_eq!(Namespace::new("a.b").unwrap_err().at(), 1);
}

#[test]
fn an_error_says_what_is_allowed_in_one_short_line() {
    assert_eq!(
        service_error("a..b").to_string(),
        "service name \"a..b\" is refused at byte 2: a label is empty; \
         allowed: labels of 1 to 64 of A-Z a-z 0-9 _ - joined by dots, at most 64 bytes in all"
    );
    for text in ["x".repeat(10_000), "ß\n".repeat(5_000), "\0".repeat(10_000)] {
        let message = service_error(&text).to_string();
        assert!(message.len() < 500 && !message.contains(['\n', '\0']), "{message}");
        assert!(message.contains(&format!("({} bytes)", text.len())), "{message}");
    }
}

#[test]
fn a_name_error_is_an_invalid_argument_that_did_not_run() {
    let status = Status::from(service_error(""));
    assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotRun));
    assert!(status.message().contains("service name"));
}

#[test]
fn addresses_are_read_and_shown_the_same() {
    for text in ["digits", "text.embed@2", "svc://default/text.embed", "svc://lab/text.embed@gpu-0"] {
        assert_eq!(Address::parse(text).unwrap().to_string(), text);
    }
    let address: Address = "svc://lab/text.embed@7".parse().unwrap();
    assert_eq!(address.namespace.unwrap().as_str(), "lab");
    assert_eq!(address.service.as_str(), "text.embed");
    assert_eq!(address.instance.unwrap().as_str(), "7");
    assert_eq!((Namespace::default().as_str(), InstanceId::default().as_str()), ("default", "1"));
}

#[test]
fn errors_in_addresses_count_from_the_start_of_the_address() {
    for (text, kind, at) in [
        ("", NameKind::Service, 0),
        ("svc://", NameKind::Address, 6),
        ("svc://lab", NameKind::Address, 9),
        ("svc:///a", NameKind::Namespace, 6),
        ("svc://l.b/a", NameKind::Namespace, 7),
        ("svc://lab/", NameKind::Service, 10),
        ("svc://lab/a/b", NameKind::Service, 11),
        ("a@", NameKind::Instance, 2),
        ("a@1@2", NameKind::Instance, 3),
        ("svc://lab/a..b@1", NameKind::Service, 12),
        ("http://lab/a", NameKind::Service, 4),
    ] {
        let error = Address::parse(text).unwrap_err();
        assert_eq!((error.kind(), error.at()), (kind, at), "{text:?}: {error}");
    }
}
