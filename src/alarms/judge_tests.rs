//! What is wrong, as a table: each row is a state of the box in metrics, and the conditions that it makes.
use super::*;

struct Box {
    samples: BTreeMap<String, Vec<Sample>>,
    reasons: BTreeMap<String, Option<String>>,
    drains: BTreeMap<String, Option<f64>>,
    full_seconds: f64,
    silent: Vec<(String, Duration)>,
    unheard: Vec<String>,
    doubts: Vec<Doubt>,
    config: Config,
}

/// A box with these metrics: `name{label=value,…} number`.
fn with(lines: &[&str]) -> Box {
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for line in lines {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let pairs = labels
            .trim_end_matches('}')
            .split(',')
            .filter_map(|pair| pair.split_once('='));
        let labels = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let value = value.parse().unwrap();
        samples
            .entry(format!("waystation_{name}"))
            .or_default()
            .push(Sample { labels, value });
    }
    Box {
        samples,
        reasons: BTreeMap::from([("vna".to_owned(), Some("connection refused".to_owned()))]),
        drains: BTreeMap::from([("vna".to_owned(), Some(1_200.0))]),
        full_seconds: f64::INFINITY,
        silent: Vec::new(),
        unheard: Vec::new(),
        doubts: Vec::new(),
        config: Config::default(),
    }
}

const NOW: f64 = 1_800_000_000.0;

impl Box {
    fn judged(&self) -> Vec<Condition> {
        self.judgement().conditions
    }

    /// `kind cause subject` of what cannot be judged, sorted.
    fn hidden(&self) -> Vec<String> {
        let word = |name: &Option<String>| name.clone().unwrap_or_else(|| "*".to_owned());
        let line = |one: &Unjudged| format!("{} {} {}", one.kind.word(), word(&one.cause), word(&one.subject));
        let mut words: Vec<String> = self.judgement().unjudged.iter().map(line).collect();
        words.sort();
        words
    }

    fn judgement(&self) -> Judgement {
        let facts = Facts {
            now: Wall(1_800_000_000_000_000),
            samples: &self.samples,
            reasons: &self.reasons,
            drains: &self.drains,
            full_seconds: self.full_seconds,
            silent: &self.silent,
            unheard: &self.unheard,
            doubts: &self.doubts,
        };
        judge(&facts, &self.config)
    }

    /// `kind cause subject level severity`, sorted.
    fn words(&self) -> Vec<String> {
        let line = |c: &Condition| {
            let (kind, severity) = (c.kind.word(), c.severity.word());
            format!("{kind} {} {} {} {severity}", c.cause, c.subject, c.level).replace("  ", " ")
        };
        let mut words: Vec<String> = self.judged().iter().map(line).collect();
        words.sort();
        words
    }
}

const DOWN: [&str; 4] = [
    "destination_up{destination=vna} 0",
    "jobs_queued{destination=vna,priority=stat} 2",
    "jobs_queued{destination=vna,priority=routine} 40",
    "oldest_job_age_seconds{destination=vna} 7200",
];

#[test]
fn a_sound_box_has_no_conditions() {
    let sound = with(&[
        "destination_up{destination=vna} 1",
        "jobs_queued{destination=vna,priority=routine} 40",
        "destination_up{destination=cad} 0",
        "jobs_queued{destination=cad,priority=routine} 0",
        "spool_gate_latched 0",
        "spool_low_water 0",
        "rules_stale 0",
        "jobs_held{destination=vna,kind=rule} 0",
        "certificate_expiry_timestamp_seconds{role=listener,name=dicom} 1900000000",
    ]);
    assert_eq!(sound.words(), Vec::<String>::new());
}

#[test]
fn an_outage_says_backlog_reason_drain_and_room() {
    let mut down = with(&DOWN);
    down.full_seconds = 200_000.0;
    let found = down.judged();
    assert_eq!(
        found[0].detail,
        "42 waiting jobs, the oldest for 2 h; last trouble: connection refused; once it answers they are delivered in about 20 min; \
         at the present rate the disk has room for 2 days 7 h"
    );
    assert_eq!(found[0].persist, Duration::from_secs(600));
    down.drains.insert("vna".to_owned(), None);
    down.reasons.clear();
    let detail = &down.judged()[0].detail;
    assert!(detail.contains("not known yet"), "{detail}");
}

#[test]
fn what_waits_for_a_destination_that_is_not_configured_is_told_at_once() {
    let gone = with(&[
        "jobs_unconfigured{destination=old} 4",
        "jobs_unconfigured{destination=older} 0",
        "jobs_queued{destination=old,priority=routine} 4",
        "destination_up{destination=vna} 1",
    ]);
    assert_eq!(gone.words(), ["destination_unconfigured old 1 ticket"]);
    let found = &gone.judged()[0];
    assert_eq!(found.detail, "4 waiting jobs for it, and nobody delivers them");
    assert_eq!(found.persist, Duration::ZERO);
    // What its archive has not committed is told with it.
    let late = with(&[
        "jobs_unconfigured{destination=old} 4",
        "commitment_oldest_seconds{destination=old} 90000",
        "commitment_oldest_seconds{destination=older} 90000",
    ]);
    assert_eq!(
        late.words(),
        [
            "commitment_late older older 1 ticket",
            "destination_unconfigured old 1 ticket"
        ]
    );
    assert_eq!(late.hidden(), ["commitment_late * old"]);
}

#[test]
fn the_filling_disk_is_part_of_an_outage_and_makes_it_worse() {
    let mut down = with(&DOWN);
    assert_eq!(down.words(), ["destination_down vna 1 ticket"]);
    down.full_seconds = 10.0 * 3_600.0;
    assert_eq!(down.words(), ["destination_down vna 2 ticket"]);
    down.full_seconds = 3_600.0;
    assert_eq!(down.words(), ["destination_down vna 3 page"]);
    assert_eq!(down.hidden(), ["disk_fills * *"], "it is told, and not over");
    down.config.off = vec![Kind::DestinationDown];
    assert_eq!(down.words(), ["disk_fills box 2 page"], "nobody would hear of it");
    let mut busy = with(&["destination_up{destination=vna} 1"]);
    busy.full_seconds = 10.0 * 3_600.0;
    assert_eq!(busy.words(), ["disk_fills box 1 ticket"]);
    busy.full_seconds = 0.0;
    assert_eq!(busy.words(), ["disk_fills box 2 page"]);
    busy.full_seconds = f64::INFINITY;
    assert_eq!((busy.words(), busy.hidden()), (Vec::new(), Vec::new()));
}

#[test]
fn certificates_are_told_at_30_14_and_7_days_and_after_their_end() {
    let table = [
        (31.0, None),
        (29.9, Some("1 ticket")),
        (13.9, Some("2 ticket")),
        (6.9, Some("3 page")),
        (-1.0, Some("4 page")),
    ];
    for (days, wanted) in table {
        let line = format!(
            "certificate_expiry_timestamp_seconds{{role=listener,name=dicom}} {}",
            NOW + days * 86_400.0
        );
        let mut aged = with(&[&line]);
        let wanted: Vec<String> = wanted
            .map(|words| format!("certificate_expiry listener dicom {words}"))
            .into_iter()
            .collect();
        assert_eq!(aged.words(), wanted, "{days}");
        // A wrong clock judges no certificate.
        aged.doubts = vec![Doubt::BeforeBuild];
        assert_eq!(aged.words(), ["clock_implausible before_build 1 page"]);
        assert_eq!(aged.hidden(), ["certificate_expiry * *", "source_silent * *"]);
    }
}

#[test]
fn nobody_is_called_silent_by_a_box_that_refuses() {
    let silent = vec![("ct1".to_owned(), Duration::from_secs(9_000))];
    let mut quiet = with(&[]);
    quiet.silent = silent.clone();
    assert_eq!(quiet.words(), ["source_silent ct1 1 ticket"]);
    assert!(quiet.judged()[0].detail.contains("2 h 30 min"));
    for (line, wanted) in [
        ("spool_low_water 1", "disk_low box 1 page"),
        ("spool_gate_latched 1", "gate_latched box 1 page"),
    ] {
        let mut refusing = with(&[line]);
        refusing.silent = silent.clone();
        assert_eq!(refusing.words(), [wanted]);
        assert_eq!(refusing.hidden(), ["source_silent * *"], "nor is it called well");
        refusing.config.off = vec![Kind::SourceSilent];
        assert_eq!(refusing.hidden(), Vec::<String>::new());
    }
    quiet.unheard = vec!["mr1".to_owned()];
    assert_eq!(quiet.words(), ["source_silent ct1 1 ticket"]);
    assert_eq!(quiet.hidden(), ["source_silent * mr1"]);
}

#[test]
fn what_grows_tenfold_is_worse_and_damage_is_one_cause() {
    for (held, level) in [(1, 1), (9, 1), (10, 2), (99, 2), (1_000, 4)] {
        let line = format!("jobs_held{{destination=vna,kind=rule}} {held}");
        assert_eq!(with(&[&line]).words(), [format!("jobs_held rule vna {level} ticket")]);
    }
    for (damaged, level) in [(1, 1), (2, 2), (9, 2), (10, 3), (100, 4)] {
        let lines = [
            format!("spool_damaged {damaged}"),
            format!("jobs_held{{destination=vna,kind=corrupt}} {damaged}"),
        ];
        let mut damage = with(&[&lines[0], &lines[1]]);
        assert_eq!(damage.words(), [format!("spool_damaged box {level} page")]);
        assert_eq!(damage.hidden(), ["jobs_held corrupt *"]);
        damage.config.off = vec![Kind::SpoolDamaged];
        assert!(
            damage.words()[0].starts_with("jobs_held corrupt vna "),
            "nobody would hear of it"
        );
    }
}

#[test]
fn holds_are_told_apart_by_kind_and_a_failed_rule_pages() {
    let held = with(&[
        "jobs_held{destination=vna,kind=rule} 3",
        "jobs_held{destination=cad,kind=rule} 1",
        "jobs_held{destination=(none),kind=error} 2",
        "rule_failures_held{kind=error} 2",
    ]);
    assert_eq!(
        held.words(),
        [
            "jobs_held error (none) 1 page",
            "jobs_held rule cad 1 ticket",
            "jobs_held rule vna 1 ticket"
        ]
    );
}

#[test]
fn the_rest_is_told_as_it_is_and_off_is_off() {
    let lines = [
        "rules_stale 1",
        "spool_damaged 2",
        "salvage_unacknowledged 1",
        "state_unwritten 1",
        "destination_suspended{destination=vna} 1",
    ];
    let mut all = with(&lines);
    all.doubts = vec![Doubt::Jumped(-7_200.0), Doubt::Peers(900.0)];
    assert_eq!(
        all.words(),
        [
            "clock_implausible jumped 1 ticket",
            "clock_implausible peers 1 ticket",
            "destination_suspended vna vna 1 ticket",
            "rules_stale box 1 ticket",
            "salvage_unread box 1 page",
            "spool_damaged box 2 page",
            "state_unwritten box 1 ticket",
        ]
    );
    let details: Vec<String> = all.judged().into_iter().map(|condition| condition.detail).collect();
    assert!(
        details.iter().any(|detail| detail == "it has jumped back by 2 h"),
        "{details:?}"
    );
    assert!(
        details
            .iter()
            .any(|detail| detail == "it is 15 min behind the clocks of all modalities"),
        "{details:?}"
    );
    all.config.off = Kind::ALL.to_vec();
    assert_eq!(all.words(), Vec::<String>::new());
}

#[test]
fn commitments_that_do_not_come_and_books_that_do_not_agree_are_told() {
    let lines = [
        "destination_up{destination=vna} 1",
        "commitment_oldest_seconds{destination=vna} 90000",
        "commitment_oldest_seconds{destination=cad} 80000",
        "reconcile_differences{kind=lost_job} 2",
        "reconcile_differences{kind=refused} 0",
        "certificate_reload_failed{role=listener,name=dicom} 1",
    ];
    let mut box_of_books = with(&lines);
    assert_eq!(
        box_of_books.words(),
        [
            "certificate_refused listener dicom listener dicom 1 ticket",
            "commitment_late vna vna 1 ticket",
            "reconciliation_differs lost_job 1 ticket",
        ]
    );
    let unasked = |of: &Box| {
        let late = of.judged().into_iter().find(|found| found.kind == Kind::CommitmentLate);
        late.unwrap().detail.contains("nobody asks")
    };
    assert!(
        unasked(&box_of_books),
        "`commitment` was taken out of the configuration"
    );
    let asked = [&lines[..], &["commitment_outstanding_requests{destination=vna} 0"]].concat();
    assert!(!unasked(&with(&asked)));
    // One that is down answers nothing: told once, as an outage when something waits for it, and else as this.
    let late = |of: &Box| of.words().iter().any(|words| words.contains("commitment_late"));
    box_of_books.samples.get_mut("waystation_destination_up").unwrap()[0].value = 0.0;
    assert!(late(&box_of_books) && box_of_books.hidden().is_empty());
    let queued = [&lines[..], &["jobs_queued{destination=vna} 3"]].concat();
    let mut with_backlog = with(&queued);
    with_backlog.samples.get_mut("waystation_destination_up").unwrap()[0].value = 0.0;
    assert!(!late(&with_backlog));
    assert_eq!(with_backlog.hidden(), ["commitment_late * vna"]);
    with_backlog.config.off = vec![Kind::DestinationDown];
    assert!(late(&with_backlog), "nobody would hear of it");
}

#[test]
fn a_modality_that_takes_no_answer_is_told_of_and_one_whose_archive_is_late_is_not() {
    let lines = [
        "commitment_demands_oldest_seconds{source=ct1} 90000",
        "commitment_demands_open{source=ct1,state=decided} 1",
        "commitment_demands_oldest_seconds{source=mr1} 90000",
        "commitment_demands_open{source=mr1,state=decided} 0",
        "commitment_demands_open{source=mr1,state=waiting} 3",
        "commitment_demands_oldest_seconds{source=us1} 80000",
        "commitment_demands_open{source=us1,state=decided} 1",
    ];
    assert_eq!(with(&lines).words(), ["commitment_untold ct1 ct1 1 ticket"]);
}

#[test]
fn a_reason_cannot_shape_a_message() {
    let mut down = with(&DOWN);
    down.reasons
        .insert("vna".to_owned(), Some(format!("a\r\nBcc: x{}", "y".repeat(999))));
    let detail = &down.judged()[0].detail;
    assert!(!detail.contains(['\r', '\n']) && detail.len() < 500, "{detail}");
}

/// A fingerprint that is cut is none.
#[test]
fn a_long_reason_is_whole_and_a_longer_one_is_cut_between_words() {
    let mut down = with(&DOWN);
    for (reason, told) in [
        (format!("{}SHA-256 {}", "why ".repeat(80), "ab".repeat(32)), true),
        (format!("{}SHA-256 {}", "why ".repeat(120), "ab".repeat(32)), false),
    ] {
        down.reasons.insert("vna".to_owned(), Some(reason.clone()));
        let detail = &down.judged()[0].detail;
        assert_eq!(detail.contains(&reason), told, "{detail}");
        assert!(told || detail.contains("why SHA-256 …; "), "{detail}");
    }
}
