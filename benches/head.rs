//! The work that every instance costs besides its bytes: scanning its head, deciding, editing. `make bench`.
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dicom_core::VR;
use std::hint::black_box;
use waystation::base::clock::Wall;
use waystation::base::names::{AeTitle, DestinationId, SourceId};
use waystation::dicom::edit::{Edit, Plan, Stamp};
use waystation::dicom::head::{Head, Progress, Scanner};
use waystation::dicom::part10::FileMeta;
use waystation::dicom::path::Path;
use waystation::dicom::syntax::Syntax;
use waystation::rehearse::synthetic::{Modality, make_study};
use waystation::rules::{Config, Facts, RuleSet};

/// One synthetic CT slice of 512 KiB: its meta and its data set.
fn slice() -> (FileMeta, Vec<u8>) {
    let file = make_study(1, Modality::Ct, 1, 512).remove(0).1;
    let (meta, start) = FileMeta::read(&file).expect("a synthetic file has a meta");
    (meta, file[start..].to_vec())
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

fn shipped_rules() -> RuleSet {
    let sources = [("main.rhai".to_owned(), include_str!("../rules/main.rhai").to_owned())];
    let destinations = ["vna", "folder", "cad"].map(|name| DestinationId::parse(name).expect("a name"));
    RuleSet::from_sources(&sources, &Config::default(), &destinations).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn costs(criterion: &mut Criterion) {
    let (meta, data_set) = slice();
    let syntax = Syntax::of(&meta.transfer_syntax);
    let head = Head::scan(syntax.clone(), &data_set).expect("a synthetic head");
    let mut group = criterion.benchmark_group("instance");
    // The pixels behind the head are only counted, not read.
    group.throughput(Throughput::Bytes(head.bytes.len() as u64));
    group.bench_function("scan in pieces of 16 KiB", |bencher| {
        bencher.iter(|| {
            let mut scanner = Scanner::new(syntax.clone());
            let mut last = Progress::More;
            for piece in data_set.chunks(16 << 10) {
                last = scanner.push(piece).expect("a synthetic head");
            }
            black_box(last)
        });
    });
    group.finish();

    let rules = shipped_rules();
    let facts = facts(&meta);
    criterion.bench_function("decide by the shipped rules", |bencher| {
        bencher.iter(|| black_box(rules.decide(&facts, &head)));
    });

    let plan = Plan {
        edits: vec![Edit::Set {
            path: Path::parse("PatientID").expect("a keyword"),
            vr: VR::LO,
            value: b"NRT-000001".to_vec(),
        }],
        stamp: Some(Stamp {
            system: "bench".to_owned(),
            at: "20260101000000".to_owned(),
            epoch: "0".to_owned(),
            source: "ct1".to_owned(),
        }),
    };
    criterion.bench_function("edit and stamp a head", |bencher| {
        bencher.iter(|| black_box(plan.apply(&head).expect("the plan fits")));
    });
}

criterion_group!(benches, costs);
criterion_main!(benches);
