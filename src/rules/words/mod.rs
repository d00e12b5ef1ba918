//! The vocabulary: what a rule can say in one word about identity, accession numbers, character sets and so on.
//!
//! Every word is registered with its documentation and with samples, so that the reference page, the editor's hover texts,
//! the suggestions of `rules check` and the property tests come from one place and cannot drift apart. A word reads and
//! writes through `Hand`, hence through the same checks, limits and trace as `image.PatientID = …`.
//!
//! Promises of every word: the same result when it runs twice; never a value longer than its VR allows; never U+FFFD;
//! never a data-set value in an error. `words_tests` runs these promises over all samples.
use rhai::{FuncRegistration, Module, RhaiNativeFunc, Shared};
use std::collections::BTreeMap;

mod accession;
mod charset;
pub(super) mod charset_lint;
pub(super) mod check;
mod code;
pub(super) mod given;
mod hand;
mod identity;
mod issuer;
mod lookup;
mod name;
mod options;
mod others;
mod plain;
pub(super) mod privacy;
mod route;
mod study;
mod table;
mod text;
pub(super) mod timezone;
pub(super) mod uid;

pub(super) use hand::Hand;
pub(super) use options::{Choice, Takes};

/// A word of the vocabulary and everything that is said of it, in English for people who never saw Rhai.
pub(super) struct Word {
    /// As in `text::upper(...)`.
    pub(super) namespace: &'static str,
    pub(super) name: &'static str,
    /// Its parameters as they are written, `image, path`.
    pub(super) parameters: &'static str,
    /// What it does, in one to three sentences.
    pub(super) does: &'static str,
    /// What it never does, and how far it goes.
    pub(super) limits: &'static str,
    /// When it holds the instance or fails.
    pub(super) errors: &'static str,
    pub(super) samples: &'static [Sample],
}

impl Word {
    /// The name as rules write it.
    pub(super) fn full(&self) -> String {
        match self.namespace {
            "" => self.name.to_owned(),
            namespace => format!("{namespace}::{}", self.name),
        }
    }
}

/// A use of a word, shown in the reference and run by the tests.
pub(super) struct Sample {
    /// Elements before: path and value; values are parted by `\`.
    pub(super) given: &'static [(&'static str, &'static str)],
    /// Lines of `morph`, or of `route` when the word belongs there.
    pub(super) rule: &'static str,
    pub(super) gives: Gives,
}

/// What a sample ends in.
pub(super) enum Gives {
    /// Elements after; `""` in place of a value means absent or empty. Nothing else changes.
    Elements(&'static [(&'static str, &'static str)]),
    /// Deliveries, as destination and urgency.
    Deliveries(&'static [(&'static str, &'static str)]),
    /// A hold of this kind.
    Hold(super::HoldKind),
}

/// What is wrong with a literal that stands as the `number`-th literal argument of a word about routing or studies.
pub(super) fn wrong_literal(namespace: &str, word: &str, number: usize, text: &str) -> Option<String> {
    match namespace {
        "route" => route::wrong_literal(word, number, text),
        "study" => study::wrong_literal(word, text),
        _ => None,
    }
}

/// All words, with the modules that the engine gets.
#[derive(Default)]
pub(super) struct Book {
    /// Those without a namespace: their functions are registered elsewhere.
    plain: Vec<Word>,
    pub(super) words: Vec<Word>,
    shapes: Shapes,
    modules: BTreeMap<&'static str, Module>,
}

/// What a call of a word can be checked by at load.
#[derive(Clone, Copy, Default)]
pub(super) struct Shape {
    pub(super) parameters: &'static str,
    /// The numbers of arguments that it takes, as bits.
    pub(super) arities: u16,
    pub(super) choices: &'static [Choice],
    /// The columns that it needs in its table, each with the option that names another one.
    pub(super) columns: &'static [(&'static str, &'static str)],
}

/// The shapes of all words by `namespace::name`.
pub(super) type Shapes = BTreeMap<String, Shape>;

impl Book {
    /// The whole vocabulary. Built once for each rule set; the order is that of the reference page.
    pub(super) fn new() -> Self {
        let mut book = Self {
            plain: plain::words(),
            ..Self::default()
        };
        identity::register(&mut book);
        others::register(&mut book);
        issuer::register(&mut book);
        accession::register(&mut book);
        text::register(&mut book);
        name::register(&mut book);
        code::register(&mut book);
        table::register(&mut book);
        route::register(&mut book);
        study::register(&mut book);
        timezone::register(&mut book);
        uid::register(&mut book);
        privacy::register(&mut book);
        charset::register(&mut book);
        book
    }

    /// Adds a word with the function behind it.
    pub(super) fn add<A: 'static, const N: usize, const X: bool, R, const F: bool>(
        &mut self,
        word: Word,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) where
        R: Clone + Send + Sync + 'static,
    {
        self.also(word.namespace, word.name, function);
        let shape = self
            .shapes
            .entry(format!("{}::{}", word.namespace, word.name))
            .or_default();
        shape.parameters = word.parameters;
        self.words.push(word);
    }

    /// The options that a word takes in its last argument.
    pub(super) fn options(&mut self, namespace: &'static str, name: &'static str, choices: &'static [Choice]) {
        self.shapes.entry(format!("{namespace}::{name}")).or_default().choices = choices;
    }

    /// The columns that a word needs in its table, each with the option that names another one (`""`: none does).
    pub(super) fn columns(
        &mut self,
        namespace: &'static str,
        name: &'static str,
        columns: &'static [(&'static str, &'static str)],
    ) {
        self.shapes.entry(format!("{namespace}::{name}")).or_default().columns = columns;
    }

    /// What calls are checked by.
    pub(super) fn shapes(&self) -> Shapes {
        self.shapes.clone()
    }

    /// Another form of a word: the same name with other parameters (most often without its options).
    pub(super) fn also<A: 'static, const N: usize, const X: bool, R, const F: bool>(
        &mut self,
        namespace: &'static str,
        name: &'static str,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) where
        R: Clone + Send + Sync + 'static,
    {
        self.shapes.entry(format!("{namespace}::{name}")).or_default().arities |= 1 << N;
        let module = self.modules.entry(namespace).or_default();
        FuncRegistration::new(name).set_into_module(module, function);
    }

    /// Every word in the order of the reference page, first those without a namespace.
    pub(super) fn all(&self) -> impl Iterator<Item = &Word> {
        self.plain.iter().chain(&self.words)
    }

    /// The modules for the engine, by namespace.
    pub(super) fn modules(mut self) -> Vec<(&'static str, Shared<Module>)> {
        for (name, module) in &mut self.modules {
            // Without a name of its own, every engine would make a copy to give it one.
            module.set_id(*name);
            module.build_index();
        }
        self.modules
            .into_iter()
            .map(|(name, module)| (name, Shared::new(module)))
            .collect()
    }

    /// `namespace::name` of every word.
    pub(super) fn names(&self) -> Vec<String> {
        self.words.iter().map(Word::full).collect()
    }
}
