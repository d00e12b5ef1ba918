//! Calls of functions that rules define: those of the same file, and those of imported files.
use super::{Lint, unknown};
use crate::rules::engine::module_name;
use crate::rules::lex::Placed;
use std::collections::{BTreeMap, BTreeSet};

/// A function that a file defines.
pub(in crate::rules) struct Function {
    pub(in crate::rules) name: String,
    pub(in crate::rules) line: usize,
    pub(in crate::rules) column: usize,
    /// How many arguments it takes; `None` for one that is defined for a type (`fn int.twice()`), which Rhai picks by the value.
    parameters: Option<usize>,
    /// No other file can call it.
    is_private: bool,
}

/// What the files of a folder know of each other, by file without `.rhai`.
#[derive(Default)]
pub(in crate::rules) struct Files {
    functions: BTreeMap<String, Vec<Function>>,
    /// Every name that some file imports another by: a function may see the names of the file that calls it.
    aliases: BTreeSet<String>,
}

impl Files {
    pub(in crate::rules) fn add(&mut self, name: &str, all: &[Placed]) {
        self.functions.insert(name.to_owned(), functions(all));
        self.aliases.extend(imports(all).map(|(alias, _)| alias.to_owned()));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }
}

pub(super) fn functions(all: &[Placed]) -> Vec<Function> {
    let mut found = Vec::new();
    for at in (0..all.len()).filter(|at| all[*at].word() == Some("fn")) {
        let is = |at: usize, mark: char| all.get(at).is_some_and(|token| token.is(mark));
        let name = if is(at + 2, '.') { at + 3 } else { at + 1 };
        let Some((token, word)) = all.get(name).and_then(|token| Some((token, token.word()?))) else {
            continue;
        };
        let parameters = all[name + 1..].iter().take_while(|token| !token.is(')'));
        found.push(Function {
            name: word.to_owned(),
            line: token.line,
            column: token.column,
            parameters: (name == at + 1).then(|| parameters.filter(|token| token.word().is_some()).count()),
            is_private: at > 0 && all[at - 1].word() == Some("private"),
        });
    }
    found
}

/// `import "file" as alias`: the alias, and the file without `.rhai`.
fn imports(all: &[Placed]) -> impl Iterator<Item = (&str, Option<&str>)> {
    let aliases = (2..all.len()).filter(|at| all[*at - 1].word() == Some("as"));
    aliases.filter_map(|at| {
        let is_literal = at > 2 && all[at - 3].word() == Some("import");
        let file = all[at - 2].text().filter(|_| is_literal).map(module_name);
        Some((all[at].word()?, file))
    })
}

impl Lint<'_> {
    /// The number of arguments of a call of one of the file's own functions. A function of the same name that is there without
    /// being written may take others.
    pub(super) fn own_call(&mut self, at: usize, word: &str) {
        if self.names.natives.iter().any(|native| native == word) {
            return;
        }
        let own: Vec<&Function> = self.functions.iter().filter(|own| own.name == word).collect();
        if let Some(message) = self.wrong_count(at, word, &own) {
            self.problem(at, message);
        }
    }

    /// `alias::word(`, when `alias` is no namespace of the vocabulary.
    pub(super) fn imported_call(&mut self, at: usize, alias: &str, word: &str) {
        // `a::b::c(` reaches through the imports of another file.
        let is_deeper = at > 3 && self.all[at - 4].is(':');
        if alias.is_empty() || alias == "global" || is_deeper {
            return;
        }
        let files = self.names.files;
        let known = files.aliases.iter().map(String::as_str);
        if !files.aliases.contains(alias) {
            let namespaces = self.names.words.iter().filter_map(|name| name.split("::").next());
            let message = unknown("word or import", alias, known.chain(namespaces));
            self.problem(at - 3, message);
            return;
        }
        let mut found = Vec::new();
        for (_, file) in imports(self.all).filter(|(own, _)| *own == alias) {
            // A file whose name is computed, or that is missing, which `import` says.
            let Some(functions) = file.and_then(|file| files.functions.get(file)) else {
                return;
            };
            found.extend(functions.iter().filter(|function| !function.is_private));
        }
        if found.is_empty() {
            // Imported by another file alone, or nothing is there to be called.
            let is_own = imports(self.all).any(|(own, _)| own == alias);
            if is_own {
                self.problem(at, unknown("function of the imported file", word, []));
            }
            return;
        }
        let same: Vec<&Function> = found.iter().copied().filter(|function| function.name == word).collect();
        let message = if same.is_empty() {
            let names = found.iter().map(|function| function.name.as_str());
            Some(unknown("function of the imported file", word, names))
        } else {
            self.wrong_count(at, word, &same)
        };
        if let Some(message) = message {
            self.problem(at, message);
        }
    }

    /// What is wrong when none of the functions takes as many arguments as the call at `at` gives.
    fn wrong_count(&self, at: usize, word: &str, functions: &[&Function]) -> Option<String> {
        let given = self.spans(at + 1).len();
        let fits = |function: &&Function| function.parameters.is_none_or(|count| count == given);
        if functions.is_empty() || functions.iter().any(fits) {
            return None;
        }
        let counts: BTreeSet<usize> = functions.iter().filter_map(|function| function.parameters).collect();
        let noun = if counts.iter().eq(&[1]) {
            "argument"
        } else {
            "arguments"
        };
        let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
        Some(format!(
            "`{word}` takes {} {noun}, and is given {given}",
            counts.join(" or ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::tests::files;

    const ROUTE: &str = "\nfn route(image, from) { to(\"vna\"); }";

    fn problems(main: &str, helpers: &str) -> Vec<String> {
        let main = format!("{main}{ROUTE}");
        match files(&[("main.rhai", &main), ("helpers.rhai", helpers)]) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn calls_that_no_function_takes_are_problems() {
        let helpers = "fn of(image) { own() }\nprivate fn own() { 1 }";
        for (main, wanted) in [
            (
                "fn morph(image, from) { help(image); }\nfn help(image, x) { x }",
                "main.rhai:1:25: `help` takes 2 arguments, and is given 1",
            ),
            (
                "import \"helpers\" as h; fn morph(image, from) { h::off(image); }",
                "main.rhai:1:51: unknown function of the imported file `off`; did you mean `of`?",
            ),
            (
                "import \"helpers.rhai\" as h; fn morph(image, from) { h::of(image, 1); }",
                "main.rhai:1:56: `of` takes 1 argument, and is given 2",
            ),
            (
                "import \"helpers\" as h; fn morph(image, from) { h::own(); }",
                "main.rhai:1:51: unknown function of the imported file `own`",
            ),
            (
                "import \"helpers\" as help; fn morph(image, from) { helper::of(image); }",
                "main.rhai:1:51: unknown word or import `helper`; did you mean `help`?",
            ),
        ] {
            assert_eq!(problems(main, helpers), [wanted], "{main}");
        }
    }

    #[test]
    fn calls_that_some_function_takes_are_none() {
        let helpers = "fn of(image) { trim(1, 2); global::X }\nfn of(image, x) { x }\n\
            fn trim(a, b) { a }\nfn int.twice() { this * 2 }\nconst X = 1;";
        for main in [
            "import \"helpers\" as h; fn morph(image, from) { h::of(image, [1, 2]); h::of(image); }",
            "fn morph(image, from) { help(image); help(image, `${f(1, 2)}`); }\nfn help(image) { }\nfn help(image, x) { }\nfn f(a, b) { a }",
            "fn morph(image, from) { if from.source == \"x\" { import \"helpers\" as h; h::of(image); } }",
        ] {
            let found = problems(main, helpers);
            assert_eq!(found, [""; 0], "{main}");
        }
    }
}
