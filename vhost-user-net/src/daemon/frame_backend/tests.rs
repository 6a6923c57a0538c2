//! Specifications of places for frames, and programs behind sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn a_place_is_written_as_its_kind_and_its_name() {
    let parse = |text: &str| text.parse::<BackendSpec>();
    assert_eq!(
        parse("passt:/run/p:1"),
        Ok(BackendSpec::Passt("/run/p:1".into()))
    );
    assert_eq!(parse("gvproxy:g"), Ok(BackendSpec::Gvproxy("g".into())));
    assert_eq!(parse("datagrams:d"), Ok(BackendSpec::Datagrams("d".into())));
    assert_eq!(parse("macvtap:mv0"), Ok(BackendSpec::Macvtap("mv0".into())));
    for text in ["", "passt", "passt:", "tap:t", "macvtap:../x", "macvtap:.."] {
        let error = parse(text).unwrap_err();
        assert!(error.contains("is none of passt:PATH"), "{error}");
    }
}

#[test]
fn sockets_have_one_queue() {
    let spec = BackendSpec::Passt("p".into());
    assert!(spec.check(1).is_ok());
    assert!(matches!(spec.check(2), Err(BackendError::OneQueue(_))));
    assert!(BackendSpec::Macvtap("m".into()).check(2).is_ok());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let spec = BackendSpec::Passt("/nowhere/passt.sock".into());
    let error = spec.open(&NetConfig::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot connect to passt at /nowhere/passt.sock"
    );
    let spec = BackendSpec::Macvtap("nowhere0".into());
    let error = spec.open(&NetConfig::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot open macvtap nowhere0");
    assert_eq!(spec.mac(), None);
}

#[test]
fn each_program_hears_of_its_client_as_it_expects() {
    let folder = tempfile::tempdir().unwrap();
    let stream = folder.path().join("stream");
    let listener = UnixListener::bind(&stream).unwrap();
    let link = BackendSpec::Passt(stream)
        .open(&NetConfig::default())
        .unwrap();
    assert_eq!((link.ports.len(), link.host), (1, None));
    let (mut client, _) = listener.accept().unwrap();
    client.write_all(&[0]).unwrap();
    drop(link.ports);
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));

    let path = folder.path().join("datagrams");
    let peer = UnixDatagram::bind(&path).unwrap();
    let mut bytes = [0; 16];
    let _link = BackendSpec::Gvproxy(path.clone())
        .open(&NetConfig::default())
        .unwrap();
    let (len, client) = peer.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"VFKT");
    // It can be answered.
    peer.send_to_addr(&[0; 60], &client).unwrap();
    let _other = BackendSpec::Datagrams(path)
        .open(&NetConfig::default())
        .unwrap();
    peer.set_nonblocking(true).unwrap();
    assert!(peer.recv(&mut bytes).is_err());
}
