//! A spool that is older than the reports that are kept beside it, or whose index was lost.
use super::*;
use crate::base::units::{Share, Size};
use crate::spool::{self, Detail, Fact, FactKind, Refusals};

/// Spool and state of a box under a clock that the test moves. 13 September 2020, 12:26:40 UTC.
const START: Wall = Wall(1_600_000_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

struct Bench {
    folder: tempfile::TempDir,
    clock: Clock,
    metrics: Metrics,
    spool: Option<Spool>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Clock::manual(START),
            metrics: Metrics::new(),
            spool: None,
        };
        bench.open();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&mut self) {
        let config = spool::Config {
            path: self.path("spool"),
            low_water: Share::Bytes(0),
            critical: Size(0),
            ballast: Size(0),
            cache_high_water: Share::Bytes(0),
            ..spool::Config::default()
        };
        self.metrics = Metrics::new();
        // A program that another test is about to start has our lock for a moment, between its fork and its exec.
        for _ in 0..50 {
            match Spool::open(config.clone(), self.clock.clone(), self.metrics.clone()) {
                Err(spool::OpenError::InUse(_)) => std::thread::sleep(Duration::from_millis(10)),
                opened => {
                    self.spool = Some(opened.unwrap().0);
                    return;
                }
            }
        }
        panic!("the spool stays in use");
    }

    async fn close(&mut self) {
        self.spool.take().unwrap().close().await;
    }

    /// Ends the box, lets `between` at its files, and starts it again a minute later.
    async fn restart_after(&mut self, between: impl FnOnce(&Self)) -> Reconciler {
        self.close().await;
        between(self);
        self.clock.advance(Duration::from_secs(60));
        self.open();
        let reconciler = self.reconciler();
        reconciler.begin().await;
        reconciler
    }

    fn reconciler(&self) -> Reconciler {
        let spool = self.spool.clone().unwrap();
        let config = Config::default();
        Reconciler::new(
            spool,
            self.clock.clone(),
            self.metrics.clone(),
            &config,
            self.folder.path(),
        )
    }

    /// An image is refused and does not come again.
    async fn refuse(&self, uid: &str) {
        let refused = Refusals {
            source: "ct1".to_owned().try_into().unwrap(),
            study: None,
            status: "A700".to_owned(),
            count: 1,
            sop_instances: vec![uid.to_owned()],
        };
        let fact = Fact::new(FactKind::Refused).detail(Detail::Refused(refused));
        self.spool.as_ref().unwrap().note(vec![fact]).await.unwrap();
    }

    fn standing(&self, kind: DifferenceKind) -> i64 {
        self.metrics
            .reconcile_differences
            .with_label_values(&[kind.word()])
            .get()
    }

    async fn acknowledge(&self, reconciler: &Reconciler) -> usize {
        let count = self.spool.as_ref().unwrap().acknowledge_salvage("it").await.unwrap();
        reconciler.acknowledged().await;
        count
    }

    fn reports(&self) -> usize {
        spool::salvages(&self.path("spool"), 9).unwrap().len()
    }
}

/// A folder and all below it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn put_back(bench: &Bench, name: &str) {
    fs::remove_dir_all(bench.path("spool")).unwrap();
    copy(&bench.path(name), &bench.path("spool"));
}

fn of(report: &Report, kind: DifferenceKind) -> usize {
    report.differences.iter().filter(|one| one.kind == kind).count()
}

/// Two instances are refused; a copy `noon` of the spool is from between them.
async fn refused_twice() -> Bench {
    let mut bench = Bench::new();
    bench.refuse("1.1").await;
    bench.close().await;
    copy(&bench.path("spool"), &bench.path("noon"));
    bench.open();
    bench.refuse("1.2").await;
    bench
}

/// The same, with the report of that day, which is over.
async fn reconciled() -> (Bench, Day, Report) {
    let bench = refused_twice().await;
    let day = Day::parse("2020-09-13").unwrap();
    bench.clock.advance(HOUR * 24);
    let made = bench.reconciler().reconcile(Some(day)).await.unwrap();
    (bench, day, made)
}

const OLDER: DifferenceKind = DifferenceKind::LedgerOlder;
const REFUSED: DifferenceKind = DifferenceKind::Refused;

#[tokio::test]
async fn the_report_of_a_day_outlives_a_spool_that_is_restored_from_before_its_end() {
    let (mut bench, day, made) = reconciled().await;
    assert_eq!((made.complete, of(&made, REFUSED)), (true, 2));

    let reconciler = bench.restart_after(|bench| put_back(bench, "noon")).await;
    // From its start on, before anybody asks.
    assert_eq!((bench.standing(OLDER), bench.standing(REFUSED)), (1, 2));
    assert_eq!(bench.metrics.salvage_unacknowledged.get(), 1);
    let told = spool::salvages(&bench.path("spool"), 9).unwrap().pop().unwrap();
    assert!(
        told.cause.contains("2020-09-13") && told.cause.contains("it ends with line 1"),
        "{told:?}"
    );
    let refused = reconciler.reconcile(Some(day)).await.unwrap_err().to_string();
    assert!(
        refused.contains("stays as it is") && refused.contains("--acknowledge"),
        "{refused}"
    );
    let today = reconciler.reconcile(None).await.unwrap();
    assert!(
        !today.agrees() && today.other_days.contains_key("2020-09-13"),
        "{today}"
    );
    let kept = reconciler.kept(Some(day)).await.unwrap().unwrap();
    assert_eq!((of(&kept, REFUSED), of(&kept, OLDER)), (2, 1));
    assert_eq!((kept.ledger_line, &kept.made), (2, &made.made));
    assert!(
        kept.to_string()
            .contains("ledger_older: the ledger is not the one that"),
        "{kept}"
    );

    let reconciler = bench.restart_after(|_| {}).await;
    assert_eq!(
        (bench.standing(OLDER), bench.reports()),
        (1, 1),
        "said once, and not at each start"
    );
    assert_eq!(bench.acknowledge(&reconciler).await, 1);
    assert_eq!((bench.standing(OLDER), bench.standing(REFUSED)), (0, 2));
    let reconciler = bench.restart_after(|_| {}).await;
    assert_eq!((bench.standing(OLDER), bench.reports()), (0, 1));
    let kept = reconciler.kept(Some(day)).await.unwrap().unwrap();
    assert!(kept.to_string().contains("acknowledged by it"), "{kept}");
    assert!(
        reconciler.reconcile(Some(day)).await.is_err(),
        "it knows more all the same"
    );
}

#[tokio::test]
async fn todays_report_is_put_aside_before_an_older_spool_makes_another() {
    let mut bench = refused_twice().await;
    let made = bench.reconciler().reconcile(None).await.unwrap();
    assert_eq!(of(&made, REFUSED), 2);

    let reconciler = bench.restart_after(|bench| put_back(bench, "noon")).await;
    bench.refuse("1.3").await;
    let again = reconciler.reconcile(None).await.unwrap();
    assert_eq!((of(&again, REFUSED), of(&again, OLDER), again.ledger_line), (2, 1, 2));
    let aside = format!("2020-09-13.line-2-{}", &made.ledger_head[..8]);
    assert!(again.notes.iter().any(|note| note.contains(&aside)), "{again}");
    let aside = fs::read_to_string(bench.path("reconciliation").join(aside + ".txt")).unwrap();
    assert!(aside.contains("1.2"), "{aside}");
    // The day that follows has it still, until it is acknowledged.
    bench.clock.advance(HOUR * 24);
    let day = Day::parse("2020-09-13").unwrap();
    let over = reconciler.reconcile(Some(day)).await.unwrap();
    assert_eq!((over.complete, of(&over, OLDER)), (true, 1));
    assert!(over.notes.iter().any(|note| note.contains(".line-2-")), "{over}");
    assert_eq!(bench.acknowledge(&reconciler).await, 1);
    assert_eq!(bench.standing(OLDER), 0);
    let over = reconciler.reconcile(Some(day)).await.unwrap();
    assert_eq!(of(&over, OLDER), 0);
    assert!(over.to_string().contains("acknowledged by it"), "{over}");
    // It goes with its day.
    let folder = bench.path("reconciliation");
    for (first, left) in [(day, 4), (day.next(), 2)] {
        older::clear_aside(&folder, first).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), left);
    }
}

#[tokio::test]
async fn a_newer_spool_that_is_put_back_is_the_one_again() {
    let (mut bench, day, _) = reconciled().await;
    bench.close().await;
    copy(&bench.path("spool"), &bench.path("newer"));
    bench.open();
    bench.restart_after(|bench| put_back(bench, "noon")).await;
    assert_eq!(bench.standing(OLDER), 1);
    let reconciler = bench.restart_after(|bench| put_back(bench, "newer")).await;
    assert_eq!((bench.standing(OLDER), bench.reports()), (0, 0));
    let again = reconciler.reconcile(Some(day)).await.unwrap();
    assert_eq!((of(&again, REFUSED), of(&again, OLDER)), (2, 0));
}

#[tokio::test]
async fn todays_report_says_that_the_index_was_lost() {
    let mut bench = Bench::new();
    bench.refuse("1.1").await;
    bench.reconciler().reconcile(None).await.unwrap();
    let lost = |bench: &Bench| fs::remove_dir_all(bench.path("spool").join("index")).unwrap();
    let reconciler = bench.restart_after(lost).await;
    let report = reconciler.reconcile(None).await.unwrap();
    assert_eq!((of(&report, REFUSED), of(&report, OLDER)), (0, 1));
    let words = report.to_string();
    assert!(words.contains("the chain of the ledger has a break"), "{words}");
    // The salvage's own report, and that of what the kept one had seen.
    assert_eq!(bench.acknowledge(&reconciler).await, 2);
    let report = reconciler.reconcile(None).await.unwrap();
    assert!(
        report.agrees() && report.to_string().contains("has a break"),
        "{report}"
    );
}

#[tokio::test]
async fn an_empty_ledger_tells_nothing_of_a_day_that_is_over() {
    let bench = Bench::new();
    let reconciler = bench.reconciler();
    for day in ["2020-09-12", "2019-01-01"] {
        let asked = reconciler.reconcile(Some(Day::parse(day).unwrap())).await;
        assert!(matches!(asked, Err(ReconcileError::Forgotten)), "{day}");
    }
    let asked = reconciler.reconcile(Some(Day::parse("2020-09-14").unwrap())).await;
    assert!(matches!(asked, Err(ReconcileError::Future)));
    let today = reconciler.reconcile(Some(Day::parse("2020-09-13").unwrap())).await;
    assert!(today.unwrap().agrees());
}
