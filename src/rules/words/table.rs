//! Words that look values up in the CSV tables beside the rules. They change nothing.
use super::lookup::{self, Twice};
use super::{Book, Gives, Hand, Sample, Word};
use crate::rules::api::{Image, evaluation, not_found};
use crate::rules::fault::Fault;
use crate::rules::tables::Table;
use rhai::{Dynamic, EvalAltResult, NativeCallContext};

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

pub(super) fn register(book: &mut Book) {
    book.add(
        Word {
            namespace: "table",
            name: "lookup",
            parameters: "table, value",
            does: "Answers the text in the table's second column where the first one holds the value, or `()` when no row does. \
                With four arguments, `table::lookup(table, key, value, column)`, it looks in the column `key` and answers from `column`.",
            limits: "Leading zeros and case count; blanks at the ends do not. An empty value is never found.",
            errors: "Holds the instance, and answers `()`, when two rows give different answers. Fails when there is no such table or column, \
                and when an element is assigned the `()` of a value that was not found: nothing is removed by a gap in a table.",
            samples: &[
                Sample {
                    given: &[("StationName", "CT01"), ("InstitutionName", "")],
                    rule: r#"let name = table::lookup("stations", image.StationName);
    if name != () { image.InstitutionName = name; }"#,
                    gives: Gives::Elements(&[("InstitutionName", "North Hospital")]),
                },
                Sample {
                    given: &[("StationName", "CT01")],
                    rule: r#"let department = table::lookup("stations", "station", image.StationName, "department");
    image.InstitutionalDepartmentName = department ?? "unknown";"#,
                    gives: Gives::Elements(&[("InstitutionalDepartmentName", "Radiology")]),
                },
                Sample {
                    given: &[("StationName", "CT99"), ("InstitutionName", "Chest Clinic")],
                    rule: r#"image.InstitutionName = table::lookup("stations", image.StationName);"#,
                    gives: Gives::Hold(crate::rules::HoldKind::Error),
                },
                Sample {
                    given: &[("StationName", "MR09")],
                    rule: r#"table::lookup("stations", image.StationName);"#,
                    gives: Gives::Hold(crate::rules::HoldKind::Incomplete),
                },
            ],
        },
        |c: Context, table: &str, value: &str| {
            at(&c, table, |hand, table| match table.columns().count() {
                1 => hand.raise(Fault::error("the table has one column only: use table::has")),
                _ => answer(hand, table, (0, value), 1),
            })
        },
    );
    book.also(
        "table",
        "lookup",
        |c: Context, table: &str, key: &str, value: &str, column: &str| {
            at(&c, table, |hand, table| {
                let (key, column) = (lookup::column(hand, table, key)?, lookup::column(hand, table, column)?);
                answer(hand, table, (key, value), column)
            })
        },
    );
    book.add(
        Word {
            namespace: "table",
            name: "has",
            parameters: "table, value",
            does: "Answers whether a row of the table holds the value in its first column. With three arguments, \
                `table::has(table, column, value)`, it looks in that column.",
            limits: "Leading zeros and case count; blanks at the ends do not. An empty value is never found.",
            errors: "Fails when there is no such table or column.",
            samples: &[Sample {
                given: &[("StationName", "CT01"), ("StudyDescription", "")],
                rule: r#"if table::has("stations", image.StationName) { image.StudyDescription = "KNOWN"; }"#,
                gives: Gives::Elements(&[("StudyDescription", "KNOWN")]),
            }],
        },
        |c: Context, table: &str, value: &str| at(&c, table, |_, table| Ok(table.rows(0, value).next().is_some())),
    );
    book.also("table", "has", |c: Context, table: &str, column: &str, value: &str| {
        at(&c, table, |hand, table| {
            let column = lookup::column(hand, table, column)?;
            Ok(table.rows(column, value).next().is_some())
        })
    });
}

/// Does `work` with the table called `name`.
fn at<T: std::fmt::Debug>(c: &Context, name: &str, work: impl FnOnce(&Hand, &Table) -> Raised<T>) -> Raised<T> {
    let image = Image(evaluation(c)?);
    let hand = Hand::new(c, &image);
    let answer = lookup::table(&hand, name).and_then(|table| work(&hand, table))?;
    hand.note(|| format!("looked up in {name}: {answer:?}"));
    Ok(answer)
}

fn answer(hand: &Hand, table: &Table, (key, value): (usize, &str), column: usize) -> Raised<Dynamic> {
    match lookup::one_row(table, table.rows(key, value), &[column]) {
        Ok(Some(row)) => Ok(table.cell(row, column).to_owned().into()),
        Ok(None) => Ok(not_found()),
        Err(Twice) => {
            hand.incomplete("a table gives different answers for one value");
            Ok(not_found())
        }
    }
}
