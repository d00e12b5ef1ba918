//! Days of incidents in simulated time: what is told, once, and what is not.
use super::super::silencing::{Meant, Silence};
use super::*;

const MINUTE: u64 = 60_000_000;
const HOUR: u64 = 60 * MINUTE;
const PACE: Pace = Pace {
    resolve_after: Duration::from_secs(300),
    group_within: Duration::from_secs(300),
    remind_every: Duration::from_secs(86_400),
};

fn condition(kind: Kind, cause: &str, subject: &str) -> Condition {
    Condition {
        kind,
        cause: cause.to_owned(),
        subject: subject.to_owned(),
        level: 1,
        severity: Severity::Ticket,
        detail: "x".to_owned(),
        persist: Duration::from_secs(600),
    }
}

fn down(name: &str) -> Condition {
    condition(Kind::DestinationDown, "", name)
}

/// A box watched in steps of ten seconds.
#[derive(Default)]
struct Life {
    machine: Machine,
    now: u64,
    told: Vec<(u64, News, String)>,
    unjudged: Vec<Unjudged>,
}

impl Life {
    /// Until a minute of the life, with the same conditions.
    fn until(&mut self, minute: u64, conditions: &[Condition]) -> &mut Self {
        while self.now < minute * MINUTE {
            for event in self.machine.step(Wall(self.now), conditions, &self.unjudged, &PACE) {
                let names: Vec<&str> = event.incident.affected.keys().map(String::as_str).collect();
                self.told.push((self.now / MINUTE, event.news, names.join(" ")));
            }
            self.now += MINUTE / 6;
        }
        self
    }

    /// What was told, as `10 Opened a b`.
    fn said(&self) -> Vec<String> {
        let line = |(minute, news, names): &(u64, News, String)| format!("{minute} {news:?} {names}");
        self.told.iter().map(line).collect()
    }
}

#[test]
fn what_does_not_last_is_not_told() {
    let mut life = Life::default();
    life.until(9, &[down("a")])
        .until(30, &[])
        .until(39, &[down("a")])
        .until(60, &[]);
    assert_eq!(life.said(), Vec::<String>::new());
    assert!(life.machine.incidents.is_empty());
}

#[test]
fn an_outage_is_told_once_and_its_end_once() {
    let mut life = Life::default();
    life.until(5, &[]).until(200, &[down("a")]).until(300, &[]);
    assert_eq!(life.said(), ["15 Opened a", "205 Resolved a"]);
}

#[test]
fn a_cut_line_is_one_incident_with_all_that_it_takes() {
    let mut life = Life::default();
    life.until(1, &[down("a")]).until(2, &[down("a"), down("b")]);
    life.until(100, &[down("a"), down("b"), down("c")]).until(200, &[]);
    assert_eq!(life.said(), ["10 Opened a b c", "105 Resolved a b c"]);
}

#[test]
fn what_begins_later_is_another_cause() {
    let mut life = Life::default();
    life.until(60, &[down("a")])
        .until(120, &[down("a"), down("b")])
        .until(130, &[down("b")])
        .until(240, &[]);
    assert_eq!(
        life.said(),
        ["10 Opened a", "70 Opened b", "125 Resolved a", "135 Resolved b"]
    );
}

#[test]
fn holds_of_one_kind_are_one_incident_wherever_they_go() {
    let held = |kind: &str, to: &str| condition(Kind::JobsHeld, kind, to);
    let mut life = Life::default();
    life.until(60, &[held("rule", "a")])
        .until(90, &[held("rule", "a"), held("rule", "b"), held("error", "a")]);
    assert_eq!(life.said(), ["10 Opened a", "70 Wider a b", "70 Opened a"]);
    assert_eq!(life.machine.incidents.len(), 2);
}

#[test]
fn worse_is_told_at_once_and_swinging_around_a_limit_is_not() {
    let worse = Condition {
        level: 2,
        severity: Severity::Page,
        ..down("a")
    };
    let mut life = Life::default();
    life.until(30, &[down("a")]);
    for minute in [40, 60, 80] {
        life.until(minute, std::slice::from_ref(&worse))
            .until(minute + 10, &[down("a")]);
    }
    assert_eq!(life.said(), ["10 Opened a", "30 Worse a"]);
}

#[test]
fn reminders_come_daily_until_somebody_takes_it_and_getting_worse_breaks_that() {
    let day = 24 * 60;
    let mut life = Life::default();
    life.until(2 * day + 30, &[down("a")]);
    assert_eq!(life.said(), ["10 Opened a", "1450 Reminder a", "2890 Reminder a"]);
    let id = life.machine.incidents[0].id;
    let taken = Taken {
        who: "uid 0".to_owned(),
        reason: "called".to_owned(),
        at: life.now,
    };
    assert!(life.machine.take(id, taken.clone()).is_some() && life.machine.take(id + 1, taken).is_none());
    life.until(5 * day, &[down("a")]);
    assert_eq!(life.told.len(), 3, "{:?}", life.said());
    let worse = Condition { level: 2, ..down("a") };
    life.until(5 * day + 10, &[worse]);
    assert_eq!(life.said()[3], format!("{} Worse a", 5 * day));
    assert!(life.machine.incidents[0].taken.is_none());
}

#[test]
fn a_line_that_flaps_all_night_is_a_few_messages() {
    let mut life = Life::default();
    // Down for 12 minutes of each 20, for ten hours.
    for round in 0..30 {
        life.until(round * 20 + 12, &[down("a")]).until(round * 20 + 20, &[]);
    }
    life.until(20 * 60, &[]);
    let opened = life.told.iter().filter(|(_, news, _)| *news == News::Opened).count();
    let resolved = life.told.iter().filter(|(_, news, _)| *news == News::Resolved).count();
    assert!(opened == resolved && opened <= 3, "{:?}", life.said());
    assert!(life.machine.incidents.is_empty());
}

#[test]
fn a_restart_tells_nobody_twice() {
    let mut life = Life::default();
    life.until(60, &[down("a")]);
    let text = serde_json::to_string(&life.machine).unwrap();
    life.machine = serde_json::from_str(&text).unwrap();
    // For the first minute after a start nothing is measured yet.
    life.until(61, &[]).until(120, &[down("a")]).until(180, &[]);
    assert_eq!(life.said(), ["10 Opened a", "125 Resolved a"]);
}

#[test]
fn silence_keeps_quiet_what_it_means_and_nothing_else() {
    let silence = |meant: &str, minutes: u64| Silence {
        meant: meant.parse().unwrap(),
        until: minutes * MINUTE,
        who: "uid 0".to_owned(),
        reason: "moved".to_owned(),
    };
    let mut life = Life::default();
    life.machine.silences = vec![silence("destination_down:a", 120), silence("jobs_held", 90)];
    let held = condition(Kind::JobsHeld, "rule", "x");
    life.until(60, &[down("a"), held.clone()])
        .until(150, &[down("a"), down("b"), held]);
    assert_eq!(life.said(), ["70 Opened b", "90 Opened x", "120 Opened a"]);
    assert!(life.machine.silences.is_empty());
    // An incident that was never told is over without a word.
    let mut quiet = Life::default();
    quiet.machine.silences = vec![silence("destination_down", 60)];
    quiet.until(40, &[down("a")]).until(120, &[]);
    assert_eq!(quiet.said(), Vec::<String>::new());
}

#[test]
fn what_recovers_and_breaks_again_beside_what_goes_on_is_told_again() {
    let both = [down("a"), down("b")];
    let mut life = Life::default();
    // Away for less than `resolve_after` is no end of it; for longer it is, and what comes then is another cause.
    life.until(30, &both).until(33, &both[1..]).until(36, &both);
    let taken = Taken {
        who: "uid 0".to_owned(),
        reason: "b is moved".to_owned(),
        at: life.now,
    };
    life.machine.take(1, taken);
    life.until(60, &both[1..]).until(90, &both).until(110, &[]);
    assert_eq!(
        life.said(),
        ["10 Opened a b", "70 Opened a", "95 Resolved b", "100 Resolved a"]
    );
    // What does not spread has one incident of its cause, and that is told of again. Each return holds on for longer.
    let held = |to: &str| condition(Kind::JobsHeld, "rule", to);
    let both = [held("a"), held("b")];
    let mut life = Life::default();
    life.until(30, &both).until(60, &both[1..]);
    life.until(90, &both).until(97, &both[1..]).until(120, &both);
    assert_eq!(life.said(), ["10 Opened a b", "70 Wider a b"]);
}

#[test]
fn each_certificate_is_told_as_its_end_comes_near_whatever_was_told_of_another() {
    let ends = |name: &str, days: u64| Condition {
        level: match days {
            0..=7 => 3,
            8..=14 => 2,
            _ => 1,
        },
        severity: if days <= 7 { Severity::Page } else { Severity::Ticket },
        persist: Duration::ZERO,
        ..condition(Kind::CertificateExpiry, "", name)
    };
    let day = 24 * 60;
    let mut life = Life::default();
    life.until(10, &[ends("one", 5), ends("two", 16)]);
    for passed in 0..12 {
        life.until((passed + 1) * day, &[ends("two", 16 - passed)]);
    }
    let news: Vec<String> = life
        .said()
        .into_iter()
        .filter(|said| !said.contains("Reminder"))
        .collect();
    assert_eq!(
        news,
        [
            "0 Opened one two".to_owned(),
            format!("{} Worse one two", 2 * day),
            format!("{} Worse one two", 9 * day)
        ]
    );
    // Also beside one that is worse, and stays.
    let mut life = Life::default();
    life.until(10, &[ends("one", 5), ends("two", 16)]);
    life.until(20, &[ends("one", 5), ends("two", 14)]);
    assert_eq!(life.said(), ["0 Opened one two", "10 Worse one two"]);
}

#[test]
fn the_end_matters_as_much_as_the_worst_that_was_told() {
    let page = Condition {
        severity: Severity::Page,
        ..down("a")
    };
    let mut machine = Machine::default();
    let mut told = Vec::new();
    for minute in 0..60 {
        let seen = [page.clone(), down("a")];
        let conditions = match minute {
            0..15 => &seen[..1],
            15..30 => &seen[1..],
            _ => &[],
        };
        let events = machine.step(Wall(minute * MINUTE), conditions, &[], &PACE);
        told.extend(events.iter().map(|event| (minute, event.news, event.severity())));
        let now = machine.incidents.first().map(Incident::severity);
        assert!(minute != 20 || now == Some(Severity::Ticket));
    }
    assert_eq!(
        told,
        [(10, News::Opened, Severity::Page), (35, News::Resolved, Severity::Page)]
    );
}

#[test]
fn the_end_of_a_silence_is_told_and_an_end_within_it() {
    let silence = |minutes: u64| Silence {
        meant: "1".parse().unwrap(),
        until: minutes * MINUTE,
        who: "uid 0".to_owned(),
        reason: "planned work".to_owned(),
    };
    let mut life = Life::default();
    life.until(20, &[down("a")]);
    life.machine.silences = vec![silence(60)];
    life.until(90, &[down("a")]);
    assert_eq!(life.said(), ["10 Opened a", "60 Reminder a"]);
    life.machine.silences = vec![silence(200)];
    life.until(100, &[down("a")]).until(240, &[]);
    assert_eq!(life.said()[2..], ["105 Resolved a"]);
}

#[test]
fn what_cannot_be_judged_is_neither_seen_nor_gone() {
    let silent = |name: &str| Condition {
        persist: Duration::ZERO,
        ..condition(Kind::SourceSilent, "", name)
    };
    let unjudged = |subject: Option<&str>| {
        vec![Unjudged {
            subject: subject.map(str::to_owned),
            ..Unjudged::all(Kind::SourceSilent)
        }]
    };
    let mut life = Life::default();
    life.until(10, &[silent("ct1")]);
    life.unjudged = unjudged(None);
    life.until(100, &[]);
    life.unjudged = Vec::new();
    life.until(120, &[silent("ct1")]);
    assert_eq!(life.said(), ["0 Opened ct1"]);
    // One name of it only; and what was going already does not end before it is judged.
    life.unjudged = unjudged(Some("mr1"));
    life.until(122, &[]);
    life.unjudged = unjudged(Some("ct1"));
    life.until(200, &[]);
    assert_eq!(life.said().len(), 1);
    life.unjudged = Vec::new();
    life.until(210, &[]);
    assert_eq!(life.said(), ["0 Opened ct1", "200 Resolved ct1"]);
    // Nor is anything opened by it.
    life.unjudged = unjudged(None);
    life.until(300, &[]);
    assert_eq!(life.said().len(), 2);
}

#[test]
fn an_incident_of_an_earlier_version_is_not_told_twice() {
    let known = r#"{"incidents":[{"id":1,"kind":"destination_down","cause":"","since":0,"affected":{"a":{"since":0,"level":1,
        "severity":"ticket","detail":"x"}},"returns":0,"told":{"at":600000000,"level":1,"severity":"ticket","affected":1}}],
        "onsets":[[{"kind":"destination_down","cause":"","subject":"a"},0]],"last":1}"#;
    let mut life = Life {
        machine: serde_json::from_str(known).unwrap(),
        now: 20 * MINUTE,
        ..Life::default()
    };
    life.machine.adopt();
    life.until(60, &[down("a")]);
    assert_eq!(life.said(), Vec::<String>::new());
}

#[test]
fn what_is_meant_is_read_and_written() {
    for text in [
        "7",
        "destination_down",
        "source_silent:ct1",
        "certificate_expiry:listener dicom",
    ] {
        assert_eq!(text.parse::<Meant>().unwrap().to_string(), text);
    }
    for wrong in ["", "x", "destination_down:", "-1"] {
        assert!(wrong.parse::<Meant>().is_err(), "{wrong}");
    }
}

#[test]
fn random_lives_keep_their_promises() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut life, mut open) = (Life::default(), BTreeMap::new());
        for _ in 0..60 {
            let names: Vec<Condition> = ["a", "b", "c"]
                .into_iter()
                .filter(|_| rng.random_bool(0.4))
                .map(down)
                .collect();
            let minute = life.now / MINUTE + rng.random_range(1..40);
            while life.now < minute * MINUTE {
                for event in life.machine.step(Wall(life.now), &names, &[], &PACE) {
                    let id = event.incident.id;
                    match event.news {
                        News::Opened => assert!(open.insert(id, life.now).is_none(), "{seed}: opened twice"),
                        News::Resolved => assert!(open.remove(&id).is_some(), "{seed}: over without a beginning"),
                        _ => assert!(open.contains_key(&id), "{seed}: news of nothing"),
                    }
                }
                // Each name is in one incident at most.
                let mut all: Vec<&str> = life
                    .machine
                    .incidents
                    .iter()
                    .flat_map(Incident::active)
                    .map(|(name, _)| name)
                    .collect();
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), count, "{seed}");
                life.now += MINUTE / 2;
            }
        }
        life.now += 1;
        life.until(life.now / MINUTE + 5 * 60, &[]);
        assert!(life.machine.incidents.is_empty(), "{seed}: everything ends");
        assert!(life.now < 100 * 24 * HOUR);
    }
}
