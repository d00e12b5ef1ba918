//! What people are told, from outside: a real box, a mail server and a web hook that keep what they get.
use crate::harness::peers::send;
use crate::harness::pki::Authority;
use crate::harness::tools::{self, Owned};
use crate::harness::{Archive, Object, SOON, Setup, Station, free_port, objects, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TO_VNA: &str = r#"fn route(image, from) { to("vna"); }"#;
/// Seconds where a site has minutes and hours.
const QUICK: &str = "[alarms]\ninterval = \"200ms\"\ndestination_down_after = \"1s\"\nresolve_after = \"2s\"\nholds_after = \"1s\"\n\
                     rules_stale_after = \"1s\"\ntimezone = \"America/Chicago\"\nrunbook = \"https://wiki.example/runbook\"\n";

/// A peer that writes one JSON line for each message.
struct Sink {
    port: u16,
    journal: PathBuf,
    _process: Owned,
}

impl Sink {
    fn start(script: &str, folder: &Path, more: &[&str]) -> Self {
        let (port, journal) = (free_port(), folder.join(format!("{script}.{}", free_port())));
        let mut arguments = vec![port.to_string(), journal.to_string_lossy().into_owned()];
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        Self {
            port,
            _process: tools::python_serving(script, &arguments),
            journal,
        }
    }

    fn messages(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.journal).expect("a journal");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a line of the sink"))
            .collect()
    }

    #[track_caller]
    fn wait(&self, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} messages"), SOON, || self.messages().len() >= count);
        self.messages()
    }

    fn behave(&self, how: &str) {
        std::fs::write(format!("{}.behaviour", self.journal.display()), how).expect("writable");
    }
}

fn mail(sink: &Sink, more: &str) -> String {
    format!(
        "[alarms.mail]\nhost = \"localhost\"\nport = {}\nfrom = \"Box <box@site.example>\"\nto = [\"it@site.example\", \"night@site.example\"]\n{more}\n",
        sink.port
    )
}

fn hook(name: &str, scheme: &str, sink: &Sink, more: &str) -> String {
    format!(
        "[[alarms.webhooks]]\nname = \"{name}\"\nurl = \"{scheme}://localhost:{}/hook?x=1\"\n{more}\n",
        sink.port
    )
}

/// A file with a secret, for its owner only.
fn secret(setup: &Setup, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let file = setup.folder_of(name);
    std::fs::write(&file, text).expect("writable");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
    file
}

fn text(message: &Value, member: &str) -> String {
    message[member].as_str().unwrap_or_default().to_owned()
}

fn subjects(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| text(message, "subject")).collect()
}

#[test]
fn an_outage_is_one_mail_and_one_webhook_across_a_kill_and_its_end_is_told() {
    let setup = Setup::new();
    let mut archive = Archive::down(&setup.folder_of("vna-peer"));
    let smtp = Sink::start("smtp_sink.py", setup.path(), &["plain"]);
    let http = Sink::start("http_sink.py", setup.path(), &[]);
    let key = secret(&setup, "hmac", "a secret\n");
    let alarms = [
        QUICK.to_owned(),
        mail(&smtp, "security = \"none\""),
        hook("pager", "http", &http, &format!("hmac_file = {key:?}")),
    ];
    let mut station = setup
        .rules(TO_VNA)
        .archive("vna", archive.port, "")
        .toml(&alarms.concat())
        .start();
    let sent = Object::many(objects::CT, 5);
    send(station.setup.dicom, station.setup.path(), &sent);
    first_message(&smtp.wait(1), &http.wait(1));
    let open = [("kind", "destination_down"), ("severity", "ticket")];
    assert_eq!(station.metric("incidents_open", &open), 1.0);

    // Told and written down: a kill in between is told again, because the other choice is never.
    let memory = station.setup.folder_of("alarms.json");
    wait_until("the messages are noted as delivered", SOON, || {
        let text = std::fs::read_to_string(&memory).unwrap_or_default();
        let noted: Value = serde_json::from_str(&text).unwrap_or_default();
        noted["outbox"]["letters"].as_array().is_some_and(Vec::is_empty) && noted["machine"]["incidents"][0].is_object()
    });
    station.kill();
    station.start();
    assert_eq!(station.metric("incidents_open", &open), 1.0, "from the first scrape on");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(station.metric("incidents_open", &open), 1.0);
    assert_eq!(
        (smtp.messages().len(), http.messages().len()),
        (1, 1),
        "{:?}",
        subjects(&smtp.messages())
    );

    archive.start();
    archive.wait_stored(5);
    let first = smtp.messages().remove(0);
    let (mails, posts) = (smtp.wait(2), http.wait(2));
    assert!(
        subjects(&mails)[1].starts_with("[testbox] OVER: vna cannot be reached"),
        "{:?}",
        subjects(&mails)
    );
    assert_eq!(mails[1]["headers"]["in-reply-to"], first["headers"]["message-id"]);
    let post: Value = serde_json::from_str(posts[1]["body"].as_str().expect("a body")).expect("JSON");
    assert!(
        post["news"] == "resolved" && post["affected"][0]["recovered"].is_string(),
        "{post}"
    );
    station.wait_metric("incidents_open", &[], |open| open == 0.0);
    // No patient, study or instance is named to anybody.
    let told = format!(
        "{mails:?}{posts:?}{}",
        std::fs::read_to_string(station.setup.folder_of("alarms.json")).expect("kept")
    );
    for object in &sent {
        assert!(!told.contains(&object.sop));
    }
    for word in ["CANARY", "Doe", "PatientName", "1.2.840"] {
        assert!(!told.contains(word), "{word}");
    }
}

/// What the first message says, and that the webhook's is signed.
#[track_caller]
fn first_message(mails: &[Value], posts: &[Value]) {
    assert_eq!(
        subjects(mails),
        ["[testbox] vna cannot be reached, and images wait for it"]
    );
    let body = text(&mails[0], "body");
    for wanted in [
        "Since:",
        "vna: 5 waiting jobs",
        "last trouble:",
        "is not known yet",
        "What it means: nothing is lost",
        "What to do:",
        "https://wiki.example/runbook#the-archive-has-no-new-images-wan-or-archive-down",
        "waystation alarms silence 1 --for",
    ] {
        assert!(body.contains(wanted), "{wanted} in {body}");
    }
    assert_eq!(mails[0]["to"].as_array().map(Vec::len), Some(2));
    assert_eq!(mails[0]["headers"]["auto-submitted"], "auto-generated");
    let post: Value = serde_json::from_str(posts[0]["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(
        (&post["news"], &post["kind"]),
        (&"opened".into(), &"destination_down".into())
    );
    assert_eq!(post["affected"][0]["name"], "vna");
    let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"a secret");
    let tag = aws_lc_rs::hmac::sign(&hmac, posts[0]["body"].as_str().unwrap_or_default().as_bytes());
    let wanted: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        posts[0]["headers"]["x-waystation-signature"],
        format!("sha256={wanted}")
    );
}

#[test]
fn a_cut_line_is_one_message_and_an_operator_can_take_and_silence_it() {
    let setup = Setup::new();
    let (first, second) = (free_port(), free_port());
    let http = Sink::start("http_sink.py", setup.path(), &[]);
    let station = setup
        .rules(r#"fn route(image, from) { to("vna"); to("cad"); }"#)
        .archive("vna", first, "")
        .archive("cad", second, "")
        .toml(&format!("{QUICK}{}", hook("pager", "http", &http, "")))
        .start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 2));
    let posts = http.wait(1);
    let post: Value = serde_json::from_str(posts[0]["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(
        post["title"],
        "2 destinations cannot be reached, and images wait for them: cad, vna"
    );
    let ls = |station: &Station| station.cli(&["alarms", "ls", "--json"]).json()["said"].clone();
    let listed = ls(&station);
    let rows = listed["incidents"].as_array().expect("rows");
    assert!(rows.len() == 1 && rows[0]["state"] == "open", "{listed}");
    let id = rows[0]["incident"].to_string();
    for refused in [
        vec!["alarms", "ack", "999", "--reason", "x"],
        vec!["alarms", "ack", &id, "--reason", "  "],
        vec![
            "alarms",
            "silence",
            "destination_down:vna",
            "--for",
            "200days",
            "--reason",
            "x",
        ],
        vec!["alarms", "unsilence", "disk_low"],
    ] {
        assert_eq!(station.cli(&refused).code, Some(1), "{refused:?}");
    }
    station.cli(&["alarms", "ack", &id, "--reason", "provider called"]).ok();
    let shown = station.cli(&["alarms", "ls"]).ok().out;
    assert!(
        shown.contains("acknowledged by uid") && shown.contains("provider called"),
        "{shown}"
    );
    station
        .cli(&[
            "alarms",
            "silence",
            "source_silent",
            "--for",
            "1day",
            "--reason",
            "holiday",
        ])
        .ok();
    assert_eq!(ls(&station)["silences"][0]["meant"], "source_silent");
    station.cli(&["alarms", "unsilence", "source_silent"]).ok();
    assert_eq!(ls(&station)["silences"], serde_json::json!([]));
    let tested = station.cli(&["alarms", "test"]).ok();
    assert_eq!(tested.out.trim(), "pager: delivered");
    http.behave("302");
    let failed = station.cli(&["alarms", "test"]);
    assert!(failed.code == Some(1) && failed.out.contains("302"), "{failed:?}");
    let news: Vec<Value> = http
        .messages()
        .iter()
        .filter(|post| post["status"] == 204)
        .map(news)
        .collect();
    assert_eq!(news, ["opened", "test"]);
    assert!(station.log().contains("provider called"));
}

fn news(post: &Value) -> Value {
    let body: Value = serde_json::from_str(post["body"].as_str().expect("a body")).expect("JSON");
    body["news"].clone()
}

#[test]
fn mail_with_starttls_and_a_signed_webhook_reach_whom_the_site_trusts_only() {
    goes_over_tls("starttls");
}

#[test]
fn mail_over_tls_reaches_whom_the_site_trusts_only() {
    goes_over_tls("tls");
}

fn goes_over_tls(security: &str) {
    let setup = Setup::new();
    let ca = setup.folder_of("ca");
    let (ours, other) = (Authority::new(&ca, "ours"), Authority::new(&ca, "other"));
    let pair = ours.sign("server", "localhost");
    let files = [&pair.certificate, &pair.key].map(|file| file.to_string_lossy().into_owned());
    let password = secret(&setup, "password", "open sesame\n");
    let header = secret(&setup, "header", "Authorization: Bearer token-1\n");
    let smtp = Sink::start(
        "smtp_sink.py",
        setup.path(),
        &[security, &files[0], &files[1], "box", "open sesame"],
    );
    let https = Sink::start("http_sink.py", setup.path(), &[&files[0], &files[1]]);
    let trust = |authority: &Authority| format!("ca = {:?}\n", authority.certificate);
    let login = format!("security = \"{security}\"\nusername = \"box\"\npassword_file = {password:?}\n");
    let alarms = [
        QUICK.to_owned(),
        mail(&smtp, &format!("{login}{}", trust(&ours))),
        hook(
            "good",
            "https",
            &https,
            &format!("{}header_file = {header:?}", trust(&ours)),
        ),
        hook("stranger", "https", &https, &trust(&other)),
    ];
    let station = setup.rules(TO_VNA).folder("vna").toml(&alarms.concat()).start();
    let tested = station.cli(&["alarms", "test"]);
    assert_eq!(tested.code, Some(1));
    let mut lines: Vec<&str> = tested.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines[..2],
        ["good: delivered", "mail: delivered"],
        "{}",
        station.log_tail()
    );
    assert!(
        lines[2].starts_with("stranger: ") && lines[2].contains("CA"),
        "{lines:?}"
    );
    let (mails, posts) = (smtp.messages(), https.messages());
    assert!(
        mails.len() == 1 && mails[0]["tls"] == true && mails[0]["user"] == "box",
        "{mails:?}"
    );
    assert!(
        posts.len() == 1 && posts[0]["headers"]["authorization"] == "Bearer token-1",
        "{posts:?}"
    );
    let log = station.log();
    assert!(!log.contains("sesame") && !log.contains("token-1"));
}

#[test]
fn what_nobody_takes_is_tried_again_across_a_restart() {
    let setup = Setup::new();
    let smtp = Sink::start("smtp_sink.py", setup.path(), &["plain"]);
    smtp.behave("refuse");
    let mut station = setup
        .rules(TO_VNA)
        .archive("vna", free_port(), "")
        .toml(&format!("{QUICK}{}", mail(&smtp, "security = \"none\"")))
        .start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    station.wait_metric(
        "alarm_messages_total",
        &[("channel", "mail"), ("result", "failed")],
        |n| n >= 1.0,
    );
    assert_eq!(station.metric("alarm_messages_waiting", &[("channel", "mail")]), 1.0);
    let shown = station.cli(&["alarms", "ls"]).ok().out;
    assert!(
        shown.contains("mail: 1 messages wait:") && shown.contains("451"),
        "{shown}"
    );
    station.restart();
    smtp.behave("");
    assert_eq!(subjects(&smtp.wait(1)).len(), 1);
    station.wait_metric("alarm_messages_waiting", &[("channel", "mail")], |n| n == 0.0);
}

#[test]
fn an_address_that_is_refused_is_named_and_keeps_nobody_else_waiting() {
    let setup = Setup::new();
    let smtp = Sink::start("smtp_sink.py", setup.path(), &["plain"]);
    smtp.behave("unknown night@");
    let station = setup
        .rules(TO_VNA)
        .archive("vna", free_port(), "")
        .toml(&format!("{QUICK}{}", mail(&smtp, "security = \"none\"")))
        .start();
    let tested = station.cli(&["alarms", "test"]);
    assert_eq!(tested.code, Some(1));
    for word in ["mail: ", "night@site.example: ", "550", "the others have it"] {
        assert!(tested.out.contains(word), "{word} in {}", tested.out);
    }
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 1));
    let told = smtp.wait(2);
    assert!(
        told.iter()
            .all(|mail| mail["to"] == serde_json::json!(["<it@site.example>"])),
        "{told:?}"
    );
    let waiting = [("channel", "mail")];
    station.wait_metric("alarm_messages_waiting", &waiting, |n| n == 1.0);
    // The others have it before the one address is tried by itself.
    wait_until("who has refused it is named", SOON, || {
        station.cli(&["alarms", "ls"]).ok().out.contains("night@site.example: ")
    });
    assert!(station.log().contains("night@site.example: "));
    // The address is there again: it gets what it lacks, a minute later, and nobody else does.
    smtp.behave("");
    wait_until("the rest of the mail", Duration::from_secs(90), || {
        smtp.messages().len() == 3
    });
    assert_eq!(smtp.messages()[2]["to"], serde_json::json!(["<night@site.example>"]));
    station.wait_metric("alarm_messages_waiting", &waiting, |n| n == 0.0);
}

#[test]
fn silence_holds_and_stale_rules_are_told_each_as_one_incident() {
    let setup = Setup::new();
    let http = Sink::start("http_sink.py", setup.path(), &[]);
    let silence = "[[alarms.silence]]\nsource = \"test\"\nhours = [\"Mon-Sun 00:00-24:00\"]\nafter = \"4s\"\n";
    let station = setup
        .rules(r#"fn route(image, from) { hold("looked at by a person"); }"#)
        .folder("vna")
        .toml(&format!("{QUICK}{silence}{}", hook("pager", "http", &http, "")))
        .start();
    send(station.setup.dicom, station.setup.path(), &Object::many(objects::CT, 3));
    station
        .setup
        .rule_file("main.rhai", "fn route(image, from) { to(\"nowhere\") ");
    let seen = |kind: &str, news: &str| {
        let bodies = http.messages().into_iter().map(|post| text(&post, "body"));
        let bodies = bodies.filter_map(|body| serde_json::from_str::<Value>(&body).ok());
        bodies
            .filter(|body| body["kind"] == kind && body["news"] == news)
            .collect::<Vec<Value>>()
    };
    for kind in ["jobs_held", "rules_stale", "source_silent"] {
        wait_until(kind, SOON, || seen(kind, "opened").len() == 1);
    }
    assert_eq!(seen("jobs_held", "opened")[0]["cause"], "rule");
    assert_eq!(seen("source_silent", "opened")[0]["affected"][0]["name"], "test");
    assert_eq!(station.metric("source_silent", &[("source", "test")]), 1.0);
    assert_eq!(station.metric("rules_stale", &[]), 1.0);
    // It sends again, the rules are mended, a person decides.
    let told = station.metric("source_last_received_timestamp_seconds", &[("source", "test")]);
    station.setup.rule_file("main.rhai", TO_VNA);
    station.wait_metric("rules_stale", &[], |stale| stale == 0.0);
    let mut sending = 0;
    wait_until("all is over", SOON, || {
        sending += 1;
        if sending % 40 == 1 {
            send(station.setup.dicom, station.setup.path(), &Object::many(objects::MR, 1));
            station.cli(&["queue", "reroute", "--state", "held", "--to", "vna"]);
            station.cli(&["queue", "release", "--state", "held"]);
        }
        ["jobs_held", "rules_stale", "source_silent"]
            .iter()
            .all(|kind| !seen(kind, "resolved").is_empty())
    });
    assert!(station.metric("source_last_received_timestamp_seconds", &[("source", "test")]) > told);
    for kind in ["jobs_held", "rules_stale"] {
        assert_eq!(seen(kind, "opened").len(), 1, "{kind}");
    }
}

#[test]
fn a_wrong_alarm_configuration_is_said_by_check() {
    let setup = Setup::new().rules(TO_VNA).folder("vna");
    let open = setup.folder_of("open.secret");
    std::fs::write(&open, "x\n").expect("writable");
    let alarms = format!(
        "[alarms]\ntimezone = \"Nowhere/City\"\n[alarms.mail]\nhost = \"mail.example\"\nsecurity = \"none\"\nfrom = \"x\"\nto = []\n\
         [[alarms.silence]]\nsource = \"ghost\"\n[[alarms.webhooks]]\nname = \"a\"\nurl = \"http://hooks.example/\"\nheader_file = {open:?}\n"
    );
    let station = setup.toml(&alarms).idle();
    let ran = station.cli(&["check"]);
    assert_eq!(ran.code, Some(1));
    let said = format!("{}{}", ran.out, ran.err);
    for wanted in [
        "alarms.timezone",
        "alarms.mail.security",
        "alarms.mail.from",
        "alarms.mail.to",
        "alarms.silence[0].source",
        "may be read by everybody",
        "use https",
    ] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
}
