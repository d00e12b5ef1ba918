//! Who is told: the source of a request, and how it is called.
use super::{Shared, Source};
use crate::base::names::SourceId;
use crate::base::units::Span;
use crate::listener::SourceConfig;
use crate::sender::commitment::Caller;
use crate::sender::config::{Dicom, Duplicate, Retry, Timeouts};
use crate::sender::tls::TlsError;
use crate::spool::commitment::Open;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

/// How to call a source back; `None` when it has no address.
pub(super) fn caller(source: &SourceConfig) -> Result<Option<Caller>, TlsError> {
    let config = &source.commitment;
    let (Some(host), Some(port), Some(title)) = (&config.host, config.port, source.calling_ae.first()) else {
        return Ok(None);
    };
    let peer = Dicom {
        // A source's name obeys the same rules.
        name: crate::base::names::DestinationId::parse(source.name.as_str())
            .unwrap_or_else(|_| unreachable!("names have one grammar")),
        host: host.clone(),
        port,
        // Both are set for each call.
        called_ae: config.called_ae.clone().unwrap_or_else(|| title.clone()),
        calling_ae: title.clone(),
        associations: 1,
        batch: 0,
        idle: Span::secs(1),
        timeouts: Timeouts::default(),
        tls: config.tls.clone(),
        max_pdu: crate::dicom::association::DEFAULT_MAX_PDU,
        retry: Retry::default(),
        tries: 1,
        duplicate: Duplicate::Hold,
        probe: Span::secs(30),
        stuck: Span::secs(120),
        park_recheck: Span::secs(3_600),
        window: 1,
        ceiling: Vec::new(),
        convert: false,
        compress: None,
        decompress_lossy: false,
        commitment: None,
    };
    Caller::new(peer, Duration::ZERO).map(Some)
}

impl Shared {
    /// The source that a request came from, with its name in force.
    pub(super) fn source_of(&self, open: &Open) -> Option<(&SourceId, &Source)> {
        source_of(&self.sources, open)
    }

    /// Whether a source is to be told something.
    pub(super) fn owes(&self, source: &SourceId) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().any(|waits| waits.told_as.as_ref() == Some(source))
    }
}

/// When no source has the name any more: the one that has the AE title, if there is just one. The name is the configuration's, the AE
/// title the peer's own.
fn source_of<'a>(sources: &'a BTreeMap<SourceId, Source>, open: &Open) -> Option<(&'a SourceId, &'a Source)> {
    if let Some(found) = sources.get_key_value(&open.source) {
        return Some(found);
    }
    let mut titled = sources
        .iter()
        .filter(|(_, source)| source.titles.contains(&open.calling));
    titled.next().filter(|_| titled.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Wall;
    use crate::base::names::{AeTitle, Uid};
    use crate::spool::commitment::{Level, Progress};
    use tokio::sync::{Notify, Semaphore};

    fn known(entries: &[(&str, &[&str])]) -> BTreeMap<SourceId, Source> {
        let source = |titles: &[&str]| Source {
            config: crate::listener::commitment::Config::default(),
            titles: titles.iter().map(|title| AeTitle::parse(title).unwrap()).collect(),
            caller: None,
            poke: Notify::new(),
            calls: Semaphore::new(1),
        };
        let entries = entries.iter();
        entries
            .map(|(name, titles)| (SourceId::parse(name).unwrap(), source(titles)))
            .collect()
    }

    #[test]
    fn a_source_that_was_renamed_is_found_by_its_ae_title_when_one_has_it() {
        let open = Open {
            id: 1,
            transaction: Uid::known("2.25.1"),
            source: SourceId::parse("ct1").unwrap(),
            calling: AeTitle::parse("CT1").unwrap(),
            called: AeTitle::parse("WAY").unwrap(),
            level: Level::Edge,
            at: Wall(0),
            references: 1,
            progress: Progress::Waiting,
        };
        let found = |entries: &[(&str, &[&str])]| {
            let sources = known(entries);
            source_of(&sources, &open).map(|(name, _)| name.to_string())
        };
        assert_eq!(found(&[("ct1", &["NEW"]), ("other", &["CT1"])]).as_deref(), Some("ct1"));
        assert_eq!(
            found(&[("mr1", &["MR1"]), ("new", &["CT1", "CT2"])]).as_deref(),
            Some("new")
        );
        assert_eq!(found(&[("one", &["CT1"]), ("two", &["CT1"])]), None, "which of them?");
        assert_eq!(found(&[("mr1", &["MR1"])]), None);
    }
}
