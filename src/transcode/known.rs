//! What was learned of the destinations: for each SOP class and transfer syntax whether the destination accepted it, and when;
//! and which classes and syntaxes this box has seen at all.
//!
//! Learned from every association that is answered, forgotten by age, and kept across restarts in one versioned file, which
//! is never needed: without it everything is learned again. Bounded. It only chooses what is proposed; what a destination
//! says in the association at hand always counts more.
use crate::base::clock::{Clock, Wall};
use crate::base::names::{DestinationId, Uid};
use crate::base::whole;
use crate::telemetry::metrics::Metrics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A SOP class with a transfer syntax.
pub type Pair = (Uid, Uid);

/// Shared by all lanes. Cheap to clone.
#[derive(Clone)]
pub struct Known {
    table: Arc<Mutex<Table>>,
    clock: Clock,
    metrics: Metrics,
    learned: Duration,
}

#[derive(Default)]
struct Table {
    destinations: BTreeMap<DestinationId, BTreeMap<Pair, Answer>>,
    /// When an instance of this pair last came by.
    seen: BTreeMap<Pair, Wall>,
    /// How long the refusals of each destination count, for the metric.
    refusals: BTreeMap<DestinationId, Duration>,
    changed: bool,
}

/// What a destination said of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// 0 accepted, else the presentation context's result (PS3.8 table 9-18).
    pub result: u8,
    pub at: Wall,
}

/// One line of the matrix, for people and for the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    pub class: Uid,
    pub syntax: Uid,
    pub result: u8,
    pub at_us: u64,
}

/// A cell of the matrix that still counts, for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Learned {
    pub class: Uid,
    pub syntax: Uid,
    /// 0 accepted, else the presentation context's result (PS3.8 table 9-18).
    pub result: u8,
    /// When it was answered, and until when that counts (UTC).
    pub learned: String,
    pub until: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    seen: Vec<Line>,
    destinations: BTreeMap<DestinationId, Vec<Line>>,
}

impl Known {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(learned: Duration, clock: Clock, metrics: Metrics) -> Self {
        Self {
            table: Arc::default(),
            clock,
            metrics,
            learned,
        }
    }

    /// What a file of `save` holds is known again. A file that is not there, or cannot be read, teaches nothing.
    ///
    /// # Errors
    /// Why it could not be read, for the log.
    pub fn load(&self, path: &Path) -> io::Result<()> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read?,
        };
        let stored: Stored = serde_json::from_slice(&text)?;
        if stored.version != VERSION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "written by another version"));
        }
        let mut table = self.table();
        for line in stored.seen.into_iter().take(SEEN_MAX) {
            table.seen.insert((line.class, line.syntax), Wall(line.at_us));
        }
        for (destination, lines) in stored.destinations {
            let answers = table.destinations.entry(destination).or_default();
            for line in lines.into_iter().take(ANSWERS_MAX) {
                let at = Wall(line.at_us);
                answers.insert(
                    (line.class, line.syntax),
                    Answer {
                        result: line.result,
                        at,
                    },
                );
            }
        }
        table.changed = false;
        self.count(&table);
        Ok(())
    }

    /// Writes the file anew when something has changed since. Blocking.
    ///
    /// # Errors
    /// It could not be written; the old one stands.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = {
            let mut table = self.table();
            if !std::mem::take(&mut table.changed) {
                return Ok(());
            }
            let seen = table.seen.iter();
            let stored = Stored {
                version: VERSION,
                seen: seen
                    .map(|(pair, at)| line(pair, Answer { result: 0, at: *at }))
                    .collect(),
                destinations: table
                    .destinations
                    .iter()
                    .map(|(name, answers)| {
                        (
                            name.clone(),
                            answers.iter().map(|(pair, answer)| line(pair, *answer)).collect(),
                        )
                    })
                    .collect(),
            };
            serde_json::to_vec(&stored)?
        };
        let written = whole::write(path, 0o600, &text);
        if written.is_err() {
            self.table().changed = true;
        }
        written
    }

    /// An instance of this pair came by.
    pub fn saw(&self, class: &Uid, syntax: &Uid) {
        let now = self.clock.now();
        let mut table = self.table();
        let pair = (class.clone(), syntax.clone());
        let news = match table.seen.get(&pair) {
            // Fresh enough: the file need not be written for it.
            Some(at) => now.since(*at) >= SEEN_FRESH,
            None => true,
        };
        if news {
            table.seen.insert(pair, now);
            shrink(&mut table.seen, SEEN_MAX, |at| *at);
            table.changed = true;
        }
    }

    /// Every pair that was seen, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Pair> {
        self.table().seen.keys().cloned().collect()
    }

    /// A destination answered.
    pub fn learn(&self, destination: &DestinationId, answers: impl IntoIterator<Item = (Pair, u8)>) {
        let at = self.clock.now();
        let mut table = self.table();
        let known = table.destinations.entry(destination.clone()).or_default();
        let mut changed = false;
        for (pair, result) in answers {
            let before = known.insert(pair, Answer { result, at });
            changed |= before.is_none_or(|before| before.result != result || at.since(before.at) >= SEEN_FRESH);
        }
        shrink(known, ANSWERS_MAX, |answer| answer.at);
        table.changed |= changed;
        if changed {
            self.count(&table);
        }
    }

    /// Whether the destination is known to accept the pair; `None` when nothing is known, or it was learned too long ago.
    #[must_use]
    pub fn accepts(&self, destination: &DestinationId, pair: &Pair, refusals_count: Duration) -> Option<bool> {
        let now = self.clock.now();
        let table = self.table();
        let answer = table.destinations.get(destination)?.get(pair)?;
        let counts = self.counts(*answer, refusals_count, now);
        counts.then_some(answer.result == 0)
    }

    fn lasts(&self, answer: Answer, refusals_count: Duration) -> Duration {
        if answer.result == 0 {
            self.learned
        } else {
            refusals_count
        }
    }

    fn counts(&self, answer: Answer, refusals_count: Duration, now: Wall) -> bool {
        // A clock that was put back makes no answer younger.
        now >= answer.at && now.since(answer.at) < self.lasts(answer, refusals_count)
    }

    /// A person has changed something over there: its refusals are asked for again.
    pub fn forget_refusals(&self, destination: &DestinationId) {
        let mut table = self.table();
        if let Some(known) = table.destinations.get_mut(destination) {
            let before = known.len();
            known.retain(|_, answer| answer.result == 0);
            let fewer = known.len() < before;
            table.changed |= fewer;
        }
        self.count(&table);
    }

    /// What counts now of the matrix of one destination, with its expiry.
    #[must_use]
    pub fn matrix(&self, destination: &DestinationId, refusals_count: Duration) -> Vec<Learned> {
        let now = self.clock.now();
        let table = self.table();
        let known = table.destinations.get(destination).into_iter().flatten();
        known
            .filter(|(_, answer)| self.counts(**answer, refusals_count, now))
            .map(|((class, syntax), answer)| Learned {
                class: class.clone(),
                syntax: syntax.clone(),
                result: answer.result,
                learned: answer.at.iso(),
                until: answer.at.plus(self.lasts(*answer, refusals_count)).iso(),
            })
            .collect()
    }

    /// The matrix of one destination, as it was learned, old answers included.
    #[must_use]
    pub fn lines(&self, destination: &DestinationId) -> Vec<Line> {
        let table = self.table();
        let known = table.destinations.get(destination).into_iter().flatten();
        known.map(|(pair, answer)| line(pair, *answer)).collect()
    }

    /// How long this destination's refusals count in the metric.
    pub fn refusals_count(&self, destination: &DestinationId, refusals: Duration) {
        let mut table = self.table();
        table.refusals.insert(destination.clone(), refusals);
        self.count(&table);
    }

    /// Counts anew what has not expired since.
    pub fn recount(&self) {
        self.count(&self.table());
    }

    /// What counts now. Of a destination of which nobody has said how long its refusals count, none does.
    fn count(&self, table: &Table) {
        let now = self.clock.now();
        for (destination, known) in &table.destinations {
            let refusals = table.refusals.get(destination).copied().unwrap_or_default();
            let counting = || known.values().filter(|answer| self.counts(**answer, refusals, now));
            let accepted = counting().filter(|answer| answer.result == 0).count();
            for (word, count) in [("accepted", accepted), ("refused", counting().count() - accepted)] {
                let gauge = self
                    .metrics
                    .contexts_learned
                    .with_label_values(&[destination.as_str(), word]);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line((class, syntax): &Pair, answer: Answer) -> Line {
    Line {
        class: class.clone(),
        syntax: syntax.clone(),
        result: answer.result,
        at_us: answer.at.0,
    }
}

/// Drops the oldest beyond the bound.
fn shrink<V>(map: &mut BTreeMap<Pair, V>, most: usize, age: impl Fn(&V) -> Wall) {
    while map.len() > most {
        let oldest = map
            .iter()
            .min_by_key(|(_, value)| age(value))
            .map(|(pair, _)| pair.clone());
        let Some(oldest) = oldest else { return };
        map.remove(&oldest);
    }
}

const VERSION: u32 = 1;
/// Classes and syntaxes that a site has: some hundred. Beyond this the oldest go.
const SEEN_MAX: usize = 2_000;
const ANSWERS_MAX: usize = 4_000;
/// The file is not written for what is repeated within this.
const SEEN_FRESH: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;

    fn pair(class: usize) -> Pair {
        (
            Uid::parse(&format!("1.2.{class}")).unwrap(),
            Uid::known("1.2.840.10008.1.2"),
        )
    }

    fn to() -> DestinationId {
        DestinationId::parse("vna").unwrap()
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn answers_are_forgotten_by_age_refusals_sooner() {
        let clock = Clock::manual(Wall(1_000_000));
        let known = Known::new(10 * HOUR, clock.clone(), Metrics::new());
        known.learn(&to(), [(pair(1), 0), (pair(2), 4)]);
        assert_eq!(known.accepts(&to(), &pair(1), HOUR), Some(true));
        assert_eq!(known.accepts(&to(), &pair(2), HOUR), Some(false));
        assert_eq!(known.accepts(&to(), &pair(3), HOUR), None);
        clock.advance(HOUR);
        assert_eq!(known.accepts(&to(), &pair(1), HOUR), Some(true));
        assert_eq!(known.accepts(&to(), &pair(2), HOUR), None, "asked again");
        clock.advance(9 * HOUR);
        assert_eq!(known.accepts(&to(), &pair(1), HOUR), None);
    }

    #[test]
    fn the_matrix_shows_what_counts_and_until_when() {
        let clock = Clock::manual(Wall(0));
        let known = Known::new(10 * HOUR, clock.clone(), Metrics::new());
        known.learn(&to(), [(pair(1), 0), (pair(2), 4)]);
        let shown = |known: &Known| -> Vec<(u8, String)> {
            let cells = known.matrix(&to(), HOUR).into_iter();
            cells.map(|cell| (cell.result, cell.until)).collect()
        };
        let accepted = (0, Wall(0).plus(10 * HOUR).iso());
        assert_eq!(shown(&known), [accepted.clone(), (4, Wall(0).plus(HOUR).iso())]);
        clock.advance(HOUR);
        assert_eq!(shown(&known), [accepted]);
        clock.advance(9 * HOUR);
        assert_eq!(shown(&known), []);
    }

    #[test]
    fn the_metric_counts_what_has_not_expired() {
        let (clock, metrics, folder) = (Clock::manual(Wall(0)), Metrics::new(), tempfile::tempdir().unwrap());
        let path = folder.path().join("syntaxes.json");
        let counted = |metrics: &Metrics| {
            ["accepted", "refused"].map(|word| metrics.contexts_learned.with_label_values(&["vna", word]).get())
        };
        let known = Known::new(10 * HOUR, clock.clone(), metrics.clone());
        known.refusals_count(&to(), HOUR);
        known.learn(&to(), [(pair(1), 0), (pair(2), 4), (pair(3), 4)]);
        assert_eq!(counted(&metrics), [1, 2]);
        known.save(&path).unwrap();
        clock.advance(HOUR);
        known.recount();
        assert_eq!(counted(&metrics), [1, 0]);
        let again = Metrics::new();
        let restarted = Known::new(10 * HOUR, clock.clone(), again.clone());
        restarted.load(&path).unwrap();
        restarted.refusals_count(&to(), 2 * HOUR);
        assert_eq!(counted(&again), [1, 2], "by how long they count here");
        clock.advance(9 * HOUR);
        restarted.recount();
        known.recount();
        assert_eq!((counted(&again), counted(&metrics)), ([0, 0], [0, 0]));
    }

    #[test]
    fn a_person_who_changed_something_is_believed() {
        let known = Known::new(HOUR, Clock::manual(Wall(1)), Metrics::new());
        known.learn(&to(), [(pair(1), 0), (pair(2), 3)]);
        known.forget_refusals(&to());
        assert_eq!(known.lines(&to()).len(), 1);
        assert_eq!(known.accepts(&to(), &pair(1), HOUR), Some(true));
    }

    #[test]
    fn what_was_learned_outlives_a_restart_and_a_broken_file_teaches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("syntaxes.json");
        let clock = Clock::manual(Wall(5_000_000));
        let known = Known::new(HOUR, clock.clone(), Metrics::new());
        known.learn(&to(), [(pair(1), 0), (pair(2), 4)]);
        known.saw(&pair(7).0, &pair(7).1);
        known.save(&path).unwrap();
        let again = Known::new(HOUR, clock.clone(), Metrics::new());
        again.load(&path).unwrap();
        assert_eq!((again.lines(&to()), again.seen()), (known.lines(&to()), vec![pair(7)]));
        for broken in ["", "{}", "{\"version\":9,\"seen\":[],\"destinations\":{}}"] {
            std::fs::write(&path, broken).unwrap();
            assert!(
                Known::new(HOUR, clock.clone(), Metrics::new()).load(&path).is_err(),
                "{broken}"
            );
        }
        assert!(again.load(&folder.path().join("none")).is_ok());
    }

    #[test]
    fn a_peer_that_makes_up_classes_fills_nothing() {
        let known = Known::new(HOUR, Clock::manual(Wall(1)), Metrics::new());
        known.learn(&to(), (0..ANSWERS_MAX + 500).map(|class| (pair(class), 0)));
        assert_eq!(known.lines(&to()).len(), ANSWERS_MAX);
    }
}
