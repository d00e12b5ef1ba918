//! Odd but harmless peers are served; hostile ones lose their own connection and nothing else.
use crate::harness::peers::modality;
use crate::harness::{SOON, Setup, Station, wait_until};
use serde_json::json;

fn station() -> Station {
    Setup::new()
        .rules(r#"fn route(image, from) { to("keep"); }"#)
        .folder("keep")
        .start()
}

#[track_caller]
fn kept(station: &Station, sop: &serde_json::Value) {
    let sop = sop.as_str().expect("a UID");
    wait_until(sop, SOON, || station.folder("keep").contains_key(sop));
}

#[test]
fn a_request_of_128_contexts_with_40_syntaxes_each_is_accepted() {
    let station = station();
    let answer = modality("big_request", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    assert!(answer["bytes"].as_u64() > Some(16 << 10), "{answer}");
    assert_eq!((&answer["accepted"], &answer["status"]), (&json!(128), &json!(0)));
    kept(&station, &answer["sop"]);
}

#[test]
fn padding_leading_zeros_odd_lengths_and_missing_elements_are_harmless() {
    let station = station();
    let answer = modality("odd", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    for name in ["echo", "space_padded", "leading_zeros", "bare"] {
        assert_eq!(answer[name], json!(0), "{name} in {answer}");
    }
    for sop in answer["sops"].as_array().expect("UIDs") {
        kept(&station, sop);
    }
}

#[test]
fn one_byte_in_each_segment_is_slow_and_right() {
    let station = station();
    let answer = modality("dribble", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    assert_eq!(answer["status"], json!(0));
    kept(&station, &answer["sop"]);
}

#[test]
fn what_is_no_dicom_ends_its_own_connection_only() {
    let mut station = station();
    let answer = modality("hostile", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    for (attack, end) in answer["ended"].as_object().expect("one for each attack") {
        assert_ne!(end, "open", "{attack} was left open: {answer}");
    }
    assert_eq!(
        answer["ended"]["unknown_pdu"],
        json!("aborted"),
        "PS3.8 9.3.8: {answer}"
    );
    assert_eq!(answer["ended"]["wrong_context"], json!("aborted"), "{answer}");
    assert_eq!(answer["code_after"], json!(null), "the next peer is served");
    assert!(station.running());
    assert!(station.metric("association_failures_total", &[("reason", "protocol")]) >= 6.0);
}

/// Each state has its deadline; what came before it is not kept, and the places are given back.
#[test]
fn a_peer_that_stalls_is_left_at_every_protocol_state() {
    let timeouts = "timeouts = { association = \"1s\", idle = \"1s\", transfer = \"1s\", release = \"1s\" }";
    let rules = r#"fn route(image, from) { to("keep"); }"#;
    let station = Setup::new().rules(rules).folder("keep").listener(timeouts).start();
    let borne = modality("stall", station.setup.dicom, "WAYSTATION", "CT1", &[]);
    for (state, seconds) in borne.as_object().expect("a time for each state") {
        let seconds = seconds.as_f64().expect("seconds");
        assert!(
            (0.5..6.0).contains(&seconds),
            "{state} was borne for {seconds} s: {borne}"
        );
    }
    assert_eq!(borne.as_object().map(|map| map.len()), Some(8));
    station.wait_metric("associations_open", &[], |open| open == 0.0);
    assert!(station.metric("association_failures_total", &[("reason", "timeout")]) >= 7.0);
    assert_eq!(station.metric("instances_received_total", &[]), 0.0);
    assert_eq!(station.folder("keep").len(), 0);
}
