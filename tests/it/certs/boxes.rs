//! Two boxes, one of which was told the wrong language.
use crate::harness::peers::{path, send};
use crate::harness::pki::{Authority, Recipe};
use crate::harness::{Object, Setup, Station, objects};

#[test]
fn plain_dicom_to_the_tls_port_of_another_box_is_recognised() {
    let far = Setup::new();
    let ca = Authority::new(&far.folder_of("pki"), "hospital");
    let pair = ca.make("own", &Recipe::new("far"));
    let far = far
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep")
        .listener_tls(&pair, "client_certificate = \"none\"")
        .start();
    let near = Setup::new()
        .rules(r#"fn route(image, from) { to("vna"); }"#)
        .archive("vna", far.setup.dicom, "")
        .start();
    let sent = Object::many(objects::CT, 1);
    send(near.setup.dicom, &near.setup.folder_of("sent"), &sent);
    let failed = [("role", "destination"), ("name", "vna"), ("reason", "tls_on_plain")];
    near.wait_metric("tls_failures_total", &failed, |count| count >= 1.0);
    let said = near.cli(&["lanes"]).ok().out;
    assert!(said.contains("the peer speaks TLS on this port"), "{said}");

    let to = format!("127.0.0.1:{}", far.setup.dicom);
    let file = path(&sent[0].write(&near.setup.folder_of("sent")));
    let refused = Station::bare(&["send", "--to", &to, "--called", "WAYSTATION", "--calling", "CT1", &file]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    let said = format!("{}{}", refused.out, refused.err);
    assert!(said.contains("the peer speaks TLS on this port"), "{said}");

    // The other way round: TLS to a plain port.
    let to = format!("127.0.0.1:{}", near.setup.dicom);
    let ca = path(&ca.certificate);
    let refused = Station::bare(&["send", "--to", &to, "--tls-ca", &ca, &file]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    let said = format!("{}{}", refused.out, refused.err);
    assert!(said.contains("speaks plain DICOM on this port"), "{said}");
}
