//! `spool fsck|rebuild|export`: what can be done with a spool that no box has open. `spool salvage` reads the reports of one,
//! with or without a box; `spool scrub` and an acknowledgement ask the running box.
use super::{FAILED, Talk};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use waystation::base::clock::Clock;
use waystation::base::names::{InstanceId, SourceId, Uid};
use waystation::config;
use waystation::control::protocol::Request;
use waystation::spool::{self, DamagedInstance, Fate, Filter, HoldsKnown, ScrubStatus, Wanted};

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Verify every record, with --deep every payload. Changes nothing
    Fsck {
        #[command(flatten)]
        at: At,
        /// Read every payload and compare its checksum
        #[arg(long)]
        deep: bool,
    },
    /// Which format the spool has, and which this program reads and writes. Opens nothing
    Version {
        #[command(flatten)]
        at: At,
    },
    /// Bring an older spool to the format of this program, as a start of the box does too
    Migrate {
        #[command(flatten)]
        at: At,
    },
    /// Make the index anew from the payload files; the old one is put aside
    Rebuild {
        #[command(flatten)]
        at: At,
    },
    /// Show the reports of instances that were found lost, damaged or doubtful
    Salvage {
        /// You have read them: the running box takes its note off readiness, and puts your name on the ledger
        #[arg(long)]
        acknowledge: bool,
        /// Also those that were acknowledged
        #[arg(long)]
        all: bool,
        /// At most so many instances of each report
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
        /// The spool itself, instead of the one that the configuration names
        #[arg(long, value_name = "FOLDER")]
        path: Option<PathBuf>,
        #[command(flatten)]
        talk: Talk,
    },
    /// Where the running box's scrub stands, and which payloads are damaged
    Scrub {
        /// Read every payload again, beginning now
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        talk: Talk,
    },
    /// Copy payloads out as DICOM files under readable names: below STUDY, or, of what waits, below waiting/ and held/ in a folder for
    /// each source and pair of AE titles
    Export {
        #[command(flatten)]
        at: At,
        /// The folder to write to; existing files are kept
        #[arg(long)]
        to: PathBuf,
        /// Only what is not delivered: queued, or sent and not committed, below waiting/, with a send.txt that says how to send it for
        /// the same source again. What a person, a rule or the box has held (or a person has discarded for one destination of
        /// several) goes below held/, each with its reason beside it, and is not to be sent before somebody has looked at it. Stop
        /// the box first
        #[arg(long)]
        waiting: bool,
        #[command(flatten)]
        which: Which,
    },
}

/// Which spool.
#[derive(Args, Debug)]
pub struct At {
    /// The configuration that names the spool
    #[arg(short, long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: Vec<PathBuf>,
    /// The spool itself, instead
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Which payloads. All conditions given must hold.
#[derive(Args, Debug)]
pub struct Which {
    #[arg(long, value_parser = |text: &str| SourceId::parse(text).map_err(|error| error.to_string()))]
    source: Option<SourceId>,
    /// Study Instance UID
    #[arg(long, value_parser = |text: &str| Uid::parse(text).map_err(|error| error.to_string()))]
    study: Option<Uid>,
    /// SOP Instance UID
    #[arg(long, value_parser = |text: &str| Uid::parse(text).map_err(|error| error.to_string()))]
    sop: Option<Uid>,
    /// The box's own instance id
    #[arg(long, value_parser = |text: &str| InstanceId::parse(text).map_err(|error| error.to_string()))]
    instance: Option<InstanceId>,
}

pub async fn run(verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::Scrub { now, talk } => return super::queue::ask(&Request::Scrub { now }, &talk).await,
        Verb::Salvage {
            acknowledge: true,
            talk,
            ..
        } => return super::queue::ask(&Request::AcknowledgeSalvage, &talk).await,
        Verb::Salvage {
            all, limit, path, talk, ..
        } => {
            let at = At {
                config: talk.config,
                path,
                json: talk.json,
            };
            reports(&at, all, limit)
        }
        Verb::Version { at } => super::version::version(&at),
        Verb::Migrate { at } => as_owner(&at, super::version::migrate),
        Verb::Fsck { at, deep } => fsck(&at, deep),
        Verb::Rebuild { at } => as_owner(&at, rebuild),
        Verb::Export { at, to, waiting, which } => {
            let wanted = if waiting { Wanted::Waiting } else { Wanted::All };
            export(&at, &to, which, wanted)
        }
    };
    match done {
        Ok(code) => code,
        Err(message) => {
            eprintln!("waystation: {message}");
            ExitCode::from(FAILED)
        }
    }
}

fn as_owner(at: &At, verb: impl Fn(&At) -> Result<ExitCode, String>) -> Result<ExitCode, String> {
    match super::owner::again_as_owner(&at.spool()?) {
        Some(ended) => ended,
        None => verb(at),
    }
}

fn fsck(at: &At, deep: bool) -> Result<ExitCode, String> {
    let report = spool::fsck(&at.spool()?, deep).map_err(|error| error.to_string())?;
    show(at, &report, || {
        for problem in &report.problems {
            println!("{problem}");
        }
        println!(
            "{} instances, {} jobs ({} queued, {} held), {} facts, {} bytes verified: {} problems",
            report.instances,
            report.jobs,
            report.queued,
            report.held,
            report.facts,
            report.bytes_verified,
            report.problem_count
        );
    });
    Ok(code(report.problem_count == 0))
}

fn rebuild(at: &At) -> Result<ExitCode, String> {
    let report = spool::rebuild(&at.spool()?, &Clock::System).map_err(|error| error.to_string())?;
    show(at, &report, || {
        if report.brought_home > 0 {
            println!(
                "{} payloads lay in a wrong place and are back where they belong",
                report.brought_home
            );
        }
        if let Some(aside) = &report.aside {
            println!("the old index is now {}", aside.display());
        }
        if let Some(why) = &report.forgotten {
            println!("the old index could not be read, or not to its end ({why})");
            if report.orders_lost {
                println!(
                    "the list of persons' orders is gone, damaged or an older one: what a person had held is not known any \
                     more, and such instances are held as doubtful; suspend destinations again before the box starts"
                );
            }
        }
        if !report.suspended.is_empty() {
            println!("still suspended: {}", report.suspended.join(", "));
        }
        for id in &report.quarantined {
            println!("{id}: damaged, put into quarantine");
        }
        for path in &report.passed_over {
            println!("{path}: is not a payload of this spool: nothing reads it; it stays until a person moves it away");
        }
        for id in &report.lost {
            println!("{id}: no whole payload; its jobs are held");
        }
        if report.awaiting > 0 {
            println!(
                "{} deliveries were made and wait for their archive's commitment: it is asked again, and they are not sent again",
                report.awaiting
            );
        }
        println!(
            "{} as they were, {} to be decided anew, {} held, {} already delivered, {} discarded by a person, {} damaged, \
             {} lost, {} empty files removed",
            report.kept,
            report.recovered,
            report.held,
            report.delivered,
            report.discarded,
            report.quarantined.len(),
            report.lost.len(),
            report.empty
        );
        if let Some(named_in) = &report.named_in {
            println!(
                "what is not as before is named in {}: read `waystation spool salvage`, and acknowledge it when the box runs",
                named_in.display()
            );
        }
    });
    Ok(code(report.quarantined.is_empty() && report.lost.is_empty()))
}

/// Fails while a report is open, so that a script sees it.
fn reports(at: &At, all: bool, limit: usize) -> Result<ExitCode, String> {
    let path = at.spool()?;
    let mut reports = spool::salvages(&path, limit).map_err(|error| format!("{}: {error}", path.display()))?;
    let open = reports.iter().any(|report| report.acknowledged.is_none());
    reports.retain(|report| all || report.acknowledged.is_none());
    show(at, &reports, || {
        for report in &reports {
            println!("{}  {}", report.time, report.cause);
            if let Some(who) = &report.acknowledged {
                println!("  acknowledged by {who}");
            }
            if !report.complete {
                println!("  cut: the start that wrote it ended early");
            }
            for named in &report.named {
                let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
                println!(
                    "  {}  {}  {}  {}{}",
                    word(named.fate),
                    named.instance,
                    text(&named.sop_instance),
                    text(&named.source),
                    if named.unverified { "  (UID not verified)" } else { "" }
                );
            }
            let counts = report
                .counts
                .iter()
                .map(|(fate, count)| format!("{count} {}", word(*fate)));
            // A doubt in the ledger names none.
            if !report.counts.is_empty() {
                println!("  {}", counts.collect::<Vec<_>>().join(", "));
            }
            if let Some(words) = report.rebuilt.as_ref().map(requests_words) {
                println!("  {words}");
            }
            if let Some(words) = report.rebuilt.as_ref().and_then(changed_words) {
                println!("  {words}");
            }
        }
        if reports.is_empty() {
            println!("nothing to report");
        }
    });
    Ok(code(!open))
}

/// What became of the requests of sources, for people.
fn requests_words(rebuilt: &serde_json::Value) -> String {
    let kept = rebuilt["requests"].as_u64().unwrap_or(0);
    let lost = match rebuilt["requests_lost"].as_bool() {
        Some(false) => "",
        _ => {
            "; others may be lost with the old index: their modalities are not answered, keep their images, and have to ask again"
        }
    };
    format!("requests for storage commitment: {kept} kept{lost}")
}

/// The lines of the ledger that a rebuild found changed, for people.
fn changed_words(rebuilt: &serde_json::Value) -> Option<String> {
    let lines = rebuilt["ledger_changed"].as_array()?;
    let numbers: Vec<String> = lines.iter().map(ToString::to_string).collect();
    Some(format!(
        "CHANGED lines of the ledger, or the lines before them: {}; somebody has written into the index: see `waystation ledger verify`",
        numbers.join(", ")
    ))
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Lost => "lost",
        Fate::Damaged => "damaged",
        Fate::Doubtful => "doubtful",
        Fate::Held => "held",
        Fate::DecidedAnew => "decided-anew",
    }
}

/// The scrub's answer, for people.
pub(super) fn scrub_words(status: &ScrubStatus, damaged: &[DamagedInstance]) -> String {
    use std::fmt::Write;
    let never = || "never".to_owned();
    let mut out = format!(
        "{}: {} payloads, {} bytes, {} damaged, {} headers damaged; began {}, last completed {}\n",
        if status.running { "running" } else { "at rest" },
        status.payloads,
        status.bytes,
        status.damaged,
        status.headers,
        status.started.clone().unwrap_or_else(never),
        status.completed.clone().unwrap_or_else(never)
    );
    for one in damaged {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "damaged  {}  {}  {}  {}: send it again",
            one.instance,
            text(&one.sop_instance),
            text(&one.source),
            one.why
        );
    }
    out
}

pub(super) fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn export(at: &At, to: &Path, which: Which, wanted: Wanted) -> Result<ExitCode, String> {
    let Which {
        source,
        study,
        sop,
        instance,
    } = which;
    let instance = instance.map(|id| id.to_string());
    let filter = Filter {
        source,
        study,
        sop_instance: sop,
        instance,
        ..Filter::default()
    };
    let report = spool::export(&at.spool()?, to, &filter, wanted).map_err(|error| error.to_string())?;
    if at.json {
        show(at, &report, || {});
        return Ok(code(report.skipped.is_empty() && report.unreadable.is_empty()));
    }
    for id in &report.skipped {
        eprintln!("{id}: cut or damaged, not exported");
    }
    for (id, error) in &report.unreadable {
        eprintln!("{id}: cannot be read ({error}), not exported: it may be whole, try again when the disk can be read");
    }
    hold_words(&report);
    let already = match report.already {
        0 => String::new(),
        already => format!("; {already} were there already"),
    };
    let ended = match report.ended {
        0 => String::new(),
        ended => format!("; {ended} that are delivered or discarded were left out"),
    };
    println!(
        "{} files, {} bytes, below {}{already}{ended}",
        report.exported,
        report.bytes,
        to.display()
    );
    if report.holds_known.is_some() {
        println!(
            "{} of them were held, and lie below {}, each with the reason beside it: look before you send one. How to send the others for \
             their source says send.txt in each folder below {}",
            report.held,
            to.join(spool::HELD).display(),
            to.join(spool::WAITING).display()
        );
    }
    Ok(code(report.skipped.is_empty() && report.unreadable.is_empty()))
}

/// What a person must know of holds and suspensions before something is sent again.
fn hold_words(report: &spool::ExportReport) {
    match report.holds_known {
        Some(HoldsKnown::PersonsOnly) => eprintln!(
            "the index cannot be read: only what a person had held is known, and not what a rule or the box had held, nor what a person \
             had discarded for one destination of several"
        ),
        Some(HoldsKnown::Nothing) => eprintln!(
            "neither the index nor the list of a person's orders can be read: nobody knows what was held, and all of it is taken for held"
        ),
        Some(HoldsKnown::All) | None => {}
    }
    for destination in &report.suspended {
        eprintln!(
            "{destination} is suspended by a person, and what waits for it is exported: suspend it on the other box, too"
        );
    }
}

pub(super) fn show<T: serde::Serialize>(at: &At, report: &T, people: impl FnOnce()) {
    if at.json {
        // A report of numbers and texts is always JSON.
        println!("{}", serde_json::to_string(report).unwrap_or_default());
    } else {
        people();
    }
}

impl At {
    pub(super) fn spool(&self) -> Result<PathBuf, String> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let files = config::files_or_default(&self.config);
        config::spool_path(&files).map_err(|problems| {
            super::check::print(&problems);
            "where the spool is cannot be read; say --path FOLDER".to_owned()
        })
    }
}
