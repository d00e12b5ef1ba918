//! One box under load between scripted modalities and a scripted archive, and the judgement of the oracle.
use super::tools::{self, Owned};
use super::{Archive, Setup, Station};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Of the box towards the archive.
pub const ASSOCIATIONS: usize = 2;
const MODALITIES: usize = 4;
/// A queue that has somebody to deliver to drains in this time, or something in it is lost.
pub const DRAIN: Duration = Duration::from_secs(60);

pub struct Rig {
    pub station: Station,
    pub archive: Archive,
    pub generator: StdRng,
    crashes: File,
    load: Option<Owned>,
    seed: u64,
    /// Each load has instances of its own.
    loads: u32,
}

impl Rig {
    /// Not started. `prepare` may put disks below the box.
    pub fn new(seed: u64, plant: Option<&str>, prepare: impl FnOnce(Setup) -> Setup) -> Self {
        let setup = prepare(Setup::new());
        let archive = Archive::up(&setup.folder_of("vna-peer"));
        let rules = r#"fn route(image, from) { to("vna"); to("keep"); }"#;
        let more = format!("associations = {ASSOCIATIONS}");
        let mut setup = setup
            .rules(rules)
            .archive("vna", archive.port, &more)
            .folder("keep")
            .log("level = \"warn\"");
        if let Some(plant) = plant {
            setup.plant(plant);
        }
        let crashes = File::create(setup.folder_of("crashes")).expect("writable");
        Self {
            station: setup.idle(),
            archive,
            generator: StdRng::seed_from_u64(seed),
            crashes,
            load: None,
            seed,
            loads: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.station.setup.folder_of(name)
    }

    /// Modalities that send until `end_load`; with `count`, two of them until each has had so many acknowledged.
    pub fn load(&mut self, count: Option<usize>) {
        self.loads += 1;
        let mut arguments: Vec<std::ffi::OsString> = vec![
            self.station.setup.dicom.to_string().into(),
            "WAYSTATION".into(),
            self.path("sent.jsonl").into(),
            count.map_or(MODALITIES, |_| 2).to_string().into(),
            format!("{}.{}", self.seed, self.loads).into(),
        ];
        arguments.extend(count.map(|count| count.to_string().into()));
        self.load = Some(tools::python_serving("load.py", &arguments));
    }

    pub fn loading(&mut self) -> bool {
        self.load.as_mut().is_some_and(Owned::running)
    }

    /// Instances acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let sent = std::fs::read_to_string(self.path("sent.jsonl")).unwrap_or_default();
        sent.lines().filter(|line| line.contains("\"acknowledged\"")).count()
    }

    /// Waits until so many are acknowledged: the good modalities get through.
    pub fn wait_acknowledged(&self, count: usize) -> Result<(), String> {
        let start = Instant::now();
        while self.acknowledged() < count {
            if start.elapsed() > DRAIN {
                return Err(format!(
                    "{} of {count} acknowledged in {DRAIN:?}\n{}",
                    self.acknowledged(),
                    self.station.log_tail()
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What the service manager does, for so long: a box that has ended is started again. Answers how often it had.
    pub fn supervise(&mut self, span: Duration) -> usize {
        let (until, mut restarts) = (Instant::now() + span, 0);
        while Instant::now() < until {
            if !self.station.running() {
                restarts += 1;
                self.note_crash();
                self.station.launch();
                std::thread::sleep(Duration::from_millis(100));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        restarts
    }

    /// The modalities finish what they have begun.
    #[track_caller]
    pub fn end_load(&mut self) {
        if let Some(load) = &mut self.load {
            drop(load.0.stdin.take());
        }
        let start = Instant::now();
        while self.loading() {
            assert!(start.elapsed() < Duration::from_secs(40), "the senders do not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.load = None;
    }

    /// The box ends now; what it was doing for the archive may be done once more by its next life.
    pub fn crash(&mut self) {
        self.station.kill();
        self.note_crash();
    }

    pub fn note_crash(&mut self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        writeln!(self.crashes, "{:.6}", now.expect("after 1970").as_secs_f64()).expect("writable");
    }

    /// Everything is delivered or held; then the oracle judges.
    pub fn verdict(&mut self) -> Result<String, String> {
        self.station.wait_drained(DRAIN);
        let report = self.report();
        let judged = judge(&report, self.station.metric("jobs_held", &[]));
        judged.map_err(|wrong| format!("{wrong}{}{}", self.traces(&report), self.kept()))
    }

    /// With KEEP=FOLDER in the environment, what a failed round leaves behind is copied there, to be looked at.
    fn kept(&self) -> String {
        let Some(folder) = std::env::var_os("KEEP") else {
            return String::new();
        };
        let all = self.station.setup.path();
        let folder = PathBuf::from(folder).join(all.file_name().unwrap_or_default());
        let mut command = std::process::Command::new("cp");
        command.args(["-rLT", "--preserve=timestamps"]).arg(all).arg(&folder);
        match std::fs::create_dir_all(&folder).and_then(|()| command.status()) {
            Ok(done) if done.success() => format!("\n  kept: {}", folder.display()),
            Ok(done) => format!("\n  kept in part ({done}): {}", folder.display()),
            Err(error) => format!("\n  not kept: {error}"),
        }
    }

    /// For each missing instance, how long before the next crash it was acknowledged; what was put aside; the log.
    fn traces(&self, report: &Value) -> String {
        let text = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let crashes: Vec<f64> = text(self.path("crashes"))
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        let sent = text(self.path("sent.jsonl"));
        let mut said = String::new();
        for missing in report["missing_at_archive"].as_array().into_iter().flatten().take(8) {
            let lines = sent.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let of = |line: &Value| line["sop"] == *missing && line["event"] == "acknowledged";
            let at = lines
                .filter(of)
                .filter_map(|line| line["t"].as_f64())
                .next_back()
                .unwrap_or(0.0);
            let next = crashes.iter().position(|crash| *crash > at);
            let before = next.map_or(f64::NAN, |next| crashes[next] - at);
            said += &format!("\n  {missing}: acknowledged {before:.3} s before crash {next:?}");
        }
        let orphans = super::objects::files_in(&self.station.setup.spool_path().join("orphans"));
        let log = self.station.log();
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        format!(
            "{said}\n  {} orphans; the log, last line first:\n{}",
            orphans.len(),
            lines.join("\n")
        )
    }

    pub fn report(&self) -> Value {
        let arguments = [
            self.path("sent.jsonl"),
            self.path("keep"),
            self.archive.journal_path(),
            self.path("crashes"),
            ASSOCIATIONS.to_string().into(),
        ];
        tools::python_json("oracle.py", &arguments)
    }
}

/// I1 to I4. Nothing may be held either: no soak that asks this has a reason for it.
pub fn judge(report: &Value, held: f64) -> Result<String, String> {
    let mut wrong = Vec::new();
    for name in [
        "missing_at_archive",
        "missing_in_folder",
        "damaged_at_archive",
        "damaged_in_folder",
        "unexcused",
    ] {
        if report[name] != json!([]) {
            let count = report[name].as_array().map_or(0, Vec::len);
            wrong.push(format!("{name}: {count}"));
        }
    }
    if report["over_the_bound"] != json!({}) {
        wrong.push(format!("more duplicates than I4 allows: {}", report["over_the_bound"]));
    }
    if held != 0.0 {
        wrong.push(format!("{held} jobs held"));
    }
    if report["acknowledged"] == 0 {
        wrong.push("nothing was acknowledged".to_owned());
    }
    let numbers = format!(
        "{} acknowledged, {} crashes, {} duplicates, answers {}",
        report["acknowledged"], report["crashes"], report["duplicates"], report["answers"]
    );
    if wrong.is_empty() {
        Ok(numbers)
    } else {
        Err(format!("{} ({numbers})", wrong.join("; ")))
    }
}
