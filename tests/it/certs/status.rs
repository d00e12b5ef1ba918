//! `waystation cert status`, `waystation check` and the metrics of certificates.
use crate::harness::http::Scrape;
use crate::harness::peers::path;
use crate::harness::pki::{Authority, Recipe};
use crate::harness::tools::{self, Ran};
use crate::harness::{Setup, Station, free_port};
use serde_json::Value;

const TO_KEEP: &str = r#"fn route(image, from) { to("keep"); }"#;

fn status(station: &Station, more: &[&str]) -> (Ran, Value) {
    let ran = station.cli(&[&["cert", "status", "--json"], more].concat());
    let answer = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, answer)
}

#[track_caller]
fn entry<'a>(answer: &'a Value, role: &str, kind: &str) -> &'a Value {
    let all = answer["certificates"].as_array().expect("a list");
    let found = all.iter().find(|entry| entry["role"] == role && entry["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {role} {kind} in {answer}"))
}

/// A box with one listener and one destination, each with everything.
fn setup(own: &Recipe) -> (Setup, Authority) {
    let setup = Setup::new();
    let ca = Authority::new(&setup.folder_of("pki"), "hospital");
    let pair = ca.make("own", own);
    let (trust, list) = (&ca.certificate, ca.list("hospital", &[7], 2090));
    let demand = format!("client_ca = {trust:?}\nclient_crl = {list:?}");
    let tls = format!(
        "tls = {{ ca = {trust:?}, crl = {list:?}, certificate = {:?}, key = {:?} }}",
        pair.certificate, pair.key
    );
    let setup = setup
        .rules(TO_KEEP)
        .folder("keep")
        .toml("[certificates]\nwatch = \"200ms\"\n")
        .archive("vna", free_port(), &tls)
        .listener_tls(&pair, &demand);
    (setup, ca)
}

#[test]
fn every_certificate_is_shown_with_what_openssl_says_of_it() {
    let (setup, ca) = setup(&Recipe::new("waystation"));
    let own = setup.folder_of("pki").join("own.pem");
    let station = setup.start();
    let (ran, answer) = status(&station, &[]);
    assert_eq!(
        (ran.code, &answer["running"], &answer["problems"]),
        (Some(0), &Value::Bool(true), &serde_json::json!([])),
        "{answer}"
    );
    let openssl = |file: &std::path::Path, what: &str| {
        let ran = tools::tool("openssl", &["x509", "-in", &path(file), "-noout", what, "-sha256"]).ok();
        ran.out
            .trim()
            .split_once('=')
            .expect("a value")
            .1
            .replace(':', "")
            .to_lowercase()
    };
    for role in ["listener", "destination"] {
        let found = entry(&answer, role, "certificate");
        assert_eq!(found["fingerprint"], openssl(&own, "-fingerprint"));
        assert_eq!(
            found["serial"]
                .as_str()
                .expect("text")
                .replace(':', "")
                .trim_start_matches('0'),
            openssl(&own, "-serial").trim_start_matches('0')
        );
        assert_eq!(
            (&found["subject"], &found["issuer"]),
            (&Value::from("CN=waystation"), &Value::from("CN=hospital"))
        );
        assert_eq!(found["sans"], serde_json::json!(["DNS:localhost", "IP:127.0.0.1"]));
        assert_eq!(
            (&found["key_matches"], &found["chain"]),
            (&Value::Bool(true), &Value::from("complete"))
        );
        assert_eq!(
            (&found["in_force"], &found["on_disk"], &found["state"]),
            (&Value::Bool(true), &Value::Bool(true), &Value::from("ok"))
        );
        assert_eq!(
            (&found["not_before_utc"], &found["not_after_utc"]),
            (
                &Value::from("2020-01-01T00:00:00Z"),
                &Value::from("2090-01-01T00:00:00Z")
            )
        );
        assert!(found["days_left"].as_i64() > Some(20_000));
        assert_eq!(
            entry(&answer, role, "ca")["fingerprint"],
            openssl(&ca.certificate, "-fingerprint")
        );
        assert_eq!(entry(&answer, role, "crl")["revoked"], 1);
        let expiry = station.metric("certificate_expiry_timestamp_seconds", &[("role", role)]);
        assert_eq!(expiry, 3_786_912_000.0, "2090-01-01");
        assert_eq!(
            station.metric("crl_next_update_timestamp_seconds", &[("role", role)]),
            3_786_912_000.0
        );
    }
    let text = station.cli(&["cert", "status"]).ok().out;
    for word in [
        "listener",
        "destination",
        "certificate",
        "ca",
        "crl",
        "matches",
        "complete",
        "CN=waystation",
        "2090-01-01",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn how_soon_an_end_is_a_problem_can_be_said() {
    let (setup, _ca) = setup(&Recipe::new("waystation"));
    let station = setup.idle();
    assert_eq!(status(&station, &[]).0.code, Some(0));
    let (ran, answer) = status(&station, &["--within", "80years"]);
    assert_eq!(
        (ran.code, &entry(&answer, "listener", "certificate")["state"]),
        (Some(1), &Value::from("expiring"))
    );
}

#[test]
fn what_is_in_force_is_told_from_what_lies_on_the_disk() {
    let (setup, ca) = setup(&Recipe::new("waystation"));
    let station = setup.toml("").start();
    let before = entry(&status(&station, &[]).1, "listener", "certificate")["fingerprint"].clone();
    let other = ca.sign("other", "waystation");
    std::fs::copy(&other.certificate, station.setup.folder_of("pki").join("own.pem")).expect("writable");
    station.wait_metric("certificate_reload_failed", &[], |n| n == 2.0);
    let (ran, answer) = status(&station, &[]);
    assert_eq!(ran.code, Some(1));
    let all: Vec<&Value> = answer["certificates"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|e| e["role"] == "listener" && e["kind"] == "certificate")
        .collect();
    let of = |print: &Value| {
        all.iter()
            .find(|entry| entry["fingerprint"] == *print)
            .expect("both are shown")
    };
    let (old, new) = (of(&before), of(&Value::from(other.fingerprint.as_str())));
    assert_eq!(
        (&old["in_force"], &old["on_disk"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    assert_eq!(
        (&new["in_force"], &new["on_disk"], &new["state"]),
        (&Value::Bool(false), &Value::Bool(true), &Value::from("mismatch"))
    );
    assert!(ran.out.contains("not in force"), "{}", ran.out);
}

#[test]
fn without_a_box_the_files_themselves_are_judged() {
    let (setup, _ca) = setup(&Recipe::new("waystation").years(2019, 2021));
    let station = setup.idle();
    let (ran, answer) = status(&station, &[]);
    assert_eq!((ran.code, &answer["running"]), (Some(1), &Value::Bool(false)));
    let own = entry(&answer, "listener", "certificate");
    assert_eq!(
        (&own["state"], &own["in_force"]),
        (&Value::from("expired"), &Value::Null)
    );
    assert!(own["days_left"].as_i64() < Some(0));
    let pki = station.setup.folder_of("pki");
    std::fs::remove_file(pki.join("own.key")).expect("there");
    let (ran, answer) = status(&station, &[]);
    assert_eq!(
        (ran.code, &entry(&answer, "listener", "certificate")["state"]),
        (Some(1), &Value::from("unreadable"))
    );
    std::fs::remove_file(pki.join("own.pem")).expect("there");
    std::fs::write(pki.join("hospital.crl"), "nonsense").expect("writable");
    let (_, answer) = status(&station, &[]);
    for kind in ["certificate", "crl"] {
        let found = entry(&answer, "destination", kind);
        assert!(found["state"] == "unreadable" && found["error"].is_string(), "{found}");
    }
}

/// All lines of `check` that say something of certificates.
fn checked(station: &Station) -> (Option<i32>, String) {
    let ran = station.cli(&["check"]);
    (ran.code, ran.err)
}

#[test]
fn check_says_offline_what_no_peer_will_believe() {
    let expired = setup(&Recipe::new("waystation").years(2019, 2021)).0.idle();
    let (code, said) = checked(&expired);
    assert_eq!(code, Some(0), "the box starts all the same: {said}");
    assert!(
        said.contains("listeners[0].tls.certificate: ") && said.contains("the certificate has expired 2021-01-01"),
        "{said}"
    );
    assert!(said.contains("destinations[1].tls.certificate: "), "{said}");
    let early = setup(&Recipe::new("waystation").years(2080, 2090)).0.idle();
    assert!(checked(&early).1.contains("is not valid before 2080-01-01"));

    let (setup, ca) = setup(&Recipe::new("waystation"));
    let station = setup.idle();
    assert!(!checked(&station).1.contains("tls."), "{}", checked(&station).1);
    ca.list("hospital", &[], 2021);
    let (code, said) = checked(&station);
    assert!(
        code == Some(0) && said.contains("the revocation list was to be replaced 2021-01-01"),
        "{said}"
    );
    ca.list("hospital", &[], 2090);
    let pki = station.setup.folder_of("pki");
    ca.sign("other", "waystation");
    std::fs::copy(pki.join("other.key"), pki.join("own.key")).expect("writable");
    let (code, said) = checked(&station);
    assert!(
        code == Some(1) && said.contains("tls.key: ") && said.contains("is not the key of"),
        "{said}"
    );
}

#[test]
fn check_finds_an_own_chain_without_its_intermediate() {
    let setup = Setup::new();
    let pki = setup.folder_of("pki");
    let root = Authority::new(&pki, "root");
    let issuing = root.intermediate("issuing");
    let own = issuing.sign("own", "waystation");
    let demand = format!("client_ca = [{:?}, {:?}]", root.certificate, issuing.certificate);
    let station = setup.rules(TO_KEEP).folder("keep").listener_tls(&own, &demand).idle();
    let (code, said) = checked(&station);
    assert!(
        code == Some(0) && said.contains("is not in the file: append it"),
        "{said}"
    );
    let (ran, answer) = status(&station, &[]);
    assert_eq!(
        (ran.code, &entry(&answer, "listener", "certificate")["chain"]),
        (Some(1), &Value::from("incomplete"))
    );
    let whole = own.with(&issuing);
    assert!(whole.certificate.exists());
    assert!(!checked(&station).1.contains("append it"));
    let (ran, answer) = status(&station, &[]);
    assert_eq!(
        (ran.code, &entry(&answer, "listener", "intermediate")["subject"]),
        (Some(0), &Value::from("CN=issuing"))
    );
}

#[test]
fn an_expired_certificate_keeps_no_box_from_starting() {
    let (setup, _ca) = setup(&Recipe::new("waystation").years(2019, 2021));
    let station = setup.start();
    let scrape: Scrape = station.metrics();
    assert_eq!(
        scrape.sum(
            "waystation_certificate_expiry_timestamp_seconds",
            &[("role", "listener"), ("name", "dicom")]
        ),
        1_609_459_200.0
    );
    assert!(station.log().contains("has expired"), "{}", station.log_tail());
}
