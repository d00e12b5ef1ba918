//! DCMTK on both sides, plain and over TLS, with and without client certificates.
use crate::harness::peers::{Storescp, dcmtk, path, send};
use crate::harness::pki::Authority;
use crate::harness::{Archive, Object, SOON, Setup, Station, objects, tools, wait_until};

const TO_KEEP: &str = r#"fn route(image, from) { to("keep"); }"#;

#[test]
fn echoscu_storescu_and_dcmsend_are_served() {
    let station = Setup::new().rules(TO_KEEP).folder("keep").start();
    let port = station.setup.dicom;
    dcmtk("echoscu", port, "ECHOSCU", &[], &[]).ok();
    let sent = Object::many(objects::CT, 3);
    send(port, station.setup.path(), &sent);
    let more = Object::many(objects::MR, 3);
    let files: Vec<_> = more.iter().map(|object| object.write(station.setup.path())).collect();
    dcmtk("dcmsend", port, "DCMSEND", &["-dn"], &files).ok();
    wait_until("six files", SOON, || station.folder("keep").len() == 6);
    let folder = station.folder("keep");
    for object in sent.iter().chain(&more) {
        assert_eq!(folder[&object.sop], [object.data()], "byte for byte");
    }
    let answers = station.metric("store_answers_total", &[("status", "0000")]);
    assert_eq!((answers, station.metric("instances_received_total", &[])), (6.0, 6.0));
    assert_eq!(station.metric("associations_total", &[("source", "test")]), 3.0);
}

#[test]
fn storescp_receives_byte_for_byte() {
    let directory = tempfile::tempdir().expect("a directory");
    let scp = Storescp::start(&directory.path().join("scp"), &[]);
    let rules = r#"fn route(image, from) { to("storescp"); }"#;
    let station = Setup::new()
        .rules(rules)
        .archive("storescp", scp.port, "associations = 1")
        .start();
    let sent = Object::many(objects::CT, 4);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 4.0);
    arrived(&scp, &sent);
}

#[track_caller]
fn arrived(scp: &Storescp, sent: &[Object]) {
    let (mut found, mut wanted) = (scp.data_sets(), sent.iter().map(Object::data).collect::<Vec<_>>());
    found.sort();
    wanted.sort();
    assert!(
        found == wanted,
        "storescp has {} data sets, {} were sent, not all the same",
        found.len(),
        wanted.len()
    );
}

#[test]
fn storescu_over_tls_without_client_certificates() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let server = ca.sign("server", "waystation");
    let station = setup
        .rules(TO_KEEP)
        .folder("keep")
        .listener_tls(&server, "client_certificate = \"none\"")
        .start();
    let object = Object::new(objects::CT);
    let file = [object.write(station.setup.path())];
    let anonymous = ["+tla", "+cf", &path(&ca.certificate), "-R"];
    dcmtk("storescu", station.setup.dicom, "STORESCU", &anonymous, &file).ok();
    dcmtk("echoscu", station.setup.dicom, "ECHOSCU", &anonymous[..3], &[]).ok();
    wait_until("the file", SOON, || station.folder("keep").contains_key(&object.sop));

    let plain = dcmtk("storescu", station.setup.dicom, "STORESCU", &["-R", "-ta", "5"], &file);
    assert_ne!(plain.code, Some(0), "a TLS listener never speaks plain DICOM");
    station.wait_metric("association_refusals_total", &[("reason", "tls")], |n| n >= 1.0);
    let foreign = Authority::new(&station.setup.folder_of("foreign"), "foreign");
    let distrusting = ["+tla", "+cf", &path(&foreign.certificate), "-R"];
    assert_ne!(
        dcmtk("storescu", station.setup.dicom, "STORESCU", &distrusting, &file).code,
        Some(0)
    );
}

fn bound(field: &str) -> String {
    format!(
        "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"127.0.0.0/8\"]\n{field}\n\
         [[sources]]\nname = \"mr1\"\ncalling_ae = [\"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n"
    )
}

/// A box with mutual TLS, the CT's certificate bound to its AE title by name or by fingerprint.
fn mutual(by_name: bool) -> (Station, Authority) {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let (server, ct) = (ca.sign("server", "waystation"), ca.sign("ct1", "ct1.example"));
    ca.sign("mr1", "mr1.example");
    let field = if by_name {
        "certificate_names = [\"ct1.example\"]".to_owned()
    } else {
        format!("certificate_fingerprints = [\"{}\"]", ct.fingerprint)
    };
    let demand = format!("client_certificate = \"required\"\nclient_ca = {:?}", ca.certificate);
    let setup = setup
        .rules(TO_KEEP)
        .folder("keep")
        .sources(&bound(&field))
        .listener_tls(&server, &demand);
    (setup.start(), ca)
}

fn send_as(station: &Station, ca: &Authority, calling: &str, own: &[&str]) -> tools::Ran {
    let object = Object::new(objects::CT);
    let file = object.write(station.setup.path());
    let trust = path(&ca.certificate);
    let mut options = own.to_vec();
    options.extend(["+cf", &trust, "-R", "-ta", "10"]);
    dcmtk("storescu", station.setup.dicom, calling, &options, &[file])
}

fn certificate(station: &Station, folder: &str, name: &str) -> [String; 2] {
    let folder = station.setup.folder_of(folder);
    [
        path(&folder.join(format!("{name}.key"))),
        path(&folder.join(format!("{name}.pem"))),
    ]
}

#[track_caller]
fn only_the_bound_certificate_is_admitted(by_name: bool) {
    let (station, ca) = mutual(by_name);
    let [key, pem] = certificate(&station, "pki", "ct1");
    send_as(&station, &ca, "CT1", &["+tls", &key, &pem]).ok();
    assert_eq!(station.metric("instances_received_total", &[("source", "ct1")]), 1.0);

    let [key, pem] = certificate(&station, "pki", "mr1");
    send_as(&station, &ca, "MR1", &["+tls", &key, &pem]).ok();
    let other = send_as(&station, &ca, "CT1", &["+tls", &key, &pem]);
    assert_ne!(other.code, Some(0));
    assert!(other.err.contains("Calling AE Title Not Recognized"), "{other:?}");
    assert_eq!(
        station.metric("association_refusals_total", &[("reason", "certificate")]),
        1.0
    );

    assert_ne!(
        send_as(&station, &ca, "CT1", &["+tla"]).code,
        Some(0),
        "without a certificate nobody gets in"
    );
    station.wait_metric("association_refusals_total", &[("reason", "tls")], |n| n == 1.0);
    Authority::new(&station.setup.folder_of("foreign"), "foreign").sign("ct1", "ct1.example");
    let [key, pem] = certificate(&station, "foreign", "ct1");
    assert_ne!(
        send_as(&station, &ca, "CT1", &["+tls", &key, &pem]).code,
        Some(0),
        "another authority's certificate"
    );
    station.wait_metric("association_refusals_total", &[("reason", "tls")], |n| n == 2.0);
    assert_eq!(station.metric("instances_received_total", &[]), 2.0);
    wait_until("both files", SOON, || station.folder("keep").len() == 2);
}

#[test]
fn a_certificate_is_bound_to_its_ae_title_by_name() {
    only_the_bound_certificate_is_admitted(true);
}

#[test]
fn a_certificate_is_bound_to_its_ae_title_by_fingerprint() {
    only_the_bound_certificate_is_admitted(false);
}

/// The box's own certificate towards storescp, and whom it trusts there.
fn client_tls(own: Option<&crate::harness::pki::Pair>, trust: &Authority) -> String {
    let own = own.map(|pair| format!("certificate = {:?}, key = {:?}, ", pair.certificate, pair.key));
    let trust = &trust.certificate;
    format!(
        "associations = 1\ntls = {{ {}ca = {trust:?}, server_name = \"localhost\" }}",
        own.unwrap_or_default()
    )
}

const TO_STORESCP: &str = r#"fn route(image, from) { to("storescp"); }"#;

#[test]
fn storescp_over_mutual_tls_receives_byte_for_byte() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let (server, own) = (ca.sign("archive", "archive"), ca.sign("box", "waystation"));
    let scp = Storescp::start_tls(&setup.folder_of("scp"), &server, &ca, "-rc");
    let tls = client_tls(Some(&own), &ca);
    let station = setup.rules(TO_STORESCP).archive("storescp", scp.port, &tls).start();
    let sent = Object::many(objects::CT, 4);
    send(station.setup.dicom, station.setup.path(), &sent);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 4.0);
    arrived(&scp, &sent);
}

#[test]
fn an_untrusted_archive_gets_nothing_and_costs_no_attempts() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let foreign = Authority::new(&setup.folder_of("foreign"), "foreign");
    let (server, own) = (foreign.sign("archive", "archive"), ca.sign("box", "waystation"));
    let scp = Storescp::start_tls(&setup.folder_of("scp"), &server, &ca, "-ic");
    let tls = client_tls(Some(&own), &ca);
    let station = setup.rules(TO_STORESCP).archive("storescp", scp.port, &tls).start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 2));
    station.wait_metric(
        "destination_failures_total",
        &[("destination", "storescp"), ("kind", "tls")],
        |n| n >= 1.0,
    );
    let jobs = station.jobs(&["--destination", "storescp"]);
    assert_eq!(jobs.len(), 2);
    assert!(
        jobs.iter()
            .all(|job| job["attempts"] == 0 && job["hold_kind"].is_null()),
        "{jobs:?}"
    );
    assert!(scp.data_sets().is_empty());
}

#[test]
fn an_archive_that_demands_a_certificate_refuses_a_box_without_one() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let server = ca.sign("archive", "archive");
    let scp = Storescp::start_tls(&setup.folder_of("scp"), &server, &ca, "-rc");
    let tls = client_tls(None, &ca);
    let station = setup.rules(TO_STORESCP).archive("storescp", scp.port, &tls).start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    station.wait_metric("destination_failures_total", &[("destination", "storescp")], |n| {
        n >= 1.0
    });
    assert_eq!(station.metric("deliveries_total", &[("outcome", "confirmed")]), 0.0);
    assert_eq!(station.jobs(&["--destination", "storescp"]).len(), 1);
    assert!(scp.data_sets().is_empty());
}

#[test]
fn a_plain_archive_never_receives_what_should_go_over_tls() {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let archive = Archive::up(&setup.folder_of("archive"));
    let tls = client_tls(None, &ca);
    let station = setup.rules(TO_STORESCP).archive("storescp", archive.port, &tls).start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    station.wait_metric(
        "destination_failures_total",
        &[("destination", "storescp"), ("kind", "tls")],
        |n| n >= 1.0,
    );
    assert!(archive.events("association").is_empty() && archive.stored().is_empty());
}
