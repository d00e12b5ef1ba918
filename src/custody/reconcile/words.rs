//! The report as people read it.
use super::report::{DifferenceKind, Report};
use std::fmt;

/// Differences and studies that the text lists; the JSON has them all.
const LISTED_MAX: usize = 200;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let so_far = if self.complete { "" } else { " (the day is not over)" };
        writeln!(
            f,
            "reconciliation of {} ({}){so_far}, made {}",
            self.day, self.zone, self.made
        )?;
        writeln!(f, "ledger line {}, {}", self.ledger_line, self.ledger_head)?;
        for note in &self.notes {
            writeln!(f, "NOTE: {note}")?;
        }
        self.sent(f)?;
        self.fates(f)?;
        self.differing(f)?;
        for (day, count) in &self.other_days {
            writeln!(
                f,
                "{day} HAS DIFFERENCES STILL: {count} (waystation reconcile --kept --day {day})"
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn sent(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in &self.sources {
            writeln!(
                f,
                "source {}: {} received, {} acknowledged ({} new, {} repeats, {} conflicts), {} refused, {} cut, {} studies",
                source.source,
                source.received,
                source.acknowledged,
                source.stored,
                source.repeats,
                source.conflicts,
                source.refused,
                source.cut,
                source.studies.len()
            )?;
            for study in source.studies.iter().take(LISTED_MAX) {
                let uid = study.study.as_deref().unwrap_or("(no study)");
                writeln!(
                    f,
                    "  study {uid}: {} received, {} acknowledged, {} refused, {} cut",
                    study.received, study.acknowledged, study.refused, study.cut
                )?;
            }
        }
        Ok(())
    }

    fn fates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = &self.fate;
        writeln!(
            f,
            "of {} new instances: {} delivered, {} open, {} held, {} discarded, {} replaced, {} with differences",
            fate.stored, fate.delivered, fate.open, fate.held, fate.discarded, fate.replaced, fate.differing
        )?;
        let here = &self.here;
        writeln!(
            f,
            "on the box: {} instances, {} with open deliveries, {} as cache",
            here.instances, here.pending, here.cache
        )?;
        for to in &self.destinations {
            let oldest = to
                .oldest_open
                .as_ref()
                .map_or(String::new(), |at| format!(", the oldest since {at}"));
            writeln!(
                f,
                "destination {}: {} confirmed, {} committed, {} not committed; open now {}, held {}{oldest}",
                to.destination, to.confirmed, to.committed, to.not_committed, to.open, to.held
            )?;
        }
        Ok(())
    }

    fn differing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            let of = if self.agrees() { "" } else { " of this day" };
            return writeln!(f, "no differences{of}");
        }
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        writeln!(f, "DIFFERENCES: {}", counts.join(", "))?;
        for one in self.differences.iter().take(LISTED_MAX) {
            if one.kind == DifferenceKind::LedgerOlder {
                writeln!(f, "  {}: {}", one.kind.word(), one.text)?;
                continue;
            }
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let to = one.destination.as_ref().map_or(String::new(), |to| format!(" to {to}"));
            writeln!(
                f,
                "  {} ×{}{to}  instance {}  SOP {}  study {}  source {}: {}",
                one.kind.word(),
                one.count,
                text(&one.instance),
                text(&one.sop_instance),
                text(&one.study),
                text(&one.source),
                one.text
            )?;
        }
        if self.differences.len() > LISTED_MAX || self.more {
            writeln!(f, "  … and more: see the JSON")?;
        }
        Ok(())
    }
}
