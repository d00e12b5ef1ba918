//! Fuzz targets: every reader of bytes from outside, on mutations of committed seeds (`seeds/TARGET/`).
//!
//! Two engines run the same functions. This one needs nothing but cargo and is part of `make test`: it runs every seed and
//! every input of the corpus, then mutates for a while and keeps each input that brings a new *signature* (what the target
//! says of the outcome: an error's kind, a count's magnitude). The other is libFuzzer, guided by coverage (`fuzz/`,
//! `make fuzz`). A target fails on a panic, on a broken law (what is read, written and read again is the same; in pieces or
//! whole is the same) and on an input that takes too long; the input is written down, and belongs into `seeds/TARGET/` from
//! then on. `FUZZ_SECONDS` is the time for each target (1 by default), `FUZZ_SEED` the generator's seed.
mod engine;
mod heads;
mod outcome;
mod seeds;
mod sites;
mod wires;

use engine::fuzz;

#[test]
fn requests_and_messages_of_a_modality() {
    fuzz("association", wires::association);
}

#[test]
fn answers_of_an_archive() {
    fuzz("answers", wires::answers);
}

#[test]
fn dimse_commands() {
    fuzz("dimse", wires::dimse);
}

#[test]
fn heads_in_implicit_little_endian() {
    fuzz("head_implicit", |bytes| heads::scan(bytes, heads::IMPLICIT));
}

#[test]
fn heads_in_explicit_little_endian() {
    fuzz("head_explicit", |bytes| heads::scan(bytes, heads::EXPLICIT));
}

#[test]
fn heads_in_explicit_big_endian() {
    fuzz("head_big", |bytes| heads::scan(bytes, heads::BIG));
}

#[test]
fn heads_of_encapsulated_pixels() {
    fuzz("head_encapsulated", |bytes| heads::scan(bytes, heads::JPEG));
}

#[test]
fn heads_deflated() {
    fuzz("head_deflated", |bytes| heads::scan(bytes, heads::DEFLATED));
}

#[test]
fn inflating_gives_what_was_deflated() {
    fuzz("inflate", heads::inflate);
}

#[test]
fn edits_change_what_they_name_and_nothing_else() {
    fuzz("edit", heads::edit);
}

#[test]
fn edit_plans_that_were_stored() {
    fuzz("plan", heads::plan);
}

#[test]
fn part_10_files() {
    fuzz("part10", heads::part10);
}

#[test]
fn character_sets() {
    fuzz("text", heads::text);
}

#[cfg(feature = "planted")]
#[test]
fn records_of_the_spool() {
    fuzz("records", waystation::spool::probe::read_records);
}

#[test]
fn configuration_files() {
    fuzz("configuration", sites::configuration);
}

#[test]
fn paths_and_templates() {
    fuzz("paths", sites::paths);
}

#[test]
fn rules_and_their_host_functions() {
    fuzz("rules", sites::rules);
}

#[test]
fn every_target_runs_under_libfuzzer_too() {
    let targets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut there: Vec<String> = std::fs::read_dir(targets)
        .expect("the folder of libFuzzer's targets")
        .map(|entry| entry.expect("listed").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    there.sort();
    let named = regex::Regex::new(r#"fuzz\("(\w+)""#).expect("a pattern");
    let mut here: Vec<&str> = named
        .captures_iter(include_str!("main.rs"))
        .filter_map(|found| found.get(1))
        .map(|name| name.as_str())
        .collect();
    here.sort_unstable();
    assert_eq!(here, there);
}
