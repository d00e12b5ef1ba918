//! A GET by hand, and the exposition format read into numbers.
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The status and the body; `None` while nobody answers.
pub fn get(port: u16, path: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(
        !head.to_lowercase().contains("chunked"),
        "HTTP/1.0 has no chunks: {head}"
    );
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_off(end + 4)))
}

/// Labels with their values, and the sample's value.
type Sample = (Vec<(String, String)>, f64);

/// One scrape.
#[derive(Debug)]
pub struct Scrape {
    pub text: String,
    series: BTreeMap<String, Vec<Sample>>,
}

impl Scrape {
    pub fn parse(text: String) -> Self {
        let mut series: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (name, labels) = match name.split_once('{') {
                Some((name, labels)) => (name, labels_of(labels.trim_end_matches('}'))),
                None => (name, Vec::new()),
            };
            let value = value.parse().expect("a number in the exposition");
            series.entry(name.to_owned()).or_default().push((labels, value));
        }
        Self { text, series }
    }

    /// The sum of all series of a metric that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has =
            |found: &[(String, String)], (key, value): &(&str, &str)| found.iter().any(|(k, v)| k == key && v == value);
        let of_name = self.series.get(name).into_iter().flatten();
        of_name
            .filter(|(found, _)| labels.iter().all(|label| has(found, label)))
            .map(|(_, value)| value)
            .sum()
    }
}

fn labels_of(text: &str) -> Vec<(String, String)> {
    // Label values of this box never hold a comma or a quote: they are names from configuration and words.
    let pair = |pair: &str| {
        pair.split_once('=')
            .map(|(k, v)| (k.to_owned(), v.trim_matches('"').to_owned()))
    };
    text.split(',').filter_map(pair).collect()
}
