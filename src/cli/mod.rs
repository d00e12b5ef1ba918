//! What can be asked on the command line. One file for each group of verbs; each prints its answer and gives an exit code.
pub mod alarms;
pub mod cert;
pub mod check;
pub mod commitment;
pub mod custody;
mod lanes;
pub mod ledger;
mod listing;
pub mod map;
mod owner;
pub mod papers;
pub mod probe;
pub mod promote;
pub mod queue;
pub mod replay;
pub mod rules;
pub mod spool;
pub mod synthesise;
pub mod transcode;
mod version;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use waystation::{config, rehearse};

/// Problems were found, an order was refused, or something failed.
pub const FAILED: u8 = 1;
/// No running box answers (clap itself ends with 2 for wrong arguments).
pub const NO_BOX: u8 = 3;

/// A DICOM router in which no scan is ever lost.
#[derive(Parser, Debug)]
#[command(name = "waystation", version = version(), max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 problems or failure, 2 wrong arguments, 3 no running box answers.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Be the box: receive, decide, keep, deliver. Stops in order on SIGTERM, reloads rules and certificates on SIGHUP
    Run(Where),
    /// Show everything at work in a folder that stays: modalities, a cut WAN, a kill -9
    Demo {
        /// Work in this folder (empty or new) instead of a temporary one
        #[arg(long, value_name = "FOLDER")]
        keep: Option<PathBuf>,
    },
    /// Say everything that is wrong with the configuration and the rules
    Check(Where),
    /// Look at the running box's queue and give orders over it
    Queue {
        #[command(subcommand)]
        verb: queue::Verb,
        #[command(flatten)]
        talk: Talk,
    },
    /// Show the state of every destination
    Lanes {
        #[command(flatten)]
        talk: Talk,
    },
    /// Ask a destination which SOP classes and transfer syntaxes it would refuse, before it matters
    Probe {
        #[command(flatten)]
        question: probe::Question,
        #[command(flatten)]
        talk: Talk,
    },
    /// What is wrong now, and what is told of it
    Alarms {
        #[command(subcommand)]
        verb: alarms::Verb,
        #[command(flatten)]
        talk: Talk,
    },
    /// See and order what is outstanding in storage commitment, of destinations and of sources
    Commitment {
        #[command(subcommand)]
        verb: commitment::Verb,
        #[command(flatten)]
        talk: Talk,
    },
    /// Tell what a modality had sent where the rules wrote another accession number or UID (shows patient data)
    Map {
        #[command(flatten)]
        question: map::Question,
        #[command(flatten)]
        talk: Talk,
    },
    /// Show where instances came from, what was decided, and who has confirmed them (shows patient data)
    Trace {
        #[command(flatten)]
        question: custody::Trace,
        #[command(flatten)]
        talk: Talk,
    },
    /// Look at the custody ledger
    Ledger {
        #[command(subcommand)]
        verb: ledger::Ledger,
    },
    /// Hold what a day's sources sent against what the box holds and the destinations have confirmed
    Reconcile(custody::Reconcile),
    /// Look at certificates, authorities and revocation lists
    Cert {
        #[command(subcommand)]
        verb: cert::Verb,
        #[command(flatten)]
        talk: Talk,
    },
    /// Load the rule folder and the certificates of the running box again
    Reload {
        #[command(flatten)]
        talk: Talk,
    },
    /// Send DICOM files as a modality would
    Send(rehearse::modality::SendArgs),
    /// Make a synthetic study to send
    Synthesise(synthesise::Synthesise),
    /// Check, test and trace rules
    Rules {
        #[command(subcommand)]
        verb: rules::Verb,
    },
    /// Verify, rebuild and export a spool that no box has open; salvage reports and the scrub of one
    Spool {
        #[command(subcommand)]
        verb: spool::Verb,
    },
    /// The child process of a conversion; started by the box itself
    #[command(hide = true)]
    TranscodeWorker(transcode::Worker),
    /// Print the completions of a shell
    Completions {
        #[arg(value_enum)]
        shell: papers::Shell,
    },
    /// Write the man pages, one for each verb
    Man {
        /// The folder to write to; it is made when it is missing
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Print the version
    Version,
}

/// Which configuration.
#[derive(Args, Debug, Clone)]
pub struct Where {
    /// A configuration file; may be given several times, later ones win
    #[arg(short, long, value_name = "FILE", help_heading = "Configuration", default_value = config::DEFAULT_FILE)]
    pub config: Vec<PathBuf>,
}

/// How to reach the running box.
#[derive(Args, Debug, Clone)]
pub struct Talk {
    /// The configuration of the box, for its control socket
    #[arg(short, long, global = true, value_name = "FILE", help_heading = "Box", default_value = config::DEFAULT_FILE)]
    pub config: Vec<PathBuf>,
    /// The control socket itself
    #[arg(long, global = true, value_name = "PATH", help_heading = "Box")]
    pub socket: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long, global = true, help_heading = "Box")]
    pub json: bool,
}

/// Says why nothing was done.
#[must_use]
pub fn fail(message: &str) -> std::process::ExitCode {
    eprintln!("waystation: {message}");
    std::process::ExitCode::from(FAILED)
}

/// A build with planted faults says so: the image's builder refuses it.
#[must_use]
pub fn version() -> &'static str {
    if cfg!(feature = "planted") {
        concat!(env!("CARGO_PKG_VERSION"), " (planted faults: for tests only)")
    } else {
        env!("CARGO_PKG_VERSION")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_files_and_flags_after_the_verb_are_understood() {
        let cli = Cli::try_parse_from(["waystation", "run", "-c", "a.toml", "-c", "b.toml"]).unwrap();
        assert!(
            matches!(cli.command, Command::Run(at) if at.config == [PathBuf::from("a.toml"), PathBuf::from("b.toml")])
        );
        let cli =
            Cli::try_parse_from(["waystation", "queue", "ls", "--state", "held", "--json", "-c", "a.toml"]).unwrap();
        assert!(matches!(cli.command, Command::Queue { talk, .. } if talk.json && talk.config.len() == 1));
    }

    /// Every `waystation …` line of the guides, with its place.
    fn documented() -> Vec<(String, String)> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut pages = vec![root.join("README.md")];
        for folder in ["docs", "docs/rules"] {
            let guide = std::fs::read_dir(root.join(folder)).into_iter().flatten();
            pages.extend(
                guide
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| path.extension().is_some_and(|e| e == "md")),
            );
        }
        let mut found = Vec::new();
        for page in pages {
            let text = std::fs::read_to_string(&page).unwrap();
            let mut fenced = false;
            for (index, line) in text.lines().enumerate() {
                fenced ^= line.trim_start().starts_with("```");
                if let Some(command) = line.trim().strip_prefix("waystation ").filter(|_| fenced) {
                    found.push((format!("{}:{}", page.display(), index + 1), command.to_owned()));
                }
            }
        }
        found
    }

    #[test]
    fn every_command_in_the_guides_is_one_that_exists() {
        let commands = documented();
        assert!(commands.len() > 10, "{commands:?}");
        for (place, command) in commands {
            let command = command
                .split(['#', '|', '>'])
                .next()
                .unwrap_or_default()
                .trim_end_matches(['&', ' ']);
            // The guides quote only whole arguments.
            let words = command.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
            let mut arguments = vec!["waystation"];
            let mut quoted = false;
            for word in words {
                if !quoted {
                    arguments.push(word);
                }
                quoted = (quoted || command.contains(&format!("\"{word} "))) && !command.contains(&format!("{word}\""));
            }
            if let Err(error) = Cli::try_parse_from(arguments) {
                panic!("{place}: waystation {command}\n{error}");
            }
        }
    }
}
