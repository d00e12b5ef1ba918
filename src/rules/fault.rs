//! Errors of rules, as holds: kind, file, line and a constant text. What Rhai says may quote data-set values, so its
//! texts are never passed on; each kind of error has its own words here.
use super::{Hold, HoldKind};
use rhai::{Dynamic, EvalAltResult, Position};

/// What a verb of ours raises. The message is a constant of this crate or names rule text only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub(super) kind: HoldKind,
    pub(super) message: String,
    /// File and position of the call, for a fault that no rule can catch: on its way up Rhai forgets them.
    pub(super) at: Option<(String, Position)>,
}

impl Fault {
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self {
            kind: HoldKind::Error,
            message: message.into(),
            at: None,
        }
    }

    pub(super) fn budget(message: impl Into<String>) -> Self {
        Self {
            kind: HoldKind::Budget,
            message: message.into(),
            at: None,
        }
    }

    pub(super) fn edit(message: impl Into<String>) -> Self {
        Self {
            kind: HoldKind::Edit,
            message: message.into(),
            at: None,
        }
    }

    /// As a Rhai error. Rules may catch it, but for budgets.
    pub(super) fn raise(self, position: Position) -> Box<EvalAltResult> {
        match self.kind {
            HoldKind::Budget => EvalAltResult::ErrorTerminated(Dynamic::from(self), position).into(),
            HoldKind::Rule | HoldKind::Incomplete | HoldKind::Error | HoldKind::NoDestination | HoldKind::Edit => {
                EvalAltResult::ErrorRuntime(Dynamic::from(self), position).into()
            }
        }
    }
}

/// Where and why an evaluation failed.
pub(super) struct Failure {
    pub(super) file: String,
    pub(super) position: Position,
    pub(super) fault: Fault,
}

impl Failure {
    /// `file` is where the evaluation began; errors inside imported functions name their own file.
    pub(super) fn of(error: &EvalAltResult, file: &str) -> Self {
        match error {
            EvalAltResult::ErrorInFunctionCall(_, source, inner, _) => {
                Self::of(inner, if source.is_empty() { file } else { source })
            }
            EvalAltResult::ErrorInModule(_, inner, _) => Self::of(inner, file),
            other => {
                let mut fault = words(other);
                let (file, position) = fault.at.take().unwrap_or((file.to_owned(), other.position()));
                Self { file, position, fault }
            }
        }
    }

    /// Names the function that the box called where no more is known: Rhai hands budgets up without the file and the line.
    pub(super) fn within(mut self, function: &str) -> Self {
        if self.fault.kind == HoldKind::Budget && self.position.is_none() {
            self.file = format!("{}, in {function} or what it calls", self.file);
        }
        self
    }

    pub(super) fn hold(&self) -> Hold {
        let place = match self.position.line() {
            Some(line) => format!("{} line {line}", self.file),
            None => self.file.clone(),
        };
        Hold {
            kind: self.fault.kind,
            reason: format!("{place}: {}", self.fault.message),
        }
    }
}

fn words(error: &EvalAltResult) -> Fault {
    use EvalAltResult as E;
    match error {
        E::ErrorRuntime(token, _) => token
            .clone()
            .try_cast::<Fault>()
            .unwrap_or_else(|| Fault::error("the rule stopped itself with throw")),
        E::ErrorTerminated(token, _) => token
            .clone()
            .try_cast::<Fault>()
            .unwrap_or_else(|| Fault::budget("the rule took longer than its deadline")),
        E::ErrorTooManyOperations(_) => Fault::budget("the rule took more operations than allowed"),
        E::ErrorTooManyVariables(_) => Fault::budget("the rule has more variables than allowed"),
        E::ErrorTooManyModules(_) => Fault::budget("the rule imports more files than allowed"),
        E::ErrorStackOverflow(_) => Fault::budget("the rule's functions call each other too deep"),
        E::ErrorDataTooLarge(..) => Fault::budget("a value grew over its limit"),
        E::ErrorParsing(..) => Fault::error("the rule is not valid Rhai"),
        E::ErrorVariableNotFound(..) => Fault::error("unknown variable"),
        E::ErrorFunctionNotFound(..) => Fault::error("unknown function, or wrong kinds of arguments"),
        E::ErrorModuleNotFound(..) => {
            Fault::error("import of a file that is not in the rule folder, or through a name that was not imported")
        }
        E::ErrorPropertyNotFound(..) | E::ErrorIndexNotFound(..) | E::ErrorDotExpr(..) => {
            Fault::error("unknown property")
        }
        E::ErrorArrayBounds(..) | E::ErrorStringBounds(..) | E::ErrorBitFieldBounds(..) => {
            Fault::error("an index is out of range")
        }
        E::ErrorMismatchDataType(..) | E::ErrorMismatchOutputType(..) | E::ErrorFor(_) | E::ErrorIndexingType(..) => {
            Fault::error("a value is of the wrong kind")
        }
        E::ErrorArithmetic(..) => Fault::error("an arithmetic error"),
        E::ErrorAssignmentToConstant(..) | E::ErrorNonPureMethodCallOnConstant(..) => {
            Fault::error("a constant cannot be changed")
        }
        // The enum is marked non-exhaustive; what is left says only that the rule failed.
        _ => Fault::error("the rule failed"),
    }
}
