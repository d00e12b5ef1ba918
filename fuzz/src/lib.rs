//! The fuzz targets of `tests/fuzz`, for libFuzzer: the same functions, the same seeds, and a search guided by coverage.
//!
//! `make fuzz` builds and runs them (`tools/fuzz`). Each binary is one target; its laws and its crashes are those of the
//! test of the same name in `tests/fuzz/main.rs`. Nothing of this is in the box.
#![forbid(unsafe_code)]
#[path = "../../tests/fuzz/heads.rs"]
pub mod heads;
#[path = "../../tests/fuzz/outcome.rs"]
pub mod outcome;
#[path = "../../tests/fuzz/seeds.rs"]
pub mod seeds;
#[path = "../../tests/fuzz/sites.rs"]
pub mod sites;
#[path = "../../tests/fuzz/wires.rs"]
pub mod wires;

/// Writes the seeds that are made rather than committed into the folder that `FUZZ_SEEDS` names, before libFuzzer reads
/// it. Without the variable it does nothing.
///
/// # Panics
/// When the folder cannot be written: the search would start without seeds and say nothing.
pub fn plant(target: &str) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else {
        return;
    };
    for (number, seed) in seeds::made(target).iter().enumerate() {
        let path = std::path::Path::new(&folder).join(format!("made-{number:02}"));
        std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
