//! In which transfer syntax an instance leaves: what is proposed, what the destination's answers mean, and which conversion is
//! tried. The conversions themselves are `transcode`'s; what becomes of the data set is `outgoing.rs`'s.
use super::config::Dicom;
use super::dimse::PAIRS_MAX;
use super::outcome::Job;
use crate::base::names::{DestinationId, InstanceId, JobId, Uid};
use crate::telemetry::metrics::Metrics;
use crate::transcode::forms::{needs_codec, ways};
use crate::transcode::known::Learned;
use crate::transcode::{Known, Pair, Policy, Transcoder, Trouble};
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What was converted, for the ledger. No patient data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    pub instance: InstanceId,
    pub job: JobId,
    pub destination: DestinationId,
    pub from: Uid,
    pub to: Uid,
    /// BLAKE3 of the pixels as the first process read them, and as the second one found them in what was written: the same.
    pub pixels: [String; 2],
    pub frames: u32,
    /// Bytes of the stored data set, and of what the codec wrote: for an uncompressed syntax that is explicit little endian, whatever
    /// layout it leaves in.
    pub before: u64,
    pub after: u64,
}

/// Puts a fact on the ledger; answers whether it is durable there.
pub type Record = Arc<dyn Fn(Fact) -> Recording + Send + Sync>;
pub type Recording = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What all lanes share for conversions. Cheap to clone.
#[derive(Clone)]
pub struct Conversions {
    pub transcoder: Transcoder,
    pub known: Known,
    pub record: Record,
    pub metrics: Metrics,
}

/// One destination's conversions.
#[derive(Clone)]
pub struct Caster {
    pub(super) name: DestinationId,
    policy: Policy,
    refusals: Duration,
    known: Option<Known>,
    /// Without them, only what is stored is proposed.
    pub(super) shared: Option<Conversions>,
    /// What broke off with a part of the instance sent, or became too large, the latest last: the same job is not sent so again.
    broken_off: Arc<Mutex<VecDeque<(JobId, Uid, Trouble)>>>,
}

/// What an association proposes.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    pub pairs: Vec<Pair>,
    /// Not proposed, because the destination has refused them in another association lately.
    refused: BTreeSet<Pair>,
}

impl Offer {
    /// These, and nothing is known of others. At most `PAIRS_MAX`.
    #[must_use]
    pub fn of(pairs: Vec<Pair>) -> Self {
        Self {
            pairs,
            refused: BTreeSet::new(),
        }
    }

    /// These beside, as far as there is room.
    #[must_use]
    pub fn with(mut self, more: impl Iterator<Item = Pair>) -> Self {
        for pair in more {
            if self.pairs.len() < PAIRS_MAX && !self.pairs.contains(&pair) {
                self.pairs.push(pair);
            }
        }
        self
    }

    /// Whether it was left out, for what the destination has said lately in another association.
    #[must_use]
    pub fn omits(&self, pair: &Pair) -> bool {
        self.refused.contains(pair) && !self.pairs.contains(pair)
    }

    /// Whether the destination has been asked about a pair: here, or lately elsewhere. What was not asked was not refused.
    #[must_use]
    pub fn answers(&self, pair: &Pair) -> bool {
        self.pairs.contains(pair) || self.refused.contains(pair)
    }
}

impl Caster {
    #[must_use]
    pub fn new(peer: &Dicom, shared: Option<Conversions>) -> Self {
        let none = Policy {
            convert: false,
            ..Policy::default()
        };
        if let Some(shared) = &shared {
            shared.known.refusals_count(&peer.name, peer.park_recheck.0);
        }
        Self {
            name: peer.name.clone(),
            policy: if shared.is_some() { peer.policy() } else { none },
            refusals: peer.park_recheck.0,
            known: shared.as_ref().map(|shared| shared.known.clone()),
            shared,
            broken_off: Arc::default(),
        }
    }

    /// For questions only: what would be converted, without anything that could convert it.
    #[must_use]
    pub fn asking(peer: &Dicom, known: Known) -> Self {
        Self {
            name: peer.name.clone(),
            policy: peer.policy(),
            refusals: peer.park_recheck.0,
            known: Some(known),
            shared: None,
            broken_off: Arc::default(),
        }
    }

    /// The syntaxes in which instances of a stored pair may leave, the most wanted first.
    #[must_use]
    pub fn ways(&self, (class, stored): &Pair) -> Vec<Uid> {
        ways(class, stored, self.policy)
    }

    /// What a new association proposes: every way of the first pair, and of the others as many as there is room for. Ways that
    /// the destination is known to refuse are left out, but what is stored is always asked, and when all are known to be refused,
    /// all are: nothing is held, and nothing converted, because of what a destination has said in another association only.
    #[must_use]
    pub fn offer(&self, asked: &[Pair]) -> Offer {
        let mut offer = Offer::default();
        let columns: Vec<Vec<Pair>> = asked
            .iter()
            .map(|stored| self.worth_asking(stored, &mut offer.refused))
            .collect();
        let deepest = columns.iter().map(Vec::len).max().unwrap_or(0);
        let first = columns.first().into_iter().flatten();
        let others = (0..deepest).flat_map(|rank| columns.iter().skip(1).filter_map(move |column| column.get(rank)));
        offer.with(first.chain(others).cloned())
    }

    fn worth_asking(&self, stored: &Pair, refused: &mut BTreeSet<Pair>) -> Vec<Pair> {
        let all: Vec<Pair> = self
            .ways(stored)
            .into_iter()
            .map(|syntax| (stored.0.clone(), syntax))
            .collect();
        if all.iter().all(|pair| self.accepts(pair) == Some(false)) {
            return all;
        }
        let is_refused = |pair: &Pair| pair != stored && self.accepts(pair) == Some(false);
        let (left_out, open): (Vec<Pair>, Vec<Pair>) = all.into_iter().partition(is_refused);
        refused.extend(left_out);
        open
    }

    fn accepts(&self, pair: &Pair) -> Option<bool> {
        self.known.as_ref()?.accepts(&self.name, pair, self.refusals)
    }

    /// The syntax that a job will surely leave in, when that is known and takes a codec: it can be converted before there is an
    /// association that would wait for it.
    #[must_use]
    pub fn foreseen(&self, job: &Job) -> Option<Uid> {
        let stored = (job.sop_class.clone(), job.transfer_syntax.clone());
        for syntax in self.ways(&stored) {
            match self.accepts(&(stored.0.clone(), syntax.clone())) {
                Some(true) => return needs_codec(&job.transfer_syntax, &syntax).then_some(syntax),
                Some(false) => {}
                None => return None,
            }
        }
        None
    }

    /// The destination has answered.
    pub fn learn<'a>(&self, answers: impl Iterator<Item = (&'a Pair, u8)>) {
        if let Some(known) = &self.known {
            known.learn(&self.name, answers.map(|(pair, result)| (pair.clone(), result)));
        }
    }

    /// Instances of this pair come by.
    pub fn saw(&self, job: &Job) {
        if let Some(known) = &self.known {
            known.saw(&job.sop_class, &job.transfer_syntax);
        }
    }

    /// What was learned of the destination and still counts.
    #[must_use]
    pub fn matrix(&self) -> Vec<Learned> {
        let known = self.known.as_ref();
        known.map_or_else(Vec::new, |known| known.matrix(&self.name, self.refusals))
    }

    pub fn forget_refusals(&self) {
        if let Some(known) = &self.known {
            known.forget_refusals(&self.name);
        }
    }

    /// Whether the syntax was asked for by the site, so that it is only worth its while when it is smaller.
    #[must_use]
    pub(super) fn is_for_size(&self, to: &Uid) -> bool {
        self.policy
            .compress
            .is_some_and(|compress| compress.uid() == to.as_str())
    }

    /// A conversion failed when a part of the instance had been sent already, or what it made is too large.
    pub(super) fn broke_off(&self, job: JobId, to: Uid, trouble: Trouble) {
        let mut broken = self.broken_off.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.len() >= BROKEN_MAX {
            broken.pop_front();
        }
        broken.push_back((job, to, trouble));
    }

    /// Why a job cannot leave in this syntax, when that was met before.
    pub(super) fn met(&self, job: JobId, to: &Uid) -> Option<Trouble> {
        let broken = self.broken_off.lock().unwrap_or_else(PoisonError::into_inner);
        let found = broken.iter().find(|(of, syntax, _)| *of == job && syntax == to);
        found.map(|(_, _, trouble)| trouble.clone())
    }

    /// So many bytes less were handed out than are stored.
    pub(super) fn saved(&self, bytes: u64) {
        if let Some(shared) = &self.shared {
            let counter = &shared.metrics.conversion_saved_bytes_total;
            counter.with_label_values(&[self.name.as_str()]).inc_by(bytes);
        }
    }

    pub(super) fn count(&self, kind: &str, outcome: &str) {
        if let Some(shared) = &self.shared {
            let labels = [self.name.as_str(), kind, outcome];
            shared.metrics.conversions_total.with_label_values(&labels).inc();
        }
    }
}

/// More than this are not remembered: the oldest would break an association once more.
const BROKEN_MAX: usize = 1_000;
