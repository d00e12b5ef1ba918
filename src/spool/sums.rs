//! Quick checksums of what arrived lately, in memory only. BLAKE3 names a content, for years and against anybody; read back for a
//! delivery, a payload has to be what was written moments ago, and XXH3 (128 bits) finds a damaged byte as surely, for less
//! processor time (`docs/performance.md`). What is not known here, after a restart or behind a long queue, is verified by its BLAKE3.
use crate::base::names::InstanceId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use twox_hash::XxHash3_128;

/// Of so many arrivals; below 8 MiB together.
const KEPT: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Sums(Mutex<Lately>);

#[derive(Default)]
struct Lately {
    sums: HashMap<InstanceId, u128>,
    order: VecDeque<InstanceId>,
}

impl Sums {
    /// Remembers one; the oldest is forgotten for it.
    pub(super) fn note(&self, id: InstanceId, sum: u128) {
        let mut lately = self.lock();
        if lately.sums.insert(id, sum).is_none() {
            lately.order.push_back(id);
        }
        if lately.order.len() > KEPT
            && let Some(oldest) = lately.order.pop_front()
        {
            lately.sums.remove(&oldest);
        }
    }

    /// What the bytes of an instance are held against when they are read from their start.
    pub(super) fn check(&self, id: InstanceId) -> Check {
        match self.lock().sums.get(&id) {
            Some(sum) => Check::Quick(Box::default(), *sum),
            None => Check::Digest(Box::default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lately> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sums up the bytes of one payload, in order.
#[derive(Clone)]
pub(super) enum Check {
    Quick(Box<XxHash3_128>, u128),
    Digest(Box<blake3::Hasher>),
}

impl Check {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Quick(sum, _) => sum.write(bytes),
            Self::Digest(hasher) => drop(hasher.update(bytes)),
        }
    }

    /// From the first byte again.
    pub(super) fn restart(&mut self) {
        match self {
            Self::Quick(sum, _) => **sum = XxHash3_128::new(),
            Self::Digest(hasher) => drop(hasher.reset()),
        }
    }

    /// Whether all bytes were those of the payload whose BLAKE3 is `digest`.
    pub(super) fn holds(&self, digest: &[u8; 32]) -> bool {
        match self {
            Self::Quick(sum, wanted) => sum.finish_128() == *wanted,
            Self::Digest(hasher) => hasher.finalize().as_bytes() == digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> InstanceId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        InstanceId(id)
    }

    #[test]
    fn either_check_finds_a_flipped_bit_anywhere_and_a_missing_byte() {
        let bytes: Vec<u8> = (0..5_000_u32).map(|at| ((at * 31) >> 3) as u8).collect();
        let digest = *blake3::hash(&bytes).as_bytes();
        let sums = Sums::default();
        sums.note(id(1), XxHash3_128::oneshot(&bytes));
        for known in [id(1), id(2)] {
            let mut check = sums.check(known);
            assert_eq!(matches!(check, Check::Quick(..)), known == id(1));
            for piece in bytes.chunks(700) {
                check.update(piece);
            }
            assert!(check.holds(&digest));
            for at in (0..bytes.len()).step_by(37) {
                let mut other = bytes.clone();
                other[at] ^= 1 << (at % 8);
                check.restart();
                check.update(&other);
                assert!(!check.holds(&digest), "{at}");
            }
            check.restart();
            check.update(&bytes[..4_999]);
            assert!(!check.holds(&digest));
        }
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let sums = Sums::default();
        for number in 0..=KEPT {
            sums.note(id(number), 1);
            sums.note(id(number), 1);
        }
        assert!(matches!(sums.check(id(0)), Check::Digest(_)));
        assert!(matches!(sums.check(id(1)), Check::Quick(..)));
        assert_eq!(sums.lock().sums.len(), KEPT);
    }
}
