//! Fuzz targets: every reader of bytes from outside, on mutations of committed seeds (`seeds/TARGET/`).
//!
//! No libFuzzer: its instrumentation would build RocksDB anew. `engine.rs` mutates, and keeps every input that brings a new
//! *signature* (what the target says of the outcome: an error's kind, a count's magnitude), so that the search is guided
//! without instrumentation. A target fails on a panic, on a broken law (what is read, written and read again is the same; in
//! pieces or whole is the same) and on an input that takes too long; the input is written down, and belongs into the seeds
//! from then on. `FUZZ_SECONDS` is the time for each target (1 by default), `FUZZ_SEED` the generator's seed.
mod engine;
mod heads;
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
