//! `rules check|test|trace`: the bench of the rule writer. `trace` shows values of the image it is given: that is its purpose.
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use waystation::base::names::{AeTitle, DestinationId, SourceId};
use waystation::config;
use waystation::rules::{Config, cli};

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Every problem of a rule folder, as file:line:column
    Check {
        #[command(flatten)]
        set: Set,
        /// An array of objects, for editors and scripts
        #[arg(long)]
        json: bool,
        /// A warning is a failure too
        #[arg(long)]
        strict: bool,
    },
    /// Run the fixtures beside the rules
    Test {
        #[command(flatten)]
        set: Set,
        /// Only cases whose name contains this
        #[arg(long, default_value = "")]
        only: String,
        /// Name the lines of the rules that no case reached
        #[arg(long)]
        coverage: bool,
        /// Fail when fewer per cent of the lines are reached
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        at_least: Option<u8>,
        /// Also write the run as JUnit XML
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Print the reference page of the vocabulary, as Markdown
    Reference,
    /// Write definition files and snippets into a rule folder, so that an editor completes and explains the vocabulary
    Editor { folder: PathBuf },
    /// What each line does with one image. Shows the image's values
    Trace {
        #[command(flatten)]
        set: Set,
        /// A DICOM file
        #[arg(long)]
        file: PathBuf,
        /// The name of its source
        #[arg(long, value_parser = |text: &str| SourceId::parse(text).map_err(|error| error.to_string()))]
        source: Option<SourceId>,
        /// Its calling AE title
        #[arg(long, value_parser = |text: &str| AeTitle::parse(text).map_err(|error| error.to_string()))]
        calling: Option<AeTitle>,
        /// Its called AE title
        #[arg(long, value_parser = |text: &str| AeTitle::parse(text).map_err(|error| error.to_string()))]
        called: Option<AeTitle>,
    },
}

/// Which rules, and which destinations there are.
#[derive(Args, Debug)]
pub struct Set {
    /// The rule folder; without it, that of the configuration
    folder: Option<PathBuf>,
    /// The configuration that has the destinations and limits
    #[arg(short, long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: Vec<PathBuf>,
    /// A destination, instead of those of the configuration; may be given several times
    #[arg(long, value_parser = |text: &str| DestinationId::parse(text).map_err(|error| error.to_string()))]
    destination: Vec<DestinationId>,
}

pub fn run(verb: Verb) -> ExitCode {
    let set = match &verb {
        Verb::Reference => return say(&cli::reference()),
        Verb::Editor { folder } => return say(&cli::editor(folder)),
        Verb::Check { set, .. } | Verb::Test { set, .. } | Verb::Trace { set, .. } => set,
    };
    let (folder, limits, destinations) = match facts(set) {
        Ok(facts) => facts,
        Err(message) => {
            eprintln!("waystation: {message}");
            return ExitCode::from(super::FAILED);
        }
    };
    let said = match &verb {
        Verb::Reference | Verb::Editor { .. } => return ExitCode::SUCCESS,
        Verb::Check { json, strict, .. } => {
            let form = cli::Form {
                json: *json,
                strict: *strict,
            };
            cli::check(&folder, &limits, &destinations, form)
        }
        Verb::Test {
            only,
            coverage,
            at_least,
            junit,
            ..
        } => {
            let asked = cli::Asked {
                only: only.clone(),
                coverage: *coverage,
                at_least: *at_least,
            };
            let (said, xml) = cli::test(&folder, &limits, &destinations, &asked);
            if let Some(file) = junit.as_ref().filter(|_| !xml.is_empty())
                && let Err(error) = std::fs::write(file, xml)
            {
                eprintln!("waystation: {}: cannot be written: {}", file.display(), error.kind());
                return ExitCode::from(super::FAILED);
            }
            said
        }
        Verb::Trace {
            file,
            source,
            calling,
            called,
            ..
        } => {
            let from = cli::Origin {
                source: source.clone(),
                calling_ae: calling.clone(),
                called_ae: called.clone(),
                ..cli::Origin::default()
            };
            cli::trace(&folder, &limits, &destinations, file, &from)
        }
    };
    say(&said)
}

fn say(said: &cli::Said) -> ExitCode {
    print!("{}", said.text);
    ExitCode::from(said.code)
}

/// Folder, limits and destinations. A configuration that is not right in other parts serves all the same.
fn facts(set: &Set) -> Result<(PathBuf, Config, Vec<DestinationId>), String> {
    let files = config::files_or_default(&set.config);
    let found = config::rules(&files);
    let (limits, known) = match found {
        Ok(found) => found,
        Err(_) if set.folder.is_some() && !set.destination.is_empty() => (Config::default(), Vec::new()),
        Err(problems) => {
            super::check::print(&problems);
            return Err("name the configuration (-c), or the folder and each --destination".to_owned());
        }
    };
    let folder = set
        .folder
        .clone()
        .or_else(|| limits.path.clone())
        .ok_or("no rule folder is named")?;
    let destinations = if set.destination.is_empty() {
        known
    } else {
        set.destination.clone()
    };
    Ok((folder, limits, destinations))
}
