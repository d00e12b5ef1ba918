//! Requests to an archive that the spool has, looked at without the archive.
use super::trouble::Trouble;
use super::*;
use crate::base::names::Uid;
use crate::base::units::{Share, Size};
use crate::dicom::part10::{FileMeta, PRIVATE_CREATOR_UID};
use crate::sender::tests::{CT, EXPLICIT, data_set, uid};
use crate::spool::commitment::{Ask, Outcome};
use crate::spool::payload::PRIVATE_LEN;
use crate::spool::{self, Arriving, Commit, NewJob, Priority, Repeat, Settlement, StudyNote};
use std::collections::BTreeSet;
use std::time::Duration;

const VNA: &str = "kind = \"dicom\"\nname = \"vna\"\nhost = \"127.0.0.1\"\nport = 1\ncalled_ae = \"VNA\"\ncalling_ae = \"WAY\"\n[commitment]\n";

fn open(folder: &std::path::Path, clock: &Clock) -> Spool {
    let config = spool::Config {
        path: folder.join("spool"),
        low_water: Share::Bytes(1 << 20),
        critical: Size(1 << 10),
        ballast: Size(0),
        cache_high_water: Share::Bytes(1 << 20),
        ..spool::Config::default()
    };
    Spool::open(config, clock.clone(), Metrics::new()).unwrap().0
}

/// One instance, sent to the archive and not committed.
async fn sent(spool: &Spool, to: &DestinationId, clock: &Clock) {
    let (instance, title) = (uid("1.2.3"), AeTitle::parse("CT1").unwrap());
    let meta = FileMeta {
        sop_class: uid(CT),
        sop_instance: instance.clone(),
        transfer_syntax: uid(EXPLICIT),
        source_ae: Some(title.clone()),
        private: Some((Uid::known(PRIVATE_CREATOR_UID), vec![0; PRIVATE_LEN])),
    };
    let arriving = Arriving {
        source: SourceId::parse("ct1").unwrap(),
        calling_ae: title.clone(),
        called_ae: title,
        sop_class: uid(CT),
        sop_instance: instance.clone(),
        transfer_syntax: uid(EXPLICIT),
        header: meta.write(),
        private_offset: meta.private_offset().unwrap(),
    };
    let mut incoming = spool.arrive(arriving).await.unwrap();
    incoming.write(data_set(instance.as_str(), 10).into()).await.unwrap();
    let job = NewJob {
        destination: Some(to.clone()),
        priority: Priority::Routine,
        plan: Vec::new(),
        due: clock.now(),
        hold: None,
        quiet: None,
        group: None,
    };
    let commit = Commit {
        study: None,
        rule_epoch: 1,
        jobs: vec![job],
        repeat: Repeat::Acknowledge,
        note: StudyNote::default(),
        aliases: Vec::new(),
        traits: Vec::new(),
    };
    let sealed = incoming.seal().await.unwrap();
    spool.commit(sealed, commit).await.unwrap();
    let lease = spool.claim(to, 1).await.pop().unwrap();
    let note = String::new();
    spool
        .settle(lease, Settlement::Confirmed { status: 0, note })
        .await
        .unwrap();
}

/// The disk refused to record what became of it, or the start could not read what was under way.
#[tokio::test]
async fn a_request_of_which_nobody_knows_what_became_is_asked_again_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Wall(1_800_000_000_000_000));
    let (spool, to) = (open(folder.path(), &clock), DestinationId::parse("vna").unwrap());
    spool.commits(&to, true);
    let parts = Parts {
        spool: spool.clone(),
        clock: clock.clone(),
        metrics: Metrics::new(),
        drain: Drain::new(),
        seed: 7,
    };
    let vna: sender::Config = toml::from_str(VNA).unwrap();
    let box_ = Commitment::new(parts, &[], &[vna]).unwrap();
    sent(&spool, &to, &clock).await;
    clock.advance(Duration::from_secs(3_600));
    let next = || async {
        let ask = Ask {
            quiet: Duration::from_secs(1),
            at_most: Duration::from_secs(1),
            batch: 10,
        };
        spool.uncommitted(&to, ask, BTreeSet::new()).await.unwrap().jobs
    };
    let jobs = next().await;
    let (id, references) = spool.ask(&to, uid("2.25.1"), jobs).await.unwrap();
    assert_eq!((references.len(), next().await.len()), (1, 0), "it is asked for");
    archive::overdue(&box_.shared, &to, &mut Trouble::default()).await;
    let jobs = next().await;
    assert_eq!(jobs.len(), 1, "and nobody knows: it is asked for again");
    let (later, _) = spool.ask(&to, uid("2.25.2"), jobs).await.unwrap();
    let until = clock.now().plus(Duration::from_secs(60));
    spool.asked(later, Outcome::Accepted { until }).await.unwrap();
    archive::overdue(&box_.shared, &to, &mut Trouble::default()).await;
    assert!(
        next().await.is_empty() && later != id,
        "one that was accepted is waited for"
    );
    spool.close().await;
}
