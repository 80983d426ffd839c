use envoy_types::pb::{
    envoy::extensions::transport_sockets::tls::v3::{Secret, secret},
    google::rpc,
};
use prost::Message as _;

use super::*;

fn secrets(serial: u32) -> Secrets {
    Secrets {
        chain: format!("chain {serial}"),
        key: format!("key {serial}"),
        roots: "roots".to_owned(),
    }
}

fn state(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn delta(subscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: subscribe.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[test]
fn each_certificate_is_sent_once_and_the_next_one_is_pushed() {
    let mut stream = State::default();
    stream.take(state(&[CERTIFICATE])).unwrap();
    let first = stream.next(&secrets(1)).unwrap();
    let secret = Secret::decode(&*first.resources[0].value).unwrap();
    assert_eq!(secret.name, CERTIFICATE);
    let Some(secret::Type::TlsCertificate(certificate)) = secret.r#type else {
        panic!("{secret:?}")
    };
    assert_eq!(certificate.private_key, stream_key("key 1"));
    // An ACK repeats the names.
    stream.take(state(&[CERTIFICATE])).unwrap();
    assert_eq!(stream.next(&secrets(1)), None);
    let second = stream.next(&secrets(2)).unwrap();
    assert_ne!((first.version_info, first.nonce), (second.version_info, second.nonce));
}

fn stream_key(pem: &str) -> Option<envoy_types::pb::envoy::config::core::v3::DataSource> {
    use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
    let specifier = Some(Specifier::InlineString(pem.to_owned()));
    Some(DataSource { specifier, ..DataSource::default() })
}

#[test]
fn a_refusal_is_not_answered_with_the_same_again() {
    let mut stream = State::default();
    stream.take(state(&[ROOTS])).unwrap();
    assert!(stream.next(&secrets(1)).is_some());
    let nack = rpc::Status { message: "no".to_owned(), ..rpc::Status::default() };
    stream.take(DiscoveryRequest { error_detail: Some(nack), ..state(&[ROOTS]) }).unwrap();
    assert_eq!(stream.next(&secrets(1)), None);
}

#[test]
fn delta_sends_what_changed_and_says_what_does_not_exist() {
    let mut stream = Delta::default();
    stream.take(delta(&[CERTIFICATE, ROOTS, "else"])).unwrap();
    let names = |response: &DeltaDiscoveryResponse| {
        response.resources.iter().map(|r| r.name.clone()).collect::<Vec<_>>()
    };
    let first = stream.next(&secrets(1)).unwrap();
    assert_eq!(names(&first), [ROOTS, CERTIFICATE]);
    assert_eq!(first.removed_resources, ["else"]);
    assert_eq!(stream.next(&secrets(1)), None);
    let second = stream.next(&secrets(2)).unwrap();
    assert_eq!(names(&second), [CERTIFICATE], "the roots are the same");
    assert_eq!(second.removed_resources, [""; 0]);
}

#[test]
fn a_reconnection_with_the_newest_version_is_sent_nothing() {
    let mut stream = Delta::default();
    stream.take(delta(&[CERTIFICATE])).unwrap();
    let sent = stream.next(&secrets(1)).unwrap().resources.remove(0);
    for (serial, nothing) in [(1, true), (2, false)] {
        let mut again = Delta::default();
        let known = [(CERTIFICATE.to_owned(), sent.version.clone())].into();
        let request =
            DeltaDiscoveryRequest { initial_resource_versions: known, ..delta(&[CERTIFICATE]) };
        again.take(request).unwrap();
        assert_eq!(again.next(&secrets(serial)).is_none(), nothing, "{serial}");
    }
}

#[test]
fn other_types_and_many_names_are_refused() {
    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let other = DiscoveryRequest { type_url, ..state(&[CERTIFICATE]) };
    assert!(State::default().take(other).is_err());
    let names: Vec<_> = (0..100).map(|i| i.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert!(State::default().take(state(&names)).is_err());
    assert!(Delta::default().take(delta(&names)).is_err());
}

#[test]
fn no_key_is_shown() {
    assert!(!format!("{:?}", secrets(7)).contains("key 7"));
}
