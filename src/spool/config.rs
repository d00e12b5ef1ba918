//! `[spool]` of the configuration: defaults, and the relations between its keys.
use crate::base::units::{Share, Size, Span};
use std::path::PathBuf;

/// `[spool]` of the configuration.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The spool's own directory. It must be empty, or a spool already.
    pub path: PathBuf,
    /// Below this much free space (bytes and inodes) new instances are refused with A700.
    pub low_water: Share,
    /// Below this nothing new enters the index (critical mark) and the first half of the ballast is dropped.
    pub critical: Size,
    /// Size of the ballast's two halves together: one is dropped to drain a full disk, the other to start on it. 0 for none.
    pub ballast: Size,
    /// Delivered instances are kept until free space falls below this.
    pub cache_high_water: Share,
    /// How long a repeated send of the same SOP instance is known as one, also after the instance left the cache.
    pub repeat_window: Span,
    /// How long a study's first patient and accession are remembered after its last instance came.
    pub study_memory: Span,
    /// How long the map of what rules renamed answers after an entry was last used.
    pub map_memory: Span,
    /// How long what became of an instance is known after it left the cache, for sources that ask for its commitment then.
    /// Never shorter than `repeat_window`.
    pub commitment_memory: Span,
    /// A job that waits this long counts one priority class higher, again for each further step, up to `high`.
    pub age_step: Span,
    /// What a start does when the index is damaged or gone.
    pub salvage: Salvage,
    /// Bytes a second that the scrub reads at rest; 0 for no scrub.
    pub scrub_rate: Size,
    /// How often every payload file is read again.
    pub scrub_every: Span,
    /// `[ledger]`, which stands by itself in the file.
    #[serde(skip)]
    pub ledger: Ledger,
}

/// `[ledger]` of the configuration.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// How long its lines are kept. The instances that they are about can be traced as long.
    pub keep: Span,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            keep: Span::secs(63_115_200),
        }
    }
}

impl Ledger {
    /// Everything that is wrong, as sentences that begin with the key.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        if self.keep.0 < DAY * 7 {
            return vec!["`keep` must be at least 7days: a week's images must be accounted for".to_owned()];
        }
        Vec::new()
    }
}

/// What a start does when the index is damaged or gone, and with an instance of which neither the old index nor the list of
/// persons' orders tells whether a person had held it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Salvage {
    /// The index is made anew from the payload files; such an instance is held as `doubtful`.
    #[default]
    Hold,
    /// The index is made anew; such an instance is delivered by the rules in force.
    Deliver,
    /// The box stops in words: a person runs `spool rebuild`.
    Stop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/waystation/spool"),
            low_water: Share::Percent(5.0),
            critical: Size::mib(512),
            ballast: Size::mib(256),
            cache_high_water: Share::Percent(10.0),
            repeat_window: Span::secs(7 * 86_400),
            study_memory: Span::secs(30 * 86_400),
            map_memory: Span::secs(63_115_200),
            commitment_memory: Span::secs(90 * 86_400),
            age_step: Span::secs(30 * 60),
            salvage: Salvage::Hold,
            scrub_rate: Size::mib(8),
            scrub_every: Span::secs(7 * 86_400),
            ledger: Ledger::default(),
        }
    }
}

/// What is kept for studies must outlast the studies.
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

impl Config {
    /// Everything that is wrong between the keys, in words for the person who writes the file.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.path.as_os_str().is_empty() {
            problems.push("spool.path is empty".into());
        }
        if less(self.cache_high_water, self.low_water) {
            problems
                .push("spool.cache_high_water is below spool.low_water: instances would be refused before the cache gives way".into());
        }
        if let Share::Bytes(low) = self.low_water
            && low < self.critical.0
        {
            problems.push("spool.low_water is below spool.critical".into());
        }
        for (key, span) in [
            ("study_memory", self.study_memory),
            ("map_memory", self.map_memory),
            ("commitment_memory", self.commitment_memory),
        ] {
            if span.0 < DAY {
                problems.push(format!("spool.{key} must be at least 1day"));
            }
        }
        if self.age_step.0.is_zero() {
            problems.push("spool.age_step must be longer than 0s".into());
        }
        if self.scrub_rate.0 > 0 && self.scrub_every.0 < Span::secs(3600).0 {
            problems.push("spool.scrub_every must be at least 1h: the disk would be read all the time".into());
        }
        problems
    }
}

/// Only shares in the same unit can be compared without knowing the disk.
fn less(a: Share, b: Share) -> bool {
    match (a, b) {
        (Share::Bytes(a), Share::Bytes(b)) => a < b,
        (Share::Percent(a), Share::Percent(b)) => a < b,
        (Share::Bytes(_), Share::Percent(_)) | (Share::Percent(_), Share::Bytes(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_together_and_wrong_relations_are_named() {
        assert!(Config::default().check().is_empty());
        let wrong = Config {
            low_water: Share::Bytes(1),
            cache_high_water: Share::Bytes(0),
            age_step: Span::secs(0),
            scrub_every: Span::secs(0),
            ..Config::default()
        };
        assert_eq!(wrong.check().len(), 4);
    }
}
