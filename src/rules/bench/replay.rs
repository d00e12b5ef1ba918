//! `rules replay`: what a candidate set would do otherwise than the set in force, image by image over the heads in the spool.
//! Nothing is sent and nothing is written. What it shows of patients goes to the terminal of the person who asked.
use super::trace::path_text;
use crate::base::clock::Wall;
use crate::base::names::SourceId;
use crate::dicom::head::Head;
use crate::rules::set::Outcome;
use crate::rules::{Delivery, Facts, RuleSet};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Images that are shown one by one; all are counted.
const EXAMPLES_MAX: usize = 20;

/// What came of a replay.
#[derive(Default, Serialize)]
pub(super) struct Replay {
    pub(super) images: u64,
    pub(super) changed: u64,
    /// Files that could not be read as DICOM.
    pub(super) unread: u64,
    /// What no image here could be decided with, in words.
    pub(super) not_known: Vec<String>,
    /// Images of the time that was asked for which are no longer in the spool; `None` when that cannot be told.
    pub(super) left_cache: Option<u64>,
    pub(super) sources: BTreeMap<SourceId, Counts>,
    pub(super) examples: Vec<Example>,
}

/// Of one source: how many images differ, and in what.
#[derive(Default, Serialize)]
pub(super) struct Counts {
    pub(super) images: u64,
    pub(super) changed: u64,
    /// Images that would get or lose a destination, or another urgency there, as `+ vna`, `- cad`, `vna routine -> stat`.
    pub(super) destinations: BTreeMap<String, u64>,
    /// Images that would be held, or no longer, as `+ error: main.rhai line 7: …`.
    pub(super) holds: BTreeMap<String, u64>,
    /// Images in which this attribute would leave otherwise, as `vna: PatientID`.
    pub(super) attributes: BTreeMap<String, u64>,
}

/// One image that differs.
#[derive(Serialize)]
pub(super) struct Example {
    pub(super) sop_instance: String,
    pub(super) source: SourceId,
    pub(super) differences: Vec<String>,
}

impl Replay {
    /// Decides on one image with both sets and counts what differs.
    pub(super) fn image(&mut self, old: &RuleSet, new: &RuleSet, facts: &Facts, head: &Head) {
        let (before, after) = (old.run_out(facts, head, false), new.run_out(facts, head, false));
        let counts = self.sources.entry(facts.source.clone()).or_default();
        self.images += 1;
        counts.images += 1;
        let mut lines = destinations(&before, &after);
        lines
            .iter()
            .for_each(|line| *counts.destinations.entry(line.clone()).or_default() += 1);
        let holds = holds(&before, &after);
        holds
            .iter()
            .for_each(|line| *counts.holds.entry(line.clone()).or_default() += 1);
        lines.extend(holds);
        for (name, line) in attributes(&before, &after, head) {
            *counts.attributes.entry(name).or_default() += 1;
            lines.push(line);
        }
        if lines.is_empty() {
            return;
        }
        self.changed += 1;
        counts.changed += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(Example {
                sop_instance: facts.sop_instance.to_string(),
                source: facts.source.clone(),
                differences: lines,
            });
        }
    }

    /// The report for people: images one by one, then the counts of each source, the sum last.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        for example in &self.examples {
            let _ = writeln!(out, "{} from {}", example.sop_instance, example.source);
            for line in &example.differences {
                let _ = writeln!(out, "    {line}");
            }
        }
        if self.changed > self.examples.len() as u64 {
            let _ = writeln!(out, "… and {} more", self.changed - self.examples.len() as u64);
        }
        for (source, counts) in &self.sources {
            let _ = writeln!(
                out,
                "\n{source}: {} images, {} would differ",
                counts.images, counts.changed
            );
            for (kind, all) in [
                ("destination", &counts.destinations),
                ("hold", &counts.holds),
                ("attribute", &counts.attributes),
            ] {
                for (what, count) in all {
                    let _ = writeln!(out, "{count:>8}  {kind}  {what}");
                }
            }
        }
        let _ = writeln!(
            out,
            "\n{} images, {} would differ, {} unread",
            self.images, self.changed, self.unread
        );
        out += &self.not_seen();
        for text in &self.not_known {
            let _ = writeln!(out, "NOT in this report: {text}");
        }
        out
    }
}

impl Replay {
    /// What the report does not cover, in words; nothing when it covers all.
    fn not_seen(&self) -> String {
        match self.left_cache {
            Some(0) if self.images == 0 => {
                "no image came in this time (--since), or none from this source\n".to_owned()
            }
            Some(0) => String::new(),
            Some(gone) => format!(
                "NOT in this report: {gone} images of this time (from all sources) that were delivered and have left the cache; only what \
                 is still in the spool can be decided anew. A cache that keeps more (spool.cache_high_water), or a shorter --since, covers \
                 the whole time\n"
            ),
            None => {
                "whether images of this time have left the cache cannot be told: the index cannot be read just now\n"
                    .to_owned()
            }
        }
    }
}

fn destinations(before: &Outcome, after: &Outcome) -> Vec<String> {
    let of = |outcome: &Outcome| -> BTreeMap<String, (String, Option<Wall>)> {
        let all = &outcome.decision.deliveries;
        let manner = |d: &Delivery| (d.destination.to_string(), (d.manner(all), d.terms.not_before));
        all.iter().map(manner).collect()
    };
    let (old, new) = (of(before), of(after));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let line = |name: &String| match (old.get(name), new.get(name)) {
        (None, Some(_)) => Some(format!("+ {name}")),
        (Some(_), None) => Some(format!("- {name}")),
        (Some((old, _)), Some((new, _))) if old != new => Some(format!("{name} {old} -> {new}")),
        (Some((_, old)), Some((_, new))) if old != new => Some(format!("{name} at another time")),
        (_, _) => None,
    };
    names.into_iter().filter_map(line).collect()
}

fn holds(before: &Outcome, after: &Outcome) -> Vec<String> {
    let text = |outcome: &Outcome| {
        let hold = outcome.decision.hold.as_ref();
        hold.map(|hold| format!("{}: {}", hold.kind.as_str(), hold.reason))
    };
    let (old, new) = (text(before), text(after));
    if old == new {
        return Vec::new();
    }
    let gone = old.map(|text| format!("- {text}"));
    let come = new.map(|text| format!("+ {text}"));
    gone.into_iter().chain(come).collect()
}

/// Attributes that would leave otherwise at a destination that both sets name: its short name, and the line with values.
fn attributes(before: &Outcome, after: &Outcome, head: &Head) -> Vec<(String, String)> {
    let (old, new) = (values(before), values(after));
    let common = |destination: &String| old.contains_key(destination) && new.contains_key(destination);
    let mut found = Vec::new();
    for destination in old.keys().filter(|destination| common(destination)) {
        let (old, new) = (&old[destination], &new[destination]);
        let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for path in paths {
            let came = || head.find(path).map(|_| head.text(path).unwrap_or_default());
            let of = |edits: &BTreeMap<_, Option<Vec<String>>>| edits.get(path).cloned().unwrap_or_else(came);
            let (old, new) = (of(old), of(new));
            if old != new {
                let name = format!("{destination}: {}", path_text(path));
                found.push((name.clone(), format!("{name}: {} -> {}", shown(old), shown(new))));
            }
        }
    }
    found
}

type Edits = BTreeMap<crate::dicom::path::Path, Option<Vec<String>>>;

fn values(outcome: &Outcome) -> BTreeMap<String, Edits> {
    let each = outcome.decision.deliveries.iter().zip(&outcome.changes);
    each.map(|(delivery, changes)| {
        let edits = changes
            .iter()
            .map(|change| (change.path.clone(), change.values.clone()));
        (delivery.destination.to_string(), edits.collect())
    })
    .collect()
}

fn shown(values: Option<Vec<String>>) -> String {
    values.map_or_else(|| "absent".to_owned(), |values| format!("{:?}", values.join("\\")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{facts, set};
    use crate::rules::words_tests::head_of;

    fn replayed(old: &str, new: &str) -> Replay {
        let mut replay = Replay {
            left_cache: Some(0),
            ..Replay::default()
        };
        let sets = [old, new].map(|text| set(text).unwrap_or_else(|problems| panic!("{problems:?}")));
        let head = head_of(&[("PatientID", "1"), ("Modality", "CT")]);
        replay.image(&sets[0], &sets[1], &facts(), &head);
        replay
    }

    #[test]
    fn a_changed_attribute_destination_and_hold_are_each_named() {
        let old = "fn morph(image, from) { image.PatientID = \"A1\"; } fn route(image, from) { to(\"vna\"); hold(\"old\"); to(\"cad\"); }";
        let new = "fn morph(image, from) { image.PatientID = \"B1\"; image.Modality = (); } \
            fn route(image, from) { to(\"vna\", #{ priority: \"stat\" }); to(\"night-archive\"); }";
        let replay = replayed(old, new);
        assert_eq!(
            replay.examples[0].differences,
            [
                "- cad",
                "+ night-archive",
                "vna routine -> stat",
                "- rule: old",
                "vna: Modality: \"CT\" -> absent",
                "vna: PatientID: \"A1\" -> \"B1\"",
            ]
        );
        assert!(
            replay.text().ends_with("1 images, 1 would differ, 0 unread\n"),
            "{}",
            replay.text()
        );
    }

    #[test]
    fn groups_and_waits_are_differences_too() {
        let of = |new: &str| {
            let replay = replayed(
                "fn route(image, from) { to(\"vna\"); to(\"cad\"); }",
                &format!("fn route(image, from) {{ {new} }}"),
            );
            replay
                .examples
                .first()
                .map_or(Vec::new(), |one| one.differences.clone())
        };
        assert_eq!(
            of("to_first([\"vna\", \"cad\"], #{ after: \"30m\" });"),
            [
                "cad routine -> routine, choice 2 of to_first(vna, cad) after 30m",
                "vna routine -> routine, choice 1 of to_first(vna, cad) after 30m",
            ]
        );
        assert!(
            of("to_one_of([\"vna\", \"cad\"]);")
                .iter()
                .all(|line| line.contains("to_one_of("))
        );
        assert_eq!(
            of("to(\"vna\", #{ delay: \"20h\" }); to(\"cad\", #{ quiet: \"1h\" });"),
            [
                "cad routine -> routine, when its study has been quiet for 1h",
                "vna routine -> routine, put off",
            ]
        );
        let put_off = |hours: u8| format!("fn route(image, from) {{ to(\"vna\", #{{ delay: \"{hours}h\" }}); }}");
        let replay = replayed(&put_off(1), &put_off(2));
        assert_eq!(replay.examples[0].differences, ["vna at another time"]);
    }

    #[test]
    fn what_has_left_the_cache_is_said_in_words() {
        let said = |images, left_cache| {
            let replay = Replay {
                images,
                left_cache,
                ..Replay::default()
            };
            replay.text()
        };
        assert!(said(3, Some(0)).ends_with("3 images, 0 would differ, 0 unread\n"));
        for images in [0, 3] {
            let text = said(images, Some(7));
            assert!(
                text.contains("NOT in this report: 7 images") && text.contains("left the cache"),
                "{text}"
            );
        }
        assert!(said(0, Some(0)).contains("no image came in this time"));
        assert!(said(0, None).contains("cannot be told"));
    }

    #[test]
    fn a_rule_written_otherwise_with_the_same_effect_differs_in_nothing() {
        let old = "fn route(image, from) { to(\"vna\"); }";
        let new = "fn morph(image, from) { image.PatientID = \"2\"; image.PatientID = \"1\"; } fn route(image, from) { to(\"vna\"); to(\"vna\"); }";
        let replay = replayed(old, new);
        assert_eq!((replay.images, replay.changed), (1, 0), "{}", replay.text());
    }
}
