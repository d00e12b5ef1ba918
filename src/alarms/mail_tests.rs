//! Messages to a mail server that does not take everybody.
use super::super::incident::{Event, Incident, News};
use super::super::kind::Severity;
use super::super::outbox::Outbox;
use super::super::text::Text;
use super::*;
use crate::base::units::Span;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The envelopes of the messages that were kept.
type Kept = Arc<Mutex<Vec<Vec<String>>>>;

/// A server of one that knows no `nobody@` and takes nothing for `busy@` now.
fn server() -> (u16, Kept) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Kept::default();
    let journal = kept.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            session(stream.unwrap(), &journal);
        }
    });
    (port, kept)
}

fn session(mut stream: TcpStream, kept: &Kept) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let (mut to, mut in_data) = (Vec::new(), false);
    let _ = stream.write_all(b"220 sink ESMTP\r\n");
    for line in lines.map_while(Result::ok) {
        let answer = match line.get(..4) {
            _ if in_data && line != "." => continue,
            _ if in_data => {
                in_data = false;
                kept.lock().unwrap().push(std::mem::take(&mut to));
                "250 kept"
            }
            Some("RCPT") if line.contains("nobody@") => "550 5.1.1 no such user",
            Some("RCPT") if line.contains("busy@") => "451 4.7.1 come again",
            Some("RCPT") => {
                let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                to.push(address.to_owned());
                "250 ok"
            }
            Some("DATA") => {
                in_data = true;
                "354 go on"
            }
            Some("MAIL") => {
                to.clear();
                "250 ok"
            }
            _ => "250 ok",
        };
        if stream.write_all(format!("{answer}\r\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn mailer(port: u16, to: &[&str]) -> Mailer {
    let mail = Mail {
        host: "127.0.0.1".to_owned(),
        port: Some(port),
        security: Security::None,
        from: "Box <box@site.example>".to_owned(),
        to: to.iter().map(|name| format!("{name}@site.example")).collect(),
        username: None,
        password_file: None,
        ca: PathBuf::new(),
        severity: Severity::Ticket,
        timeout: Span::secs(20),
    };
    Mailer::new(mail, "box")
}

fn letter(to: &[String]) -> Letter {
    let mut outbox = Outbox::default();
    let event = Event {
        news: News::Opened,
        at: 0,
        incident: Incident::for_test(7, 1),
    };
    let text = Text {
        subject: "s".to_owned(),
        body: "b".to_owned(),
        json: serde_json::Value::Null,
    };
    outbox.add("mail", &event, text);
    let mut letter = outbox.letters.remove(0);
    letter.to = to.to_vec();
    letter
}

#[tokio::test]
async fn one_that_is_refused_keeps_it_from_nobody_else_and_is_named() {
    let (port, kept) = server();
    let kept = || std::mem::take(&mut *kept.lock().unwrap());
    assert_eq!(mailer(port, &["a", "b"]).send(&letter(&[])).await, Ok(()));
    assert_eq!(kept(), [["a@site.example", "b@site.example"]], "to all at once");
    let all = mailer(port, &["a", "nobody", "b"]);
    let refusal = all.send(&letter(&[])).await.unwrap_err();
    assert_eq!(kept(), [["a@site.example"], ["b@site.example"]]);
    assert_eq!(refusal.left, ["nobody@site.example"]);
    assert!(refusal.for_good, "{refusal:?}");
    for word in ["nobody@site.example: ", "550", "no such user", "the others have it"] {
        assert!(refusal.words.contains(word), "{word} in {}", refusal.words);
    }
    // The next attempt is for those who lack it, and for nobody who is not configured any more.
    let again = all.send(&letter(&refusal.left)).await.unwrap_err();
    assert_eq!((kept().len(), again.left), (0, refusal.left.clone()));
    assert_eq!(mailer(port, &["a"]).send(&letter(&refusal.left)).await, Ok(()));
    assert_eq!(kept().len(), 0);
    // What may be taken later is not refused for good; what nobody has is for all.
    let refusal = mailer(port, &["nobody", "busy"]).send(&letter(&[])).await.unwrap_err();
    assert_eq!((refusal.for_good, refusal.left.len()), (false, 0), "{refusal:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_of_the_channel() {
    let closed = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refusal = mailer(closed, &["a", "b"]).send(&letter(&[])).await.unwrap_err();
    assert!(!refusal.for_good && !refusal.words.contains("a@site"), "{refusal:?}");
}

#[test]
fn a_port_of_starttls_is_told_to_be_one() {
    let said = "received corrupt message of type InvalidContentType";
    let hint = hinted(said.to_owned(), Security::Tls);
    assert!(
        hint.starts_with(said) && hint.contains("security = \"starttls\""),
        "{hint}"
    );
    assert_eq!(hinted(said.to_owned(), Security::Starttls), said);
    assert_eq!(
        hinted("connection refused".to_owned(), Security::Tls),
        "connection refused"
    );
}
