//! `probe`: what a destination would refuse, and what would be made of it. Asks the running box, or without one the destination itself.
use super::{Talk, fail, queue};
use clap::Args;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use waystation::app;
use waystation::base::clock::{Clock, Wall};
use waystation::base::names::DestinationId;
use waystation::config;
use waystation::control::protocol::{Request, Response};
use waystation::sender::Link;
use waystation::sender::survey::{Consequence, Finding, questions, words};
use waystation::spool;
use waystation::telemetry::metrics::Metrics;
use waystation::transcode::Known;
use waystation::transcode::forms::name_of;
use waystation::transcode::known::Learned;

/// What to ask, and whom.
#[derive(Args, Debug)]
pub struct Question {
    pub destination: String,
    /// Only these: SOP Class UIDs, or families as CT and MG; without it, everything this box has delivered, tried to or has in its spool, and what is common
    #[arg(long, value_delimiter = ',', value_name = "CLASS")]
    pub classes: Vec<String>,
    /// Show what was learned of the destination, and ask nothing
    #[arg(long, conflicts_with = "classes")]
    pub known: bool,
}

/// Asks the box; where none runs, associates by itself with the same configuration.
pub async fn run(question: Question, talk: &Talk) -> ExitCode {
    let destination = match DestinationId::parse(&question.destination) {
        Ok(destination) => destination,
        Err(error) => return fail(&format!("a destination's name {error}")),
    };
    let request = Request::Probe {
        destination: destination.clone(),
        classes: question.classes.clone(),
        known: question.known,
    };
    match queue::answer(&request, talk).await {
        Ok(response) => queue::show(&request, &response, talk.json),
        Err(queue::NoAnswer::NotRunning) => match alone(destination, &question, talk).await {
            Ok(response) => queue::show(&request, &response, talk.json),
            Err(message) => fail(&message),
        },
        Err(queue::NoAnswer::Other(code)) => code,
    }
}

/// Without a box: what it has seen and learned is in its state folder.
async fn alone(destination: DestinationId, question: &Question, talk: &Talk) -> Result<Response, String> {
    let report = config::report(&config::files_or_default(&talk.config));
    let Some(config) = report.config else {
        super::check::print(&report.problems);
        return Err("the configuration cannot be used".to_owned());
    };
    let known = Known::new(config.transcode.learned.0, Clock::System, Metrics::new());
    if let Err(error) = known.load(&config.node.state.join(app::LEARNED)) {
        eprintln!("waystation: what this box has seen cannot be read ({error}); only what is common is asked about");
    }
    let Some(to) = config.destinations.iter().find(|to| *to.name() == destination) else {
        return Err(format!("there is no destination {destination}"));
    };
    if !question.known && !look_into_spool(&config.spool.path, &known) {
        eprintln!(
            "waystation: the spool cannot be listed; only what this box has delivered and what is common is asked about"
        );
    }
    let stored = questions(&known.seen(), &question.classes)?;
    let link = Link::new(to).map_err(|error| error.to_string())?.asking(known);
    if question.known {
        let lines = link.matrix();
        return Ok(Response::Known { destination, lines });
    }
    let findings = link.survey(&stored).await;
    let findings = findings.map_err(|down| format!("{destination} could not be asked: {down}"))?;
    Ok(Response::Probe { destination, findings })
}

/// What lies in the spool was seen too: its payload files say so without a box. False when they cannot be listed. A spool that is not
/// begun yet holds nothing.
fn look_into_spool(path: &Path, known: &Known) -> bool {
    let mut left = INSTANCES_MAX;
    let walked = spool::browse(path, &spool::Filter::default(), Wall(0), |instance, _| {
        known.saw(&instance.sop_class, &instance.transfer_syntax);
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    walked.is_ok() || !spool::is_there(path)
}

/// Instances of the spool that are looked at: each is a file that is opened.
const INSTANCES_MAX: u32 = 20_000;

/// The table, and what it comes to.
pub fn show(request: &Request, destination: &DestinationId, findings: &[Finding]) {
    let named = matches!(request, Request::Probe { classes, .. } if !classes.is_empty());
    let mut rows = vec![["SOP CLASS", "STORED AS", "SEEN", "ANSWER", "THEN"].map(str::to_owned)];
    for finding in findings {
        let then = match &finding.consequence {
            Consequence::AsStored => "sent as it is stored".to_owned(),
            Consequence::Converted { to } => format!("converted to {}", name_of(to)),
            Consequence::Held => "would be held".to_owned(),
        };
        let seen = match (named, finding.matters) {
            (true, _) => "asked",
            (false, true) => "yes",
            (false, false) => "no",
        };
        rows.push([
            finding.class.to_string(),
            name_of(&finding.stored),
            seen.to_owned(),
            words(finding.result).to_owned(),
            then,
        ]);
    }
    print!("{}", super::listing::aligned(&rows));
    println!("{}", verdict(destination, named, findings));
}

/// What the table comes to. Only what was seen here, or is named, is known to matter.
fn verdict(destination: &DestinationId, named: bool, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return format!("{destination} is a folder: it takes everything as it is stored");
    }
    let matters = findings.iter().filter(|finding| finding.matters).count();
    let trouble = findings.iter().filter(|finding| finding.is_trouble()).count();
    let held = |finding: &&Finding| finding.consequence == Consequence::Held;
    let (held, all) = (findings.iter().filter(held).count(), findings.len());
    match (matters, trouble, named) {
        (0, _, _) => format!(
            "nothing was seen here yet; of the {all} that are common, {held} would be held: name what this site will send with --classes"
        ),
        (_, 0, true) => format!("{destination} takes everything that was asked about"),
        (_, 0, false) => format!("{destination} takes everything that was seen here"),
        (_, _, true) => {
            format!(
                "{destination} would refuse {trouble} of what was asked about: have it accept them, or route them elsewhere"
            )
        }
        (_, _, false) => {
            format!(
                "{destination} would refuse {trouble} of what this site sends: have it accept them, or route them elsewhere"
            )
        }
    }
}

/// What was learned.
pub fn show_known(destination: &DestinationId, lines: &[Learned]) {
    let mut rows = vec![["SOP CLASS", "TRANSFER SYNTAX", "ANSWER", "LEARNED", "COUNTS UNTIL"].map(str::to_owned)];
    for line in lines {
        rows.push([
            line.class.to_string(),
            name_of(&line.syntax),
            words(line.result).to_owned(),
            line.learned.clone(),
            line.until.clone(),
        ]);
    }
    print!("{}", super::listing::aligned(&rows));
    if lines.is_empty() {
        println!("nothing was learned of {destination} yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waystation::base::names::Uid;

    fn finding(matters: bool, consequence: Consequence) -> Finding {
        Finding {
            class: Uid::known("1.2.840.10008.5.1.4.1.1.2"),
            stored: Uid::known("1.2.840.10008.1.2.1"),
            matters,
            result: 3,
            consequence,
        }
    }

    #[test]
    fn the_verdict_claims_no_more_than_was_seen_or_asked() {
        let to = DestinationId::parse("vna").unwrap();
        let (good, bad) = (finding(true, Consequence::AsStored), finding(true, Consequence::Held));
        let common = finding(false, Consequence::Held);
        let say = |named, findings: &[&Finding]| {
            let findings: Vec<Finding> = findings.iter().map(|one| (*one).clone()).collect();
            verdict(&to, named, &findings)
        };
        for (named, findings, words) in [
            (
                false,
                &[&common, &common][..],
                "nothing was seen here yet; of the 2 that are common, 2 would be held",
            ),
            (false, &[&good, &common], "vna takes everything that was seen here"),
            (true, &[&good], "vna takes everything that was asked about"),
            (true, &[&good, &bad], "would refuse 1 of what was asked about"),
            (false, &[&bad, &common], "would refuse 1 of what this site sends"),
            (false, &[], "is a folder"),
        ] {
            let said = say(named, findings);
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
