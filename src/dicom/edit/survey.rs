//! What the bytes of a head's text really are, whatever Specific Character Set says: devices declare one set and write another.
//!
//! Promises: the same head and options give the same answer; a text is only said to be in a set that reads all of it; text
//! that no candidate reads is reported and never guessed at. The order of the decision, for each text that is not plain
//! ASCII: its escape sequences; UTF-8, whatever is declared; the declared set; the fallback of the source; nobody knows.
//! Called by rules. Changes nothing by itself: `Plan::recoded` writes what follows from it.
//!
//! Two letters of a Thai, Kana or Chinese name are now and then valid UTF-8 by accident. A declared set that is not Latin and
//! reads everything is therefore believed, unless something speaks for UTF-8 that such text does not have: see `is_plain_utf8`.
//! Of a Latin set UTF-8 is believed, unless it makes nonsense of what are words in that set: see `is_better_as_declared`.
use super::Edit;
use super::places::{Place, Places, Text};
use super::recode::moved;
use super::tree::padded;
use crate::dicom::head::Head;
use crate::dicom::path::Path;
use crate::dicom::text::{Charset, Decoded, Form};
use dicom_core::VR;
use std::collections::{BTreeMap, BTreeSet};

/// What a person said of the bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Advice {
    /// What text is in that neither UTF-8 nor the declared set reads.
    pub fallback: Option<Charset>,
    /// What the text under the root's declaration is in, whatever it says.
    pub certain: Option<Charset>,
}

/// The answer for one head.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    sets: Vec<Charset>,
    /// Texts that are not plain ASCII, by node: the index of their set.
    found: BTreeMap<usize, usize>,
    scopes: Vec<Scope>,
    is_certain: bool,
    /// Some text is in no set that was asked.
    pub undecidable: bool,
    /// UTF-8 was found where something else was declared.
    pub undeclared_utf8: bool,
    /// The fallback decided.
    pub by_fallback: bool,
}

/// The root, or an item that declares a set of its own, with the text under that declaration.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Scope {
    path: Path,
    terms: Vec<String>,
    declared: Charset,
    /// Texts that are not plain ASCII.
    odd: Vec<(usize, Form)>,
    is_root: bool,
}

/// A declaration as it must become: the path of (0008,0005) and its values; none: it must go.
pub type Declaration = (Path, Vec<String>);

impl Survey {
    #[must_use]
    pub fn of(head: &Head, advice: &Advice) -> Self {
        let mut survey = Self {
            scopes: scopes(head),
            is_certain: advice.certain.is_some(),
            ..Self::default()
        };
        let root = survey.scopes.first().map(|scope| scope.declared.clone());
        for at in 0..survey.scopes.len() {
            let scope = survey.scopes[at].clone();
            let is_meant = Some(&scope.declared) == root.as_ref();
            let certain = advice.certain.as_ref().filter(|_| is_meant);
            let readings = Scene::of(head, &scope, advice.fallback.as_ref(), certain).readings();
            for ((node, _), reading) in scope.odd.iter().zip(readings) {
                survey.note(*node, &scope, reading);
            }
        }
        survey
    }

    fn note(&mut self, node: usize, scope: &Scope, reading: Option<(Charset, By)>) {
        let Some((charset, by)) = reading else {
            self.undecidable = true;
            return;
        };
        self.undeclared_utf8 |= charset.is_utf8() && !scope.declared.is_utf8() && by == By::Itself;
        self.by_fallback |= by == By::Fallback;
        let at = self.sets.iter().position(|set| *set == charset);
        let at = at.unwrap_or_else(|| {
            self.sets.push(charset);
            self.sets.len() - 1
        });
        self.found.insert(node, at);
    }

    /// The set that a text is in; `None` for plain ASCII, for unknown bytes and for what is no text.
    #[must_use]
    pub fn found(&self, node: usize) -> Option<&Charset> {
        self.found.get(&node).map(|at| &self.sets[*at])
    }

    /// Whether all text is plain ASCII.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.found.is_empty() && !self.undecidable
    }

    /// Whether a person said what the bytes are, so that they are not judged by what can be seen of them.
    #[must_use]
    pub fn is_word_of_a_person(&self) -> bool {
        self.is_certain
    }

    /// The sets of the text under the root's declaration, each once.
    #[must_use]
    pub fn root_sets(&self) -> Vec<&Charset> {
        self.scopes.first().map(|scope| self.sets_of(scope)).unwrap_or_default()
    }

    fn sets_of(&self, scope: &Scope) -> Vec<&Charset> {
        let found: BTreeSet<usize> = scope
            .odd
            .iter()
            .filter_map(|(node, _)| self.found.get(node).copied())
            .collect();
        found.into_iter().map(|at| &self.sets[at]).collect()
    }

    /// The declarations that must change so that all of them are true and in the standard's words. Where one declaration cannot
    /// be true for all its text, UTF-8 is declared, and `Plan::recoded` writes the text so.
    #[must_use]
    pub fn mended(&self, head: &Head) -> Vec<Declaration> {
        let mut changed = Vec::new();
        for scope in &self.scopes {
            let sets = self.sets_of(scope);
            let wanted = match sets[..] {
                // A wrong word is put right where it is understood.
                [] if scope.declared.is_known() => scope.declared.clone(),
                [] => continue,
                [only] if self.can_say(head, scope, only) => only.clone(),
                _ => Charset::utf8(),
            };
            let terms = wanted.terms().unwrap_or_default();
            let is_said = wanted.is_said_by(&scope.terms) || Charset::of(&terms).is_said_by(&scope.terms);
            if !is_said {
                changed.push((scope.path.clone(), terms));
            }
        }
        changed
    }

    /// Whether DICOM has terms for the set, and the set as they say it expresses all of the scope's text.
    fn can_say(&self, head: &Head, scope: &Scope, set: &Charset) -> bool {
        set.terms().is_some_and(|terms| {
            let strict = Charset::of(&terms);
            scope.odd.iter().all(|text| self.fits(head, *text, &strict))
        })
    }

    fn fits(&self, head: &Head, (node, form): (usize, Form), set: &Charset) -> bool {
        let Some(found) = self.found(node) else { return true };
        moved(head.raw(node), form, found, set, true).is_none_or(|moved| moved.is_ok())
    }

    /// Whether all text that was surveyed can be written in `set`.
    #[must_use]
    pub fn fits_all(&self, head: &Head, set: &Charset) -> bool {
        let mut odd = self.scopes.iter().flat_map(|scope| &scope.odd);
        odd.all(|text| self.fits(head, *text, set))
    }

    /// The edits that take away the declarations of items, so that the root's holds for all of them.
    #[must_use]
    pub fn without_inner(&self) -> Vec<Edit> {
        let inner = self.scopes.iter().filter(|scope| !scope.is_root);
        inner
            .map(|scope| Edit::Remove {
                path: scope.path.clone(),
            })
            .collect()
    }

    /// The edits for the declarations of items among `declarations`.
    #[must_use]
    pub fn inner(declarations: &[Declaration]) -> Vec<Edit> {
        let inner = declarations.iter().filter(|(path, _)| !path.items.is_empty());
        // An item whose declaration was taken away would inherit the root's: one without a value means ASCII.
        let edit = |(path, terms): &Declaration| Edit::Set {
            path: path.clone(),
            vr: VR::CS,
            value: padded(terms.join("\\").into_bytes(), VR::CS),
        };
        inner.map(edit).collect()
    }

    /// Whether the root declares UTF-8 and all text under it is.
    #[must_use]
    pub fn is_true_utf8(&self) -> bool {
        let root = self.scopes.first();
        root.is_some_and(|scope| {
            let mut nodes = scope.odd.iter().map(|(node, _)| self.found(*node));
            scope.declared.is_utf8() && nodes.all(|set| set.is_some_and(Charset::is_utf8))
        })
    }
}

/// The declarations of a head with their text; those in the record of former values are left alone with theirs.
fn scopes(head: &Head) -> Vec<Scope> {
    let Places { places, texts } = Places::of(head);
    let mut scopes: Vec<Scope> = Vec::new();
    // For each place the index of its scope; `None` in a record that declares its own set.
    let mut scope_of: Vec<Option<usize>> = Vec::with_capacity(places.len());
    for (at, place) in places.iter().enumerate() {
        let terms = head.text(&place.charset_path());
        let own = match terms {
            Some(_) if place.is_record() => None,
            None if at > 0 => scope_of[place.outer],
            terms => {
                scopes.push(scope(place, terms.unwrap_or_default()));
                Some(scopes.len() - 1)
            }
        };
        scope_of.push(own);
    }
    for Text { node, place, form } in texts {
        let is_odd = head.raw(node).iter().any(|byte| *byte >= 0x80 || *byte == ESC);
        if let (Some(at), true) = (scope_of[place], is_odd) {
            scopes[at].odd.push((node, form));
        }
    }
    scopes
}

fn scope(place: &Place, terms: Vec<String>) -> Scope {
    Scope {
        path: place.charset_path(),
        declared: Charset::of(&terms),
        terms,
        odd: Vec::new(),
        is_root: place.item.is_none(),
    }
}

/// What decided on a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Itself,
    Declaration,
    Fallback,
    Person,
}

/// The texts of a scope together, for what one does not say another may.
struct Scene<'a> {
    texts: Vec<(&'a [u8], Form)>,
    declared: Charset,
    fallback: Option<&'a Charset>,
    certain: Option<&'a Charset>,
    /// UTF-8 is believed in a text that the declared set reads as well.
    believes_utf8: bool,
}

impl<'a> Scene<'a> {
    fn of(head: &'a Head, scope: &Scope, fallback: Option<&'a Charset>, certain: Option<&'a Charset>) -> Self {
        let texts: Vec<(&[u8], Form)> = scope.odd.iter().map(|(node, form)| (head.raw(*node), *form)).collect();
        let mut declared = scope.declared.clone();
        for (raw, form) in &texts {
            let extended = declared.extended(raw);
            if clean(&extended, raw, *form).is_some() {
                declared = extended;
            }
        }
        let upper = || texts.iter().filter(|(raw, _)| !raw.is_ascii());
        let believes_utf8 = upper().all(|(raw, _)| std::str::from_utf8(raw).is_ok())
            && upper().any(|(raw, _)| is_plain_utf8(raw, &declared));
        Self {
            texts,
            declared,
            fallback,
            certain,
            believes_utf8,
        }
    }

    fn readings(&self) -> Vec<Option<(Charset, By)>> {
        self.texts.iter().map(|(raw, form)| self.reading(raw, *form)).collect()
    }

    fn reading(&self, raw: &[u8], form: Form) -> Option<(Charset, By)> {
        let declared = clean(&self.declared, raw, form).map(|_| (self.declared.clone(), By::Declaration));
        if raw.contains(&ESC) && declared.is_some() {
            return declared;
        }
        if let Some(certain) = self.certain {
            return clean(certain, raw, form).map(|_| (certain.clone(), By::Person));
        }
        let is_utf8 = !raw.is_ascii() && !raw.contains(&ESC) && std::str::from_utf8(raw).is_ok();
        let is_likely = || match self.declared.is_latin() {
            true => !is_better_as_declared(raw, form, &self.declared),
            false => self.believes_utf8 || is_plain_utf8(raw, &self.declared),
        };
        if is_utf8 && (declared.is_none() || is_likely()) {
            return Some((Charset::utf8(), By::Itself));
        }
        let fallback = || {
            let fallback = self.fallback?;
            clean(fallback, raw, form).map(|_| (fallback.clone(), By::Fallback))
        };
        declared.or_else(fallback)
    }
}

/// Whether valid UTF-8 shows what text of other sets does not: a byte that no set of ISO 2022 uses for a character, an
/// accented Latin letter inside a word in small letters, nothing but letters of the declared set's own script, or, where two bytes make
/// a character, two characters of three. One of those proves nothing: of 400,000 pairs of letters of GBK, drawn by chance, a hundredth
/// had it. Two have no room in a pair.
fn is_plain_utf8(raw: &[u8], declared: &Charset) -> bool {
    let Ok(text) = std::str::from_utf8(raw) else {
        return false;
    };
    let is_small = |letter: Option<&char>| letter.is_some_and(char::is_ascii_lowercase);
    let letters: Vec<char> = text.chars().collect();
    let in_word = letters.iter().enumerate().any(|(at, letter)| {
        let is_accented = matches!(*letter, '\u{C0}'..='\u{24F}') && letter.is_alphabetic();
        is_accented && (is_small(letters.get(at + 1)) || at > 0 && is_small(letters.get(at - 1)))
    });
    // Letters for private use are nobody's text.
    let is_wide = |letter: &&char| letter.len_utf8() > 2 && !matches!(**letter, '\u{E000}'..='\u{F8FF}');
    raw.iter().any(|byte| matches!(byte, 0x80..=0x9F)) && !declared.is_whole()
        || in_word
        || is_its_script(&letters, declared)
        || declared.is_multi_byte() && letters.iter().filter(is_wide).count() > 1
}

/// Whether all that is not ASCII is of the script of the declared set, or a sign beside it. Text of that set would have to go strangely
/// to look so: Cyrillic as `аПбА`, Greek as `ΞΏΟ½`, Thai as `เธกเธฒ` throughout. One letter proves nothing: `เนต` is a word, `Ο΄` a number.
fn is_its_script(letters: &[char], declared: &Charset) -> bool {
    let is_own = |letter: &&char| declared.is_of_its_script(**letter);
    let is_sign = |letter: &char| matches!(*letter, '\u{A0}'..='\u{BF}' | '\u{2000}'..='\u{206F}');
    let mut upper = letters.iter().filter(|letter| !letter.is_ascii());
    letters.iter().filter(is_own).count() > 1 && upper.all(|letter| is_own(&letter) || is_sign(letter))
}

/// Whether a Latin set makes good words of what is strange in UTF-8: `KALNIŅŠ` of ISO_IR 110 would be `KALNIѩ`.
fn is_better_as_declared(raw: &[u8], form: Form, declared: &Charset) -> bool {
    // A sign that touches a word is what a wrong set makes of a letter; in UTF-8 it is a quotation mark or a degree.
    let is_strange = |set: &Charset, sides: usize| {
        let values = set.decode(raw, form).values;
        values.iter().any(|value| has_strange_word(value, sides))
    };
    is_strange(&Charset::utf8(), 2) && !is_strange(declared, 1)
}

/// Whether a word mixes Latin letters with those of another script, has a small letter above ASCII among capitals, or touches a sign
/// above ASCII with letters on so many of its sides.
fn has_strange_word(text: &str, sides: usize) -> bool {
    let letters: Vec<char> = text.chars().collect();
    let near = |at: Option<usize>| {
        let letter = at.and_then(|at| letters.get(at)).copied();
        letter.filter(|letter| letter.is_ascii_alphabetic() || is_european(*letter))
    };
    let is_strange = |at: usize, letter: char| {
        let (before, after) = (near(at.checked_sub(1)), near(Some(at + 1)));
        let is_capital = |letter: char| letter.is_uppercase();
        match letter {
            // `Sá` has its small letter where names have it.
            _ if is_european(letter) && letter.is_lowercase() => match after {
                Some(after) => is_capital(after) && before.is_none_or(is_capital),
                None => before.is_some_and(is_capital) && near(at.checked_sub(2)).is_some(),
            },
            _ if is_european(letter) => false,
            // A blank, a hyphen that is not seen, the dot of `col·lega`, and what is punctuation everywhere.
            '\u{A0}' | '\u{AD}' | '\u{B7}' | '\u{2000}'..='\u{206F}' => false,
            // The sign of a millionth stands before a letter.
            '\u{A1}'..='\u{BF}' => {
                let touched = usize::from(before.is_some()) + usize::from(after.is_some());
                touched >= sides && (letter, sides) != ('µ', 2)
            }
            _ => before.is_some() || after.is_some(),
        }
    };
    let mut upper = letters.iter().enumerate().filter(|(_, letter)| !letter.is_ascii());
    upper.any(|(at, letter)| is_strange(at, *letter))
}

/// Whether it is a Latin letter above ASCII of a language of Europe or of Vietnam.
fn is_european(letter: char) -> bool {
    matches!(letter, '\u{C0}'..='\u{17F}' | 'Ơ' | 'ơ' | 'Ư' | 'ư' | 'Ș'..='ț' | '\u{1E00}'..='\u{1EFF}')
        && letter.is_alphabetic()
}

/// A text as a set reads it, when the set reads all of it and makes nothing strange of it.
fn clean(set: &Charset, raw: &[u8], form: Form) -> Option<Decoded> {
    let decoded = set.decode(raw, form);
    let is_control = |letter: char| matches!(letter, '\u{80}'..='\u{9F}') && !set.is_utf8() || letter == '\u{1B}';
    let is_clean = !decoded.lossy
        && (set.is_whole() || signs_stand_right(raw))
        && !decoded.values.iter().any(|value| value.contains(is_control));
    is_clean.then_some(decoded)
}

/// Whether what stands in the place of control characters are the typographic signs of Windows, each where such a sign stands
/// in Latin text. Shift-JIS has its first bytes there, and must not be taken for a quotation.
fn signs_stand_right(raw: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0xC0;
    let is_text = |byte: &u8| is_letter(byte) || matches!(*byte, b' ' | b',' | b'.' | b')' | b'(' | b'%');
    let count = |sign: u8| raw.iter().filter(|byte| **byte == sign).count();
    let stands_right = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| raw.get(at));
        let after = raw.get(at + 1);
        let between = |is: &dyn Fn(&u8) -> bool| before.is_some_and(is) && after.is_some_and(is);
        match raw[at] {
            // The apostrophe of a name or a genitive.
            0x92 => before.is_some_and(is_letter),
            // Quotation marks come in pairs.
            0x91 => count(0x91) <= count(0x92) && after.is_some_and(is_letter),
            0x93 => count(0x93) == count(0x94) && after.is_some_and(is_letter),
            0x84 => count(0x84) <= count(0x93) + count(0x94) && after.is_some_and(is_letter),
            0x94 => count(0x93) == count(0x94) || count(0x84) == count(0x94),
            // Dashes and the ellipsis.
            0x96 | 0x97 => between(&is_text),
            0x85 => before.is_some_and(is_text),
            // The euro sign and the trade mark.
            0x80 | 0x99 => before.is_none_or(is_text) && after.is_none_or(is_text),
            _ => false,
        }
    };
    let signs = raw.iter().enumerate().filter(|(_, byte)| matches!(**byte, 0x80..=0x9F));
    signs.map(|(at, _)| at).all(stands_right)
}

const ESC: u8 = 0x1B;
