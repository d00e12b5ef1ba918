//! `ledger`: its lines, and whether its chain holds.
use super::custody::code;
use super::{NO_BOX, Talk, queue};
use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;
use waystation::base::clock::{Clock, Wall};
use waystation::base::units::Span;
use waystation::config;
use waystation::control::protocol::Request;
use waystation::custody::{LinesQuery, story};
use waystation::spool::{self, ChainReport};

/// `ledger …`.
#[derive(Subcommand, Debug)]
pub enum Ledger {
    /// Show the last lines: also those of no single instance, which no trace shows
    Ls {
        /// Only lines of these kinds, as `refused,suspended`; the kinds are those of docs/ledger.md
        #[arg(long, value_delimiter = ',', value_name = "KIND", value_parser = kind)]
        kind: Vec<String>,
        /// Not older: "36h" (ago), 2026-05-10, or 2026-05-10T03:00:00Z (a day begins at 00:00 UTC)
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<Wall>,
        /// Not newer, written in the same ways
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<Wall>,
        /// Only lines before the one with this number, as the page before has said
        #[arg(long, value_name = "LINE")]
        before: Option<u64>,
        /// At most so many lines
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        #[command(flatten)]
        talk: Talk,
    },
    /// Verify the chain: names the first line that does not follow from the one before it
    Verify {
        /// The spool itself, when no box has it open
        #[arg(long, value_name = "FOLDER")]
        path: Option<PathBuf>,
        #[command(flatten)]
        talk: Talk,
    },
}

pub async fn ledger(verb: Ledger) -> ExitCode {
    match verb {
        Ledger::Ls {
            kind,
            since,
            until,
            before,
            limit,
            talk,
        } => {
            let query = LinesQuery {
                kinds: kind,
                since_us: since.map(|at| at.0),
                until_us: until.map(|at| at.0),
                before,
                limit: usize::from(limit),
            };
            queue::ask(&Request::LedgerLines { query }, &talk).await
        }
        Ledger::Verify { path: Some(path), talk } => verify(&path, talk.json),
        Ledger::Verify { path: None, talk } => verify_open(&talk).await,
    }
}

fn kind(word: &str) -> Result<String, String> {
    let words = story::words();
    match words.contains(&word) {
        true => Ok(word.to_owned()),
        false => Err(format!("a kind is one of {}", words.join(", "))),
    }
}

/// A moment as people write it: so long ago, a day, or a time.
fn moment(text: &str) -> Result<Wall, String> {
    if let Ok(ago) = text.parse::<Span>() {
        let since_1970 = Clock::System.now().since(Wall(0)).saturating_sub(ago.0);
        return Ok(Wall(0).plus(since_1970));
    }
    let day = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10);
    let day = day.and_then(|day| Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()));
    let at = day.or_else(|| text.parse::<jiff::Timestamp>().ok());
    at.and_then(|at| u64::try_from(at.as_microsecond()).ok())
        .map(Wall)
        .ok_or_else(|| "write \"36h\", 2026-05-10, or 2026-05-10T03:00:00Z".to_owned())
}

/// The running box's ledger; without one, that of its spool.
async fn verify_open(talk: &Talk) -> ExitCode {
    let asked = queue::ask(&Request::VerifyLedger, talk).await;
    if asked != ExitCode::from(NO_BOX) {
        return asked;
    }
    let files = config::files_or_default(&talk.config);
    match config::spool_path(&files) {
        Ok(path) => {
            eprintln!(
                "waystation: no box answers: {} is verified as it lies there",
                path.display()
            );
            verify(&path, talk.json)
        }
        Err(problems) => {
            super::check::print(&problems);
            super::fail("where the spool is cannot be read; say --path FOLDER")
        }
    }
}

fn verify(path: &std::path::Path, json: bool) -> ExitCode {
    match spool::verify_ledger(path) {
        Ok(report) => {
            if json {
                println!("{}", serde_json::to_string(&report).unwrap_or_default());
            } else {
                print!("{}", chain_words(&report));
            }
            code(report.is_sound())
        }
        Err(error) => super::fail(&error.to_string()),
    }
}

/// The verification, for people.
pub(super) fn chain_words(report: &ChainReport) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    // Writing to a String cannot fail.
    for broken in &report.broken {
        let _ = writeln!(out, "BROKEN at line {} ({}): {}", broken.line, broken.time, broken.why);
    }
    for told in &report.breaks {
        let _ = writeln!(
            out,
            "break at line {} ({}): {}; a salvage has said so",
            told.line, told.time, told.why
        );
    }
    if report.pruned > 0 {
        let _ = writeln!(out, "lines up to {} were taken away by ledger.keep", report.pruned);
    }
    if report.witnessed.is_none() {
        out.push_str("there is no witness file: lines cut off at the end could not be seen\n");
    }
    let verdict = if report.is_sound() {
        "the chain holds"
    } else {
        "THE CHAIN IS BROKEN"
    };
    let _ = writeln!(
        out,
        "{verdict}: {} lines, {} to {}, head {}",
        report.lines, report.first, report.last, report.head
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = Clock::System.now();
        let day = moment("2026-05-10").expect("a day");
        assert_eq!(day.iso(), "2026-05-10T00:00:00Z");
        assert_eq!(
            moment("2026-05-10T03:00:00+02:00").map(Wall::iso).as_deref(),
            Ok("2026-05-10T01:00:00Z")
        );
        let ago = moment("2h").expect("a span");
        let (least, slow) = (
            std::time::Duration::from_secs(7_199),
            std::time::Duration::from_secs(60),
        );
        let span = now.since(ago);
        assert!(span > least.saturating_sub(slow) && span <= least + slow, "{span:?}");
        for wrong in ["yesterday", "2026-13-01", "2026-05-10T03", ""] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        assert_eq!(moment("100y").map(|at| at.0), Ok(0), "before 1970 is all");
    }

    #[test]
    fn a_kind_that_is_none_is_answered_with_those_that_are() {
        assert!(kind("refused").is_ok() && kind("committed").is_ok());
        let wrong = kind("refusal").expect_err("no kind");
        assert!(
            wrong.contains("refused, ") && wrong.contains("commitment_given_up"),
            "{wrong}"
        );
    }
}
