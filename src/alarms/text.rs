//! What people read: an incident in plain words, as a mail and as JSON. What happened, since when, what it means, what to do, how to
//! keep it quiet. Built from names of the configuration, counts and words of ours; no patient data.
use super::incident::{Event, Incident, News, Stamp};
use super::kind::{Kind, Severity};
use super::news::Affected;
use crate::base::clock::Wall;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// What a text needs to know besides the incident.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The box's name.
    pub node: &'a str,
    pub runbook: &'a str,
    pub zone: &'a TimeZone,
    /// The wall clock and the machine's steady time, at the same moment.
    pub wall: Wall,
    pub steady: Stamp,
}

impl Context<'_> {
    /// The wall-clock time of a stamp, gone or to come.
    fn wall(&self, at: Stamp) -> Timestamp {
        let micros = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let from_now = micros(at).saturating_sub(micros(self.steady));
        Timestamp::from_microsecond(micros(self.wall.0).saturating_add(from_now)).unwrap_or_default()
    }

    pub(super) fn iso(&self, at: Stamp) -> String {
        let second = self.wall(at).as_second();
        Timestamp::from_second(second).unwrap_or_default().to_string()
    }

    /// `Mon 2026-11-30 03:12 CET`.
    fn local(&self, at: Stamp) -> String {
        self.wall(at)
            .to_zoned(self.zone.clone())
            .strftime("%a %Y-%m-%d %H:%M %Z")
            .to_string()
    }

    pub(super) fn link(&self, kind: Kind) -> String {
        format!("{}#{}", self.runbook, kind.anchor())
    }
}

/// A message as it goes out.
#[derive(Clone, PartialEq, Debug)]
pub struct Text {
    pub subject: String,
    pub body: String,
    pub json: Value,
}

/// One event in words.
#[must_use]
pub fn message(event: &Event, context: &Context<'_>) -> Text {
    let incident = &event.incident;
    let lead = match event.news {
        News::Opened => String::new(),
        News::Worse => "WORSE: ".to_owned(),
        News::Wider => "MORE: ".to_owned(),
        News::Reminder => "STILL: ".to_owned(),
        News::Resolved => "OVER: ".to_owned(),
        News::Test => "TEST: ".to_owned(),
    };
    let test = event.news == News::Test;
    let title = if test {
        "this is a test of the box's alarms; nothing is wrong".to_owned()
    } else {
        title(incident)
    };
    let urgent = if incident.severity() == Severity::Page && !test && event.news != News::Resolved {
        "!"
    } else {
        ""
    };
    let subject = format!("[{}{urgent}] {lead}{title}", context.node);
    let body = body(event, &title, context);
    let json = payload(event, &format!("{lead}{title}"), context);
    Text { subject, body, json }
}

fn body(event: &Event, title: &str, context: &Context<'_>) -> String {
    let incident = &event.incident;
    let mut text = format!("{title}.\n\n");
    if event.news == News::Test {
        text += &format!("Box: {}\nSent: {}\n", context.node, context.local(event.at));
        return text;
    }
    text += &format!(
        "Box:      {}\nSince:    {}\n",
        context.node,
        context.local(incident.since)
    );
    if event.news == News::Resolved {
        text += &format!(
            "Over:     {} (nothing of it was seen for a while)\n",
            context.local(event.at)
        );
    }
    text += &format!(
        "Incident: {} ({}, {})\n",
        incident.id,
        incident.kind.word(),
        event.severity().word()
    );
    if incident.returns > 0 {
        let times = count(f64::from(incident.returns), "time");
        text += &format!("It has come and gone {times} in the last hours.\n");
    }
    text.push('\n');
    for (subject, affected) in &incident.affected {
        text += &format!("  {}\n", affected_line(incident.kind, subject, affected, context));
    }
    if event.news == News::Resolved {
        return text;
    }
    let (meaning, action) = advice(incident.kind);
    text += &format!(
        "\nWhat it means: {meaning}\n\nWhat to do: {action}\n\nMore: {}\n",
        context.link(incident.kind)
    );
    text += &format!(
        "\nTo take it (no more reminders):  waystation alarms ack {id} --reason \"...\"\n\
         To hear nothing of it for a day: waystation alarms silence {id} --for 1day --reason \"...\"\n",
        id = incident.id
    );
    text
}

fn affected_line(kind: Kind, subject: &str, affected: &Affected, context: &Context<'_>) -> String {
    let name = if subject == "box" {
        String::new()
    } else {
        format!("{}: ", shown(kind, subject))
    };
    match affected.gone {
        None => format!("{name}{}", affected.detail),
        Some(at) => format!("{name}recovered, {}", context.local(at)),
    }
}

/// A subject as people call it.
fn shown(kind: Kind, subject: &str) -> String {
    match (kind, subject) {
        (Kind::JobsHeld, "(none)") => "without a destination".to_owned(),
        (Kind::ClockImplausible, word) => word.replace('_', " "),
        (_, subject) => subject.to_owned(),
    }
}

fn payload(event: &Event, title: &str, context: &Context<'_>) -> Value {
    let incident = &event.incident;
    let (meaning, action) = advice(incident.kind);
    let affected = |(subject, one): (&String, &Affected)| {
        json!({
            "name": subject, "since": context.iso(one.since), "detail": one.detail,
            "recovered": one.gone.map(|at| context.iso(at)),
        })
    };
    if event.news == News::Test {
        let text = format!("[{}] {title}", context.node);
        return json!({"version": 1, "text": text, "node": context.node, "news": event.news, "at": context.iso(event.at), "title": title});
    }
    json!({
        "version": 1,
        "text": format!("[{}] {title}", context.node),
        "node": context.node,
        "news": event.news,
        "at": context.iso(event.at),
        "incident": incident.id,
        "kind": incident.kind,
        "severity": event.severity(),
        "cause": incident.cause,
        "since": context.iso(incident.since),
        "title": title,
        "affected": incident.affected.iter().map(affected).collect::<Vec<_>>(),
        "meaning": meaning,
        "action": action,
        "runbook": context.link(incident.kind),
        "acknowledged_by": incident.taken.as_ref().map(|taken| &taken.who),
    })
}

/// An incident in one line.
#[must_use]
pub fn title(incident: &Incident) -> String {
    // When nothing is affected any more, of what it was.
    let mut names: Vec<&str> = incident.active().map(|(subject, _)| subject).collect();
    if names.is_empty() {
        names = incident.affected.keys().map(String::as_str).collect();
    }
    let many = names.len();
    let list = names.join(", ");
    match incident.kind {
        Kind::GateLatched => "a disk error: nothing is acknowledged".to_owned(),
        Kind::DiskLow => "the disk is nearly full: new images are refused".to_owned(),
        Kind::DiskFills => "the disk is filling up".to_owned(),
        Kind::DestinationDown if many == 1 => format!("{list} cannot be reached, and images wait for it"),
        Kind::DestinationDown => format!("{many} destinations cannot be reached, and images wait for them: {list}"),
        Kind::DestinationSuspended => format!("{list} is suspended"),
        Kind::DestinationUnconfigured if many == 1 => {
            format!("images wait for {list}, which is not configured any more")
        }
        Kind::DestinationUnconfigured => {
            format!("images wait for {many} destinations that are not configured any more: {list}")
        }
        Kind::SourceSilent if many == 1 => format!("{list} is silent"),
        Kind::SourceSilent => format!("{many} modalities are silent: {list}"),
        Kind::JobsHeld => format!("images are held ({})", incident.cause),
        Kind::RulesStale => "the rules in force are not those on the disk".to_owned(),
        Kind::CertificateExpiry if many == 1 => format!("a certificate is about to end: {list}"),
        Kind::CertificateExpiry => format!("{many} certificates are about to end: {list}"),
        Kind::CertificateRefused => format!("new certificate files cannot be used: {list}"),
        Kind::CommitmentLate => format!("{list} has not committed what it was sent"),
        Kind::CommitmentUntold => format!("{list} has not taken an answer about storage commitment"),
        Kind::ReconciliationDiffers => "what was sent, held and confirmed does not agree".to_owned(),
        Kind::ClockImplausible => "the box's clock cannot be right".to_owned(),
        Kind::SpoolDamaged => "payloads are damaged".to_owned(),
        Kind::SalvageUnread => {
            "the index was made anew, or the spool is an older copy, and nobody has read the report".to_owned()
        }
        Kind::StateUnwritten => "what the box keeps beside the spool cannot be written".to_owned(),
    }
}

/// What a kind means, and what to do about it.
#[must_use]
pub fn advice(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::GateLatched => (
            "modalities are answered \"out of resources\" and keep their images. Nothing acknowledged is in danger.",
            "look at the disk (dmesg, smartctl). The box tries to reopen its index by itself, and ends if it cannot.",
        ),
        Kind::DiskLow => (
            "modalities are answered \"out of resources\" and keep their images; deliveries go on and make room.",
            "bring back the destination that images wait for, or make the spool's file system larger.",
        ),
        Kind::DiskFills => (
            "more comes in than leaves. When the room is used up, modalities are refused and keep their images.",
            "see which destination falls behind (waystation lanes), or what else writes to the spool's disk.",
        ),
        Kind::DestinationDown => (
            "nothing is lost: the box keeps everything, tries again every minute at most, and catches up by itself.",
            "see why (waystation lanes): the line, the archive, its certificate. On the box nothing needs to be done while the disk lasts.",
        ),
        Kind::DestinationSuspended => (
            "nothing is sent there until a person resumes it; everything is kept.",
            "ask who suspended it and why; then: waystation queue resume NAME.",
        ),
        Kind::DestinationUnconfigured => (
            "it was renamed in the configuration, or taken out of it. Its images are kept and nobody delivers them, for ever.",
            "waystation queue reroute --destination NAME --to OTHER sends them elsewhere; waystation queue discard --destination NAME \
             --reason \"...\" gives them up; or configure it again under its old name, and restart.",
        ),
        Kind::SourceSilent => (
            "it usually sends at these hours, and has not. Either nobody examines (a holiday, a service), or its images do not get out.",
            "ask at the modality whether images wait in its send queue, and test its connection from there (C-ECHO).",
        ),
        Kind::JobsHeld => (
            "these images are kept and will not be delivered until a person decides.",
            "see the reasons (waystation queue ls --state held), mend the cause, release them.",
        ),
        Kind::RulesStale => (
            "a change of the rules has no effect: the set loaded before decides. Nothing is lost.",
            "see what is wrong (waystation rules check), mend it, or load the folder (waystation reload).",
        ),
        Kind::CertificateExpiry => (
            "when a certificate ends, connections that need it fail: modalities cannot send, or images wait.",
            "get the new certificate from whoever issues it and put it in place before that day (waystation check says whether it fits).",
        ),
        Kind::CertificateRefused => (
            "the certificates before are still in force; when they end, connections that need them fail.",
            "see what is wrong with the new files (waystation check), and put right ones in place.",
        ),
        Kind::CommitmentLate => (
            "the images are at the archive, and it has not said that it keeps them. They stay on the box until it has.",
            "ask the archive's side whether its storage commitment works, and whether its answers can reach this box.",
        ),
        Kind::CommitmentUntold => (
            "the answer waits on the box, and is given up after `retry_for`. Until it has it, the modality should keep its images.",
            "see that it listens where its `commitment` says (waystation commitment ls), then waystation commitment retry.",
        ),
        Kind::ReconciliationDiffers => (
            "the daily reconciliation has found images that were sent and are not where they should be, or not confirmed.",
            "waystation reconcile --kept names the days; the report of each (--day) names each difference and what to do.",
        ),
        Kind::ClockImplausible => (
            "certificates may be taken for expired or not valid yet, and times in logs and on the ledger are wrong. Queues are not affected.",
            "set the clock, and see why the time service does not (timedatectl).",
        ),
        Kind::SpoolDamaged => (
            "images that were acknowledged and are not delivered yet cannot be read as they came. They are held; everything else flows.",
            "have them sent again from their modality (waystation spool scrub names them), and look at the disk.",
        ),
        Kind::SalvageUnread => (
            "the box runs, but some images may be lost or doubtful; the report names each.",
            "read it (waystation spool salvage), have what is lost sent again, and acknowledge it.",
        ),
        Kind::StateUnwritten => (
            "images come and go as before. But a restart knows nothing of alarms, acknowledgements and rules of since then, and no \
             reconciliation leaves a report.",
            "make room on the disk of node.state (df), or give the folder back to the box's user.",
        ),
    }
}

/// `3 h 20 min`: two units at most.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let plural = |n: u64| if n == 1 { "" } else { "s" };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} day{}", plural(days)),
        (_, _, _) => format!("{days} day{} {hours} h", plural(days)),
    }
}

/// `1 waiting job`, `12 waiting jobs`.
#[must_use]
pub fn count(number: f64, what: &str) -> String {
    format!(
        "{number:.0} {what}{}",
        if (number - 1.0).abs() < 0.5 { "" } else { "s" }
    )
}

/// `12.5 GiB`.
#[must_use]
pub fn bytes(number: f64) -> String {
    let (mut number, mut unit) = (number.max(0.0), "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, larger);
    }
    if unit == "B" {
        format!("{number:.0} B")
    } else {
        format!("{number:.1} {unit}")
    }
}

/// A reason in one line, a long one cut between words: control characters of whatever library it came from must not shape a mail.
#[must_use]
pub fn plain(reason: &str) -> String {
    let clean: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match clean.char_indices().nth(REASON_MAX).map(|(end, _)| &clean[..end]) {
        Some(cut) => format!("{} …", cut.rsplit_once(' ').map_or(cut, |(whole, _)| whole)),
        None => clean,
    }
}

/// More than the longest of ours, of a certificate with its dates and fingerprint.
const REASON_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_its_wall_clock_time_gone_or_to_come() {
        let context = Context {
            node: "box",
            runbook: "",
            zone: &TimeZone::UTC,
            wall: Wall(1_800_000_000_000_000),
            steady: 90_000_000,
        };
        let told = [0, 90_000_000, 3_690_000_000].map(|at| context.iso(at));
        assert_eq!(
            told,
            ["2027-01-15T07:58:30Z", "2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z"]
        );
    }

    #[test]
    fn spans_and_sizes_are_words() {
        let table = [
            (5.4, "5 s"),
            (90.0, "1 min"),
            (3_600.0, "1 h"),
            (12_000.0, "3 h 20 min"),
            (86_400.0, "1 day"),
            (200_000.0, "2 days 7 h"),
        ];
        for (seconds, wanted) in table {
            assert_eq!(span(seconds), wanted);
        }
        assert_eq!([bytes(512.0), bytes(1.5 * 1024.0 * 1024.0)], ["512 B", "1.5 MiB"]);
        assert_eq!([count(1.0, "job"), count(0.0, "job")], ["1 job", "0 jobs"]);
    }
}
