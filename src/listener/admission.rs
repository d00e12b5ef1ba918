//! Who may send: default deny. Pure decisions over configuration, called by `accept` before anything is answered.
use super::config::{Config, Limits, SourceConfig, normal_fingerprint};
use super::tls::PeerIdentity;
use crate::base::names::{AeTitle, DestinationId, SourceId};
use crate::dicom::association::{Rejection, Request};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// PS3.7 A.2.1: the only application context there is.
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// So many slips of the finger still point to a configured AE title.
const NEAR: usize = 2;

/// Why a peer is refused: the word of the metric, and what the association is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Refusal {
    ProtocolVersion,
    ApplicationContext,
    CalledAe,
    CallingAe,
    /// The AE title is known, the address is not one of its own.
    Address,
    /// The AE title is bound to a certificate that the peer did not show.
    Certificate,
    TotalLimit,
    ListenerLimit,
    SourceLimit,
    Stopping,
}

/// The sources and limits in force. Immutable but for the counts; shared by all listeners.
#[derive(Clone)]
pub struct Admission {
    sources: Arc<Vec<SourceConfig>>,
    max_associations: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Default, Debug)]
struct Open {
    total: usize,
    listeners: BTreeMap<SourceId, usize>,
    sources: BTreeMap<SourceId, usize>,
}

/// A place among the open associations, given back when dropped.
#[derive(Debug)]
pub struct Place {
    open: Arc<Mutex<Open>>,
    listener: SourceId,
    source: SourceId,
}

/// Who is on the other side, as far as the transport shows it.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: IpAddr,
    pub identity: Option<PeerIdentity>,
}

impl Refusal {
    /// The label of the metric and the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ProtocolVersion => "protocol_version",
            Self::ApplicationContext => "application_context",
            Self::CalledAe => "called_ae",
            Self::CallingAe => "calling_ae",
            Self::Address => "address",
            Self::Certificate => "certificate",
            Self::TotalLimit => "total_limit",
            Self::ListenerLimit => "listener_limit",
            Self::SourceLimit => "source_limit",
            Self::Stopping => "stopping",
        }
    }

    /// The A-ASSOCIATE-RJ. A wrong address or certificate says no more than an unknown AE title does.
    #[must_use]
    pub fn rejection(self) -> Rejection {
        match self {
            Self::ProtocolVersion => Rejection::PROTOCOL_VERSION,
            Self::ApplicationContext => Rejection::APPLICATION_CONTEXT,
            Self::CalledAe => Rejection::CALLED_AE,
            Self::CallingAe | Self::Address | Self::Certificate => Rejection::CALLING_AE,
            Self::TotalLimit | Self::ListenerLimit | Self::SourceLimit => Rejection::LOCAL_LIMIT,
            Self::Stopping => Rejection::TEMPORARY_CONGESTION,
        }
    }
}

impl Admission {
    #[must_use]
    pub fn new(sources: Vec<SourceConfig>, limits: &Limits) -> Self {
        Self {
            sources: Arc::new(sources),
            max_associations: limits.max_associations,
            open: Arc::default(),
        }
    }

    /// The source that a request comes from, with its place among the open associations.
    ///
    /// # Errors
    /// The refusal; nothing is counted then.
    pub fn admit(&self, listener: &Config, peer: &Peer, request: &Request) -> Result<(SourceConfig, Place), Refusal> {
        if request.protocol_version & 1 == 0 {
            return Err(Refusal::ProtocolVersion);
        }
        if request.application_context.trim_end_matches(['\0', ' ']) != APPLICATION_CONTEXT {
            return Err(Refusal::ApplicationContext);
        }
        if !request
            .called
            .as_ref()
            .is_some_and(|called| listener.ae_titles.contains(called))
        {
            return Err(Refusal::CalledAe);
        }
        let calling = request.calling.as_ref().ok_or(Refusal::CallingAe)?;
        let source = self.source(calling, peer)?;
        let place = self.place(listener, source)?;
        let mut source = source.clone();
        source.speaks_for = self.speaks_for(calling, peer);
        Ok((source, place))
    }

    /// The archives whose answers are believed from this peer: those whose own entry, with its networks and certificates, admits it
    /// too. The peer may be admitted by another entry of the same AE title, which says nothing of the archive's.
    fn speaks_for(&self, calling: &AeTitle, peer: &Peer) -> Vec<(AeTitle, DestinationId)> {
        let entries = self.sources.iter().filter(|source| !source.speaks_for.is_empty());
        let admitting = entries.filter(|source| source.calling_ae.contains(calling) && near(source, peer).is_none());
        let all = admitting.flat_map(|source| &source.speaks_for);
        all.filter(|(title, _)| title == calling).cloned().collect()
    }

    /// The configured AE title that a refused request most likely meant: what a peer calls itself may be a patient's name, so
    /// a log shows ours instead. `None` when none is near, or it is the very one (the refusal has another reason).
    #[must_use]
    pub fn nearest(&self, listener: &Config, request: &Request) -> Option<AeTitle> {
        let called = (listener.ae_titles.iter().collect(), request.called.as_ref());
        let calling = (
            self.sources.iter().flat_map(|source| &source.calling_ae).collect(),
            request.calling.as_ref(),
        );
        let pairs: [(Vec<&AeTitle>, Option<&AeTitle>); 2] = [called, calling];
        pairs.into_iter().find_map(|(known, asked)| {
            let asked = asked?.as_str();
            if known.iter().any(|title| title.as_str() == asked) {
                return None;
            }
            let distance =
                |title: &&AeTitle| strsim::damerau_levenshtein(&title.as_str().to_uppercase(), &asked.to_uppercase());
            let near = known.into_iter().min_by_key(distance)?;
            (distance(&near) <= NEAR).then(|| near.clone())
        })
    }

    fn source(&self, calling: &AeTitle, peer: &Peer) -> Result<&SourceConfig, Refusal> {
        // The refusal says how near the nearest entry came: an entry may be one of several for the AE title.
        let mut nearest = Refusal::CallingAe;
        for source in self.sources.iter().filter(|source| source.calling_ae.contains(calling)) {
            match near(source, peer) {
                None => return Ok(source),
                Some(refusal) => nearest = nearest.max(refusal),
            }
        }
        Err(nearest)
    }

    fn place(&self, listener: &Config, source: &SourceConfig) -> Result<Place, Refusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at_listener = open.listeners.get(&listener.name).copied().unwrap_or(0);
        let of_source = open.sources.get(&source.name).copied().unwrap_or(0);
        if open.total >= self.max_associations {
            return Err(Refusal::TotalLimit);
        }
        if at_listener >= listener.max_associations {
            return Err(Refusal::ListenerLimit);
        }
        if of_source >= source.max_associations {
            return Err(Refusal::SourceLimit);
        }
        open.total += 1;
        open.listeners.insert(listener.name.clone(), at_listener + 1);
        open.sources.insert(source.name.clone(), of_source + 1);
        Ok(Place {
            open: self.open.clone(),
            listener: listener.name.clone(),
            source: source.name.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.listeners.get_mut(&self.listener) {
            *count -= 1;
        }
        if let Some(count) = open.sources.get_mut(&self.source) {
            *count -= 1;
        }
    }
}

/// Why an entry does not admit a peer that has its AE title; `None`: it does.
fn near(source: &SourceConfig, peer: &Peer) -> Option<Refusal> {
    let address = canonical(peer.address);
    if !source.addresses.iter().any(|network| network.contains(&address)) {
        return Some(Refusal::Address);
    }
    let bound = source.wants_certificate() && !shows_certificate(source, peer.identity.as_ref());
    bound.then_some(Refusal::Certificate)
}

/// An IPv4 peer on a dual-stack socket shows as `::ffff:a.b.c.d`; networks are written as IPv4.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn shows_certificate(source: &SourceConfig, identity: Option<&PeerIdentity>) -> bool {
    let Some(identity) = identity else { return false };
    let by_fingerprint = source
        .certificate_fingerprints
        .iter()
        .filter_map(|text| normal_fingerprint(text))
        .any(|fingerprint| fingerprint == identity.fingerprint);
    let by_name = source
        .certificate_names
        .iter()
        .any(|wanted| identity.names.iter().any(|shown| shown.eq_ignore_ascii_case(wanted)));
    by_fingerprint || by_name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Config {
        toml::from_str("name = \"dicom\"\naddress = \"127.0.0.1:0\"\nae_titles = [\"BOX\"]\nmax_associations = 3")
            .expect("parses")
    }

    fn source(text: &str) -> SourceConfig {
        toml::from_str(text).expect("parses")
    }

    fn request(called: &str, calling: &str) -> Request {
        Request {
            called: AeTitle::parse(called).ok(),
            calling: AeTitle::parse(calling).ok(),
            application_context: APPLICATION_CONTEXT.to_owned(),
            protocol_version: 1,
            contexts: Vec::new(),
            max_pdu: 0,
            implementation_class_uid: String::new(),
            implementation_version: String::new(),
            user_identity_type: None,
            ..Request::default()
        }
    }

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.parse().expect("an address"),
            identity: None,
        }
    }

    fn admission() -> Admission {
        let plain = "name = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"10.0.0.0/8\"]\nmax_associations = 2";
        let bound = "name = \"mr1\"\ncalling_ae = [\"MR1\"]\naddresses = [\"10.0.0.0/8\"]\n\
                     certificate_names = [\"mr1.example\"]";
        Admission::new(vec![source(plain), source(bound)], &Limits::default())
    }

    #[test]
    fn a_mapped_network_admits_its_ipv4_peers() {
        let mapped = "name = \"m\"\ncalling_ae = [\"M\"]\naddresses = [\"::ffff:10.0.0.0/104\"]";
        let admission = Admission::new(vec![source(mapped)], &Limits::default());
        for (address, refused) in [
            ("10.1.2.3", None),
            ("::ffff:10.1.2.3", None),
            ("11.1.2.3", Some(Refusal::Address)),
        ] {
            assert_eq!(
                refusal(&admission, &peer(address), &request("BOX", "M")),
                refused,
                "{address}"
            );
        }
    }

    fn refusal(admission: &Admission, peer: &Peer, request: &Request) -> Option<Refusal> {
        admission.admit(&listener(), peer, request).err()
    }

    #[test]
    fn whatever_no_entry_names_is_refused() {
        let admission = admission();
        let inside = peer("::ffff:10.1.2.3");
        assert_eq!(refusal(&admission, &inside, &request("BOX", "CT1")), None);
        assert_eq!(
            refusal(&admission, &inside, &request("OTHER", "CT1")),
            Some(Refusal::CalledAe)
        );
        assert_eq!(
            refusal(&admission, &inside, &request("BOX", "CT2")),
            Some(Refusal::CallingAe)
        );
        assert_eq!(
            refusal(&admission, &inside, &request("BOX", "")),
            Some(Refusal::CallingAe)
        );
        assert_eq!(
            refusal(&admission, &peer("192.168.0.1"), &request("BOX", "CT1")),
            Some(Refusal::Address)
        );
        let mut newer = request("BOX", "CT1");
        newer.protocol_version = 3;
        assert_eq!(refusal(&admission, &inside, &newer), None);
        newer.protocol_version = 2;
        assert_eq!(refusal(&admission, &inside, &newer), Some(Refusal::ProtocolVersion));
        newer = request("BOX", "CT1");
        newer.application_context = "1.2.3".to_owned();
        assert_eq!(refusal(&admission, &inside, &newer), Some(Refusal::ApplicationContext));
    }

    #[test]
    fn a_refusal_names_the_configured_title_that_was_meant() {
        let admission = admission();
        let nearest = |called, calling| admission.nearest(&listener(), &request(called, calling));
        assert_eq!(nearest("BOX", "ct1x"), AeTitle::parse("CT1").ok());
        assert_eq!(nearest("BOXX", "CT1"), AeTitle::parse("BOX").ok());
        assert_eq!(nearest("BOX", "DOE_JANE"), None);
        assert_eq!(nearest("BOX", "CT1"), None);
    }

    #[test]
    fn an_ae_title_bound_to_a_certificate_needs_it() {
        let admission = admission();
        let mut inside = peer("10.1.2.3");
        assert_eq!(
            refusal(&admission, &inside, &request("BOX", "MR1")),
            Some(Refusal::Certificate)
        );
        inside.identity = Some(PeerIdentity {
            fingerprint: [1; 32],
            names: vec!["ct1.example".to_owned()],
        });
        assert_eq!(
            refusal(&admission, &inside, &request("BOX", "MR1")),
            Some(Refusal::Certificate)
        );
        inside.identity = Some(PeerIdentity {
            fingerprint: [1; 32],
            names: vec!["MR1.example".to_owned()],
        });
        assert_eq!(refusal(&admission, &inside, &request("BOX", "MR1")), None);
    }

    /// A destination `vna` whose answers come from `VNA`.
    fn archive(commitment: &str) -> Option<SourceConfig> {
        let named = "name = \"vna\"\nhost = \"vna.example\"\nport = 104\ncalled_ae = \"VNA\"\ncalling_ae = \"BOX\"";
        let text = format!("{named}\n[commitment]\n{commitment}");
        super::super::commitment::archive(&toml::from_str(&text).expect("parses"))
    }

    /// Whom a peer may speak for that a `[[sources]]` entry with the archive's AE title admits from everywhere.
    fn believed(commitment: &str, peer: &Peer, calling: &str) -> Vec<String> {
        let known = "name = \"vna\"\ncalling_ae = [\"VNA\", \"OTHER\"]\naddresses = [\"0.0.0.0/0\"]";
        let sources = std::iter::once(source(known)).chain(archive(commitment)).collect();
        let admission = Admission::new(sources, &Limits::default());
        let (source, _place) = admission
            .admit(&listener(), peer, &request("BOX", calling))
            .expect("admitted");
        assert!(!source.only_reports, "it is admitted by its own entry");
        source
            .speaks_for
            .iter()
            .map(|(_, archive)| archive.to_string())
            .collect()
    }

    #[test]
    fn an_archive_that_is_a_source_too_is_believed_only_by_its_own_networks_and_certificates() {
        let inside = peer("10.9.0.5");
        let addresses = "addresses = [\"10.9.0.5\"]";
        assert_eq!(believed(addresses, &inside, "VNA"), ["vna"]);
        assert_eq!(believed(addresses, &inside, "OTHER"), [""; 0]);
        assert_eq!(believed(addresses, &peer("10.1.2.3"), "VNA"), [""; 0]);
        assert_eq!(believed("", &inside, "VNA"), [""; 0], "no network is named");
        let bound = format!("{addresses}\ncertificate_names = [\"vna.example\"]");
        assert_eq!(believed(&bound, &inside, "VNA"), [""; 0]);
        let shows = |name: &str| Peer {
            identity: Some(PeerIdentity {
                fingerprint: [1; 32],
                names: vec![name.to_owned()],
            }),
            ..inside.clone()
        };
        assert_eq!(believed(&bound, &shows("ct1.example"), "VNA"), [""; 0]);
        assert_eq!(believed(&bound, &shows("vna.example"), "VNA"), ["vna"]);
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let admission = admission();
        let inside = peer("10.1.2.3");
        let first = admission
            .admit(&listener(), &inside, &request("BOX", "CT1"))
            .expect("admitted");
        let _second = admission
            .admit(&listener(), &inside, &request("BOX", "CT1"))
            .expect("admitted");
        assert_eq!(
            refusal(&admission, &inside, &request("BOX", "CT1")),
            Some(Refusal::SourceLimit)
        );
        drop(first);
        assert_eq!(refusal(&admission, &inside, &request("BOX", "CT1")), None);
        assert_eq!(
            Refusal::SourceLimit.rejection(),
            Rejection {
                result: 2,
                source: 3,
                reason: 2
            }
        );
    }
}
