//! Who is let in, and what everybody else is answered: default deny, on the wire and in the metrics.
use crate::harness::peers::modality;
use crate::harness::{Setup, tools};
use serde_json::json;

const TO_KEEP: &str = r#"fn route(image, from) { to("keep"); }"#;

#[test]
fn strangers_are_refused_with_the_codes_of_the_standard() {
    let elsewhere = "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"127.0.0.0/8\"]\n\
                     [[sources]]\nname = \"mr1\"\ncalling_ae = [\"MR1\"]\naddresses = [\"10.9.8.0/24\"]\n";
    let station = Setup::new().rules(TO_KEEP).folder("keep").sources(elsewhere).start();
    let port = station.setup.dicom.to_string();
    let code = |called: &str, calling: &str| {
        let by_hand = modality("refused", station.setup.dicom, called, calling, &[])["code"].clone();
        let toolkit = tools::python_json("toolkit.py", &["echo", &port, called, calling])["code"].clone();
        assert_eq!(by_hand, toolkit, "pynetdicom hears the same");
        by_hand
    };
    assert_eq!(code("WAYSTATION", "CT1"), json!(null));
    assert_eq!(code("OTHER", "CT1"), json!([1, 1, 7]));
    assert_eq!(code("WAYSTATION", "UNKNOWN"), json!([1, 1, 3]));
    assert_eq!(
        code("WAYSTATION", "MR1"),
        json!([1, 1, 3]),
        "a known title from a wrong address is unknown"
    );
    let refused = |reason| {
        station.metric(
            "association_refusals_total",
            &[("listener", "dicom"), ("reason", reason)],
        )
    };
    assert_eq!(
        (refused("called_ae"), refused("calling_ae"), refused("address")),
        (2.0, 2.0, 2.0)
    );
    assert_eq!(station.metric("associations_total", &[]), 2.0);
    assert_eq!(
        station.log().matches("\"association refused\"").count(),
        6,
        "each refusal is logged"
    );
}

#[test]
fn limits_answer_a_transient_rejection_and_give_places_back() {
    let limited = "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"127.0.0.0/8\"]\nmax_associations = 3\n\
                   [[sources]]\nname = \"mr1\"\ncalling_ae = [\"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let setup = Setup::new().rules(TO_KEEP).folder("keep").sources(limited);
    let station = setup.toml("[limits]\nmax_associations = 5").start();
    let count = |calling| modality("limits", station.setup.dicom, "WAYSTATION", calling, &["9"]);
    let of_source = json!({"opened": 3, "code": [2, 3, 2], "works_after_release": true});
    assert_eq!(count("CT1"), of_source);
    // The peer's other associations die with it; their places come back.
    station.wait_metric("associations_open", &[], |open| open == 0.0);
    let of_all = json!({"opened": 5, "code": [2, 3, 2], "works_after_release": true});
    assert_eq!(count("MR1"), of_all);
    let refused = |reason| station.metric("association_refusals_total", &[("reason", reason)]);
    assert!(refused("source_limit") >= 1.0 && refused("total_limit") >= 1.0);
}

#[test]
fn a_source_may_be_kept_to_classes_of_the_dictionary() {
    let strict = "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"127.0.0.0/8\"]\nunknown_classes = false\n\
                  [[sources]]\nname = \"mr1\"\ncalling_ae = [\"MR1\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let station = Setup::new().rules(TO_KEEP).folder("keep").sources(strict).start();
    let mut object = crate::harness::Object::new(crate::harness::objects::CT);
    object.class = "1.2.826.0.1.3680043.10.3.77".to_owned();
    let file = object.write(station.setup.path()).to_string_lossy().into_owned();
    let status =
        |calling| modality("store", station.setup.dicom, "WAYSTATION", calling, &[&file])["sent"][0]["status"].clone();
    assert_eq!(status("CT1"), json!(null), "the context of a private class is refused");
    assert_eq!(
        status("MR1"),
        json!(0),
        "and taken where the source allows it, which is the default"
    );
}
