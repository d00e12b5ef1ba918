//! What a site writes: configuration, paths and templates, rules with every host function.
use super::heads;
use super::outcome::{fingerprint, signature};
use waystation::base::clock::Wall;
use waystation::base::names::{AeTitle, DestinationId, SourceId, Uid};
use waystation::base::units::Span;
use waystation::dicom::head::Head;
use waystation::dicom::path::Path;
use waystation::dicom::syntax::Syntax;
use waystation::rules::{Config, Facts, RuleSet};
use waystation::sender::template::Template;

/// A configuration file is read to its end, whatever it says: problems or a configuration, never neither.
pub fn configuration(bytes: &[u8]) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("waystation.toml");
    std::fs::write(&file, bytes).expect("writable");
    let report = waystation::config::report_with(&[file], &[]);
    assert!(
        report.config.is_some() || !report.problems.is_empty(),
        "refused without a reason"
    );
    // Which tables and keys are complained of.
    let words: Vec<String> = report.problems.iter().map(|problem| problem.to_string()).collect();
    let places = words.iter().flat_map(|line| line.split(':').nth(1)).collect::<String>();
    fingerprint(places.as_bytes())
}

/// A path or template that parses names something; expanding a template never leaves its folder.
pub fn paths(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let path = Path::parse(&text);
    let template = Template::parse(&text);
    if let Ok(template) = &template {
        let head = Head::scan(Syntax::of(&Uid::known(heads::EXPLICIT)), &super::seeds::data_set(true)).expect("a head");
        let out = template.expand(&head);
        for part in out.components() {
            assert!(
                matches!(part, std::path::Component::Normal(_)),
                "a part that leaves the folder"
            );
        }
    }
    let path = path
        .map(|path| path.items.len())
        .map_err(|error| std::mem::discriminant(&error));
    signature(&(path, template.map_err(|error| std::mem::discriminant(&error)).is_ok()))
}

/// Statements become a rule; it is refused at load, or decides within its deadline and a margin.
pub fn rules(bytes: &[u8]) -> u64 {
    let body = String::from_utf8_lossy(bytes);
    let text =
        format!("fn route(image, from) {{\n to(\"keep\");\n {body}\n}}\nfn morph(image, from) {{\n {body}\n}}\n");
    let config = Config {
        deadline: Span::millis(50),
        operations: 20_000,
        ..Config::default()
    };
    let keep = DestinationId::parse("keep").expect("a name");
    let set = match RuleSet::from_sources(&[("main.rhai".to_owned(), text)], &config, &[keep]) {
        Ok(set) => set,
        // Messages without what they quote.
        Err(problems) => {
            let first = problems
                .first()
                .map(|problem| problem.message.clone())
                .unwrap_or_default();
            return fingerprint(first.split(['`', '\'', '"', '(']).next().unwrap_or_default().as_bytes());
        }
    };
    let head = Head::scan(Syntax::of(&Uid::known(heads::EXPLICIT)), &super::seeds::data_set(true)).expect("a head");
    let title = AeTitle::parse("CT1").expect("a title");
    let facts = Facts {
        source: SourceId::parse("ct1").expect("a name"),
        calling_ae: title.clone(),
        called_ae: title,
        sop_class: Uid::known("1.2.840.10008.5.1.4.1.1.2"),
        sop_instance: Uid::known("1.2.3"),
        transfer_syntax: Uid::known(heads::EXPLICIT),
        arrival: Wall(1_700_000_000_000_000),
        study: None,
    };
    let decision = set.decide(&facts, &head);
    assert!(
        decision.hold.is_some() || !decision.deliveries.is_empty(),
        "decided nothing, and nothing is held"
    );
    for delivery in &decision.deliveries {
        // A plan that a rule made can be carried out or says why not, and survives being stored.
        let _ = delivery.plan.apply(&head);
        assert!(waystation::dicom::edit::Plan::decode(&delivery.plan.encode()).is_ok());
    }
    let edits: Vec<usize> = decision.deliveries.iter().map(|d| d.plan.edits.len()).collect();
    signature(&(decision.hold.map(|hold| (hold.kind, hold.reason)), edits))
}
