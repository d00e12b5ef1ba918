//! What words put in place of a value by which others will ask: accession numbers and UIDs. An archive, a report or an order
//! names the written value; the modality knows only what it had sent. Filled by `Hand::alias`, handed on with the decision.
use super::Alias;
use super::fault::Fault;
use crate::base::phi::Phi;

/// Aliases of one evaluation: as many as there may be changes.
const ALIASES_MAX: usize = 1_000;

/// The aliases of one evaluation, each once.
#[derive(Default)]
pub(super) struct Aliases {
    list: Vec<Alias>,
    /// What stood between two words: the copies of a value are changed one after the other, each by way of it.
    passed: Vec<Alias>,
}

impl Aliases {
    /// Says that `written` stands where `old` stood. When `old` is itself what a word wrote, the alias leads back to what
    /// had been sent; with `replaces` nobody will see `old` any more, so its own alias goes.
    ///
    /// # Errors
    /// A budget, when there are too many.
    pub(super) fn add(&mut self, kind: &'static str, old: &str, written: &str, replaces: bool) -> Result<(), Fault> {
        let before = |alias: &&Alias| alias.kind == kind && alias.written.expose() == old;
        let origin = self.list.iter().chain(&self.passed).find(before);
        let sent = origin.map_or_else(|| old.to_owned(), |alias| alias.sent.expose().clone());
        let alias = Alias {
            kind,
            sent: Phi::new(sent),
            written: Phi::new(written.to_owned()),
        };
        if replaces && old != written {
            let is_passed = |alias: &mut Alias| alias.kind == kind && alias.written.expose() == old;
            self.passed.extend(self.list.extract_if(.., is_passed));
        }
        if alias.sent == alias.written || self.list.contains(&alias) {
            return Ok(());
        }
        if self.list.len() + self.passed.len() >= ALIASES_MAX {
            return Err(Fault::budget("the rules rename more than allowed"));
        }
        self.list.push(alias);
        Ok(())
    }

    pub(super) fn into_list(self) -> Vec<Alias> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(aliases: Aliases) -> Vec<(String, String)> {
        let list = aliases.into_list().into_iter();
        list.map(|alias| (alias.sent.into_exposed(), alias.written.into_exposed()))
            .collect()
    }

    fn pair(sent: &str, written: &str) -> (String, String) {
        (sent.to_owned(), written.to_owned())
    }

    #[test]
    fn an_alias_leads_back_to_what_was_sent_however_many_words_changed_it() {
        let mut aliases = Aliases::default();
        aliases.add("accession", "77", "0077", true).unwrap();
        aliases.add("accession", "0077", "RA0077", true).unwrap();
        aliases.add("accession", "0077", "RA0077", true).unwrap();
        aliases.add("uid", "77", "1.2", true).unwrap();
        assert_eq!(pairs(aliases), [pair("77", "RA0077"), pair("77", "1.2")]);
    }

    #[test]
    fn what_one_destination_gets_stands_beside_what_all_get() {
        let mut aliases = Aliases::default();
        aliases.add("accession", "77", "0077", true).unwrap();
        aliases.add("accession", "0077", "RA0077", false).unwrap();
        aliases.add("accession", "0077", "RA0077", false).unwrap();
        assert_eq!(pairs(aliases), [pair("77", "0077"), pair("77", "RA0077")]);
    }

    #[test]
    fn a_value_that_came_back_to_itself_has_no_alias() {
        let mut aliases = Aliases::default();
        aliases.add("accession", "77", "0077", true).unwrap();
        aliases.add("accession", "0077", "77", true).unwrap();
        assert_eq!(pairs(aliases), []);
        let mut full = Aliases::default();
        for number in 0..ALIASES_MAX {
            full.add("uid", "x", &number.to_string(), false).unwrap();
        }
        assert!(full.add("uid", "x", "one more", false).is_err());
    }
}
