//! The report of a day, as it is kept and shown. UIDs, our ids, names of the configuration and counts: no patient data.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What does not agree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The ledger is not the one that a report was made of: what came between is not known here. The first, for it is about the report.
    LedgerOlder,
    /// Sent, and not taken; nothing has come again under that UID.
    Refused,
    /// An association broke off in the middle of it; nothing has come again under that UID.
    Cut,
    /// Acknowledged, and no record of it is left, although nothing says where it went.
    LostRecord,
    /// Its payload file is gone, or has another length.
    MissingPayload,
    /// Its payload is not what arrived.
    DamagedPayload,
    /// Received, and no rule or person has decided where it goes.
    Undecided,
    /// A delivery that was decided on is gone, and nothing says how it ended.
    LostJob,
    /// A delivery stands neither in the queue nor among the holds: it would wait for ever.
    StuckJob,
    /// Delivered, and the archive says that it does not have it.
    NotCommitted,
    /// It has left the box although a delivery had not ended.
    EvictedEarly,
}

impl DifferenceKind {
    pub const ALL: [Self; 11] = [
        Self::LedgerOlder,
        Self::Refused,
        Self::Cut,
        Self::LostRecord,
        Self::MissingPayload,
        Self::DamagedPayload,
        Self::Undecided,
        Self::LostJob,
        Self::StuckJob,
        Self::NotCommitted,
        Self::EvictedEarly,
    ];

    /// The word of the metric, the report and the docs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Cut => "cut",
            Self::LostRecord => "lost_record",
            Self::MissingPayload => "missing_payload",
            Self::DamagedPayload => "damaged_payload",
            Self::Undecided => "undecided",
            Self::LostJob => "lost_job",
            Self::StuckJob => "stuck_job",
            Self::NotCommitted => "not_committed",
            Self::EvictedEarly => "evicted_early",
            Self::LedgerOlder => "ledger_older",
        }
    }
}

/// One of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Difference {
    pub kind: DifferenceKind,
    /// How many instances; more than one only where they are not known one by one.
    pub count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
    /// What was found, and what to do.
    pub text: String,
}

/// What a modality says of a study by another way than by sending it: MPPS, when the box has it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Said {
    /// Instances that it has made and means to send.
    pub instances: u64,
}

/// One study of a source, on that day.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StudySent {
    /// `None`: of instances whose study could not be read.
    pub study: Option<String>,
    /// C-STOREs that came: acknowledged, refused and cut.
    pub received: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub cut: u64,
    /// Of those acknowledged: new here, repeats of the same content, other content under a known UID.
    pub stored: u64,
    pub repeats: u64,
    pub conflicts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
}

/// One source, on that day.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SourceDay {
    pub source: String,
    pub received: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub cut: u64,
    pub stored: u64,
    pub repeats: u64,
    pub conflicts: u64,
    /// At most `STUDIES_MAX`, with the most recent left out of none of the sums above.
    pub studies: Vec<StudySent>,
}

/// One destination: what it confirmed on that day, and what is open for it now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DestinationDay {
    pub destination: String,
    /// Deliveries that it confirmed by its answer, on that day.
    pub confirmed: u64,
    /// Instances that it committed itself to keep, and those that it did not, on that day.
    pub committed: u64,
    pub not_committed: u64,
    /// Now: waiting for delivery, and held for a person.
    pub open: u64,
    pub held: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_open: Option<String>,
}

/// What lies in the spool when the report is made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Held {
    pub instances: u64,
    /// Of them: with open deliveries, and without (cache).
    pub pending: u64,
    pub cache: u64,
}

/// What became, by now, of the instances that came on that day.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fate {
    pub stored: u64,
    /// Every delivery has ended with the destination's confirmation.
    pub delivered: u64,
    /// A delivery waits: for the WAN, for its study, for its turn.
    pub open: u64,
    /// A person must look: no delivery waits, and at least one is held.
    pub held: u64,
    /// A person gave up at least one delivery, and nothing else is open.
    pub discarded: u64,
    /// Replaced by a resend, or made anew by a salvage.
    pub replaced: u64,
    /// With a difference.
    pub differing: u64,
}

/// The report.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Of this structure: 1.
    pub format: u32,
    pub day: String,
    pub zone: String,
    pub from: String,
    pub to: String,
    pub made: String,
    /// False: the day was not over yet.
    pub complete: bool,
    /// The last line of the ledger and its hash when the report was made: noted here, nobody can write the ledger anew unseen.
    pub ledger_line: u64,
    pub ledger_head: String,
    /// When the ledger's first line was written, then: one that begins later knows less of the day. In microseconds since 1970.
    #[serde(default)]
    pub ledger_from_us: u64,
    pub sources: Vec<SourceDay>,
    pub destinations: Vec<DestinationDay>,
    pub fate: Fate,
    pub here: Held,
    pub differences: Vec<Difference>,
    /// By kind, those not listed as well.
    pub counts: BTreeMap<String, u64>,
    /// There are more differences than are listed.
    pub more: bool,
    /// What else is to be known of the ledger that the report was made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Other days that are looked back at and whose differences stand, with how many; of an answer, and not kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other_days: BTreeMap<String, u64>,
}

/// Differences of a kind that reports of several days have together: what two of them list alike is one, for much is looked at in all that
/// lies on the box, whatever the day.
pub(super) fn standing<'a>(reports: impl Iterator<Item = &'a Report>, kind: DifferenceKind) -> u64 {
    let (mut listed, mut beyond) = (BTreeMap::new(), 0);
    for report in reports {
        let mut sum = 0;
        for one in report.differences.iter().filter(|one| one.kind == kind) {
            let of = (
                &one.instance,
                &one.sop_instance,
                &one.study,
                &one.source,
                &one.destination,
                one.job,
            );
            let count = listed.entry(of).or_insert(0);
            *count = one.count.max(*count);
            sum += one.count;
        }
        let all = report.counts.get(kind.word()).copied().unwrap_or(0);
        beyond = all.saturating_sub(sum).max(beyond);
    }
    listed.values().sum::<u64>() + beyond
}

/// Differences that are listed.
pub(super) const DIFFERENCES_MAX: usize = 10_000;
/// Studies of a source that are listed.
pub(super) const STUDIES_MAX: usize = 5_000;

impl Report {
    /// Adds a difference to list and counts.
    pub(super) fn differ(&mut self, difference: Difference) {
        *self.counts.entry(difference.kind.word().to_owned()).or_default() += difference.count;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(difference);
        } else {
            self.more = true;
        }
    }

    /// Adds a note, once.
    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Differences of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether there are none, neither of this day nor of the others that are named.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.total() == 0 && self.other_days.is_empty()
    }

    /// With those of the kept reports of other days that have differences.
    pub(super) fn beside<'a>(self, kept: impl Iterator<Item = &'a Self>) -> Self {
        let other_days = kept
            .filter(|other| other.day != self.day && other.total() > 0)
            .map(|other| (other.day.clone(), other.total()))
            .collect();
        Self { other_days, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(differences: &[(DifferenceKind, &str)], more: u64) -> Report {
        let mut report = Report::default();
        for (kind, uid) in differences {
            report.differ(Difference {
                kind: *kind,
                count: 1,
                instance: None,
                sop_instance: Some((*uid).to_owned()),
                study: None,
                source: None,
                destination: None,
                job: None,
                text: String::new(),
            });
        }
        *report.counts.entry(DifferenceKind::Cut.word().to_owned()).or_default() += more;
        report
    }

    #[test]
    fn what_two_days_list_alike_counts_once_and_what_one_of_them_lists_stands() {
        use DifferenceKind::{Cut, MissingPayload, Refused};
        let friday = report(&[(Refused, "1.1"), (MissingPayload, "1.2")], 5);
        let monday = report(&[(MissingPayload, "1.2"), (MissingPayload, "1.3"), (Cut, "1.4")], 2);
        let count = |kind| standing([&friday, &monday].into_iter(), kind);
        assert_eq!((count(Refused), count(MissingPayload), count(Cut)), (1, 2, 6));
    }

    #[test]
    fn a_day_that_agrees_leads_to_those_that_do_not() {
        let of = |day: &str, differences: &[(DifferenceKind, &str)]| Report {
            day: day.to_owned(),
            ..report(differences, 0)
        };
        let friday = of(
            "2026-05-08",
            &[(DifferenceKind::Refused, "1.1"), (DifferenceKind::Cut, "1.2")],
        );
        let kept = [friday.clone(), of("2026-05-09", &[]), of("2026-05-10", &[])];
        let sunday = kept[2].clone().beside(kept.iter());
        assert_eq!(sunday.other_days, BTreeMap::from([("2026-05-08".to_owned(), 2)]));
        assert!(sunday.total() == 0 && !sunday.agrees());
        let words = sunday.to_string();
        assert!(
            words.contains("no differences of this day")
                && words.contains("waystation reconcile --kept --day 2026-05-08"),
            "{words}"
        );
        assert_eq!(friday.clone().beside(kept.iter()), friday);
        assert!(kept[1].clone().beside(kept[1..].iter()).agrees());
    }
}
