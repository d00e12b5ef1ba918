//! `rules trace`: what each line of the rules did with one image. Shows values: that is its purpose. Its text goes to the
//! terminal of the person who asked, never to a log.
use crate::dicom::head::Head;
use crate::dicom::path::{Path, Selector};
use crate::rules::Facts;
use crate::rules::RuleSet;
use crate::rules::set::Outcome;
use crate::rules::state::Change;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The report for one image. `sources` are the rule files' texts by name; `set` is a probed one, so that every line that ran
/// is there with its time, whether or not it touched the image.
pub(super) fn report(set: &RuleSet, facts: &Facts, head: &Head, sources: &BTreeMap<String, String>) -> String {
    let outcome = set.run_out(facts, head, true);
    let mut out = String::new();
    lines(&mut out, &outcome, sources);
    ending(&mut out, &outcome, head);
    out
}

fn lines(out: &mut String, outcome: &Outcome, sources: &BTreeMap<String, String>) {
    let source = |file: &str, line: usize| {
        let text = sources
            .get(file)
            .and_then(|text| text.lines().nth(line.saturating_sub(1)));
        text.unwrap_or_default().trim().to_owned()
    };
    let mut before = None;
    for event in &outcome.events {
        let place = (event.file.as_str(), event.line);
        if before != Some(place) {
            add(
                out,
                &format!("{}:{}  {}", event.file, event.line, source(&event.file, event.line)),
            );
            before = Some(place);
        }
        add(out, &format!("    {}", event.text));
    }
    add(out, "");
    add(out, "time of each line, calls that it makes left out:");
    for ((file, line), step) in &outcome.steps.ran {
        let (times, micros) = (step.times, step.took.as_secs_f64() * 1e6);
        add(
            out,
            &format!(
                "{micros:>10.1} µs  {times:>4} x  {file}:{line}  {}",
                source(file, *line)
            ),
        );
    }
}

fn ending(out: &mut String, outcome: &Outcome, head: &Head) {
    let decision = &outcome.decision;
    for (delivery, changes) in decision.deliveries.iter().zip(&outcome.changes) {
        add(out, "");
        let manner = delivery.manner(&decision.deliveries);
        let at = delivery.terms.not_before;
        let at = at.map_or(String::new(), |at| format!(", not before {}", at.iso()));
        add(out, &format!("to {} ({manner}{at})", delivery.destination));
        if changes.is_empty() {
            add(out, "    unchanged: every byte leaves as it came");
        }
        for change in changes {
            add(out, &difference(change, head));
        }
    }
    if !decision.flags.is_empty() {
        add(out, "");
        add(out, &format!("flagged: {}", decision.flags.join(", ")));
    }
    if let Some(hold) = &decision.hold {
        add(out, "");
        add(out, &format!("held ({}): {}", hold.kind.as_str(), hold.reason));
    }
}

fn difference(change: &Change, head: &Head) -> String {
    let old = match head.find(&change.path) {
        None => "absent".to_owned(),
        Some(_) => match head.text(&change.path) {
            Some(values) => format!("{:?}", values.join("\\")),
            None => "not text".to_owned(),
        },
    };
    let new = match &change.values {
        None => "removed".to_owned(),
        Some(values) => format!("{:?}", values.join("\\")),
    };
    format!("    {}: {old} -> {new}", path_text(&change.path))
}

/// A path as rules write it.
pub(super) fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for (selector, item) in &path.items {
        // Writing into a string cannot fail.
        let _ = write!(text, "{}[{item}].", selector_text(selector));
    }
    text.push_str(&selector_text(&path.leaf));
    text
}

fn selector_text(selector: &Selector) -> String {
    match selector {
        Selector::Tag(tag) => match StandardDataDictionary.by_tag(*tag) {
            Some(entry) => entry.alias().to_owned(),
            None => format!("({:04x},{:04x})", tag.group(), tag.element()),
        },
        Selector::Private {
            group,
            creator,
            element,
        } => format!("({group:04x},\"{creator}\",{element:02x})"),
    }
}

fn add(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}
