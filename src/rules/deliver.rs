//! `to(...)`, `to_first(...)` and `to_one_of(...)`: where an instance goes.
use super::Urgency;
use super::api::{evaluation, note};
use super::context::own;
use super::fault::Fault;
use super::state::{Evaluation, Phase};
use super::terms::{GroupKind, Membership, OPTIONS, Options, Wanted};
use crate::base::names::DestinationId;
use rhai::{Array, EvalAltResult, FuncRegistration, ImmutableString, Map, Module, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

/// Destinations of one group.
const GROUP_MAX: usize = 16;

pub(super) fn register(module: &mut Module) {
    let m = module;
    let global = |name: &str| FuncRegistration::new(name).in_global_namespace();
    global("to").set_into_module(m, |c: Context, name: &str| to(&c, name, &Map::new()));
    global("to").set_into_module(m, |c: Context, name: &str, options: Map| to(&c, name, &options));
    global("to_first").set_into_module(m, |c: Context, names: Array| group(&c, "to_first", &names, &Map::new()));
    global("to_first").set_into_module(m, |c: Context, names: Array, options: Map| {
        group(&c, "to_first", &names, &options)
    });
    global("to_one_of").set_into_module(m, |c: Context, names: Array| {
        group(&c, "to_one_of", &names, &Map::new())
    });
    global("to_one_of").set_into_module(m, |c: Context, names: Array, options: Map| {
        group(&c, "to_one_of", &names, &options)
    });
}

fn to(c: &Context, name: &str, options: &Map) -> Raised<()> {
    let evaluation = evaluation(c)?;
    let done = wanted(&evaluation, name, options, false).map(|(wanted, _)| {
        let priority = wanted.priority;
        evaluation.state().deliver(wanted);
        priority
    });
    let priority = done.map_err(|fault| fault.raise(c.call_position()))?;
    note(c, &evaluation, || format!("to {name}, {}", priority.as_str()));
    Ok(())
}

fn group(c: &Context, function: &str, names: &Array, options: &Map) -> Raised<()> {
    let evaluation = evaluation(c)?;
    let done = members(&evaluation, function, names, options);
    let members = done.map_err(|fault| fault.raise(c.call_position()))?;
    let order: Vec<String> = members.iter().map(|member| member.destination.to_string()).collect();
    evaluation.state().deliveries.extend(members);
    note(c, &evaluation, || format!("{function}: {}", order.join(", ")));
    Ok(())
}

/// The members of a group, in the order in which they are chosen.
fn members(evaluation: &Evaluation, function: &str, names: &Array, options: &Map) -> Result<Vec<Wanted>, Fault> {
    if !(1..=GROUP_MAX).contains(&names.len()) {
        return Err(Fault::error(format!("a group has 1 to {GROUP_MAX} destinations")));
    }
    let first = function == "to_first";
    let mut found: Vec<Wanted> = Vec::new();
    let number = evaluation.state().deliveries.len();
    for name in names {
        let name: ImmutableString = name
            .as_immutable_string_ref()
            .map(|name| name.clone())
            .map_err(|_| Fault::error("the members of a group are names of destinations"))?;
        let (mut member, read) = wanted(evaluation, &name, options, first)?;
        let kind = match first {
            true => GroupKind::First {
                after: read.takes_over_after(),
            },
            false => GroupKind::OneOf,
        };
        member.terms.group = Some(Membership { number, kind });
        if !found.iter().any(|other| other.destination == member.destination) {
            found.push(member);
        }
    }
    if !first {
        let study = own(&evaluation.head, "StudyInstanceUID");
        let key = study.unwrap_or_else(|| evaluation.facts.sop_instance.to_string());
        found.sort_by_key(|member| weight(&key, &member.destination));
    }
    Ok(found)
}

/// Every study orders the members by a hash of its own: a member that joins or leaves moves no other study.
fn weight(study: &str, member: &DestinationId) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(study.as_bytes());
    hash.update(&[0]);
    hash.update(member.as_str().as_bytes());
    *hash.finalize().as_bytes()
}

fn wanted(evaluation: &Evaluation, name: &str, options: &Map, first: bool) -> Result<(Wanted, Options), Fault> {
    if evaluation.state().phase != Phase::Route {
        return Err(Fault::error("to() can be used in route only"));
    }
    let known = evaluation.known.destinations.iter().find(|id| id.as_str() == name);
    let known = known.ok_or_else(|| Fault::error("unknown destination"))?;
    let mut read = Options::default();
    for (key, value) in options {
        option(&mut read, key, value, evaluation)?;
    }
    read.check(first).map_err(Fault::error)?;
    let priority = read.priority.unwrap_or_default();
    let terms = read.terms(evaluation.facts.arrival, evaluation.known.site_zone());
    let terms = terms.map_err(Fault::error)?;
    let wanted = Wanted {
        destination: known.clone(),
        priority,
        terms: if priority == Urgency::Stat {
            terms.at_once()
        } else {
            terms
        },
        back: read.back,
    };
    Ok((wanted, read))
}

fn option(read: &mut Options, key: &str, value: &rhai::Dynamic, evaluation: &Evaluation) -> Result<(), Fault> {
    if key == "back"
        && let Ok(back) = value.as_bool()
    {
        read.back = back;
        return Ok(());
    }
    let Ok(text) = value.as_immutable_string_ref() else {
        return Err(Fault::error(match OPTIONS.contains(&key) {
            true => "the value of an option of to() is a text (`back` is true or false)",
            false => "to() has no such option",
        }));
    };
    // A computed value may come from the image: it is not shown.
    read.set(key, &text).map_err(|message| {
        let shown = evaluation.known.literals.contains(text.as_str());
        Fault::error(if shown {
            message
        } else {
            "an option of to() has a value that it cannot have".to_owned()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_a_member_that_leaves_moves_only_its_own_studies() {
        let members = ["r1", "r2", "r3"].map(|name| DestinationId::parse(name).unwrap());
        let choose = |study: &str, members: &[DestinationId]| {
            let best = members.iter().min_by_key(|member| weight(study, member));
            best.cloned().unwrap()
        };
        let mut counts = [0; 3];
        for number in 0..3_000 {
            let study = format!("1.2.{number}");
            let all = choose(&study, &members);
            counts[members.iter().position(|member| *member == all).unwrap()] += 1;
            if all != members[2] {
                assert_eq!(choose(&study, &members[..2]), all);
            }
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
