//! `queue …`, `lanes`, `reload`: what the running box is asked over its control socket, and how the answer looks.
use super::{FAILED, NO_BOX, Talk, listing};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use std::time::Duration;
use waystation::base::names::{DestinationId, InstanceId, SourceId, Uid};
use waystation::base::units::Span;
use waystation::config;
use waystation::control::client::{self, ClientError};
use waystation::control::protocol::{Action, Filter, Hex, Release, Request, Response};
use waystation::sender::survey::Finding;
use waystation::spool::{HoldKind, JobState};

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List jobs, the next to go first
    Ls {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
    },
    /// Everything known of one job
    Show { job: u64 },
    /// Put jobs on hold
    Hold(Order),
    /// Let held jobs go. What the rules could not do (kinds `error`, `budget`, `no_destination`, `edit`, `incomplete`) is decided
    /// anew by the rules in force; what a rule held on purpose (`rule`) goes with the edits as they were decided
    Release {
        /// Decide anew by these rules all that the rules held, also what they held on purpose: `current` are those in force
        #[arg(long, value_name = "RULES", value_parser = ["current"])]
        rules: Option<String>,
        /// Decide nothing anew: send with the edits that were decided, also where a word of the rules could not do its work
        #[arg(long, conflicts_with = "rules")]
        as_decided: bool,
        #[command(flatten)]
        order: Order,
    },
    /// Try jobs again now, with fresh attempts
    Retry(Order),
    /// Send jobs to another destination. What the former destination's answers had held goes free; what a person, a rule or the
    /// box held (`operator`, `rule`, `incomplete`, `conflict`, `corrupt`) is held there too, until it is released
    Reroute {
        /// The new destination
        #[arg(long)]
        to: DestinationName,
        /// What no rule has decided on yet goes as it came, without the edits that the rules make for the destination; not what is
        /// `incomplete`
        #[arg(long)]
        unedited: bool,
        #[command(flatten)]
        order: Order,
    },
    /// Give jobs up for ever (needs --reason)
    Discard(Order),
    /// Claim nothing more for a destination, across restarts
    Suspend {
        destination: DestinationName,
        /// Why, for the ledger
        #[arg(long)]
        reason: Option<String>,
    },
    /// Deliver to a suspended destination again
    Resume { destination: DestinationName },
}

/// An order over jobs.
#[derive(Args, Debug)]
pub struct Order {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Why, for the ledger
    #[arg(long)]
    pub reason: Option<String>,
    /// Only count the jobs that are meant; an order leaves those that it cannot change as they are
    #[arg(long)]
    pub dry_run: bool,
}

/// Which jobs. All conditions given must hold.
#[derive(Args, Debug)]
pub struct FilterArgs {
    /// Job numbers
    pub jobs: Vec<u64>,
    #[arg(long)]
    pub destination: Option<DestinationName>,
    /// Only jobs that no rule gave a destination
    #[arg(long)]
    pub undecided: bool,
    /// Without it, all jobs that have not ended. What is `delivered` or `discarded` has ended: `ls` lists it, no order changes it
    #[arg(long, value_parser = ["queued", "held", "inflight", "awaiting", "delivered", "discarded"])]
    pub state: Option<String>,
    #[arg(long)]
    pub source: Option<String>,
    /// The kind of hold, as `queue ls` shows it
    #[arg(long)]
    pub kind: Option<String>,
    /// The box's own instance id
    #[arg(long)]
    pub instance: Option<String>,
    /// Study Instance UID
    #[arg(long)]
    pub study: Option<String>,
    /// SOP Instance UID
    #[arg(long)]
    pub sop: Option<String>,
    /// Arrived longer ago than this, as "2h" or "3days"
    #[arg(long)]
    pub older_than: Option<String>,
    /// Every job is really meant
    #[arg(long)]
    pub all: bool,
}

/// A destination's name, checked when the arguments are read.
#[derive(Clone, Debug)]
pub struct DestinationName(pub(super) DestinationId);

impl std::str::FromStr for DestinationName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        DestinationId::parse(text)
            .map(Self)
            .map_err(|error| format!("a destination's name {error}"))
    }
}

impl FilterArgs {
    fn filter(self) -> Result<Filter, String> {
        Ok(Filter {
            jobs: self.jobs,
            destination: self.destination.map(|name| name.0),
            undecided: self.undecided,
            state: self.state.as_deref().and_then(state),
            source: parse("--source", self.source, |text| {
                SourceId::parse(text).map_err(|e| e.to_string())
            })?,
            kind: parse("--kind", self.kind, kind)?,
            instance: parse("--instance", self.instance, |t| {
                InstanceId::parse(t).map(Hex).map_err(|e| e.to_string())
            })?,
            study: parse("--study", self.study, |text| {
                Uid::parse(text).map_err(|e| e.to_string())
            })?,
            sop_instance: parse("--sop", self.sop, |text| Uid::parse(text).map_err(|e| e.to_string()))?,
            older_than: parse("--older-than", self.older_than, str::parse::<Span>)?,
            all: self.all,
        })
    }
}

fn state(word: &str) -> Option<JobState> {
    JobState::ALL.into_iter().find(|state| state.word() == word)
}

fn kind(word: &str) -> Result<HoldKind, String> {
    let known = || HoldKind::ALL.map(HoldKind::word).join(", ");
    HoldKind::ALL
        .into_iter()
        .find(|kind| kind.word() == word)
        .ok_or_else(|| format!("is one of {}", known()))
}

fn parse<T>(flag: &str, text: Option<String>, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    text.map(|text| read(&text).map_err(|error| format!("{flag}: {error}")))
        .transpose()
}

/// One verb over the queue.
pub async fn run(verb: Verb, talk: &Talk) -> ExitCode {
    match request(verb) {
        Ok(request) => ask(&request, talk).await,
        Err(message) => {
            eprintln!("waystation: {message}");
            ExitCode::from(2)
        }
    }
}

/// The state of every lane.
pub async fn lanes(talk: &Talk) -> ExitCode {
    ask(&Request::Lanes, talk).await
}

/// Loads the rules again.
pub async fn reload(talk: &Talk) -> ExitCode {
    ask(&Request::Reload { note: None }, talk).await
}

fn request(verb: Verb) -> Result<Request, String> {
    let (action, order) = match verb {
        Verb::Ls { filter, limit } => {
            return Ok(Request::List {
                filter: filter.filter()?,
                limit: usize::from(limit),
            });
        }
        Verb::Show { job } => return Ok(Request::Show { job }),
        Verb::Suspend { destination, reason } => {
            return Ok(Request::Suspend {
                destination: destination.0,
                reason,
            });
        }
        Verb::Resume { destination } => {
            return Ok(Request::Resume {
                destination: destination.0,
            });
        }
        Verb::Hold(order) => (Action::Hold, order),
        Verb::Release {
            rules,
            as_decided,
            order,
        } => {
            let by = match (rules, as_decided) {
                (_, true) => Release::AsDecided,
                (Some(_), false) => Release::Anew,
                (None, false) => Release::Plain,
            };
            (Action::Release { by }, order)
        }
        Verb::Retry(order) => (Action::Retry, order),
        Verb::Reroute { to, unedited, order } => (Action::Reroute { to: to.0, unedited }, order),
        Verb::Discard(order) => (Action::Discard, order),
    };
    let Order {
        filter,
        reason,
        dry_run,
    } = order;
    let request = Request::Act {
        filter: filter.filter()?,
        action,
        reason,
        dry_run,
    };
    request.check().map_err(|error| error.to_string())?;
    Ok(request)
}

/// Asks the box and shows its answer.
pub(super) async fn ask(request: &Request, talk: &Talk) -> ExitCode {
    match answer(request, talk).await {
        Ok(response) => show(request, &response, talk.json),
        Err(NoAnswer::NotRunning) => ExitCode::from(NO_BOX),
        Err(NoAnswer::Other(code)) => code,
    }
}

/// Why a box did not answer.
pub(super) enum NoAnswer {
    NotRunning,
    /// It was said why.
    Other(ExitCode),
}

/// What the box answers.
pub(super) async fn answer(request: &Request, talk: &Talk) -> Result<Response, NoAnswer> {
    let (socket, deadline) = match (&talk.socket, config::control(&config::files_or_default(&talk.config))) {
        (Some(socket), Err(_)) => (socket.clone(), Duration::from_secs(120)),
        (Some(socket), Ok(control)) => (socket.clone(), control.deadline.0),
        (None, Ok(control)) => (control.path, control.deadline.0),
        (None, Err(problems)) => {
            super::check::print(&problems);
            eprintln!("waystation: where the control socket is cannot be read; say --socket PATH");
            return Err(NoAnswer::Other(ExitCode::from(FAILED)));
        }
    };
    // The box gives up first, so that its own answer is seen.
    match client::ask(&socket, request, deadline + Duration::from_secs(10)).await {
        Ok(response) => Ok(response),
        Err(ClientError::NotRunning { .. }) if matches!(request, Request::Probe { .. }) => Err(NoAnswer::NotRunning),
        Err(error) => {
            eprintln!("waystation: {error}");
            let absent = matches!(error, ClientError::NotRunning { .. } | ClientError::NotAllowed { .. });
            Err(NoAnswer::Other(ExitCode::from(if absent { NO_BOX } else { FAILED })))
        }
    }
}

pub(super) fn show(request: &Request, response: &Response, json: bool) -> ExitCode {
    let untold = matches!(response, Response::Alarms { said: answer } if super::alarms::failed(answer));
    let trouble = matches!(response, Response::Probe { findings, .. } if findings.iter().any(Finding::is_trouble));
    // Whoever names jobs by number, and none of them is there, was mistaken.
    let unmet = matches!(response, Response::Acted { matched: 0, told, .. } if !told.is_empty());
    let refused = untold || trouble || unmet || matches!(response, Response::Refused { .. });
    if json {
        // A response came from JSON and goes back to it.
        println!("{}", json_of(response).unwrap_or_default());
    } else {
        match response {
            Response::Jobs { jobs, more } => print!("{}", listing::table(jobs, *more)),
            Response::Job { job } => print!("{}", listing::details(job)),
            Response::Acted {
                matched,
                changed,
                held,
                told,
            } => {
                println!("{}", acted(request, (*matched, *changed), *held));
                told.iter().for_each(|why| eprintln!("waystation: {why}"));
            }
            Response::Lanes { lanes } => print!("{}", super::lanes::table(lanes)),
            Response::Scrub { status, damaged } => print!("{}", super::spool::scrub_words(status, damaged)),
            Response::Probe { destination, findings } => super::probe::show(request, destination, findings),
            Response::Known { destination, lines } => super::probe::show_known(destination, lines),
            Response::Map { entries } => super::map::show(entries),
            Response::Alarms { said: answer } => super::alarms::show(answer),
            Response::Trace { custody } => print!("{custody}"),
            Response::Ledger { report } => print!("{}", super::ledger::chain_words(report)),
            Response::LedgerLines { page } => print!("{page}"),
            Response::Reconciliation { report } => print!("{report}"),
            Response::Commitments {
                waiting,
                asked,
                demands,
            } => print!("{}", super::commitment::listing(waiting, asked, demands)),
            // `cert status` asks for itself and says more.
            Response::Certificates { slots } => println!("{} tables with certificates", slots.len()),
            Response::Done { message } => println!("{message}"),
            Response::Refused { message } => eprintln!("waystation: {message}"),
        }
    }
    match response {
        Response::Ledger { report } => super::custody::code(report.is_sound()),
        Response::Reconciliation { report } => super::custody::code(report.agrees()),
        _ => super::custody::code(!refused),
    }
}

/// Reports stand for themselves; the other answers say of what kind they are.
fn json_of(response: &Response) -> serde_json::Result<String> {
    match response {
        Response::Trace { custody } => serde_json::to_string(custody),
        Response::Ledger { report } => serde_json::to_string(report),
        Response::LedgerLines { page } => serde_json::to_string(page),
        Response::Reconciliation { report } => serde_json::to_string(report),
        _ => serde_json::to_string(response),
    }
}

fn acted(request: &Request, (matched, changed): (u64, u64), held: u64) -> String {
    let Request::Act {
        action,
        dry_run,
        filter,
        ..
    } = request
    else {
        return format!("order: {matched} jobs meant, {changed} changed");
    };
    let word = action.word();
    let why = filter.state.and_then(why_ended).unwrap_or_else(|| why_left(action));
    if *dry_run && matched > 0 {
        return format!("{word}: {matched} jobs would be meant; left as they are would be those that are {why}");
    }
    if *dry_run {
        return format!("{word}: {matched} jobs would be meant");
    }
    let left = match matched.saturating_sub(changed) {
        0 => String::new(),
        left => format!("; {left} left as they were: {why}"),
    };
    let held = match held {
        0 => String::new(),
        held => {
            format!("; {held} of these are held there, by what held them before or as `conflict`: look, then release")
        }
    };
    format!("{word}: {matched} jobs meant, {changed} changed{held}{left}")
}

/// What jobs are that no order changes.
fn why_ended(state: JobState) -> Option<&'static str> {
    match state {
        JobState::Delivered => Some(
            "delivered already: no order of the queue sends an image again; what does, says the runbook, \"Images went to the wrong place\"",
        ),
        JobState::Discarded => Some(
            "discarded by a person, and no order takes that back: have the images sent again, by the modality or from `waystation spool \
             export`, and they are decided anew",
        ),
        JobState::Queued | JobState::Held | JobState::Inflight | JobState::Awaiting => None,
    }
}

/// What jobs are that an order does not change.
fn why_left(action: &Action) -> &'static str {
    match action {
        Action::Hold => "held already, on their way now, or sent and waiting for the commitment",
        Action::Release { .. } => {
            "not held, on their way now, of a kind that this release does not let go, or decided anew and held again"
        }
        Action::Retry => {
            "on their way now, or held for another reason than the destination's answer (`release` lets those go)"
        }
        Action::Reroute { .. } => {
            "on their way now, of an instance that has a job for that destination or was delivered there already (`queue discard` ends \
             such a job), or not decided for it by the rules"
        }
        Action::Discard => "on their way now (`queue suspend` the destination first)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn verb(arguments: &str) -> Result<Request, String> {
        let arguments = ["waystation", "queue"].into_iter().chain(arguments.split(' '));
        match Cli::try_parse_from(arguments)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Queue { verb, .. } => request(verb),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn an_order_says_what_it_left_and_why() {
        let request = verb("hold --all --reason x").unwrap();
        assert_eq!(acted(&request, (2, 2), 0), "hold: 2 jobs meant, 2 changed");
        let told = acted(&request, (3, 1), 0);
        assert!(told.contains("2 left as they were: held already"), "{told}");
        let request = verb("retry --destination vna --dry-run").unwrap();
        let told = acted(&request, (3, 0), 0);
        assert!(
            told.contains("3 jobs would be meant; left as they are would be those that are on their way now"),
            "{told}"
        );
        for (state, said) in [("delivered", "the runbook"), ("discarded", "spool export")] {
            for order in ["hold", "release", "retry", "reroute --to vna", "discard --reason x"] {
                let request = verb(&format!("{order} --state {state}")).unwrap();
                let told = acted(&request, (3, 0), 0);
                assert!(told.contains(&format!("left as they were: {state}")), "{told}");
                assert!(told.contains(said) && !told.contains("on their way"), "{told}");
            }
        }
        let request = verb("reroute --to vna --destination old").unwrap();
        let told = acted(&request, (4, 3), 2);
        assert!(told.contains("3 changed; 2 of these are held there"), "{told}");
        assert!(
            told.contains("1 left as they were") && told.contains("delivered there already"),
            "{told}"
        );
    }

    #[test]
    fn bulk_verbs_need_a_filter_or_all_and_a_discard_a_reason() {
        assert!(verb("retry").unwrap_err().contains("--all"));
        assert!(verb("retry --all").is_ok());
        assert!(verb("discard 7").unwrap_err().contains("--reason"));
        assert!(verb("discard 7 --reason test").is_ok());
        assert!(verb("discard 7 --dry-run").is_ok(), "it only counts");
        assert!(verb("release --destination vna --dry-run").is_ok());
    }

    #[test]
    fn a_release_says_whose_word_counts() {
        for (arguments, wanted) in [
            ("release 7", Release::Plain),
            ("release 7 --rules current", Release::Anew),
            ("release 7 --as-decided", Release::AsDecided),
        ] {
            let Ok(Request::Act { action, .. }) = verb(arguments) else {
                panic!("{arguments}")
            };
            assert_eq!(action, Action::Release { by: wanted }, "{arguments}");
        }
        assert!(verb("release 7 --rules current --as-decided").is_err());
        assert!(verb("release 7 --rules yesterday").is_err());
    }

    #[test]
    fn wrong_names_are_refused_before_the_box_is_asked() {
        assert!(verb("resume VNA!").is_err());
        assert!(verb("ls --study 1.2.x").unwrap_err().starts_with("--study: "));
        assert!(verb("ls --older-than soon").unwrap_err().contains("is not a duration"));
        assert!(verb("ls --state lost").is_err());
        for state in JobState::ALL {
            assert!(verb(&format!("ls --state {}", state.word())).is_ok());
        }
    }
}
