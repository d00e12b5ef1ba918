//! `rules promote`, `rules rollback`, `rules history`: puts a checked and tested rule set in force, as a whole or for a part of
//! the images, and takes it back. Works on the rule folder; a running box is told and writes it on its ledger.
use super::queue::NoAnswer;
use super::{FAILED, Talk, rules};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use waystation::base::clock::Clock;
use waystation::base::names::SourceId;
use waystation::config;
use waystation::control::protocol::{Request, Response};
use waystation::rules::promotion::{self, Active, Order, Part, PromotionError, Standing, Turn};
use waystation::rules::{RuleSet, cli};

/// What is to be promoted.
#[derive(Args, Debug)]
pub struct Promote {
    /// The folder with the candidate; without it, the rule folder's own files
    pub candidate: Option<PathBuf>,
    /// Decide with it for a part of the images only: source=NAME[,NAME] or share=PERCENT of the studies
    #[arg(long, value_name = "PART", value_parser = part)]
    pub canary: Option<Part>,
    /// Put the canary in force for all images
    #[arg(long, conflicts_with_all = ["candidate", "canary", "force"])]
    pub finish: bool,
    /// Although fixtures fail or are missing (needs --reason)
    #[arg(long, requires = "reason")]
    pub force: bool,
    #[command(flatten)]
    pub why: Why,
}

/// Why, and which box.
#[derive(Args, Debug)]
pub struct Why {
    /// Why, for the history and the ledger
    #[arg(long)]
    pub reason: Option<String>,
    #[command(flatten)]
    pub talk: Talk,
}

fn part(text: &str) -> Result<Part, String> {
    let words = "is source=NAME[,NAME] or share=PERCENT (1 to 99)";
    match text.split_once('=') {
        Some(("source", names)) => {
            let names: Result<Vec<SourceId>, _> = names.split(',').map(SourceId::parse).collect();
            names.map(Part::Sources).map_err(|error| error.to_string())
        }
        Some(("share", percent)) => match percent.trim_end_matches('%').parse() {
            Ok(percent @ 1..=99) => Ok(Part::Share(percent)),
            Ok(_) | Err(_) => Err(words.to_owned()),
        },
        Some(_) | None => Err(words.to_owned()),
    }
}

/// `rules promote`.
pub async fn promote(args: &Promote) -> ExitCode {
    let folder = match folder(&args.why.talk) {
        Ok(folder) => folder,
        Err(code) => return code,
    };
    let order = order(&args.why);
    if args.finish {
        let finish = |turn: &Turn| promotion::finish(turn, &order);
        return change(&folder, finish, "finished the canary", &args.why).await;
    }
    let candidate = args.candidate.clone().unwrap_or_else(|| folder.clone());
    match tested(&candidate, &folder, args) {
        Err(code) => code,
        Ok((set, own)) => {
            let promote = |turn: &Turn| {
                let from = (candidate.as_path(), &set);
                promotion::promote(turn, from, own.as_ref(), args.canary.clone(), &order)
            };
            let words = if args.canary.is_some() {
                "started a canary"
            } else {
                "promoted"
            };
            change(&folder, promote, words, &args.why).await
        }
    }
}

/// `rules rollback`.
pub async fn rollback(why: &Why) -> ExitCode {
    match folder(&why.talk) {
        Err(code) => code,
        Ok(folder) => {
            let rollback = |turn: &Turn| promotion::rollback(turn, &order(why));
            change(&folder, rollback, "rolled back", why).await
        }
    }
}

/// `rules history`.
pub fn history(talk: &Talk) -> ExitCode {
    let folder = match folder(talk) {
        Ok(folder) => folder,
        Err(code) => return code,
    };
    let lines = promotion::history(&folder);
    if talk.json {
        println!("{}", serde_json::to_string(&lines).unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    for line in &lines {
        let reason = if line.reason.is_empty() {
            String::new()
        } else {
            format!("  ({})", line.reason)
        };
        println!("{}  {:<8}  {}  {}{reason}", line.at, line.what, line.set, line.who);
    }
    match promotion::active(&folder) {
        Ok(None) => println!("nothing was promoted: the folder itself is in force"),
        Ok(Some(active)) => println!("{}", in_force(&active)),
        Err(problem) => return super::fail(&problem.to_string()),
    }
    ExitCode::SUCCESS
}

fn in_force(active: &Active) -> String {
    let canary = active.canary.as_ref().map(|canary| match &canary.part {
        Part::Share(percent) => format!(", canary {} for {percent} % of the studies", canary.set),
        Part::Sources(names) => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            format!(", canary {} for {}", canary.set, names.join(", "))
        }
    });
    format!("in force: {}{}", active.current, canary.unwrap_or_default())
}

/// A set that loads and whose fixtures hold, unless it is forced; and the set of the rule folder's own files, if they can be used.
fn tested(candidate: &Path, folder: &Path, args: &Promote) -> Result<(RuleSet, Option<RuleSet>), ExitCode> {
    let files = config::files_or_default(&args.why.talk.config);
    let (limits, destinations) = config::rules(&files).map_err(|problems| {
        super::check::print(&problems);
        ExitCode::from(FAILED)
    })?;
    let (said, _) = cli::test(candidate, &limits, &destinations, &cli::Asked::default());
    let set = RuleSet::load(candidate, &limits, &destinations);
    match set {
        Ok(set) if said.code == 0 || args.force => Ok((set, RuleSet::load(folder, &limits, &destinations).ok())),
        Ok(_) | Err(_) => {
            print!("{}", said.text);
            Err(super::fail("not promoted: mend what is named above"))
        }
    }
}

fn folder(talk: &Talk) -> Result<PathBuf, ExitCode> {
    rules::folder(&config::files_or_default(&talk.config)).map_err(|message| super::fail(&message))
}

fn order(why: &Why) -> Order {
    let named = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let uid = || format!("uid {}", rustix::process::getuid().as_raw());
    Order {
        who: named.unwrap_or_else(uid),
        at: Clock::System.now().iso(),
        reason: why.reason.clone().unwrap_or_default(),
    }
}

/// Makes a change, tells the box, and says what is in force now. Without a box it is in force at its next start; what a running
/// box refuses, or does not answer to, is taken back. Another's change waits until the box has loaded this one: what a command says
/// is in force was.
async fn change<F>(folder: &Path, change: F, words: &str, why: &Why) -> ExitCode
where
    F: FnOnce(&Turn) -> Result<Active, PromotionError>,
{
    let changed = Turn::wait(folder).and_then(|turn| {
        let before = turn.standing()?;
        Ok((change(&turn)?, before, turn))
    });
    let (active, before, turn) = match changed {
        Ok(changed) => changed,
        Err(error) => return super::fail(&error.to_string()),
    };
    let note = format!("{} {words} ({})", order(why).who, in_force(&active));
    let reason = why
        .reason
        .as_ref()
        .map_or(String::new(), |reason| format!(", because {reason}"));
    let request = Request::Reload {
        note: Some(format!("{note}{reason}")),
    };
    let absent = ExitCode::from(super::NO_BOX);
    let said = format!("{}: {}", folder.display(), in_force(&active));
    match super::queue::answer(&request, &why.talk).await {
        Ok(response @ Response::Refused { .. }) => {
            super::queue::show(&request, &response, why.talk.json);
            take_back(&turn, &before, why).await
        }
        Ok(response) => {
            println!("{said}");
            super::queue::show(&request, &response, why.talk.json)
        }
        Err(NoAnswer::Other(code)) if code != absent => take_back(&turn, &before, why).await,
        Err(NoAnswer::NotRunning | NoAnswer::Other(_)) => {
            println!("{said}");
            println!("no running box was told; the set is in force from its next start");
            ExitCode::SUCCESS
        }
    }
}

/// After the box's own words: nothing has been changed in the end. The box reads its rules once more, so that it does not count as refused.
async fn take_back(turn: &Turn, before: &Standing, why: &Why) -> ExitCode {
    if let Err(error) = turn.take_back(before) {
        return super::fail(&format!(
            "{error}; the change could not be taken back, and is in force from the next start: see `waystation rules history`"
        ));
    }
    let again = super::queue::answer(&Request::Reload { note: None }, &why.talk).await;
    if let Ok(Response::Refused { message }) = again {
        eprintln!("waystation: {message}");
    }
    super::fail("nothing was changed: what was in force before still is")
}
