//! `[limits]`, `[[listeners]]` and `[[sources]]` of the configuration: who may send, where, and how much at once.
use super::tls;
use crate::base::names::{AeTitle, DestinationId, SourceId};
use crate::base::units::{Size, Span};
use crate::dicom::association::Timeouts;
use crate::dicom::text::Charset;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// `[limits]`: bounds over all listeners together.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Associations open at once, over all listeners. One more is rejected 2/3/2.
    pub max_associations: usize,
    /// Connections that have not asked for an association yet, over all listeners; fewer when the system allows fewer open
    /// files. For one more, the connection that waits longest is closed.
    pub max_pending: usize,
    /// The longest data set that is taken. A longer one is answered A700 and not kept.
    pub max_instance: Size,
}

/// `[[listeners]]`: one port.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its name in logs and metrics.
    pub name: SourceId,
    pub address: SocketAddr,
    /// The called AE titles that it answers to.
    pub ae_titles: Vec<AeTitle>,
    /// Associations open at once on this listener.
    #[serde(default = "default_associations")]
    pub max_associations: usize,
    /// The maximum PDU length that is offered to peers.
    #[serde(default = "default_max_pdu")]
    pub max_pdu: Size,
    #[serde(default)]
    pub timeouts: StateTimeouts,
    /// Absent: plain DICOM. A listener is one or the other, never both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Config>,
}

/// The deadline of each protocol state of an acceptor.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateTimeouts {
    /// The TLS handshake.
    pub handshake: Span,
    /// From the connection (or handshake) to the whole A-ASSOCIATE-RQ: ARTIM of PS3.8.
    pub association: Span,
    /// Between two messages.
    pub idle: Span,
    /// The longest silence inside a message.
    pub transfer: Span,
    /// The longest standstill of our own writing.
    pub write: Span,
    /// For the peer to close after a release or a rejection.
    pub release: Span,
}

/// `[[sources]]`: a system that may send. Whatever no entry names is refused.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name in rules, logs and metrics.
    pub name: SourceId,
    /// The calling AE titles that it uses.
    pub calling_ae: Vec<AeTitle>,
    /// The networks that it may come from, as `10.1.2.0/24`; a single address may stand without its `/32`.
    #[serde(deserialize_with = "crate::base::networks::deserialize")]
    pub addresses: Vec<IpNet>,
    /// SHA-256 fingerprints of the certificates that it may show (hexadecimal, colons allowed). With any fingerprint or
    /// name, the source is admitted over TLS with such a certificate only.
    #[serde(default)]
    pub certificate_fingerprints: Vec<String>,
    /// Common names or DNS names of the certificates that it may show.
    #[serde(default)]
    pub certificate_names: Vec<String>,
    /// Associations that it may have open at once.
    #[serde(default = "default_source_associations")]
    pub max_associations: usize,
    /// Whether SOP classes that the DICOM dictionary does not know (private ones too) are taken.
    #[serde(default = "yes")]
    pub unknown_classes: bool,
    /// What a repeated send of the same instance with the same content does.
    #[serde(default)]
    pub repeat: Repeat,
    /// The character set of its text where neither the text nor Specific Character Set says it; for the rules' `charset::` words.
    #[serde(default)]
    pub charset: Option<String>,
    /// What it is promised when it asks for storage commitment, and where the answers go.
    #[serde(default)]
    pub commitment: super::commitment::Config,
    /// Archives whose answers to our own requests it gives, with the AE title that it gives them from. Not configured here.
    #[serde(skip)]
    pub speaks_for: Vec<(AeTitle, DestinationId)>,
    /// It may send nothing but such answers.
    #[serde(skip)]
    pub only_reports: bool,
    /// It has asked for commitment and is not told yet. Said of one association.
    #[serde(skip)]
    pub is_owed: bool,
}

/// What a repeated send of the same instance with the same content does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    /// It is acknowledged and not delivered again.
    #[default]
    Acknowledge,
    /// It is delivered again.
    Deliver,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_associations: 256,
            max_pending: 16_384,
            max_instance: Size::gib(32),
        }
    }
}

impl Limits {
    /// What would let nothing in, as sentences that say what to do.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let bounds = [
            ("max_associations", self.max_associations == 0),
            ("max_instance", self.max_instance.0 == 0),
        ];
        let zero = bounds.into_iter().filter(|(_, zero)| *zero);
        zero.map(|(key, _)| format!("`{key}` is 0: nothing could be received"))
            .collect()
    }
}

impl Default for StateTimeouts {
    fn default() -> Self {
        Self {
            handshake: Span::secs(10),
            association: Span::secs(30),
            idle: Span::secs(300),
            transfer: Span::secs(60),
            write: Span::secs(60),
            release: Span::secs(10),
        }
    }
}

impl StateTimeouts {
    /// The deadlines as the upper layer takes them.
    #[must_use]
    pub fn upper_layer(&self) -> Timeouts {
        Timeouts {
            association: self.association.0,
            idle: self.idle.0,
            transfer: self.transfer.0,
            write: self.write.0,
            response: self.idle.0,
            release: self.release.0,
        }
    }

    fn check(&self) -> impl Iterator<Item = String> + use<> {
        let spans = [
            ("handshake", self.handshake),
            ("association", self.association),
            ("idle", self.idle),
            ("transfer", self.transfer),
            ("write", self.write),
            ("release", self.release),
        ];
        let zero = spans.into_iter().filter(|(_, span)| span.0.is_zero());
        zero.map(|(key, _)| format!("`timeouts.{key}` is 0: every peer would be late; write a span such as \"30s\""))
    }
}

impl Config {
    /// Relations between keys, as sentences that say what to do. The place stands before them in the report.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.ae_titles.is_empty() {
            problems.push("`ae_titles` is empty: name at least one AE title that peers call".to_owned());
        }
        if self.max_associations == 0 {
            problems.push("`max_associations` is 0: nothing could be received".to_owned());
        }
        if !(4096..=16 << 20).contains(&self.max_pdu.0) {
            problems.push("`max_pdu` is outside 4KiB to 16MiB".to_owned());
        }
        problems.extend(self.timeouts.check());
        problems
    }
}

impl SourceConfig {
    /// Whether only a certificate that is named here admits this source.
    #[must_use]
    pub fn wants_certificate(&self) -> bool {
        !self.certificate_fingerprints.is_empty() || !self.certificate_names.is_empty()
    }

    /// Relations between keys, as sentences that say what to do.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.calling_ae.is_empty() {
            problems.push("`calling_ae` is empty: name the AE titles that this source uses".to_owned());
        }
        if self.addresses.is_empty() {
            problems
                .push("`addresses` is empty: nobody could send; name its networks, such as \"10.1.2.0/24\"".to_owned());
        }
        if self.max_associations == 0 {
            problems.push(
                "`max_associations` is 0: nothing of this source could be received; remove the entry to refuse it"
                    .to_owned(),
            );
        }
        for (index, fingerprint) in self.certificate_fingerprints.iter().enumerate() {
            if normal_fingerprint(fingerprint).is_none() {
                problems.push(format!(
                    "`certificate_fingerprints[{index}]` is not a SHA-256: write 64 hexadecimal digits, with or without colons"
                ));
            }
        }
        if self
            .charset
            .as_deref()
            .is_some_and(|name| Charset::named(name).is_none())
        {
            problems
                .push("`charset` is no character set: write a term such as \"ISO_IR 100\" or \"GB18030\"".to_owned());
        }
        problems.extend(self.commitment.check());
        problems
    }
}

/// A fingerprint's 32 bytes; `None` when it is not 64 hexadecimal digits (colons allowed).
#[must_use]
pub fn normal_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let text = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(bytes)
}

fn default_associations() -> usize {
    128
}

fn default_source_associations() -> usize {
    32
}

fn default_max_pdu() -> Size {
    Size(128 << 10)
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(normal_fingerprint(&plain), Some([0xab; 32]));
        assert_eq!(normal_fingerprint(&colons), Some([0xab; 32]));
        assert_eq!(normal_fingerprint("ab"), None);
    }

    #[test]
    fn a_single_address_is_a_network_of_one() {
        let text = |address: &str| format!("name = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"{address}\"]");
        let source: SourceConfig = toml::from_str(&text("127.0.0.1")).expect("parses");
        assert_eq!(source.addresses, ["127.0.0.1/32".parse::<IpNet>().expect("a network")]);
        let wrong = toml::from_str::<SourceConfig>(&text("127.0.0"))
            .expect_err("no network")
            .to_string();
        assert!(wrong.contains("10.1.2.0/24"), "{wrong}");
    }

    #[test]
    fn a_bound_of_nothing_is_a_problem() {
        let limits: Limits = toml::from_str("max_associations = 0\nmax_instance = \"0B\"").expect("parses");
        assert_eq!(limits.check().len(), 2);
        assert_eq!(Limits::default().check(), Vec::<String>::new());
        let source = "name = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"10.0.0.0/8\"]\nmax_associations = 0";
        let said = toml::from_str::<SourceConfig>(source).expect("parses").check();
        assert!(said.len() == 1 && said[0].starts_with("`max_associations`"), "{said:?}");
        for key in ["handshake", "association", "idle", "transfer", "write", "release"] {
            let listener = format!(
                "name = \"a\"\naddress = \"127.0.0.1:0\"\nae_titles = [\"BOX\"]\ntimeouts = {{ {key} = \"0s\" }}"
            );
            let said = toml::from_str::<Config>(&listener).expect("parses").check();
            assert!(
                said.len() == 1 && said[0].starts_with(&format!("`timeouts.{key}`")),
                "{said:?}"
            );
        }
    }

    #[test]
    fn a_source_without_addresses_is_a_problem() {
        let source: SourceConfig =
            toml::from_str("name = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = []").expect("parses");
        assert_eq!(source.check().len(), 1);
        assert_eq!(source.repeat, Repeat::Acknowledge);
    }
}
