//! Real toolkits at both ends: Orthanc, and pynetdicom in both roles.
use crate::harness::objects::data_set_of;
use crate::harness::peers::{Orthanc, path, send};
use crate::harness::pki::Authority;
use crate::harness::{Archive, Object, SOON, Setup, free_port, objects, tools, wait_until};
use serde_json::json;

#[test]
fn orthanc_holds_every_instance_byte_for_byte() {
    let setup = Setup::new();
    let orthanc = Orthanc::start(&setup.folder_of("orthanc-peer"));
    let rules = r#"fn route(image, from) { to("orthanc"); }"#;
    let station = setup
        .rules(rules)
        .archive("orthanc", orthanc.dicom, "associations = 2")
        .start();
    let sent = [Object::many(objects::CT, 6), Object::many(objects::MR, 4)].concat();
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 10.0);
    let mut found: Vec<Vec<u8>> = orthanc
        .instances()
        .iter()
        .map(|instance| data_set_of(&orthanc.file(instance)).to_vec())
        .collect();
    let mut wanted: Vec<Vec<u8>> = sent.iter().map(Object::data).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found.len(), 10);
    assert!(found == wanted, "Orthanc holds the same data sets");
}

#[test]
fn orthanc_reads_the_edited_instance() {
    let setup = Setup::new();
    let orthanc = Orthanc::start(&setup.folder_of("orthanc-peer"));
    let rules = r#"
fn morph(image, from) { image.PatientID = "MRN-" + image.PatientID; }
fn route(image, from) { to("orthanc"); }"#;
    let station = setup.rules(rules).archive("orthanc", orthanc.dicom, "").start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 1.0);
    let file = station.setup.folder_of("edited.dcm");
    std::fs::write(&file, orthanc.file(&orthanc.instances()[0])).expect("writable");
    let dump = tools::tool(
        "dcmdump",
        &["+P", "0010,0020", "+P", "0400,0561", "+P", "0018,a001", &path(&file)],
    )
    .ok()
    .out;
    assert!(
        dump.contains("[MRN-SYN-1]") && dump.contains("(0400,0561)") && dump.contains("(0018,a001)"),
        "{dump}"
    );
    assert!(dump.contains("(0010,0020) LO [SYN-1]"), "the original value: {dump}");
}

/// What pynetdicom was sent, and what its archive was given, over mutual TLS.
#[test]
fn pynetdicom_sends_and_receives_byte_for_byte() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let (server, own) = (ca.sign("archive", "archive"), ca.sign("box", "waystation"));
    let (port, journal) = (free_port(), setup.folder_of("py.jsonl"));
    let arguments = [
        port.to_string().into(),
        journal.clone(),
        server.certificate,
        server.key,
        ca.certificate.clone(),
    ];
    let mut arguments: Vec<std::path::PathBuf> = arguments.into();
    arguments.insert(0, "archive".into());
    let _archive = tools::python_serving("toolkit.py", &arguments);
    let tls = format!(
        "tls = {{ certificate = {:?}, key = {:?}, ca = {:?}, server_name = \"localhost\" }}",
        own.certificate, own.key, ca.certificate
    );
    let rules = r#"fn route(image, from) { to("pyarchive"); }"#;
    let station = setup.rules(rules).archive("pyarchive", port, &tls).start();
    let sent = [Object::many(objects::CT, 5), Object::many(objects::MR, 3)].concat();
    let files: Vec<String> = sent
        .iter()
        .map(|object| path(&object.write(station.setup.path())))
        .collect();
    let mut arguments = vec![
        "send".to_owned(),
        station.setup.dicom.to_string(),
        "WAYSTATION".into(),
        "PYNETDICOM".into(),
    ];
    arguments.extend(files);
    assert_eq!(
        tools::python_json("toolkit.py", &arguments),
        json!({"failed": {}, "sent": 8})
    );
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 8.0);
    let lines = std::fs::read_to_string(journal).expect("the archive's journal");
    let mut found: Vec<String> = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .map(|line| line["sha256"].as_str().unwrap_or_default().to_owned())
        .collect();
    let mut wanted: Vec<String> = sent.iter().map(|object| objects::sha256(&object.data())).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    assert!(lines.contains("\"calling\": \"WAYSTATION\""), "{lines}");
}

#[test]
fn pynetdicom_over_tls_with_and_without_its_certificate() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let (server, own) = (ca.sign("server", "waystation"), ca.sign("mod", "mod.example"));
    let demand = format!("client_certificate = \"optional\"\nclient_ca = {:?}", ca.certificate);
    let sources = "[[sources]]\nname = \"mod\"\ncalling_ae = [\"MOD1\"]\naddresses = [\"127.0.0.0/8\"]\n\
                   certificate_names = [\"mod.example\"]\n\
                   [[sources]]\nname = \"open\"\ncalling_ae = [\"MOD2\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let setup = setup
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep")
        .sources(sources);
    let station = setup.listener_tls(&server, &demand).start();
    let port = station.setup.dicom.to_string();
    let (trust, certificate, key) = (path(&ca.certificate), path(&own.certificate), path(&own.key));
    let echo = |calling: &str, more: &[&str]| {
        let mut arguments = vec!["echo_tls", &port, "WAYSTATION", calling, &trust];
        arguments.extend(more);
        tools::python_json("toolkit.py", &arguments)
    };
    assert_eq!(echo("MOD1", &[&certificate, &key]), json!({"code": null, "status": 0}));
    assert_eq!(
        echo("MOD1", &[]),
        json!({"code": [1, 1, 3]}),
        "the title is bound to a certificate"
    );
    assert_eq!(echo("MOD2", &[]), json!({"code": null, "status": 0}));
}

/// Its own data sets, encoded by pynetdicom from a pydicom object, to two archives with different edits.
#[test]
fn two_archives_get_the_same_instance_each_in_its_own_shape() {
    let setup = Setup::new();
    let (one, two) = (
        Archive::up(&setup.folder_of("one-peer")),
        Archive::up(&setup.folder_of("two-peer")),
    );
    let rules = r#"
fn morph_for_two(image, from) { image.StudyDescription = "FOR TWO"; }
fn route(image, from) { to("one"); to("two"); }"#;
    let station = setup
        .rules(rules)
        .archive("one", one.port, "")
        .archive("two", two.port, "")
        .start();
    let object = Object::new(objects::CT);
    let file = path(&object.write(station.setup.path()));
    let port = station.setup.dicom.to_string();
    let answer = tools::python_json("toolkit.py", &["sequences", &port, "WAYSTATION", "PYNETDICOM", &file]);
    assert_eq!(answer, json!({"status": 0}));
    wait_until("both", SOON, || one.stored().len() == 1 && two.stored().len() == 1);
    one.holds_exactly(std::slice::from_ref(&object));
    let edited = two.events("stored")[0]["bytes"].as_u64();
    assert!(edited > Some(object.data().len() as u64), "the stamped one is longer");
}
