//! `cert status`: every certificate, CA and revocation list that the configuration names, in the running box and on the disk.
use super::{FAILED, Talk};
use clap::Subcommand;
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;
use waystation::base::clock::Clock;
use waystation::base::units::Span;
use waystation::config;
use waystation::control::client::{self, ClientError};
use waystation::control::protocol::{Request, Response};
use waystation::pki::{Chain, Facts, Kind, SlotStatus, facts::date};

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Show every certificate, CA and revocation list: whose, until when, whether key and chain fit, and which is in force.
    /// Exit code 1 when one has expired, does not fit, or ends within --within
    Status {
        /// How soon an end is a problem, as "30d" or "2weeks"
        #[arg(long, default_value = "30d", value_name = "SPAN")]
        within: Span,
    },
}

/// One line of the answer.
#[derive(Serialize, Debug)]
struct Entry {
    role: String,
    name: String,
    #[serde(flatten)]
    facts: Facts,
    not_before_utc: String,
    not_after_utc: Option<String>,
    days_left: Option<i64>,
    /// `null` when no box runs, or it could not be asked.
    in_force: Option<bool>,
    on_disk: bool,
    state: &'static str,
}

#[derive(Serialize, Debug)]
struct Answer {
    /// `null` when the box could not be asked.
    running: Option<bool>,
    within: String,
    certificates: Vec<Entry>,
    /// Every reason for an exit code other than 0.
    problems: Vec<String>,
}

/// Shows them.
pub async fn run(verb: Verb, talk: &Talk) -> ExitCode {
    let Verb::Status { within } = verb;
    let (running, slots) = match slots(talk).await {
        Ok(found) => found,
        Err(code) => return code,
    };
    let now = i64::try_from(Clock::System.now().0 / 1_000_000).unwrap_or(i64::MAX);
    let answer = judge(running, &slots, now, within);
    if talk.json {
        match serde_json::to_string_pretty(&answer) {
            Ok(text) => println!("{text}"),
            Err(error) => return super::fail(&error.to_string()),
        }
    } else {
        print!("{}", text(&answer));
    }
    if answer.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

/// From the running box, else from the files that the configuration names; with whether one runs, when that is known.
async fn slots(talk: &Talk) -> Result<(Option<bool>, Vec<SlotStatus>), ExitCode> {
    let files = config::files_or_default(&talk.config);
    let socket = talk
        .socket
        .clone()
        .or_else(|| config::control(&files).ok().map(|control| control.path));
    let mut running = Some(false);
    if let Some(socket) = socket {
        match client::ask(&socket, &Request::Certificates, ASK_MAX).await {
            Ok(Response::Certificates { slots }) => return Ok((Some(true), slots)),
            Ok(_) => return Err(super::fail("the box is of a version that does not show certificates")),
            Err(ClientError::NotRunning { .. }) if talk.socket.is_none() => {}
            Err(ClientError::NotAllowed { path }) if talk.socket.is_none() => {
                eprintln!(
                    "waystation: the box cannot be asked ({} is for root and its own user); from the files alone:",
                    path.display()
                );
                running = None;
            }
            Err(error) => return Err(super::fail(&error.to_string())),
        }
    }
    match config::certificates(&files) {
        Ok(named) => {
            let on_disk = named
                .iter()
                .map(|(role, name, sources)| SlotStatus::on_disk(*role, name, sources));
            Ok((running, on_disk.collect()))
        }
        Err(problems) => {
            super::check::print(&problems);
            Err(ExitCode::from(FAILED))
        }
    }
}

const ASK_MAX: Duration = Duration::from_secs(30);

fn judge(running: Option<bool>, slots: &[SlotStatus], now: i64, within: Span) -> Answer {
    let (mut certificates, mut problems) = (Vec::new(), Vec::new());
    let soon = i64::try_from(within.0.as_secs()).unwrap_or(i64::MAX);
    for slot in slots {
        let same = |a: &Facts, b: &Facts| a.kind == b.kind && a.fingerprint == b.fingerprint && a.error.is_none();
        let gone = slot
            .in_force
            .iter()
            .filter(|facts| !slot.on_disk.iter().any(|other| same(other, facts)));
        let all = slot
            .on_disk
            .iter()
            .map(|facts| (facts, true))
            .chain(gone.map(|facts| (facts, false)));
        for (facts, on_disk) in all {
            let counts = |other: &&Facts| same(facts, other) && !other.superseded;
            let in_force = (running == Some(true)).then(|| slot.in_force.iter().find(counts).is_some());
            let (state, problem) = state(facts, now, soon, in_force);
            let what = if facts.kind == Kind::Certificate || facts.error.is_some() {
                &facts.file
            } else {
                &facts.subject
            };
            let what = if facts.kind == Kind::Crl && facts.error.is_none() {
                &facts.issuer
            } else {
                what
            };
            problems.extend(
                problem.map(|text| format!("{} {}: {} {what}: {text}", slot.role, slot.name, facts.kind.word())),
            );
            certificates.push(Entry {
                role: slot.role.clone(),
                name: slot.name.clone(),
                not_before_utc: waystation::pki::facts::iso(facts.not_before),
                not_after_utc: facts.not_after.map(waystation::pki::facts::iso),
                days_left: facts.not_after.map(|at| (at - now).div_euclid(86_400)),
                in_force,
                on_disk,
                state,
                facts: facts.clone(),
            });
        }
        if let Some(why) = &slot.refused {
            problems.push(format!(
                "{} {}: the files on the disk are not in force: {why}",
                slot.role, slot.name
            ));
        }
    }
    Answer {
        running,
        within: within.to_string(),
        certificates,
        problems,
    }
}

/// The word of an entry, and what is wrong with it.
fn state(facts: &Facts, now: i64, soon: i64, in_force: Option<bool>) -> (&'static str, Option<String>) {
    let crl = facts.kind == Kind::Crl;
    if facts.key_matches == Some(false) {
        return (
            "mismatch",
            Some("the key file is not the key of this certificate".to_owned()),
        );
    }
    if let Some(error) = &facts.error {
        return ("unreadable", Some(error.clone()));
    }
    if facts.not_before > now {
        return (
            "not_yet_valid",
            Some(format!("not valid before {}", date(facts.not_before))),
        );
    }
    if facts.superseded && in_force != Some(true) {
        return ("superseded", None);
    }
    match facts.not_after {
        Some(at) if at < now && crl => return ("stale", Some(format!("a newer list was due {}", date(at)))),
        Some(at) if at < now => return ("expired", Some(format!("expired {}", date(at)))),
        // Lists are made anew every few days.
        Some(at) if !crl && at.saturating_sub(now) <= soon => {
            return (
                "expiring",
                Some(format!("expires {}, in {} days", date(at), (at - now) / 86_400)),
            );
        }
        _ => {}
    }
    match (facts.chain, in_force) {
        (Some(Chain::Incomplete), _) => (
            "incomplete",
            Some("the intermediate that issued it is not in its file: append it".to_owned()),
        ),
        (Some(Chain::Disordered), _) => (
            "incomplete",
            Some("its file is not in order: the certificate first, then each issuer of the one before".to_owned()),
        ),
        (_, Some(false)) => ("not_in_force", None),
        _ => ("ok", None),
    }
}

fn text(answer: &Answer) -> String {
    let mut rows = vec![
        [
            "ROLE", "NAME", "KIND", "STATE", "IN FORCE", "DAYS", "UNTIL", "KEY", "CHAIN", "SUBJECT",
        ]
        .map(str::to_owned),
    ];
    let mut details = String::new();
    for entry in &answer.certificates {
        let facts = &entry.facts;
        let crl = facts.kind == Kind::Crl;
        let fits = match facts.key_matches {
            Some(true) => "matches",
            Some(false) => "MISMATCH",
            None => "-",
        };
        let subject = match &facts.error {
            Some(_) => facts.file.clone(),
            None if crl => format!("{} ({} revoked)", facts.issuer, facts.revoked.unwrap_or_default()),
            None => facts.subject.clone(),
        };
        rows.push([
            entry.role.clone(),
            entry.name.clone(),
            facts.kind.word().to_owned(),
            entry.state.to_owned(),
            match (entry.in_force, entry.on_disk) {
                (None, _) => "?",
                (Some(true), true) => "yes",
                (Some(true), false) => "yes, not on disk",
                (Some(false), _) => "no",
            }
            .to_owned(),
            entry.days_left.map_or("-".to_owned(), |days| days.to_string()),
            facts.not_after.map_or("-".to_owned(), date),
            fits.to_owned(),
            facts.chain.map_or("-", Chain::word).to_owned(),
            subject,
        ]);
        if facts.error.is_none() {
            let names = if facts.sans.is_empty() {
                "-".to_owned()
            } else {
                facts.sans.join(", ")
            };
            details += &format!(
                "{} {} {}: {}\n  issuer {}\n  names {names}\n  serial {}\n  SHA-256 {}\n  valid {} to {}\n",
                entry.role,
                entry.name,
                facts.kind.word(),
                facts.file,
                facts.issuer,
                if facts.serial.is_empty() { "-" } else { &facts.serial },
                facts.fingerprint,
                entry.not_before_utc,
                entry.not_after_utc.as_deref().unwrap_or("-"),
            );
        }
    }
    let mut said = super::listing::aligned(&rows);
    said.push('\n');
    said += &details;
    match answer.running {
        Some(true) => {}
        Some(false) => {
            said += "\nno box runs with this configuration: what would be in force is what lies on the disk\n";
        }
        None => {
            said += "\nthe box could not be asked: these are the files on the disk, and what is in force may be older; ask as root or as the box's own user\n";
        }
    }
    for problem in &answer.problems {
        said += &format!("problem: {problem}\n");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn list(fingerprint: &str, superseded: bool) -> Facts {
        Facts {
            kind: Kind::Crl,
            fingerprint: fingerprint.to_owned(),
            not_after: Some(if superseded { -DAY } else { 90 * DAY }),
            superseded,
            ..Facts::default()
        }
    }

    fn slot(in_force: Vec<Facts>, on_disk: Vec<Facts>) -> SlotStatus {
        SlotStatus {
            role: "listener".to_owned(),
            name: "dicom".to_owned(),
            in_force,
            on_disk,
            refused: None,
            loaded: None,
        }
    }

    fn judged(running: Option<bool>, slot: SlotStatus) -> Answer {
        judge(running, &[slot], 0, Span::secs(30 * 86_400))
    }

    #[test]
    fn a_superseded_list_is_neither_in_force_nor_a_problem() {
        let both = || vec![list("old", true), list("new", false)];
        let answer = judged(Some(true), slot(both(), both()));
        let said: Vec<_> = answer.certificates.iter().map(|e| (e.state, e.in_force)).collect();
        assert_eq!(said, [("superseded", Some(false)), ("ok", Some(true))]);
        assert!(answer.problems.is_empty(), "{:?}", answer.problems);
        // The newer list lies on the disk only: the old one is what the box goes by.
        let alone = Facts {
            superseded: false,
            ..list("old", true)
        };
        let answer = judged(Some(true), slot(vec![alone], both()));
        let said: Vec<_> = answer.certificates.iter().map(|e| (e.state, e.in_force)).collect();
        assert_eq!(said, [("stale", Some(true)), ("not_in_force", Some(false))]);
    }

    #[test]
    fn a_box_that_may_not_be_asked_is_not_called_absent() {
        let files = || slot(Vec::new(), vec![list("new", false)]);
        let absent = text(&judged(Some(false), files()));
        assert!(absent.contains("no box runs with this configuration"), "{absent}");
        let unasked = judged(None, files());
        let said = text(&unasked);
        assert!(
            said.contains("the box could not be asked") && !said.contains("no box runs"),
            "{said}"
        );
        assert_eq!(
            serde_json::to_value(&unasked).unwrap()["running"],
            serde_json::Value::Null
        );
        assert_eq!(unasked.certificates[0].in_force, None);
    }
}
