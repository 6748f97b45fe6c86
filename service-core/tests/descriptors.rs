//! Fingerprints, and the matching of a client's methods with a server's.

mod support;

use service_core::{
    Code, Message, MethodDescriptor, MethodIndex, Outcome, ServiceDescriptor, Shape, TypeInfo, access, deserialize,
};

mod here {
    #[derive(rkyv::Archive)]
    pub struct Point(pub f32, pub f32);
}

mod there {
    #[derive(rkyv::Archive)]
    pub struct Point(pub f32, pub f32);
}

mod larger {
    #[derive(rkyv::Archive)]
    pub struct Point(pub f32, pub f32, pub f32);
}

fn service(methods: impl IntoIterator<Item = MethodDescriptor>) -> ServiceDescriptor {
    ServiceDescriptor { trait_name: "Some".into(), version: String::new(), methods: methods.into_iter().collect() }
}

#[test]
fn a_types_module_does_not_matter_but_its_size_does() {
    let (here, there) = (TypeInfo::of::<Vec<here::Point>>(), TypeInfo::of::<Vec<there::Point>>());
    assert_eq!(here, there);
    assert_eq!(here.name, "Vec<Point>");
    assert_ne!(TypeInfo::of::<here::Point>().fingerprint, TypeInfo::of::<larger::Point>().fingerprint);
    assert_ne!(TypeInfo::of::<(f32, u32)>().fingerprint, TypeInfo::of::<(u32, f32)>().fingerprint);
}

/// A peer of another build computes these numbers too; they change only with the message format.
#[test]
fn fingerprints_are_the_same_in_every_build() {
    assert_eq!(TypeInfo::of::<()>().fingerprint.to_string(), "a0edec50836fc644");
    assert_eq!(TypeInfo::of::<(Vec<f32>, [u64; 8])>().fingerprint.to_string(), "89ee4a8a3eb2ebf0");
}

#[test]
fn methods_are_bound_by_name() {
    let client = service([MethodDescriptor::of::<(), u8>("b"), MethodDescriptor::of::<(), u8>("gone")]);
    let server = service([MethodDescriptor::of::<(), u16>("a"), MethodDescriptor::of::<(), u8>("b")]);
    let map = client.bind(&server).unwrap();
    assert_eq!(map.get(MethodIndex(0)), Some(MethodIndex(1)));
    assert_eq!(map.get(MethodIndex(1)), None);
    assert_eq!(map.get(MethodIndex(2)), None);
}

#[test]
fn a_method_with_other_types_cannot_be_bound() {
    let client = service([MethodDescriptor::of::<(u32,), ()>("m")]);
    let server = service([MethodDescriptor::of::<(String,), ()>("m")]);
    let status = client.bind(&server).unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::FailedPrecondition, Outcome::NotRun));
    let (ours, theirs) = (&client.methods[0].request, &server.methods[0].request);
    for part in ["`m`", "request", "`(u32,)`", "`(String,)`"] {
        assert!(status.message().contains(part), "`{part}` is missing: {status}");
    }
    for fingerprint in [ours.fingerprint, theirs.fingerprint] {
        assert!(status.message().contains(&fingerprint.to_string()), "{status}");
    }
}

#[test]
fn a_mismatch_names_both_versions() {
    let versioned = |version: &str, method| ServiceDescriptor { version: version.into(), ..service([method]) };
    let client = versioned("1.2", MethodDescriptor::of::<(), u8>("m"));
    let server = versioned("2.0", MethodDescriptor::of::<(), u16>("m"));
    let status = client.bind(&server).unwrap_err();
    for part in ["`Some` 1.2", "`Some` 2.0", "reply"] {
        assert!(status.message().contains(part), "`{part}` is missing: {status}");
    }
}

#[test]
fn a_method_with_other_streams_cannot_be_bound() {
    let plain = || MethodDescriptor::of::<(), ()>("m");
    let streaming = |items| MethodDescriptor { shape: Shape::ServerStream, server_items: Some(items), ..plain() };
    let (bytes, words) = (service([streaming(TypeInfo::of::<u8>())]), service([streaming(TypeInfo::of::<u16>())]));
    assert!(bytes.bind(&bytes).is_ok());
    for (client, server, theirs) in [(&bytes, &words, "`u16`"), (&bytes, &service([plain()]), "none")] {
        let status = client.bind(server).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        for part in ["server's stream", "`u8`", theirs] {
            assert!(status.message().contains(part), "`{part}` is missing: {status}");
        }
    }
}

#[test]
fn a_client_is_bound_to_the_form_of_a_method_that_it_knows() {
    let server = service([
        MethodDescriptor::of::<(u8, Option<u16>), ()>("m"),
        MethodDescriptor::of::<(), ()>("n"),
        MethodDescriptor::of::<(u8,), ()>("m"),
    ]);
    let map = |client: ServiceDescriptor| client.bind(&server).unwrap().get(MethodIndex(0));
    assert_eq!(map(service([MethodDescriptor::of::<(u8,), ()>("m")])), Some(MethodIndex(2)));
    assert_eq!(map(service([MethodDescriptor::of::<(u8, Option<u16>), ()>("m")])), Some(MethodIndex(0)));
}

#[test]
fn a_descriptor_comes_off_the_wire_as_it_went() {
    let sent = service([MethodDescriptor::of::<(Vec<f32>,), String>("embed")]);
    let mut memory = support::Memory::default();
    memory.put(&Message(&sent)).unwrap();
    let received: ServiceDescriptor = deserialize(access::<ServiceDescriptor>(memory.bytes()).unwrap()).unwrap();
    assert_eq!(received, sent);
}
