//! In which transfer syntax an instance leaves: what is proposed, what the destination's answers mean, and which conversion is
//! tried. The conversions themselves are `transcode`'s; what becomes of the data set is `outgoing.rs`'s.
use super::config::Dicom;
use super::dimse::PAIRS_MAX;
use super::outcome::Job;
use crate::base::names::{DestinationId, InstanceId, JobId, Uid};
use crate::telemetry::metrics::Metrics;
use crate::transcode::forms::{needs_codec, ways};
use crate::transcode::{Known, Pair, Policy, Transcoder};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What was converted, for the ledger. No patient data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    pub instance: InstanceId,
    pub job: JobId,
    pub destination: DestinationId,
    pub from: Uid,
    pub to: Uid,
    /// BLAKE3 of the pixels before and after, which are the same.
    pub pixels: String,
    pub frames: u32,
    /// Bytes of the stored and of the converted data set.
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
}

/// What an association proposes.
#[derive(Clone, Debug)]
pub struct Offer {
    pub pairs: Vec<Pair>,
    /// Stored pairs of which every way is proposed: when none is accepted, there is none.
    whole: BTreeSet<Pair>,
}

impl Offer {
    /// One pair and nothing else.
    #[must_use]
    pub fn only(pair: Pair) -> Self {
        Self {
            whole: BTreeSet::from([pair.clone()]),
            pairs: vec![pair],
        }
    }

    /// These, for whoever looks at the answers only. At most `PAIRS_MAX`.
    #[must_use]
    pub fn of(pairs: Vec<Pair>) -> Self {
        Self {
            pairs,
            whole: BTreeSet::new(),
        }
    }

    /// Whether all that can be asked about a stored pair is asked here.
    #[must_use]
    pub fn is_whole(&self, stored: &Pair) -> bool {
        self.whole.contains(stored)
    }
}

impl Caster {
    #[must_use]
    pub fn new(peer: &Dicom, shared: Option<Conversions>) -> Self {
        let none = Policy {
            convert: false,
            ..Policy::default()
        };
        Self {
            name: peer.name.clone(),
            policy: if shared.is_some() { peer.policy() } else { none },
            refusals: peer.park_recheck.0,
            known: shared.as_ref().map(|shared| shared.known.clone()),
            shared,
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
        }
    }

    /// The syntaxes in which instances of a stored pair may leave, the most wanted first.
    #[must_use]
    pub fn ways(&self, (class, stored): &Pair) -> Vec<Uid> {
        ways(class, stored, self.policy)
    }

    /// What a new association proposes: every way of the first pair, and of the others as many as there is room for. Ways that
    /// the destination is known to refuse are left out, unless nothing else is left.
    #[must_use]
    pub fn offer(&self, asked: &[Pair]) -> Offer {
        let mut pairs: Vec<Pair> = Vec::new();
        let columns: Vec<Vec<Pair>> = asked.iter().map(|stored| self.worth_asking(stored)).collect();
        let deepest = columns.iter().map(Vec::len).max().unwrap_or(0);
        let first = columns.first().into_iter().flatten();
        let others = (0..deepest).flat_map(|rank| columns.iter().skip(1).filter_map(move |column| column.get(rank)));
        for pair in first.chain(others) {
            if pairs.len() < PAIRS_MAX && !pairs.contains(pair) {
                pairs.push(pair.clone());
            }
        }
        let is_whole = |column: &&Vec<Pair>| column.iter().all(|pair| pairs.contains(pair));
        let whole = asked
            .iter()
            .zip(&columns)
            .filter(|(_, column)| is_whole(column))
            .map(|(stored, _)| stored.clone());
        Offer {
            whole: whole.collect(),
            pairs,
        }
    }

    fn worth_asking(&self, stored: &Pair) -> Vec<Pair> {
        let all = self.ways(stored).into_iter().map(|syntax| (stored.0.clone(), syntax));
        let open: Vec<Pair> = all.filter(|pair| self.accepts(pair) != Some(false)).collect();
        match open.is_empty() {
            true => vec![stored.clone()],
            false => open,
        }
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

    pub(super) fn count(&self, kind: &str, outcome: &str) {
        if let Some(shared) = &self.shared {
            let labels = [self.name.as_str(), kind, outcome];
            shared.metrics.conversions_total.with_label_values(&labels).inc();
        }
    }
}
