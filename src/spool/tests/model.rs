//! The same random actions against the spool and against a simple model of it; both must agree at every step.
use super::super::pick::effective;
use super::*;
use crate::base::properties::cases;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Action {
    Store {
        dest: usize,
        priority: usize,
        delay: u64,
        held: bool,
    },
    Confirm {
        dest: usize,
    },
    Retry {
        dest: usize,
        delay: u64,
    },
    Hold {
        dest: usize,
    },
    Drop {
        dest: usize,
    },
    Release {
        dest: usize,
    },
    Suspend {
        dest: usize,
        on: bool,
    },
    Advance {
        seconds: u64,
    },
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let dest = 0..2_usize;
    let action = prop_oneof![
        6 => (dest.clone(), 0..4_usize, 0..3_u64, prop::bool::weighted(0.1))
            .prop_map(|(dest, priority, delay, held)| Action::Store { dest, priority, delay: delay * 1_000, held }),
        4 => dest.clone().prop_map(|dest| Action::Confirm { dest }),
        2 => (dest.clone(), 0..3_u64).prop_map(|(dest, delay)| Action::Retry { dest, delay: delay * 900 }),
        1 => dest.clone().prop_map(|dest| Action::Hold { dest }),
        1 => dest.clone().prop_map(|dest| Action::Drop { dest }),
        1 => dest.clone().prop_map(|dest| Action::Release { dest }),
        1 => (dest, any::<bool>()).prop_map(|(dest, on)| Action::Suspend { dest, on }),
        3 => (0..4_000_u64).prop_map(|seconds| Action::Advance { seconds }),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..60)
}

#[derive(Clone, Debug, PartialEq)]
struct Job {
    dest: usize,
    priority: Priority,
    due: Wall,
    attempts: u32,
    held: bool,
}

#[derive(Default)]
struct Model {
    jobs: BTreeMap<u64, Job>,
    next: u64,
    suspended: [bool; 2],
}

impl Model {
    /// The jobs that a claim would give now, in order.
    fn order(&self, dest: usize, now: Wall) -> Vec<u64> {
        if self.suspended[dest] {
            return Vec::new();
        }
        let step = Duration::from_secs(1_800);
        let due = self
            .jobs
            .iter()
            .filter(|(_, job)| job.dest == dest && !job.held && job.due <= now);
        let mut order: Vec<_> = due
            .map(|(id, job)| (effective(job.priority, job.due, now, step), job.due, *id))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., id)| id).collect()
    }

    fn next_due(&self, dest: usize) -> Option<Wall> {
        let waiting = self
            .jobs
            .values()
            .filter(|job| job.dest == dest && !job.held && !self.suspended[dest]);
        waiting.map(|job| job.due).min()
    }
}

const NAMES: [&str; 2] = ["a", "b"];

async fn step(bench: &mut Bench, model: &mut Model, action: Action) {
    let now = bench.clock.now();
    match action {
        Action::Store {
            dest,
            priority,
            delay,
            held,
        } => {
            model.next += 1;
            let priority = Priority::ALL[priority];
            let due = now.plus(Duration::from_secs(delay));
            let hold = held.then(|| HoldReason::new(HoldKind::Rule, "look"));
            let job = NewJob {
                priority,
                due,
                hold,
                ..to(NAMES[dest])
            };
            bench
                .store(&format!("1.{}", model.next), &model.next.to_be_bytes(), vec![job])
                .await;
            model.jobs.insert(
                model.next,
                Job {
                    dest,
                    priority,
                    due,
                    attempts: 0,
                    held,
                },
            );
        }
        Action::Confirm { dest } => settle(bench, model, dest, confirmed()).await,
        Action::Retry { dest, delay } => {
            let due = now.plus(Duration::from_secs(delay));
            let settlement = Settlement::Retry {
                due,
                outcome: "C000".into(),
                counted: true,
            };
            settle(bench, model, dest, settlement).await;
        }
        Action::Hold { dest } => {
            let reason = HoldReason::new(HoldKind::Refused, "C000");
            settle(bench, model, dest, Settlement::Hold { reason }).await;
        }
        Action::Drop { dest } => drop(bench.claim_one(NAMES[dest]).await),
        Action::Release { dest } => {
            let filter = Filter {
                destination: Some(super::dest(NAMES[dest])),
                ..Filter::default()
            };
            bench
                .spool()
                .act(filter, Verb::Release, "it", "go", false)
                .await
                .unwrap();
            for job in model.jobs.values_mut().filter(|job| job.dest == dest && job.held) {
                (job.held, job.attempts, job.due) = (false, 0, now);
            }
        }
        Action::Suspend { dest, on } => {
            let name = super::dest(NAMES[dest]);
            if on {
                bench.spool().suspend(&name, "it", "").await.unwrap();
            } else {
                bench.spool().resume(&name, "it", "").await.unwrap();
            }
            model.suspended[dest] = on;
        }
        Action::Advance { seconds } => bench.clock.advance(Duration::from_secs(seconds)),
        Action::Reopen => bench.reopen_after(|_| {}),
    }
}

async fn settle(bench: &Bench, model: &mut Model, dest: usize, settlement: Settlement) {
    let first = model.order(dest, bench.clock.now()).first().copied();
    let lease = bench.claim_one(NAMES[dest]).await;
    assert_eq!(lease.as_ref().map(|lease| lease.job.0), first);
    let Some(lease) = lease else { return };
    let id = lease.job.0;
    assert_eq!(lease.attempts, model.jobs[&id].attempts);
    bench.spool().settle(lease, settlement.clone()).await.unwrap();
    match settlement {
        Settlement::Confirmed { .. } => drop(model.jobs.remove(&id)),
        Settlement::Retry { due, .. } => {
            let job = model.jobs.get_mut(&id).unwrap();
            (job.due, job.attempts) = (due, job.attempts + 1);
        }
        Settlement::Hold { .. } => model.jobs.get_mut(&id).unwrap().held = true,
    }
}

async fn compare(bench: &Bench, model: &Model) {
    for (dest, name) in NAMES.iter().enumerate() {
        let leases = bench.spool().claim(&super::dest(name), 1_000).await;
        let order: Vec<u64> = leases.iter().map(|lease| lease.job.0).collect();
        assert_eq!(order, model.order(dest, bench.clock.now()));
        drop(leases);
        assert_eq!(bench.spool().next_due(&super::dest(name)).await, model.next_due(dest));
    }
    let held = Filter {
        state: Some(JobState::Held),
        ..Filter::default()
    };
    let expected = model.jobs.values().filter(|job| job.held).count();
    assert_eq!(bench.spool().count(held).await.unwrap(), expected as u64);
    assert_eq!(
        bench.spool().count(Filter::default()).await.unwrap(),
        model.jobs.len() as u64
    );
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 60, ..cases(12) })]
    #[test]
    fn the_queue_behaves_as_its_model(actions in actions()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new();
            let mut model = Model::default();
            for action in actions {
                step(&mut bench, &mut model, action).await;
                compare(&bench, &model).await;
            }
            let fsck = bench.fsck();
            assert_eq!((fsck.problems, fsck.jobs), (vec![], model.jobs.len() as u64));
        });
    }
}
