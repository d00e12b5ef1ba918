//! What is made from the program's own arguments: completions that the shells take and that complete, man pages that man shows.
use crate::harness::tools::{Ran, program, run, texts};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);

fn waystation(arguments: &[&str]) -> Ran {
    run(Path::new(env!("CARGO_BIN_EXE_waystation")), &texts(arguments), BOUND)
}

fn completions(shell: &str, folder: &Path) -> String {
    let file = folder.join(format!("completions.{shell}"));
    std::fs::write(&file, waystation(&["completions", shell]).ok().out).expect("writable");
    file.to_string_lossy().into_owned()
}

#[test]
fn the_shells_take_the_completions_and_complete() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish"] {
        let file = completions(shell, folder.path());
        let ran = run(&program(shell), &texts(&["-n", &file]), BOUND);
        assert!(ran.code == Some(0) && ran.err.is_empty(), "{shell}: {ran:?}");
    }
    // As bash does on Tab after `waystation queue su`.
    let ask = format!(
        "source {}; COMP_WORDS=(waystation queue su); COMP_CWORD=2; _waystation waystation su queue; echo \"${{COMPREPLY[@]}}\"",
        completions("bash", folder.path())
    );
    assert_eq!(
        run(&program("bash"), &texts(&["-c", &ask]), BOUND).ok().out.trim(),
        "suspend"
    );
    let ask = format!(
        "source {}; complete -C 'waystation que'",
        completions("fish", folder.path())
    );
    let said = run(&program("fish"), &texts(&["--no-config", "-c", &ask]), BOUND)
        .ok()
        .out;
    assert!(said.starts_with("queue\t"), "{said}");
    assert_eq!(waystation(&["completions", "tcsh"]).code, Some(2));
}

/// Every verb and verb of a verb, as its page is called.
fn verbs(name: &str, arguments: &[&str], found: &mut BTreeSet<String>) {
    found.insert(format!("{name}.1"));
    let help = waystation(&[arguments, &["--help"]].concat()).ok().out;
    let listed = help.split_once("Commands:\n").map_or("", |(_, rest)| rest);
    for line in listed.lines().take_while(|line| line.starts_with("  ")) {
        let verb = line.strip_prefix("  ").filter(|line| !line.starts_with(' '));
        let Some(verb) = verb.and_then(|line| line.split(' ').next()) else {
            continue;
        };
        if verb != "help" {
            verbs(&format!("{name}-{verb}"), &[arguments, &[verb]].concat(), found);
        }
    }
}

#[test]
fn every_verb_has_a_man_page_that_man_shows_without_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man");
    waystation(&["man", &pages.to_string_lossy()]).ok();
    let mut wanted = BTreeSet::new();
    verbs("waystation", &[], &mut wanted);
    assert!(wanted.len() > 20, "{wanted:?}");
    let entries = std::fs::read_dir(&pages).expect("made");
    let made: BTreeSet<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let missing: Vec<&String> = wanted.difference(&made).collect();
    assert!(missing.is_empty(), "no page for {missing:?}");
    // One man for all of them: it takes a tenth of a second each.
    let files: Vec<String> = made
        .iter()
        .map(|name| pages.join(name).to_string_lossy().into_owned())
        .collect();
    let mut arguments = texts(&["-l", "--warnings", "-E", "UTF-8", "-Tutf8"]);
    arguments.extend(files);
    let shown = run(&program("man"), &arguments, BOUND).ok();
    assert_eq!(shown.err, "");
    assert!(
        shown.out.contains("WAYSTATION(1)") || shown.out.contains("waystation(1)"),
        "{}",
        &shown.out[..400]
    );
    assert!(!shown.out.contains("planted"), "the page of the shipped program");
}
