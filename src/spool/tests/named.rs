//! By which names an instance is found that was decided anew, or that a start has taken in again.
use super::super::db::Cf;
use super::super::{cache, keys, prune};
use super::crash::copy;
use super::*;
use crate::base::phi::Phi;
use std::fs;

fn by(kind: By, value: &str) -> Trait {
    Trait {
        by: kind,
        value: Phi::new(value.to_owned()),
    }
}

async fn found(bench: &Bench, kind: By, value: &str) -> (Vec<InstanceId>, bool) {
    let value = Phi::new(value.to_owned());
    let page = bench.spool().traced_by(&[kind], &value, None, 9).await.unwrap();
    (page.instances, page.complete)
}

/// Of a patient, as a decision that has written nothing leaves it.
async fn store_of(bench: &Bench, uid: &str, patient: &str) -> InstanceId {
    let commit = Commit {
        traits: vec![by(By::Patient, patient), by(By::Sop, uid)],
        ..decision(vec![to("a")])
    };
    let sealed = bench.sealed(uid, uid.as_bytes()).await;
    id_of(bench.spool().commit(sealed, commit).await.unwrap())
}

fn entries(bench: &Bench, cf: Cf, prefix: &[u8]) -> usize {
    let mut count = 0;
    let db = bench.spool().core.db().unwrap();
    db.scan(cf, prefix, &keys::behind(prefix), |_, _| {
        count += 1;
        true
    })
    .unwrap();
    count
}

#[tokio::test]
async fn what_a_later_decision_wrote_finds_the_instance_and_is_forgotten_with_it() {
    let mut bench = Bench::new();
    let id = store_of(&bench, "1.1", "MRN 1").await;
    let before = entries(&bench, Cf::History, &id.0);
    let written = vec![by(By::Patient, "MRN 1"), by(By::Sop, "1.1"), by(By::Patient, "NRT 1")];
    let source = SourceId::parse("ct1").unwrap();
    for _ in 0..2 {
        let names = (id, written.clone());
        let told = bench.spool().record_names(&source, 8, Vec::new(), names);
        told.await.unwrap();
    }
    assert_eq!(entries(&bench, Cf::History, &id.0), before + 1, "noted once");
    let other = (id, vec![by(By::Patient, "MRN 1"), by(By::Accession, "NA 1")]);
    let told = bench.spool().record_names(&source, 9, Vec::new(), other);
    told.await.unwrap();
    bench.reopen_after(|_| {});
    for (kind, value) in [
        (By::Patient, "MRN 1"),
        (By::Patient, "NRT 1"),
        (By::Accession, "NA 1"),
        (By::Sop, "1.1"),
    ] {
        assert_eq!(found(&bench, kind, value).await, (vec![id], true), "{value}");
    }
    // Delivered, evicted, and its last line pruned: nothing of it stays.
    bench.confirm("a").await;
    bench.spool().submit(|txn| cache::evict(txn, 10)).await.unwrap();
    bench.clock.advance(Duration::from_secs(3 * 365 * 86_400));
    let upto = {
        let core = bench.spool().core.clone();
        prune::due(&core, bench.clock.now()).expect("there is something to prune")
    };
    while bench.spool().submit(move |txn| prune::batch(txn, &upto)).await.unwrap() {}
    assert_eq!(
        (entries(&bench, Cf::History, &id.0), entries(&bench, Cf::Trace, &[])),
        (0, 0)
    );
}

#[tokio::test]
async fn what_a_start_takes_in_again_is_filled_in_from_its_payload_over_restarts_too() {
    let mut bench = Bench::new();
    bench.store("1.1", b"first", vec![to("a")]).await;
    bench.spool = None;
    let before = tempfile::tempdir().unwrap();
    copy(&bench.path().join("index"), before.path());
    bench.reopen_after(|_| {});
    let [kept, gone] = [
        store_of(&bench, "1.2", "MRN 2").await,
        store_of(&bench, "1.3", "MRN 3").await,
    ];
    let older = before.path().to_owned();
    bench.reopen_after(|path| {
        fs::remove_dir_all(path.join("index")).unwrap();
        fs::create_dir(path.join("index")).unwrap();
        copy(&older, &path.join("index"));
        fs::remove_file(path.join("witness")).unwrap();
    });
    assert_eq!(bench.report.adopted.len(), 2);
    bench.reopen_after(|_| {});
    assert_eq!(
        found(&bench, By::Patient, "MRN 2").await,
        (Vec::new(), false),
        "it says that it may lack"
    );
    assert_eq!(
        found(&bench, By::Sop, "1.2").await,
        (vec![kept], false),
        "by its record, until then"
    );
    // One leaves before its turn has come.
    let filter = Filter {
        sop_instance: Some(Uid::known("1.3")),
        ..Filter::default()
    };
    let discarded = bench.spool().act(filter, Verb::Discard, "it", "a phantom", false);
    assert_eq!(discarded.await.unwrap().changed, 1);
    bench.spool().submit(|txn| cache::evict(txn, 10)).await.unwrap();
    let mut filled = Vec::new();
    while let Some(batch) = bench.spool().untraced(1).await.unwrap() {
        assert!(!batch.is_last());
        let names = batch.instances.iter().map(|instance| {
            let uid = instance.sop_instance.as_str();
            (instance.id, vec![by(By::Patient, "MRN 2"), by(By::Sop, uid)])
        });
        let names: Vec<_> = names.collect();
        filled.extend(names.iter().map(|(id, _)| *id));
        bench.spool().fill_traced(&batch, names).await.unwrap();
        assert!(filled.len() < 9, "it never ends");
    }
    assert_eq!(filled, [kept]);
    assert_eq!(found(&bench, By::Patient, "MRN 2").await, (vec![kept], true));
    assert_eq!(found(&bench, By::Sop, "1.3").await, (Vec::new(), true));
    assert_ne!(kept, gone);
    bench.reopen_after(|_| {});
    assert_eq!(bench.spool().untraced(9).await.unwrap(), None);
    assert_eq!(found(&bench, By::Patient, "MRN 2").await, (vec![kept], true));
}
