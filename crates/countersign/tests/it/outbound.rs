//! Requests to the outside, and where they may not go.

use crate::peers::http::{Answer, HttpPeer};
use countersign::delivery::outbound::{Outbound, OutboundError, Reach, Request};
use http::{HeaderMap, Method, StatusCode};
use std::{fs, time::Duration};

fn request(url: &str) -> Request {
    Request {
        method: Method::GET,
        url: url.parse().expect(url),
        headers: HeaderMap::new(),
        body: Vec::new().into(),
        timeout: Duration::from_secs(5),
    }
}

fn allowing(hosts: &[&str]) -> Outbound {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    Outbound::new(&hosts).expect("prepared")
}

async fn outcome(outbound: &Outbound, url: &str) -> Result<StatusCode, OutboundError> {
    outbound.send(request(url)).await.map(|reply| reply.status)
}

#[tokio::test]
async fn private_addresses_are_refused_however_they_are_written() {
    let peer = HttpPeer::start(|_| Answer::status(200)).await;
    let port = peer.url.rsplit(':').next().expect("a port").to_owned();
    let outbound = allowing(&["sms.example.com"]);

    for host in [
        "127.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "[fd00:ec2::254]",
        "224.0.0.1",
        // A name is known by what it resolves to.
        "localhost",
        "LOCALHOST",
    ] {
        let refused = outcome(&outbound, &format!("https://{host}:{port}/")).await;
        assert!(matches!(refused, Err(OutboundError::Private(_))), "{host}: {refused:?}");
    }
    assert!(peer.asked().is_empty());
}

#[tokio::test]
async fn a_private_address_is_asked_where_its_host_is_allowed_by_name() {
    let peer = HttpPeer::start(|_| Answer::status(204)).await;
    let by_name = peer.url.replace("127.0.0.1", "localhost");

    assert_eq!(outcome(&allowing(&["127.0.0.1"]), &peer.url).await, Ok(StatusCode::NO_CONTENT));
    assert_eq!(outcome(&allowing(&["localhost"]), &by_name).await, Ok(StatusCode::NO_CONTENT));
    // To allow a name is not to allow its address, nor the other way round.
    assert!(outcome(&allowing(&["localhost"]), &peer.url).await.is_err());
    assert!(outcome(&allowing(&["127.0.0.1"]), &by_name).await.is_err());
    assert_eq!(peer.asked().len(), 2);
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_authorities_that_are_named() {
    let peer = HttpPeer::start_tls(|_| Answer::status(200)).await;
    let directory = tempfile::tempdir().expect("directory");
    let ca_file = directory.path().join("ca.pem");
    fs::write(&ca_file, peer.authority.as_deref().expect("TLS")).expect("write");
    let allow_private = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let trusting = Reach { allow_private: allow_private.clone(), ca_file: Some(ca_file), proxy: None };
    let trusting = Outbound::reaching(&trusting).expect("prepared");

    let unknown = outcome(&Outbound::new(&allow_private).expect("prepared"), &peer.url).await;
    let other_name = outcome(&trusting, &peer.url.replace("localhost", "127.0.0.1")).await;
    let known = outcome(&trusting, &peer.url).await;

    assert!(matches!(unknown, Err(OutboundError::Unreachable(_))), "{unknown:?}");
    assert!(matches!(other_name, Err(OutboundError::Unreachable(_))), "{other_name:?}");
    assert_eq!(known, Ok(StatusCode::OK));
}

#[tokio::test]
async fn a_proxy_that_is_named_carries_everything() {
    let proxy = HttpPeer::start(|_| Answer::status(200)).await;
    let reach =
        Reach { allow_private: vec!["sms.internal".into()], ca_file: None, proxy: Some(proxy.url.clone()) };

    let answered = outcome(&Outbound::reaching(&reach).expect("prepared"), "http://sms.internal/send").await;

    assert_eq!(answered, Ok(StatusCode::OK));
    assert_eq!(proxy.only().target, "http://sms.internal/send");
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_limit() {
    let peer = HttpPeer::start(|asked| {
        let length = asked.target.trim_start_matches('/').parse().expect("a length");
        Answer::Whole(200, Vec::new(), "x".repeat(length))
    })
    .await;
    let outbound = allowing(&["127.0.0.1"]);

    let whole = outbound.send(request(&format!("{}/65536", peer.url))).await;
    let beyond = outbound.send(request(&format!("{}/65537", peer.url))).await;

    assert_eq!(whole.map(|reply| reply.body.expose().len()).ok(), Some(65_536));
    assert_eq!(beyond.map(|_| ()), Err(OutboundError::TooLong));
}

#[test]
fn what_is_named_wrongly_stops_the_start() {
    let directory = tempfile::tempdir().expect("directory");
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "no certificate").expect("write");
    let reach = |ca_file, proxy: Option<&str>| Reach {
        allow_private: Vec::new(),
        ca_file,
        proxy: proxy.map(str::to_owned),
    };

    for (reach, expected) in [
        (reach(Some("/nowhere/ca.pem".into()), None), "read delivery.ca_file /nowhere/ca.pem: "),
        (reach(Some(empty), None), "no certificate in PEM"),
        (reach(None, Some("proxy:3128")), "read delivery.proxy: "),
    ] {
        let error = Outbound::reaching(&reach).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}
