//! Facts about loading and reloading: problems with their places, imports, and the set in force.
use super::tests::{destinations, empty_head, facts, files, set};
use super::*;
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::telemetry::metrics::Metrics;
use std::path::Path;
use std::time::Duration;

#[test]
fn load_problems_come_all_at_once_with_places_and_the_nearest_name() {
    let text = "fn morph(image, from) {\n  image.PatientIdd = \"1\";\n  image[\"(0010,002)\"];\n}\n\
        fn route(image, from) {\n  to(\"vnb\");\n  to(\"vna\", #{ prority: \"stat\" });\n  to(\"vna\", #{ priority: \"urgent\" });\n  \
        if from.calling == \"\" { pad_lft(\"x\", 1, \"0\") }\n  image.has(\"Modalty\");\n  matches(\"x\", \"(\");\n}\n\
        fn morph_for_cadd(image, from) { }\nimport \"helper\" as h;";
    let problems = files(&[("main.rhai", text), ("helpers.rhai", "fn a() { }")])
        .err()
        .unwrap();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let wanted = [
        ("main.rhai:2:9:", "did you mean `PatientID`"),
        ("main.rhai:3:9:", "is not an element"),
        ("main.rhai:6:6:", "unknown destination `vnb`; did you mean `vna`?"),
        ("main.rhai:7:16:", "did you mean `priority`?"),
        ("main.rhai:8:26:", "unknown priority `urgent`"),
        ("main.rhai:9:11:", "did you mean `calling_ae`?"),
        ("main.rhai:9:27:", "did you mean `pad_left`?"),
        ("main.rhai:10:13:", "did you mean `Modality`"),
        ("main.rhai:11:16:", "unclosed group"),
        ("main.rhai:13:4:", "did you mean `cad`?"),
        ("main.rhai:14:8:", "did you mean `helpers`?"),
    ];
    for (place, message) in wanted {
        let found = lines
            .iter()
            .any(|line| line.starts_with(place) && line.contains(message));
        assert!(found, "{place} {message}\n{lines:#?}");
    }
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
}

#[test]
fn syntax_errors_have_line_and_column() {
    let problems = set("fn route(image, from) {\n  to(\"vna\"\n}").err().unwrap();
    assert_eq!(problems[0].file, Path::new("main.rhai"));
    assert_eq!(
        (problems[0].line, problems[0].column.is_some()),
        (Some(3), true),
        "{problems:?}"
    );
}

#[test]
fn a_limit_of_the_language_is_told_with_what_to_do() {
    let chain: String = (0..40)
        .map(|n| format!(" else if image.Modality == \"A{n}\" {{ to(\"cad\"); }}"))
        .collect();
    let asked: Vec<String> = (0..40).map(|n| format!("image.Modality != \"A{n}\"")).collect();
    let functions: String = (0..300).map(|n| format!("fn f{n}() {{ {n} }}\n")).collect();
    for (body, more, wanted) in [
        (
            format!("if image.Modality == \"\" {{ to(\"vna\"); }}{chain}"),
            "",
            "is nested too deep, 32 levels",
        ),
        (
            format!("if {} {{ to(\"vna\"); }}", asked.join(" && ")),
            "",
            "is nested too deep",
        ),
        (String::new(), functions.as_str(), "a file has at most 256 functions"),
    ] {
        let text = format!("fn route(image, from) {{\n{body}\n}}\n{more}");
        let problems = set(&text).err().unwrap();
        assert!(problems[0].message.starts_with(wanted), "{problems:?}");
    }
    // As the message says.
    let list: Vec<String> = (0..40).map(|n| format!("\"A{n}\"")).collect();
    let text = format!(
        "fn route(image, from) {{ if !(image.Modality in [{}]) {{ to(\"vna\"); }} switch image.Modality {{ {} => to(\"cad\") }} }}",
        list.join(", "),
        list.join(" | ")
    );
    assert!(set(&text).is_ok());
}

#[test]
fn imports_find_the_folders_own_files_only_and_no_cycles() {
    let main = "import \"a\" as a; fn route(image, from) { to(a::place()) }";
    let good = files(&[
        ("main.rhai", main),
        (
            "a.rhai",
            "import \"b\" as b; const X = \"cad\"; fn place() { if b::yes() { \"vna\" } else { global::X } }",
        ),
        ("b.rhai", "fn yes() { true }"),
    ]);
    let decision = good.unwrap_or_else(|p| panic!("{p:?}")).decide(&facts(), &empty_head());
    assert_eq!((decision.deliveries.len(), decision.hold), (1, None));
    let cycle = files(&[
        ("main.rhai", main),
        ("a.rhai", "import \"b\" as b;"),
        ("b.rhai", "import \"a\" as a;"),
    ]);
    let problems = cycle.err().unwrap();
    assert!(
        problems.iter().any(|p| p.message.contains("imports itself")),
        "{problems:?}"
    );
}

#[test]
fn the_only_file_is_the_entry_and_several_need_main() {
    assert!(files(&[("site.rhai", "fn route(image, from) { to(\"vna\") }")]).is_ok());
    let problems = files(&[("a.rhai", "fn route(image, from) { }"), ("b.rhai", "fn x() { }")])
        .err()
        .unwrap();
    assert!(problems[0].message.contains("main.rhai is the entry"), "{problems:?}");
}

#[test]
fn config_bounds_are_checked() {
    assert!(Config::default().check().is_empty());
    let wrong = Config {
        deadline: Span::millis(0),
        operations: 1,
        text: Size(1),
        ..Config::default()
    };
    assert_eq!(wrong.check().len(), 3);
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn store(folder: &Path) -> (RuleStore, Metrics) {
    let config = Config {
        path: Some(folder.to_owned()),
        ..Config::default()
    };
    let site = Site {
        node: "box".to_owned(),
        destinations: destinations(),
        neighbours: Vec::new(),
        state: None,
    };
    let metrics = Metrics::new();
    let store = RuleStore::open(&config, site, metrics.clone(), Clock::System);
    (store.unwrap_or_else(|p| panic!("{p:?}")), metrics)
}

#[test]
fn a_bad_set_is_refused_and_the_old_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "main.rhai", "fn route(image, from) { to(\"vna\") }");
    let (store, metrics) = store(folder.path());
    let first = store.epoch();
    write(folder.path(), "main.rhai", "fn route(image, from) {\n to(\"vnaa\") }");
    let problems = store.reload().unwrap_err();
    assert_eq!(
        problems[0].to_string().rsplit('/').next(),
        Some("main.rhai:2:5: unknown destination `vnaa`; did you mean `vna`?")
    );
    assert_eq!((store.epoch(), metrics.rules_reload_failed.get()), (first, 1));
    assert_eq!(store.decide(&facts(), &empty_head()).epoch, first);
    write(folder.path(), "main.rhai", "fn route(image, from) { to(\"cad\") }");
    let second = store.reload().unwrap();
    assert_ne!(first, second);
    assert_eq!(metrics.rules_reload_failed.get(), 0);
    assert_eq!(
        store.decide(&facts(), &empty_head()).deliveries[0].destination.as_str(),
        "cad"
    );
    assert_eq!(metrics.rule_decisions_total.with_label_values(&["routed"]).get(), 2);
    assert_eq!(metrics.rules_reloads_total.with_label_values(&["refused"]).get(), 1);
}

#[tokio::test]
async fn a_change_of_a_file_is_noticed_and_the_watcher_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "main.rhai", "fn route(image, from) { to(\"vna\") }");
    let (store, _) = store(folder.path());
    let (first, drain) = (store.epoch(), Drain::new());
    store.watch(&drain);
    tokio::time::sleep(Duration::from_millis(100)).await;
    write(
        folder.path(),
        "main.rhai",
        "fn route(image, from) { to(\"cad\") } // changed",
    );
    for _ in 0..100 {
        if store.epoch() != first {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_ne!(store.epoch(), first);
    drain.stop(Duration::from_secs(5)).await.unwrap();
}

#[test]
fn folders_without_rules_or_with_strange_names_are_problems() {
    let folder = tempfile::tempdir().unwrap();
    assert!(RuleSet::load(&folder.path().join("none"), &Config::default(), &[]).is_err());
    assert!(RuleSet::load(folder.path(), &Config::default(), &[]).is_err());
    write(folder.path(), "ma in.rhai", "fn route(image, from) { }");
    assert!(RuleSet::load(folder.path(), &Config::default(), &[]).is_err());
}

#[test]
fn a_function_for_two_destinations_is_a_problem() {
    let both = ["a-b", "a_b"].map(|id| DestinationId::parse(id).unwrap());
    let load = |text: &str, ids: &[DestinationId]| {
        let sources = [("main.rhai".to_owned(), text.to_owned())];
        RuleSet::from_sources(&sources, &Config::default(), ids)
    };
    let text = "fn route(image, from) { to(\"a-b\") }\nfn morph_for_a_b(image, from) { }";
    let problems = load(text, &both).err().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].line, Some(2));
    assert!(problems[0].message.contains("a-b or a_b"), "{problems:?}");
    assert!(load(text, &both[..1]).is_ok());
    assert!(load("fn route(image, from) { to(\"a_b\") }", &both).is_ok());
}

#[test]
fn a_link_out_of_the_folder_is_no_rule_file() {
    let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(outside.path(), "secret.rhai", "fn place() { \"vna\" }");
    std::fs::create_dir(folder.path().join("data")).unwrap();
    write(
        &folder.path().join("data"),
        "main.rhai",
        "fn route(image, from) { to(\"vna\") }",
    );
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    link(Path::new("data/main.rhai"), "main.rhai");
    assert!(RuleSet::load(folder.path(), &Config::default(), &destinations()).is_ok());
    link(&outside.path().join("secret.rhai"), "secret.rhai");
    let problems = RuleSet::load(folder.path(), &Config::default(), &destinations())
        .err()
        .unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].file.ends_with("secret.rhai"), "{problems:?}");
    assert!(problems[0].message.contains("leaves the rule folder"), "{problems:?}");
}

#[test]
fn a_byte_order_mark_takes_no_place() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "main.rhai",
        "\u{FEFF}fn route(image, from) { to(\"vna\") }",
    );
    let load = || RuleSet::load(folder.path(), &Config::default(), &destinations());
    let marked = load().unwrap_or_else(|wrong| panic!("{wrong:?}"));
    write(folder.path(), "main.rhai", "fn route(image, from) { to(\"vna\") }");
    assert_eq!(
        load().unwrap_or_else(|wrong| panic!("{wrong:?}")).content(),
        marked.content()
    );
    write(
        folder.path(),
        "main.rhai",
        "\u{FEFF}fn route(image, from) { to(\"vnaa\") }",
    );
    let wrong = load().err().unwrap();
    assert_eq!(
        (wrong.len(), wrong[0].line, wrong[0].column),
        (1, Some(1), Some(28)),
        "{wrong:?}"
    );
}

#[test]
fn a_start_whose_folder_is_refused_takes_the_set_that_was_in_force_last() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = Config {
        path: Some(folder.path().to_owned()),
        ..Config::default()
    };
    let open = |destinations: Vec<DestinationId>| {
        let site = Site {
            node: "box".to_owned(),
            destinations,
            neighbours: Vec::new(),
            state: Some(state.path().to_owned()),
        };
        let metrics = Metrics::new();
        RuleStore::open(&config, site, metrics.clone(), Clock::System).map(|store| (store, metrics))
    };
    let refused = |destinations| open(destinations).err().unwrap();
    assert_eq!(refused(destinations()).len(), 1, "nothing is kept yet");
    write(folder.path(), "main.rhai", "fn route(image, from) { to(\"vna\") }");
    let first = open(destinations())
        .unwrap_or_else(|wrong| panic!("{wrong:?}"))
        .0
        .epoch();
    write(folder.path(), "main.rhai", "fn route(image, from) { to(\"vnaa\") }");
    let (store, metrics) = open(destinations()).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert_eq!((store.epoch(), metrics.rules_reload_failed.get()), (first, 1));
    assert!(store.is_stale() && store.is_refused());
    assert_eq!(store.decide(&facts(), &empty_head()).epoch, first);
    let wrong = refused(vec![DestinationId::parse("other").unwrap()]);
    let said: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|line| line.contains("main.rhai:1:28"))
            && said.iter().any(|line| line.contains("does not fit this configuration")),
        "{said:?}"
    );
    // A set that is loaded later is kept in its turn.
    write(folder.path(), "main.rhai", "fn route(image, from) { to(\"cad\") }");
    let second = store.reload().unwrap();
    assert!(!store.is_stale() && !store.is_refused());
    write(folder.path(), "main.rhai", "fn route(image, from) { hold(\"look\") }");
    assert!(store.is_stale());
    write(folder.path(), "main.rhai", "fn route(image, from) { to(\"cad\") }");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path().join("main.rhai"));
    file.unwrap().set_modified(long_ago).unwrap();
    assert!(!store.is_stale(), "the old files are back, with another time");
    std::fs::remove_file(folder.path().join("main.rhai")).unwrap();
    let (store, _) = open(destinations()).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert_eq!(store.epoch(), second);
}
