//! What scripts see: `image`, `from`, `to(...)` and `hold(...)`. Everything is found through the engine's tag or the
//! values themselves; nothing here is global.
use super::HoldKind;
use super::fault::Fault;
use super::state::{Evaluation, Event, Phase};
use crate::base::fault::{Plant, panic_if};
use rhai::{Array, Dynamic, EvalAltResult, FuncRegistration, ImmutableString, Module, NativeCallContext, Position};
use std::sync::Arc;

/// The instance, as `image` in a rule.
#[derive(Clone)]
pub(super) struct Image(pub(super) Arc<Evaluation>);

/// Where it came from, as `from` in a rule. Read-only.
#[derive(Clone)]
pub(super) struct From(pub(super) Arc<Evaluation>);

/// The properties of `from`.
pub(super) const FACTS: [&str; 8] = [
    "source",
    "calling_ae",
    "called_ae",
    "sop_class",
    "sop_instance",
    "transfer_syntax",
    "arrival",
    "charset",
];

/// The methods of `image` that take a path first.
pub(super) const PATH_METHODS: [&str; 5] = ["has", "remove", "values", "set_values", "items"];

/// The tag of the `()` that a lookup answers, so that an assignment can tell it from the `()` that a rule wrote to remove an element.
const NOT_FOUND: i32 = 1;

const REASON_MAX: usize = 200;

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

/// The module with all of it.
pub(super) fn module() -> Module {
    let mut module = Module::new();
    module.set_custom_type::<Image>("Image");
    module.set_custom_type::<From>("From");
    elements(&mut module);
    facts(&mut module);
    routing(&mut module);
    module
}

/// What the marks of a probed set call.
pub(super) fn probe() -> Module {
    let mut module = Module::new();
    global(super::bench::probe::MARK).set_into_module(&mut module, |c: Context, line: i64| {
        if let Ok(evaluation) = evaluation(&c) {
            let file = c.call_source().unwrap_or(super::set::MAIN);
            if let Some(steps) = &mut evaluation.state().steps {
                steps.step(file, usize::try_from(line).unwrap_or(0));
            }
        }
    });
    module
}

fn global(name: &str) -> FuncRegistration {
    FuncRegistration::new(name).in_global_namespace()
}

fn elements(module: &mut Module) {
    FuncRegistration::new_index_getter()
        .in_global_namespace()
        .set_into_module(module, |c: Context, image: &mut Image, path: &str| {
            read(&c, image, path)
        });
    FuncRegistration::new_index_setter()
        .in_global_namespace()
        .set_into_module(module, |c: Context, image: &mut Image, path: &str, value: Dynamic| {
            write(&c, image, path, &value)
        });
    global("has").set_into_module(module, |c: Context, image: &mut Image, path: &str| has(&c, image, path));
    global("items").set_into_module(module, |c: Context, image: &mut Image, path: &str| {
        items(&c, image, path)
    });
    global("values").set_into_module(module, |c: Context, image: &mut Image, path: &str| {
        values(&c, image, path)
    });
    global("remove").set_into_module(module, |c: Context, image: &mut Image, path: &str| {
        write(&c, image, path, &Dynamic::UNIT)
    });
    global("set_values").set_into_module(module, |c: Context, image: &mut Image, path: &str, all: Array| {
        set_values(&c, image, path, &all)
    });
}

fn read(c: &Context, image: &Image, text: &str) -> Raised<ImmutableString> {
    let value = joined(&image.0, text).map_err(|fault| fault.raise(c.call_position()))?;
    note(c, &image.0, || format!("read {text} = {value:?}"));
    Ok(value.into())
}

fn joined(evaluation: &Evaluation, text: &str) -> Result<String, Fault> {
    let path = evaluation.path(text)?;
    let values = evaluation.values(&path)?.unwrap_or_default();
    Ok(values.join("\\"))
}

/// The `()` of what was looked for and not found. It equals any other; only an assignment to an element refuses it.
pub(super) fn not_found() -> Dynamic {
    let mut nothing = Dynamic::UNIT;
    nothing.set_tag(NOT_FOUND);
    nothing
}

fn write(c: &Context, image: &Image, text: &str, value: &Dynamic) -> Raised<()> {
    let evaluation = &image.0;
    let done = evaluation.path(text).and_then(|path| match value {
        value if value.is_unit() && value.tag() == NOT_FOUND => Err(Fault::error(
            "a lookup found nothing, and `()` would remove the element: ask `if answer != ()` before the assignment, or write \
             `image.remove(path)` to remove it",
        )),
        value if value.is_unit() => evaluation.remove(path),
        value => evaluation.set(path, split(&written(value)?)),
    });
    done.map_err(|fault| fault.raise(c.call_position()))?;
    note_name(c, evaluation);
    note(c, evaluation, || match written(value) {
        Ok(value) => format!("set {text} = {value:?}"),
        Err(_) => format!("remove {text}"),
    });
    Ok(())
}

fn has(c: &Context, image: &Image, text: &str) -> Raised<bool> {
    let path = image.0.path(text);
    let answer = path.and_then(|path| image.0.has(&path));
    let answer = answer.map_err(|fault| fault.raise(c.call_position()))?;
    note(c, &image.0, || format!("has {text}: {answer}"));
    Ok(answer)
}

fn items(c: &Context, image: &Image, text: &str) -> Raised<i64> {
    panic_if(Plant::PanicRule);
    let path = image.0.path(text);
    let count = path.and_then(|path| image.0.items(&path));
    let count = count.map_err(|fault| fault.raise(c.call_position()))?;
    note(c, &image.0, || format!("items of {text}: {count}"));
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}

fn values(c: &Context, image: &Image, text: &str) -> Raised<Array> {
    let path = image.0.path(text);
    let values = path.and_then(|path| image.0.values(&path));
    let values = values
        .map_err(|fault| fault.raise(c.call_position()))?
        .unwrap_or_default();
    note(c, &image.0, || format!("read {text} = {values:?}"));
    Ok(values.into_iter().map(Dynamic::from).collect())
}

fn set_values(c: &Context, image: &Image, text: &str, all: &Array) -> Raised<()> {
    let texts: Result<Vec<String>, Fault> = all.iter().map(written).collect();
    let done = texts.and_then(|texts| {
        let path = image.0.path(text)?;
        image.0.set(path, texts)
    });
    done.map_err(|fault| fault.raise(c.call_position()))?;
    note_name(c, &image.0);
    note(c, &image.0, || format!("set {text} to {} values", all.len()));
    Ok(())
}

/// A value as the text that is written: texts and characters as they are, numbers in decimal.
fn written(value: &Dynamic) -> Result<String, Fault> {
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(text.to_string());
    }
    if let Ok(number) = value.as_int() {
        return Ok(number.to_string());
    }
    if let Ok(number) = value.as_float() {
        return if number.is_finite() {
            Ok(number.to_string())
        } else {
            Err(Fault::error("a number without a finite value cannot be written"))
        };
    }
    match value.as_char() {
        Ok(letter) => Ok(letter.to_string()),
        Err(_) => Err(Fault::error("only texts, numbers and () can be assigned to an element")),
    }
}

/// Backslashes part the values of a text, as in DICOM.
fn split(text: &str) -> Vec<String> {
    text.split('\\').map(str::to_owned).collect()
}

fn facts(module: &mut Module) {
    FuncRegistration::new_index_getter()
        .in_global_namespace()
        .set_into_module(module, |c: Context, from: &mut From, name: &str| fact(&c, from, name));
}

fn fact(c: &Context, from: &From, name: &str) -> Raised<ImmutableString> {
    let facts = &from.0.facts;
    let value = match name {
        "source" => facts.source.to_string(),
        "calling_ae" => facts.calling_ae.to_string(),
        "called_ae" => facts.called_ae.to_string(),
        "sop_class" => facts.sop_class.to_string(),
        "sop_instance" => facts.sop_instance.to_string(),
        "transfer_syntax" => facts.transfer_syntax.to_string(),
        "arrival" => facts.arrival.iso(),
        "charset" => from.0.known.charsets.get(&facts.source).cloned().unwrap_or_default(),
        _ => return Err(Fault::error("`from` has no such property").raise(c.call_position())),
    };
    note(c, &from.0, || format!("read from.{name} = {value:?}"));
    Ok(value.into())
}

fn routing(module: &mut Module) {
    super::deliver::register(module);
    global("hold").set_into_module(module, |c: Context, reason: &str| hold(&c, reason));
}

fn hold(c: &Context, reason: &str) -> Raised<()> {
    let evaluation = evaluation(c)?;
    if evaluation.state().phase == Phase::Load {
        return Err(Fault::error("hold() can be used in functions only").raise(c.call_position()));
    }
    // A computed reason may carry a value of the data set; a literal of the rules cannot.
    let text: String = if evaluation.known.literals.contains(reason) {
        reason
            .chars()
            .filter(|letter| !letter.is_control())
            .take(REASON_MAX)
            .collect()
    } else {
        format!("held by {} (its reason is computed, so it is not shown)", said_place(c))
    };
    let mut state = evaluation.state();
    state.hold(HoldKind::Rule, text);
    drop(state);
    note(c, &evaluation, || format!("hold {reason:?}"));
    Ok(())
}

/// The evaluation that the engine was made for; absent while a folder is being loaded.
pub(super) fn evaluation(c: &Context) -> Raised<Arc<Evaluation>> {
    let tag = c.tag().and_then(|tag| tag.clone().try_cast::<Image>());
    tag.map(|image| image.0)
        .ok_or_else(|| Fault::error("to() and hold() can be used in functions only").raise(c.call_position()))
}

fn said_place(c: &Context) -> String {
    let (file, position) = place(c);
    format!("{file} line {}", line(position))
}

fn line(position: Position) -> usize {
    position.line().unwrap_or(0)
}

/// After a write: remembers this line when it left the instance without a name, or as another class.
pub(super) fn note_name(c: &Context, evaluation: &Evaluation) {
    evaluation.state().changes.note_name(&evaluation.head, || place(c));
}

/// File and position of a call.
pub(super) fn place(c: &Context) -> (String, Position) {
    (
        c.call_source().unwrap_or(super::set::MAIN).to_owned(),
        c.call_position(),
    )
}

pub(super) fn note(c: &Context, evaluation: &Evaluation, text: impl FnOnce() -> String) {
    let mut state = evaluation.state();
    if state.events.is_some() {
        state.note(Event {
            file: c.call_source().unwrap_or(super::set::MAIN).to_owned(),
            line: line(c.call_position()),
            text: text(),
        });
    }
}
