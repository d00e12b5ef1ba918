//! What lies below `payload/` where it does not belong, and payloads that are not what was sealed: no start removes an image, each
//! start comes up, and what is damaged is named.
use super::super::recover;
use super::super::salvage::Fate;
use super::*;
use payload::path_of;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// All files below a folder but those that are empty, with their bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A folder of `payload/` that is not the id's own.
fn wrong(root: &Path, id: InstanceId) -> PathBuf {
    root.join(format!("payload/{:02x}/{id}.dcm", id.0[15].wrapping_add(1)))
}

/// With the UID in its file meta information, as a true header has it.
async fn store(bench: &Bench, uid: &str, content: &[u8]) -> InstanceId {
    let mut arriving = arriving(uid);
    let element = format!("\x02\0\x03\0UI{}\0{uid}", char::from(uid.len() as u8));
    arriving.header[132..132 + element.len()].copy_from_slice(element.as_bytes());
    let mut incoming = bench.spool().arrive(arriving).await.unwrap();
    incoming.write(Bytes::copy_from_slice(content)).await.unwrap();
    let sealed = incoming.seal().await.unwrap();
    id_of(bench.spool().commit(sealed, decision(vec![to("a")])).await.unwrap())
}

fn flip(path: &Path, at: impl FnOnce(&[u8]) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(&bytes);
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn last(bytes: &[u8]) -> usize {
    bytes.len() - 1
}

/// In the private record's identity, whose checksum is wrong then.
fn identity(bytes: &[u8]) -> usize {
    bytes.windows(8).position(|window| window == b"WAYSPOOL").unwrap() + 30
}

/// What all reports name, by our id.
fn named(bench: &Bench) -> BTreeMap<String, Named> {
    let reports = salvages(bench.path(), 99).unwrap();
    let named = reports.into_iter().flat_map(|report| report.named);
    named.map(|one| (one.instance.clone(), one)).collect()
}

async fn deliverable(bench: &Bench) -> Vec<String> {
    let mut uids: Vec<String> = Vec::new();
    for lease in bench.spool().claim(&dest("a"), 99).await {
        read_all(bench.spool(), lease.instance.id).await.unwrap();
        uids.push(lease.instance.sop_instance.to_string());
    }
    for (_, instance) in bench.spool().recovered(99).await.unwrap() {
        read_all(bench.spool(), instance.id).await.unwrap();
        uids.push(instance.sop_instance.to_string());
    }
    uids.sort();
    uids
}

#[tokio::test]
async fn a_copy_of_a_payload_costs_no_original_and_what_is_no_payload_is_named() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for n in 0..3_u8 {
        ids.push(store(&bench, &format!("1.2.{n}"), &[n; 9]).await);
    }
    let mut before = BTreeMap::new();
    bench.reopen_after(|path| {
        let payloads = path.join("payload");
        for id in &ids {
            let own = path_of(path, *id);
            let shard = own.parent().unwrap().to_owned();
            copy_folder(&shard, &shard.with_extension("bak"));
            fs::create_dir_all(payloads.join(".old")).unwrap();
            fs::copy(&own, payloads.join(format!(".old/{id}.dcm"))).unwrap();
            fs::copy(&own, wrong(path, *id)).unwrap();
            fs::copy(&own, own.with_extension("dcm.bak")).unwrap();
        }
        fs::write(payloads.join("README"), b"mine").unwrap();
        std::os::unix::fs::symlink("/nonexistent", payloads.join("link")).unwrap();
        let pipe = path_of(path, InstanceId::new(1, 1));
        let made = std::process::Command::new("mkfifo").arg(pipe).status().unwrap();
        assert!(made.success());
        before = files(&payloads);
    });
    assert_eq!(
        files(&bench.path().join("payload")),
        before,
        "nothing was moved or removed"
    );
    let report = bench.report.clone();
    let others: Vec<&str> = report.others.named.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(others.len() as u64, report.others.count);
    for other in ["payload/README", "payload/link", "payload/.old"] {
        assert!(others.contains(&other), "{other} of {others:?}");
    }
    assert!(report.adopted.is_empty() && report.missing.is_empty() && report.brought_home.is_empty());
    assert!(named(&bench).is_empty());
    assert_eq!(deliverable(&bench).await, ["1.2.0", "1.2.1", "1.2.2"]);
    let problems = bench.fsck().problems;
    assert_eq!(problems.len(), others.len(), "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|problem| problem.contains("is not a payload of this spool"))
    );
}

#[tokio::test]
async fn an_id_that_is_listed_twice_is_no_stray() {
    let mut bench = Bench::new();
    let id = store(&bench, "1.2.1", b"x").await;
    let db = bench.spool().core.db().unwrap();
    let compared = recover::compare(&[id, id, id], &db).unwrap();
    assert!(compared.strays.is_empty() && compared.missing.is_empty());
    drop(db);
    assert_eq!(bench.fsck().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_payload_in_a_wrong_folder_is_brought_home_when_its_place_is_empty_with_the_index_and_without() {
    for lost in [false, true] {
        let mut bench = Bench::new();
        let moved = store(&bench, "1.2.1", b"moved").await;
        let renamed = store(&bench, "1.2.2", b"its folder has another name").await;
        let other = store(&bench, "1.2.3", b"has another's name").await;
        let both = store(&bench, "1.2.4", b"has another's name, in a wrong folder").await;
        let copied = store(&bench, "1.2.5", b"is copied").await;
        let unknown = InstanceId::new(5, 0xabcd);
        bench.reopen_after(|path| {
            fs::rename(path_of(path, moved), wrong(path, moved)).unwrap();
            let aside = path_of(path, renamed).parent().unwrap().with_extension("bak");
            fs::create_dir(&aside).unwrap();
            fs::rename(path_of(path, renamed), aside.join(format!("{renamed}.dcm"))).unwrap();
            fs::rename(path_of(path, other), path_of(path, InstanceId::new(4, 4))).unwrap();
            fs::rename(path_of(path, both), wrong(path, InstanceId::new(4, 5))).unwrap();
            // Nothing knows this one, and what it is lies where it belongs.
            fs::copy(path_of(path, copied), wrong(path, unknown)).unwrap();
            if lost {
                fs::remove_dir_all(path.join("index")).unwrap();
            }
        });
        let all = ["1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5"];
        assert_eq!(deliverable(&bench).await, all, "lost {lost}");
        assert!(bench.report.missing.is_empty(), "lost {lost}");
        assert!(wrong(bench.path(), unknown).exists());
        assert!(
            bench
                .report
                .others
                .named
                .iter()
                .any(|path| path.ends_with(format!("{unknown}.dcm")))
        );
        assert!(named(&bench).values().all(|one| lost && one.fate == Fate::DecidedAnew));
        // Until a person moves it away: nothing changes, and each start comes up.
        bench.reopen_after(|_| {});
        assert!(wrong(bench.path(), unknown).exists());
        bench.spool = None;
        rebuild(bench.path(), &bench.clock).unwrap();
        bench.reopen_after(|_| {});
        assert_eq!(bench.report.instances, 5, "lost {lost}");
    }
}

#[tokio::test]
async fn a_damaged_payload_without_a_record_goes_to_quarantine_with_its_name_and_one_never_sealed_goes() {
    let mut bench = Bench::new();
    store(&bench, "1.2.1", b"known").await;
    bench.spool = None;
    let (older, path) = (tempfile::tempdir().unwrap(), bench.path().to_owned());
    copy_folder(&path.join("index"), older.path());
    bench.reopen_after(|_| {});
    let content = store(&bench, "1.2.3", b"a flipped bit in the data set").await;
    let header = store(&bench, "1.2.4", b"a flipped bit in the identity").await;
    let cut = store(&bench, "1.2.5", b"cut").await;
    let mut sealed = bench.sealed("1.2.6", b"its letter says sealed").await;
    sealed.file.keep();
    let never = InstanceId::new(1, 1);
    let sealed_id = sealed.id();
    drop(sealed);
    bench.reopen_after(|path| {
        fs::remove_dir_all(path.join("index")).unwrap();
        copy_folder(older.path(), &path.join("index"));
        fs::remove_file(path.join("witness")).unwrap();
        flip(&path_of(path, content), last);
        flip(&path_of(path, header), identity);
        flip(&path_of(path, sealed_id), last);
        let file = fs::File::options().write(true).open(path_of(path, cut)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        fs::write(path_of(path, never), vec![0; 4_096]).unwrap();
    });
    assert_eq!(bench.report.partial, 1);
    assert!(!path_of(bench.path(), never).exists());
    let named = named(&bench);
    for (id, uid, unverified) in [
        (content, "1.2.3", false),
        (header, "1.2.4", true),
        (cut, "1.2.5", false),
        (sealed_id, "1.2.6", false),
    ] {
        assert!(bench.path().join(format!("quarantine/{id}.dcm")).exists(), "{uid}");
        let one = &named[&id.to_string()];
        assert_eq!(
            (one.fate, one.sop_instance.as_deref(), one.unverified),
            (Fate::Damaged, Some(uid), unverified)
        );
    }
    assert_eq!(named.len(), 4);
    assert_eq!(bench.report.unreadable.len(), 4);
    assert_eq!(deliverable(&bench).await, ["1.2.1"]);
}

#[tokio::test]
async fn without_an_index_each_damaged_payload_is_named_by_what_it_still_tells() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for n in 0..5_u8 {
        ids.push(store(&bench, &format!("1.2.{n}"), &[n; 40]).await);
    }
    bench.reopen_after(|path| {
        let at = |n: usize| path_of(path, ids[n]);
        fs::File::options()
            .write(true)
            .open(at(0))
            .unwrap()
            .set_len(200)
            .unwrap();
        let mut longer = fs::read(at(1)).unwrap();
        longer.extend_from_slice(b"junk");
        fs::write(at(1), longer).unwrap();
        flip(&at(2), identity);
        flip(&at(3), |_| 130);
        fs::write(at(4), b"short").unwrap();
        fs::remove_dir_all(path.join("index")).unwrap();
    });
    let named = named(&bench);
    let told = |n: usize| {
        let one = &named[&ids[n].to_string()];
        (one.fate, one.sop_instance.as_deref(), one.unverified)
    };
    assert_eq!(told(0), (Fate::Damaged, Some("1.2.0"), true));
    assert_eq!(told(1), (Fate::Damaged, Some("1.2.1"), false));
    assert_eq!(told(2), (Fate::Damaged, Some("1.2.2"), true));
    assert_eq!(
        told(3).0,
        Fate::DecidedAnew,
        "what the spool does not need is not looked at"
    );
    assert_eq!(told(4), (Fate::Damaged, None, false));
}

#[tokio::test]
async fn without_an_index_swapped_payloads_change_places_and_a_copy_over_another_is_that_ones_loss() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for n in 0..5_u8 {
        ids.push(store(&bench, &format!("1.2.{n}"), &[n; 40]).await);
    }
    bench.reopen_after(|path| {
        let at = |n: usize| path_of(path, ids[n]);
        // Three in a ring, and one written over another.
        let kept = fs::read(at(0)).unwrap();
        fs::copy(at(1), at(0)).unwrap();
        fs::copy(at(2), at(1)).unwrap();
        fs::write(at(2), kept).unwrap();
        fs::copy(at(3), at(4)).unwrap();
        fs::remove_dir_all(path.join("index")).unwrap();
    });
    assert_eq!(deliverable(&bench).await, ["1.2.0", "1.2.1", "1.2.2", "1.2.3"]);
    let named = named(&bench);
    let lost = &named[&ids[4].to_string()];
    assert_eq!((lost.fate, lost.sop_instance.as_deref()), (Fate::Damaged, None));
    assert!(bench.path().join(format!("quarantine/{}.dcm", ids[4])).exists());
}

#[tokio::test]
async fn a_payload_that_is_back_is_damaged_no_more_and_goes() {
    for scrubbed in [false, true] {
        let mut bench = Bench::new();
        let id = store(&bench, "1.2.1", b"moved").await;
        let held = store(&bench, "1.2.2", b"held by a person").await;
        let (path, elsewhere) = (path_of(bench.path(), id), wrong(bench.path(), id));
        let filter = Filter {
            sop_instance: Some(Uid::known("1.2.2")),
            ..Filter::default()
        };
        let acted = bench.spool().act(filter, Verb::Hold, "it", "look", false).await;
        assert_eq!(acted.unwrap().changed, 1);
        fs::rename(&path, &elsewhere).unwrap();
        let second = path_of(bench.path(), held);
        fs::rename(&second, wrong(bench.path(), held)).unwrap();
        super::scrubbed::scrub(&bench).await;
        assert_eq!(bench.metrics.spool_damaged.get(), 2);
        assert!(bench.claim_one("a").await.is_none());
        if scrubbed {
            fs::rename(&elsewhere, &path).unwrap();
            fs::rename(wrong(bench.path(), held), &second).unwrap();
            super::scrubbed::scrub(&bench).await;
        } else {
            bench.reopen_after(|_| {});
            assert_eq!(bench.report.brought_home.len(), 2);
        }
        assert_eq!(bench.metrics.spool_damaged.get(), 0, "scrubbed {scrubbed}");
        assert_eq!(bench.spool().damaged(9).await.unwrap(), []);
        assert_eq!(super::scrubbed::held(&bench, HoldKind::Operator).await, 1);
        let facts = bench.spool().facts(Some(id), 99).await.unwrap();
        assert!(facts.iter().any(|fact| fact.kind == FactKind::Healed), "{facts:?}");
        // A resend is a repeat of what goes now.
        let again = bench.store("1.2.1", b"moved", vec![to("a")]).await;
        assert!(matches!(again, Committed::Repeat(_)), "{again:?}");
        assert_eq!(deliverable(&bench).await, ["1.2.1"]);
        assert_eq!(bench.fsck().problems, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_export_takes_a_payload_in_a_wrong_folder_and_says_of_a_damaged_one_that_it_did_not() {
    let mut bench = Bench::new();
    let whole = store(&bench, "1.2.1", b"moved").await;
    let cut = store(&bench, "1.2.2", b"moved and cut").await;
    let link = store(&bench, "1.2.3", b"unread").await;
    bench.spool.take().unwrap().close().await;
    for id in [whole, cut] {
        fs::rename(path_of(bench.path(), id), wrong(bench.path(), id)).unwrap();
    }
    let file = wrong(bench.path(), cut);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    // A link that leads to itself: the machine's error says nothing of what was stored.
    let unread = path_of(bench.path(), link);
    fs::remove_file(&unread).unwrap();
    std::os::unix::fs::symlink(&unread, &unread).unwrap();
    let to = tempfile::tempdir().unwrap();
    let report = export(bench.path(), to.path(), &Filter::default(), Wanted::All).unwrap();
    assert_eq!((report.exported, report.skipped), (1, vec![cut.to_string()]));
    let unreadable: Vec<String> = report.unreadable.into_iter().map(|(id, _)| id).collect();
    assert_eq!(unreadable, [link.to_string()]);
    assert!(to.path().join(format!("{whole}/1.2.1.dcm")).exists());
}
