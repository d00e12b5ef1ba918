//! What a lane remembers of presentation contexts: the pairs of class and syntax that the destination refuses, and those
//! that its instances needed lately, so that one association serves them all. Bounded; in memory only: after a restart
//! a refused pair is asked once more.
use crate::base::names::Uid;
use crate::sender::{PAIRS_MAX, Pair};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

pub struct Contexts {
    parked: BTreeMap<Pair, Parked>,
    /// Lately needed, the latest first.
    recent: VecDeque<Pair>,
    recheck: Duration,
}

struct Parked {
    since: Instant,
    reason: String,
}

impl Contexts {
    pub fn new(recheck: Duration) -> Self {
        Self {
            parked: BTreeMap::new(),
            recent: VecDeque::new(),
            recheck,
        }
    }

    /// The peer refused this pair. Answers whether that is news.
    pub fn park(&mut self, pair: Pair, reason: String, now: Instant) -> bool {
        self.recent.retain(|known| *known != pair);
        if self.parked.len() >= PARKED_MAX && !self.parked.contains_key(&pair) {
            // Not remembered: asked again with its next instance. Nothing is lost but a question.
            return false;
        }
        let parked = Parked { since: now, reason };
        self.parked.insert(pair, parked).is_none()
    }

    /// Why instances of this pair are not sent; forgotten after `recheck`, so that the next instance asks again.
    /// The second value says that the pair was forgotten just now.
    pub fn refused(&mut self, pair: &Pair, now: Instant) -> (Option<String>, bool) {
        match self.parked.get(pair) {
            None => (None, false),
            Some(parked) if now.saturating_duration_since(parked.since) < self.recheck => {
                (Some(parked.reason.clone()), false)
            }
            Some(_) => {
                self.parked.remove(pair);
                (None, true)
            }
        }
    }

    /// Forgets all refusals. Answers whether there were any.
    pub fn clear(&mut self) -> bool {
        let any = !self.parked.is_empty();
        self.parked.clear();
        any
    }

    pub fn parked(&self) -> impl ExactSizeIterator<Item = &Pair> {
        self.parked.keys()
    }

    /// What a new association proposes: what this batch needs first, then what was needed lately.
    pub fn propose(&mut self, needed: impl Iterator<Item = Pair>) -> Vec<Pair> {
        let mut fresh: Vec<Pair> = Vec::new();
        for pair in needed {
            if !fresh.contains(&pair) && fresh.len() < PAIRS_MAX {
                fresh.push(pair);
            }
        }
        self.recent.retain(|pair| !fresh.contains(pair));
        for pair in fresh.iter().rev() {
            self.recent.push_front(pair.clone());
        }
        self.recent.truncate(RECENT_MAX);
        self.recent.iter().cloned().collect()
    }
}

/// The pair as people read it.
pub fn describe((class, syntax): &(Uid, Uid)) -> String {
    format!("SOP class {class} with transfer syntax {syntax}")
}

/// Pairs remembered as refused.
const PARKED_MAX: usize = 1_024;
/// Pairs proposed beyond need.
const RECENT_MAX: usize = 32;
const _: () = assert!(RECENT_MAX >= super::machine::CLAIM_MAX && RECENT_MAX <= PAIRS_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(class: u32) -> Pair {
        let uid = |text: String| Uid::parse(&text).unwrap();
        (uid(format!("1.2.{class}")), uid("1.2.840.10008.1.2".to_owned()))
    }

    #[test]
    fn a_refused_pair_is_asked_again_after_the_recheck() {
        let now = Instant::now();
        let mut contexts = Contexts::new(Duration::from_secs(3600));
        assert!(contexts.park(pair(1), "no".into(), now));
        assert!(!contexts.park(pair(1), "no".into(), now));
        assert_eq!(contexts.refused(&pair(1), now), (Some("no".into()), false));
        assert_eq!(contexts.refused(&pair(2), now), (None, false));
        let later = now + Duration::from_secs(3600);
        assert_eq!(contexts.refused(&pair(1), later), (None, true));
        assert_eq!(contexts.parked().len(), 0);
    }

    #[test]
    fn proposals_hold_what_is_needed_and_stay_bounded() {
        let mut contexts = Contexts::new(Duration::from_secs(1));
        for class in 0..200 {
            let pairs = contexts.propose([pair(class), pair(class), pair(0)].into_iter());
            assert!(pairs.len() <= RECENT_MAX);
            assert!(pairs.contains(&pair(class)) && pairs.contains(&pair(0)));
            assert_eq!(pairs.iter().filter(|p| **p == pair(class)).count(), 1);
        }
    }

    #[test]
    fn a_refused_pair_is_not_proposed_with_others() {
        let mut contexts = Contexts::new(Duration::from_secs(1));
        contexts.propose([pair(1), pair(2)].into_iter());
        contexts.park(pair(1), "no".into(), Instant::now());
        assert_eq!(contexts.propose([pair(2)].into_iter()), [pair(2)]);
    }
}
