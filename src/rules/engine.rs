//! The sandbox: a raw Rhai engine with picked packages and every limit set. One engine is made for each evaluation
//! (some microseconds): its deadline and its state are its own, the packages and the compiled rules are shared and immutable.
//!
//! Memory: a value holds at most `text` bytes of text, `ARRAY_MAX` array elements and `MAP_MAX` map entries, nested ones
//! included; a function has at most `VARIABLES_MAX` variables and calls nest at most `CALLS_MAX` deep. With 16 KiB of text
//! that is 512 × (16 KiB + 1,000 × 16 B) = 16 MiB, and 256 MiB for a script made to fill maps with keys of the longest length
//! (Rhai does not count keys), were it not for the operations and the deadline that end it long before.
use super::Config;
use super::fault::Fault;
use super::state::Evaluation;
use super::words::{Book, Shapes};
use super::{api, verbs};
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicMathPackage,
    BasicStringPackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, EvalAltResult, Module, ModuleResolver, Position, Shared};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const ARRAY_MAX: usize = 1_000;
const MAP_MAX: usize = 32;
const VARIABLES_MAX: usize = 32;
const CALLS_MAX: usize = 16;
pub(super) const FUNCTIONS_MAX: usize = 256;
const MODULES_MAX: usize = 64;
/// Nesting of expressions, outside and inside functions. With `CALLS_MAX` it bounds the stack: both together fit a
/// 2 MiB thread (`deep_calls_of_deep_expressions_fit_a_small_stack`).
pub(super) const EXPRESSIONS_MAX: usize = 32;
/// How many times the room of a rule its marked copy has: a mark costs some operations before each statement, and an arm of a
/// `switch` a block around it.
const MARKS_ROOM: u32 = 8;
/// The deadline is looked at every so many operations, because reading the clock costs as much as an operation.
const PROGRESS_STEP: u64 = 32;

/// The immutable parts of every engine of a rule set.
#[derive(Clone)]
pub(super) struct Parts {
    packages: Vec<Shared<Module>>,
    /// The vocabulary, by namespace.
    words: Vec<(&'static str, Shared<Module>)>,
    /// `namespace::name` of every word.
    pub(super) word_names: Vec<String>,
    pub(super) word_shapes: Shapes,
    operations: u64,
    expressions: usize,
    pub(super) deadline: Duration,
    pub(super) text: usize,
}

impl Parts {
    pub(super) fn new(config: &Config) -> Self {
        // No LanguageCorePackage (sleep, exit, JSON), no time, no blobs, no bit fields. Later ones shadow earlier ones.
        let packages = vec![
            ArithmeticPackage::new().as_shared_module(),
            LogicPackage::new().as_shared_module(),
            BasicMathPackage::new().as_shared_module(),
            BasicFnPackage::new().as_shared_module(),
            BasicIteratorPackage::new().as_shared_module(),
            BasicStringPackage::new().as_shared_module(),
            MoreStringPackage::new().as_shared_module(),
            BasicArrayPackage::new().as_shared_module(),
            BasicMapPackage::new().as_shared_module(),
            Shared::new(verbs::module()),
            Shared::new(api::module()),
        ];
        let book = Book::new();
        Self {
            packages,
            expressions: EXPRESSIONS_MAX,
            word_names: book.names(),
            word_shapes: book.shapes(),
            words: book.modules(),
            operations: config.operations,
            deadline: config.deadline.0,
            text: usize::try_from(config.text.0).unwrap_or(usize::MAX),
        }
    }

    /// For a set compiled from marked copies (`probe`): the engine has the function that marks call.
    pub(super) fn probed(mut self) -> Self {
        self.packages.push(Shared::new(api::probe()));
        self.operations = self.operations.saturating_mul(u64::from(MARKS_ROOM));
        self.deadline = self.deadline.saturating_mul(MARKS_ROOM);
        self.expressions = EXPRESSIONS_MAX * 2;
        self
    }

    /// An engine that stops at `until`.
    pub(super) fn engine(&self, until: Instant) -> Engine {
        let mut engine = Engine::new_raw();
        for package in &self.packages {
            engine.register_global_module(package.clone());
        }
        for (namespace, module) in &self.words {
            engine.register_static_module(*namespace, module.clone());
        }
        engine
            .set_max_operations(self.operations)
            .set_max_call_levels(CALLS_MAX)
            .set_max_expr_depths(self.expressions, self.expressions)
            .set_max_string_size(self.text)
            .set_max_array_size(ARRAY_MAX)
            .set_max_map_size(MAP_MAX)
            .set_max_variables(VARIABLES_MAX)
            .set_max_functions(FUNCTIONS_MAX)
            .set_max_modules(MODULES_MAX)
            // A closure shares what it captures, and a cycle of shared values is never freed.
            .set_allow_anonymous_fn(false)
            .set_fail_on_invalid_map_property(true);
        engine.on_progress(move |count| {
            (count.is_multiple_of(PROGRESS_STEP) && Instant::now() >= until).then_some(Dynamic::UNIT)
        });
        engine
    }

    /// An engine for compiling: symbols that no rule may use are syntax errors there.
    pub(super) fn compiler(&self, until: Instant) -> Engine {
        let mut engine = self.engine(until);
        for symbol in ["eval", "debug", "print"] {
            engine.disable_symbol(symbol);
        }
        engine
    }

    /// An engine for one decision.
    pub(super) fn evaluator(&self, evaluation: &Arc<Evaluation>, modules: &Modules) -> Engine {
        let mut engine = self.engine(evaluation.until);
        engine.set_module_resolver(modules.clone());
        engine.set_default_tag(Dynamic::from(api::Image(evaluation.clone())));
        engine
    }

    /// The names of all functions that a rule can call without having written them.
    pub(super) fn function_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for package in &self.packages {
            names.extend(
                package
                    .gen_fn_signatures_with_mapper(|name| name.into())
                    .filter_map(|signature| signature.split('(').next().map(|name| name.trim().to_owned())),
            );
        }
        names.extend(["type_of", "Fn", "call", "curry", "is_def_var", "is_def_fn", "is_shared"].map(str::to_owned));
        names.sort();
        names.dedup();
        names
    }
}

/// The folder's other files, compiled and evaluated once at load; the only thing that `import` can find.
#[derive(Clone, Default)]
pub(super) struct Modules(Arc<BTreeMap<String, Shared<Module>>>);

impl Modules {
    pub(super) fn new(modules: BTreeMap<String, Shared<Module>>) -> Self {
        Self(Arc::new(modules))
    }
}

impl ModuleResolver for Modules {
    fn resolve(
        &self,
        _engine: &Engine,
        _source: Option<&str>,
        path: &str,
        pos: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let found = self.0.get(module_name(path)).cloned();
        found.ok_or_else(|| EvalAltResult::ErrorModuleNotFound(String::new(), pos).into())
    }
}

/// `helpers.rhai` and `helpers` name the same module.
pub(super) fn module_name(path: &str) -> &str {
    path.strip_suffix(".rhai").unwrap_or(path)
}

/// Resolves imports while a folder is loaded: each module is evaluated once, after those it imports.
#[derive(Clone)]
pub(super) struct Loading {
    pub(super) trees: Arc<BTreeMap<String, rhai::AST>>,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    done: BTreeMap<String, Shared<Module>>,
    open: Vec<String>,
}

impl Loading {
    pub(super) fn new(trees: BTreeMap<String, rhai::AST>) -> Self {
        Self {
            trees: Arc::new(trees),
            progress: Arc::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn finish(self) -> Modules {
        Modules::new(std::mem::take(&mut self.lock().done))
    }
}

impl ModuleResolver for Loading {
    fn resolve(
        &self,
        engine: &Engine,
        _source: Option<&str>,
        path: &str,
        pos: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let name = module_name(path);
        let missing = || Box::new(EvalAltResult::ErrorModuleNotFound(String::new(), pos));
        {
            let mut progress = self.lock();
            if let Some(module) = progress.done.get(name) {
                return Ok(module.clone());
            }
            if progress.open.iter().any(|open| open == name) {
                return Err(Fault::error("the file imports itself, directly or through others").raise(pos));
            }
            progress.open.push(name.to_owned());
        }
        let tree = self.trees.get(name).ok_or_else(missing);
        let made = tree.and_then(|tree| Module::eval_ast_as_new(rhai::Scope::new(), tree, engine));
        let mut progress = self.lock();
        progress.open.retain(|open| open != name);
        let mut module = made?;
        // As the file calls itself, so that places read the same however Rhai names the source.
        module.set_id(format!("{name}.rhai"));
        module.build_index();
        let module = Shared::new(module);
        progress.done.insert(name.to_owned(), module.clone());
        Ok(module)
    }
}
