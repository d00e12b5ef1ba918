//! What the starter rules cost an instance with a head of 5 KB, and whether eight threads that decide at once stand in each other's
//! way. `make bench`; the last two lines are the verdict.
use criterion::{Criterion, criterion_group};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use waystation::base::clock::Wall;
use waystation::base::names::{AeTitle, DestinationId, SourceId};
use waystation::dicom::edit::{Edit, Plan};
use waystation::dicom::head::{Head, Scanner};
use waystation::dicom::part10::FileMeta;
use waystation::dicom::path::Path;
use waystation::dicom::syntax::Syntax;
use waystation::rehearse::synthetic::{Modality, make_study};
use waystation::rules::{Config, Facts, RuleSet};

/// What the starter set may add to an instance.
const LIMIT: Duration = Duration::from_micros(50);
const HEAD_BYTES: usize = 5 << 10;
const THREADS: u32 = 8;
/// Decisions in one sample, and samples: the quickest counts, for the machine has other work.
const BATCH: u32 = 200;
const SAMPLES: u32 = 60;

/// One synthetic CT slice, its head filled up to 5 KB with short private elements as modalities have them.
fn instance() -> (Facts, Head) {
    let file = make_study(1, Modality::Ct, 1, 512).remove(0).1;
    let (meta, start) = FileMeta::read(&file).expect("a synthetic file has a meta");
    let mut head = Head::scan(Syntax::of(&meta.transfer_syntax), &file[start..]).expect("a synthetic head");
    // The pixels' header stays behind the head, so that it ends as it would on the wire.
    let pixels = file[start + head.bytes.len()..]
        .iter()
        .take(64)
        .copied()
        .collect::<Vec<u8>>();
    let mut element = 0;
    while head.bytes.len() < HEAD_BYTES {
        let path = Path::parse(&format!("(0009,\"ACME {}\",{:02X})", element / 200, element % 200)).expect("a path");
        let edit = Edit::text(&head, path, &["a private value of a modality".to_owned()]).expect("it fits");
        let plan = Plan {
            edits: vec![edit],
            stamp: None,
        };
        let bytes = [plan.apply(&head).expect("it fits"), pixels.clone()].concat();
        let mut scanner = Scanner::new(head.syntax.clone());
        scanner.push(&bytes).expect("still a head");
        head = scanner.head().expect("it ends at the pixels").clone();
        element += 1;
    }
    (facts(&meta), head)
}

fn facts(meta: &FileMeta) -> Facts {
    Facts {
        source: SourceId::parse("ct1").expect("a name"),
        calling_ae: AeTitle::parse("CT1").expect("a title"),
        called_ae: AeTitle::parse("WAYSTATION").expect("a title"),
        sop_class: meta.sop_class.clone(),
        sop_instance: meta.sop_instance.clone(),
        transfer_syntax: meta.transfer_syntax.clone(),
        arrival: Wall(1_700_000_000_000_000),
        study: None,
    }
}

fn rules(sources: &[(&str, &str)]) -> RuleSet {
    let sources: Vec<(String, String)> = sources
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let destinations = ["vna", "folder", "cad"].map(|name| DestinationId::parse(name).expect("a name"));
    RuleSet::from_sources(&sources, &Config::default(), &destinations).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The set that `rules/` ships.
fn starter() -> RuleSet {
    rules(&[("main.rhai", include_str!("../rules/main.rhai"))])
}

/// The same site in words of the vocabulary, with a cross-reference of 100,000 patients.
fn vocabulary() -> RuleSet {
    let main = r#"
fn morph(image, from) {
    identity::map(image, "patients", #{ issuer: "NORTH", missing: "keep" });
    identity::prefix(image, "NRT-", "NORTH");
    accession::pad(image, 8, "RA");
    accession::issuer(image, "RIS");
    text::collapse(image, "StudyDescription");
}
fn route(image, from) { to("vna"); to("folder", #{ priority: "low" }); }"#;
    let mut patients = "issuer,value,to_issuer,to_value\n".to_owned();
    for number in 0..100_000 {
        patients += &format!("NORTH,X{number},EMPI,{}\n", 900_000 + number);
    }
    rules(&[("main.rhai", main), ("patients.csv", &patients)])
}

fn costs(criterion: &mut Criterion) {
    let (facts, head) = instance();
    for (name, set) in [("starter set", starter()), ("vocabulary", vocabulary())] {
        criterion.bench_function(&format!("decide and edit 5 KB: {name}"), |bencher| {
            bencher.iter(|| work(&set, &facts, &head));
        });
    }
}

/// What the rules add to one instance: the decision, and the edits when it is sent.
fn work(set: &RuleSet, facts: &Facts, head: &Head) {
    let decision = set.decide(facts, head);
    assert_eq!(decision.hold, None);
    let plan = &decision.deliveries[0].plan;
    black_box(plan.apply(head).expect("the plan fits"));
}

/// The quickest of many batches, for one instance.
fn quickest(set: &RuleSet, facts: &Facts, head: &Head) -> Duration {
    let batches = (0..SAMPLES).map(|_| {
        let start = Instant::now();
        (0..BATCH).for_each(|_| work(set, facts, head));
        start.elapsed() / BATCH
    });
    batches.min().unwrap_or_default()
}

/// How long eight threads take for their share each, against one thread for all shares.
fn parallel(set: &RuleSet, facts: &Facts, head: &Head) -> f64 {
    let share = BATCH * 20;
    let alone = Instant::now();
    (0..share * THREADS).for_each(|_| work(set, facts, head));
    let alone = alone.elapsed();
    let together = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..share).for_each(|_| work(set, facts, head)));
        }
    });
    together.elapsed().as_secs_f64() / alone.as_secs_f64()
}

criterion_group!(benches, costs);

fn main() -> ExitCode {
    benches();
    let (facts, head) = instance();
    let set = starter();
    let cost = quickest(&set, &facts, &head);
    let ratio = parallel(&set, &facts, &head);
    let is_good = cost <= LIMIT && ratio <= 1.0;
    println!(
        "starter set on a head of {} bytes: {cost:?} (limit {LIMIT:?})",
        head.bytes.len()
    );
    println!("8 threads: {ratio:.2} of one thread's time for the same work (limit 1.00; a shared lock would pass it)");
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
