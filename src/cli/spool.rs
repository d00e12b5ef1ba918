//! `spool fsck|rebuild|export`: what can be done with a spool that no box has open.
use super::FAILED;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use waystation::base::clock::Clock;
use waystation::base::names::{InstanceId, SourceId, Uid};
use waystation::config;
use waystation::spool::{self, Filter};

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
    /// Make the index anew from the payload files; the old one is put aside
    Rebuild {
        #[command(flatten)]
        at: At,
    },
    /// Copy payloads out as DICOM files under readable names
    Export {
        #[command(flatten)]
        at: At,
        /// The folder to write to; existing files are kept
        #[arg(long)]
        to: PathBuf,
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

pub fn run(verb: Verb) -> ExitCode {
    match carry_out(verb) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("waystation: {message}");
            ExitCode::from(FAILED)
        }
    }
}

fn carry_out(verb: Verb) -> Result<ExitCode, String> {
    match verb {
        Verb::Fsck { at, deep } => {
            let report = spool::fsck(&at.spool()?, deep).map_err(|error| error.to_string())?;
            show(&at, &report, || {
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
            Ok(if report.problem_count == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILED)
            })
        }
        Verb::Rebuild { at } => {
            let report = spool::rebuild(&at.spool()?, &Clock::System).map_err(|error| error.to_string())?;
            show(&at, &report, || {
                if let Some(aside) = &report.aside {
                    println!("the old index is now {}", aside.display());
                }
                match &report.forgotten {
                    Some(why) => println!(
                        "the old index could not be read ({why}): what was held by a rule or a person, and which \
                         destinations were suspended, is not known any more; suspend them again before the box starts"
                    ),
                    None if !report.suspended.is_empty() => {
                        println!("still suspended: {}", report.suspended.join(", "));
                    }
                    None => {}
                }
                for id in &report.quarantined {
                    println!("{id}: damaged, put into quarantine");
                }
                println!(
                    "{} to be decided anew, {} held, {} already delivered, {} damaged, {} empty files removed",
                    report.recovered,
                    report.held,
                    report.delivered,
                    report.quarantined.len(),
                    report.empty
                );
            });
            Ok(if report.quarantined.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILED)
            })
        }
        Verb::Export { at, to, which } => export(&at, &to, which),
    }
}

fn export(at: &At, to: &Path, which: Which) -> Result<ExitCode, String> {
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
    let report = spool::export(&at.spool()?, to, &filter).map_err(|error| error.to_string())?;
    for id in &report.skipped {
        eprintln!("{id}: cut or damaged, not exported");
    }
    println!(
        "{} files, {} bytes, below {}",
        report.exported,
        report.bytes,
        to.display()
    );
    Ok(if report.skipped.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

fn show<T: serde::Serialize>(at: &At, report: &T, people: impl FnOnce()) {
    if at.json {
        // A report of numbers and texts is always JSON.
        println!("{}", serde_json::to_string(report).unwrap_or_default());
    } else {
        people();
    }
}

impl At {
    fn spool(&self) -> Result<PathBuf, String> {
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
