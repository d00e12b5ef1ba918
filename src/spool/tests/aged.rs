//! Ageing: which class a waiting job counts as.
use super::super::pick::effective;
use super::*;

#[test]
fn waiting_jobs_age_up_to_high_and_never_overtake_stat() {
    let step = Duration::from_secs(60);
    let at = |minutes: u64| Wall(minutes * 60_000_000);
    let table = [
        (Priority::Low, 0, 3),
        (Priority::Low, 1, 2),
        (Priority::Low, 2, 1),
        (Priority::Low, 500, 1),
        (Priority::Routine, 1, 1),
        (Priority::High, 500, 1),
        (Priority::Stat, 0, 0),
    ];
    for (priority, waited, expected) in table {
        assert_eq!(
            effective(priority, at(0), at(waited), step),
            expected,
            "{priority:?} {waited}"
        );
    }
}
