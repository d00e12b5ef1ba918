//! `kill -9` at each moment of a commitment's life (`base::fault::Moment`): nothing is lost, no delivery counts twice, nothing is sent twice
//! for it, and in the end the modality has its answer. A modality asks, its box stores at an archive that commits.
use crate::commitment::{Address, refs, source};
use crate::committing::Archive;
use crate::harness::peers::send;
use crate::harness::{Object, SOON, Setup, Station, objects, tools, wait_until};
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;

struct Scene {
    station: Station,
    address: Address,
    archive: Archive,
    rounds: u32,
}

impl Scene {
    fn new() -> Self {
        let setup = Setup::new();
        let mut address = Address::down(&setup.folder_of("address"));
        address.start();
        let archive = Archive::up(&setup.folder_of("vna-peer"), &json!({"how": "same"}));
        let asks = "[destinations.commitment]\nquiet = \"200ms\"\nlinger = \"6s\"\nanswer_within = \"2s\"";
        // The request may come before its instance.
        let lines = format!(
            "policy = \"end-to-end\"\nhost = \"127.0.0.1\"\nport = {}\narrives_within = \"20s\"",
            address.port
        );
        let station = setup
            .rules("fn route(image, from) { to(\"vna\"); }")
            .sources(&source(&lines).replace("arrives_within = \"1s\"\n", ""))
            .archive("vna", archive.port, asks)
            .idle();
        Self {
            station,
            address,
            archive,
            rounds: 0,
        }
    }

    /// The next request: an instance that has not come, and the transaction.
    fn next(&mut self) -> (Object, String) {
        self.rounds += 1;
        (Object::new(objects::CT), format!("2.25.7000{}", self.rounds))
    }

    fn ask(&self, object: &Object, transaction: &str, stay: u32) -> Value {
        let spec = json!({"transaction": transaction, "refs": refs(std::slice::from_ref(object)), "stay": stay});
        let port = self.station.setup.dicom.to_string();
        tools::python_json("commitment.py", &["ask", &port, "WAYSTATION", "CT1", &spec.to_string()])
    }

    fn send(&self, object: &Object) {
        let setup = &self.station.setup;
        send(setup.dicom, setup.path(), std::slice::from_ref(object));
    }

    fn begin(&mut self, moment: &str) {
        self.station.setup.plant(moment);
        self.station.start();
    }

    /// It was killed at the moment; its next life has no fault.
    #[track_caller]
    fn die(&mut self) {
        let ended = self.station.wait_ended();
        assert_eq!(ended.signal(), Some(9), "{ended:?}\n{}", self.station.log_tail());
        self.station.setup.plant("");
        self.station.start();
    }

    fn reports(&self, transaction: &str) -> Vec<Value> {
        let mut all = self.address.reports();
        all.retain(|report| report["transaction"] == transaction);
        all
    }

    /// The modality has been told that its instance is committed, everything is over, and each deed stands once.
    #[track_caller]
    fn end(&mut self, object: &Object, transaction: &str, told: impl Fn(usize) -> bool, asked: usize) {
        let moment = format!("transaction {transaction}");
        wait_until(&moment, SOON, || !self.reports(transaction).is_empty());
        self.station.wait_metric("commitment_demands_open", &[], |n| n == 0.0);
        self.station.wait_metric("commitment_awaiting_jobs", &[], |n| n == 0.0);
        self.station.kill();
        self.station.start();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let reports = self.reports(transaction);
        assert!(told(reports.len()), "told {} times: {reports:?}", reports.len());
        for report in &reports {
            assert_eq!(report["committed"], refs(std::slice::from_ref(object)), "{report}");
            assert_eq!(report["failed"], json!({}), "{report}");
        }
        let of = |event: &str| {
            let lines = self.archive.events(event);
            let ours = |line: &&Value| {
                line["sop"] == object.sop.as_str()
                    || line["sops"]
                        .as_array()
                        .is_some_and(|all| all.contains(&json!(object.sop)))
            };
            lines.iter().filter(ours).count()
        };
        assert_eq!(of("stored"), 1, "sent once: {transaction}");
        assert_eq!(of("asked"), asked, "asked: {transaction}");
        let traced = self.station.cli(&["trace", &object.sop, "--json"]).ok().out;
        let traced: Value = serde_json::from_str(&traced).expect("JSON");
        let steps = traced["instances"][0]["steps"].as_array().expect("steps");
        let count = |what: &str| steps.iter().filter(|step| step["what"] == what).count();
        assert_eq!(
            (count("committed"), count("delivered"), count("sent")),
            (1, 0, 1),
            "delivered for good once: {traced}"
        );
        self.station.kill();
    }
}

fn once(count: usize) -> bool {
    count == 1
}

#[test]
fn a_request_of_a_modality_outlives_a_kill_at_each_moment() {
    let mut scene = Scene::new();
    // Nothing was on the disk, and no answer was given: the modality asks again.
    scene.begin("die-demand-heard");
    let (object, lost) = scene.next();
    assert_eq!(scene.ask(&object, &lost, 0)["status"], Value::Null);
    scene.die();
    let (_, transaction) = scene.next();
    assert_eq!(scene.ask(&object, &transaction, 0)["status"], 0);
    scene.send(&object);
    scene.end(&object, &transaction, once, 1);
    assert_eq!(scene.reports(&lost), Vec::<Value>::new());
    // It was on the disk without an answer: it is answered all the same.
    scene.begin("die-demand-recorded");
    let (object, transaction) = scene.next();
    assert_eq!(scene.ask(&object, &transaction, 0)["status"], Value::Null);
    scene.die();
    scene.send(&object);
    scene.end(&object, &transaction, once, 1);
    scene.begin("die-demand-accepted");
    let (object, transaction) = scene.next();
    scene.ask(&object, &transaction, 0);
    scene.die();
    scene.send(&object);
    scene.end(&object, &transaction, once, 1);
}

#[test]
fn an_answer_to_a_modality_outlives_a_kill_at_each_moment() {
    let mut scene = Scene::new();
    for (moment, told) in [
        ("die-demand-decided", once as fn(usize) -> bool),
        // Nobody knows whether it has understood: it is told once more.
        ("die-report-sent", |count| count == 1 || count == 2),
        ("die-report-answered", |count| count == 2),
        ("die-report-taken", once),
    ] {
        scene.begin(moment);
        let (object, transaction) = scene.next();
        assert_eq!(scene.ask(&object, &transaction, 0)["status"], 0, "{moment}");
        scene.send(&object);
        scene.die();
        scene.end(&object, &transaction, told, 1);
    }
    // The same over the association of the request.
    scene.begin("die-report-sent");
    let (object, transaction) = scene.next();
    scene.send(&object);
    scene.station.wait_metric("commitment_awaiting_jobs", &[], |n| n == 0.0);
    let told = scene.ask(&object, &transaction, 20);
    assert_eq!(told["status"], 0, "{told}");
    scene.die();
    scene.end(&object, &transaction, once, 1);
}

#[test]
fn a_request_to_an_archive_outlives_a_kill_at_each_moment() {
    let mut scene = Scene::new();
    for (moment, asked) in [
        // It never left.
        ("die-ask-recorded", 1),
        // Nobody knows whether it was understood: it is asked again, and nothing is sent again.
        ("die-ask-sent", 2),
        ("die-ask-answered", 2),
        // What the archive said was not recorded, and not acknowledged to it.
        ("die-word-heard", 2),
        ("die-word-recorded", 1),
    ] {
        scene.begin(moment);
        let (object, transaction) = scene.next();
        assert_eq!(scene.ask(&object, &transaction, 0)["status"], 0, "{moment}");
        scene.send(&object);
        scene.die();
        scene.end(&object, &transaction, once, asked);
    }
}
