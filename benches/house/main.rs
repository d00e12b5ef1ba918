//! The bench house: the box, its peers and the machine's own limits, measured side by side with the same load.
//!
//! usage: `cargo bench --locked --bench house -- NAME`, by `make bench-NAME`. Without a name it is a smoke run of all, a part
//! of `make test`: everything starts, everything is answered, and the tables are printed; no figure of it means anything.
//! Figures of two runs, or of two machines, say nothing about each other: only ratios within one run do.
#[allow(dead_code, unused_imports, clippy::type_complexity)]
#[path = "../../tests/it/harness/mod.rs"]
mod harness;

#[cfg(feature = "planted")]
mod backlog;
mod floor;
mod ingest;
mod limits;
mod load;
mod objects;
mod params;
mod peers;
mod receiver;
mod relay;
mod stats;
mod table;
mod usage;
mod wan;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    // A receiver of its own process, for `peers.rs`.
    if let [word, kind, port, folder] = words.as_slice()
        && word == "floor"
    {
        floor::serve(kind, port.parse().expect("a port"), folder.as_ref());
        return ExitCode::SUCCESS;
    }
    stats::check();
    let name = words.iter().find(|word| !word.starts_with('-')).map(String::as_str);
    let refused = match name {
        Some("peers") => ingest::run(&ingest::Plan::asked()),
        Some("relay") => relay::run(&relay::Plan::asked()),
        #[cfg(feature = "planted")]
        Some("backlog") => backlog::run(&backlog::Plan::asked()),
        Some("wan") => wan::run(&wan::Plan::asked()),
        // `cargo bench` of everything means the micro-benches; `cargo test` the smoke run.
        None if words.iter().any(|word| word == "--bench") => 0,
        None => {
            wrong_words_end_it_with_a_line();
            ingest::run(&ingest::Plan::smoke())
                + relay::run(&relay::Plan::smoke())
                + wan::run(&wan::Plan::smoke())
                + smoke_backlog()
        }
        // The filter of a `cargo test WORD` that means other tests.
        Some(_) => 0,
    };
    if refused == 0 {
        ExitCode::SUCCESS
    } else {
        println!("{refused} instances were refused or lost: the figures mean nothing");
        ExitCode::FAILURE
    }
}

/// What a word of the environment may not be ends the bench before it begins, with what to write instead.
fn wrong_words_end_it_with_a_line() {
    let table = [
        (
            "peers",
            "SIZES",
            "7q",
            "SIZES: `7q` does not fit; write whole numbers with k, m or g",
        ),
        (
            "peers",
            "PEERS",
            "waystation,nobody",
            "PEERS: `nobody` does not fit; write some of waystation,",
        ),
        (
            "peers",
            "ASSOCIATIONS",
            "1,many",
            "ASSOCIATIONS: `many` does not fit; write whole numbers",
        ),
        (
            "peers",
            "BENCH_SECONDS",
            "-1",
            "SECONDS: `-1` does not fit; write a number from 0.01",
        ),
        (
            "relay",
            "PARTS",
            "lag,speed",
            "PARTS: `speed` does not fit; write some of lag,",
        ),
        ("wan", "LINKS", "abc", "LINKS: `abc` does not fit; write MBIT/MS"),
        (
            "wan",
            "ROUNDS",
            "0",
            "ROUNDS: `0` does not fit; write a whole number from 1 on",
        ),
        (
            "peers",
            "ASSOCIATIONS",
            "8,129",
            "ASSOCIATIONS: `129` does not fit; write whole numbers from 1 to 128",
        ),
        (
            "relay",
            "ASSOCIATIONS",
            "129",
            "ASSOCIATIONS: `129` does not fit; write a whole number up to 128",
        ),
        (
            "wan",
            "LINKS",
            "4000000000/50",
            "LINKS: `4000000000/50` does not fit; write MBIT/MS",
        ),
        #[cfg(feature = "planted")]
        (
            "backlog",
            "ENTRIES",
            "2000",
            "CLAIMS: `5000` does not fit; write at most 249",
        ),
        #[cfg(feature = "planted")]
        ("backlog", "SETTLES", "7", "SETTLES: `7` does not fit; write 8"),
    ];
    let program = std::env::current_exe().expect("this program");
    for (bench, name, word, expected) in table {
        let mut command = std::process::Command::new(&program);
        let ended = command.arg(bench).env(name, word).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(
            said.starts_with(expected) && said.lines().count() == 1,
            "{name}={word}: {said}"
        );
        assert_eq!(ended.status.code(), Some(2), "{name}={word}");
    }
}

#[cfg(feature = "planted")]
fn smoke_backlog() -> u64 {
    backlog::run(&backlog::Plan::smoke())
}

/// Its queue is filled by a door that only builds with planted faults have.
#[cfg(not(feature = "planted"))]
fn smoke_backlog() -> u64 {
    0
}
