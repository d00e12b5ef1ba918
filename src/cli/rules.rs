//! `rules …`: the bench of the rule writer. `trace` shows values of the image it is given: that is its purpose.
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use waystation::base::names::{AeTitle, DestinationId, SourceId, Uid};
use waystation::config;
use waystation::rules::{Config, Facts, cli};

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
    /// What a candidate set would do otherwise, over the images in the spool. Shows their values
    Replay(super::replay::Replay),
    /// Put a rule set in force, after its fixtures have held
    Promote(super::promote::Promote),
    /// End a canary, or return to the set before
    Rollback(super::promote::Why),
    /// Who put which set in force, and when
    History {
        #[command(flatten)]
        talk: super::Talk,
    },
    /// Print the reference page of the vocabulary, as Markdown
    Reference,
    /// Write definition files and snippets into a rule folder, so that an editor completes and explains the vocabulary
    Editor { folder: PathBuf },
    /// What each line does with one image, and how long it takes. Shows the image's values
    Trace {
        /// A DICOM file, or the SOP Instance UID of an image in the spool
        #[arg(value_name = "FILE|SOP-UID")]
        image: PathBuf,
        /// The rule folder; without it, that of the configuration
        #[arg(long, value_name = "FOLDER")]
        rules: Option<PathBuf>,
        #[command(flatten)]
        known: Known,
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
    #[command(flatten)]
    known: Known,
}

/// What rules are compiled against.
#[derive(Args, Debug)]
pub struct Known {
    /// The configuration that has the destinations and limits
    #[arg(short, long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: Vec<PathBuf>,
    /// A destination, instead of those of the configuration; may be given several times
    #[arg(long, value_parser = |text: &str| DestinationId::parse(text).map_err(|error| error.to_string()))]
    destination: Vec<DestinationId>,
}

pub async fn run(verb: Verb) -> ExitCode {
    let (named, known) = match &verb {
        Verb::Replay(args) => return super::replay::run(args),
        Verb::Promote(args) => return super::promote::promote(args).await,
        Verb::Rollback(why) => return super::promote::rollback(why).await,
        Verb::History { talk } => return super::promote::history(talk),
        Verb::Reference => return say(&cli::reference()),
        Verb::Editor { folder } => return say(&cli::editor(folder)),
        Verb::Check { set, .. } | Verb::Test { set, .. } => (&set.folder, &set.known),
        Verb::Trace { rules, known, .. } => (rules, known),
    };
    let (folder, limits, destinations) = match facts(named.as_deref(), known) {
        Ok(facts) => facts,
        Err(message) => {
            eprintln!("waystation: {message}");
            return ExitCode::from(super::FAILED);
        }
    };
    let said = match &verb {
        // Answered above.
        Verb::Replay(_)
        | Verb::Promote(_)
        | Verb::Rollback(_)
        | Verb::History { .. }
        | Verb::Reference
        | Verb::Editor { .. } => {
            return ExitCode::SUCCESS;
        }
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
            image,
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
            match image.to_str().map(Uid::parse) {
                Some(Ok(sop)) if !image.exists() => match spooled(known, &sop) {
                    Ok((file, facts)) => cli::trace(&folder, &limits, &destinations, &file, Ok(&facts)),
                    Err(message) => return super::fail(&message),
                },
                Some(_) | None => cli::trace(&folder, &limits, &destinations, image, Err(&from)),
            }
        }
    };
    say(&said)
}

fn say(said: &cli::Said) -> ExitCode {
    print!("{}", said.text);
    ExitCode::from(said.code)
}

/// The payload file of an instance in the spool of the configuration, and what is known of it.
fn spooled(known: &Known, sop: &Uid) -> Result<(PathBuf, Facts), String> {
    let path = config::spool_path(&config::files_or_default(&known.config)).map_err(|problems| {
        super::check::print(&problems);
        "the spool cannot be found: mend the configuration".to_owned()
    })?;
    super::replay::find(&path, sop).ok_or_else(|| format!("{}: holds no instance {sop}", path.display()))
}

/// The rule folder of a configuration.
pub(super) fn folder(files: &[PathBuf]) -> Result<PathBuf, String> {
    match config::rules(files) {
        Ok((limits, _)) => limits
            .path
            .ok_or_else(|| "the configuration names no rule folder".to_owned()),
        Err(problems) => {
            super::check::print(&problems);
            Err("which rule folder is meant is not known: mend what is named above".to_owned())
        }
    }
}

/// Folder, limits and destinations. A configuration that is not right in other parts serves all the same.
fn facts(named: Option<&Path>, known: &Known) -> Result<(PathBuf, Config, Vec<DestinationId>), String> {
    let files = config::files_or_default(&known.config);
    let found = config::rules(&files);
    let (limits, configured) = match found {
        Ok(found) => found,
        Err(_) if named.is_some() && !known.destination.is_empty() => (Config::default(), Vec::new()),
        Err(problems) => {
            super::check::print(&problems);
            let read: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            return Err(format!(
                "what {} says of rules and destinations cannot be used: mend what is named above, or name another configuration (-c), \
                 or the rule folder and each --destination",
                read.join(", ")
            ));
        }
    };
    let folder = named
        .map(Path::to_owned)
        .or_else(|| limits.path.clone())
        .ok_or("no rule folder is named")?;
    let destinations = if known.destination.is_empty() {
        configured
    } else {
        known.destination.clone()
    };
    Ok((folder, limits, destinations))
}
