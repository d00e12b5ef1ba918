//! Storage commitment over TLS in both roles, everybody with a certificate: the modality asks the box's TLS listener and is told on an
//! association to its own TLS address; the archive is asked over TLS, and answers on a TLS association of its own.
use crate::commitment::{Address, refs, source};
use crate::committing::Archive;
use crate::harness::peers::{dcmtk, path};
use crate::harness::pki::{Authority, Pair};
use crate::harness::{Object, Setup, objects, tools};
use serde_json::{Value, json};

fn files(pair: &Pair, ca: &Authority) -> Value {
    json!([path(&pair.certificate), path(&pair.key), path(&ca.certificate)])
}

/// A destination's or an answer's `tls`.
fn towards(own: &Pair, ca: &Authority) -> String {
    format!(
        "tls = {{ ca = {:?}, certificate = {:?}, key = {:?}, server_name = \"localhost\" }}",
        ca.certificate, own.certificate, own.key
    )
}

#[test]
fn both_roles_over_tls_each_peer_by_its_certificate() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let pair = |name: &str| ca.sign(name, &format!("{name}.example"));
    let (own, modality, vna) = (pair("box"), pair("modality"), pair("vna"));
    let mut address = Address::down(&setup.folder_of("address")).tls(&modality, &ca);
    address.start();
    let calls_back = json!({"how": "new", "port": setup.dicom});
    let mut archive = Archive::down(&setup.folder_of("vna-peer"), &calls_back).tls(&vna, &ca);
    archive.start();
    let answers = format!("host = \"127.0.0.1\"\nport = {}\n{}", address.port, towards(&own, &ca));
    let sources = source(&answers).replace(
        "[sources.commitment]",
        "certificate_names = [\"modality.example\"]\n[sources.commitment]",
    );
    let asks = format!(
        "{}\n[destinations.commitment]\nquiet = \"300ms\"\nlinger = \"300ms\"\naddresses = [\"127.0.0.1\"]\n\
         certificate_names = [\"vna.example\"]",
        towards(&own, &ca)
    );
    let listener = format!("client_certificate = \"required\"\nclient_ca = {:?}", ca.certificate);
    let station = setup
        .rules("fn route(image, from) { to(\"vna\"); }")
        .sources(&sources)
        .archive("vna", archive.port, &asks)
        .listener_tls(&own, &listener)
        .start();
    let sent = Object::many(objects::CT, 2);
    let parts: Vec<_> = sent.iter().map(|object| object.write(station.setup.path())).collect();
    let (key, certificate, trust) = (path(&modality.key), path(&modality.certificate), path(&ca.certificate));
    let tls = ["-R", "-xe", "+tls", &key, &certificate, "+cf", &trust];
    let stored = dcmtk("storescu", station.setup.dicom, "CT1", &tls, &parts);
    assert_eq!(stored.code, Some(0), "{}{}", stored.out, stored.err);
    let port = station.setup.dicom.to_string();
    let spec = json!({"transaction": "2.25.8001", "refs": refs(&sent), "tls": files(&modality, &ca)});
    let asked = tools::python_json("commitment.py", &["ask", &port, "WAYSTATION", "CT1", &spec.to_string()]);
    assert_eq!(
        (&asked["status"], &asked["reports"]),
        (&json!(0), &json!([])),
        "{asked}"
    );
    // The archive's word came over its own TLS association, and was taken.
    assert_eq!(archive.wait("answered", 1)[0]["status"], 0);
    station.wait_metric("spool_instances", &[("state", "delivered")], |n| n == 2.0);
    let report = &address.wait(1)[0];
    assert_eq!(
        (&report["transaction"], &report["committed"], &report["failed"]),
        (&json!("2.25.8001"), &refs(&sent), &json!({}))
    );
    // The archive's title with the modality's certificate is nobody; a stranger's transaction is not believed.
    let tell = |who: &Pair| {
        let spec = json!({"transaction": "2.25.8999", "refs": refs(&sent), "tls": files(who, &ca)}).to_string();
        tools::python_json("commitment.py", &["tell", &port, "WAYSTATION", "VNA", &spec])
    };
    assert_eq!(tell(&modality)["associated"], false);
    assert_eq!(tell(&vna)["status"], 0x0115);
}
