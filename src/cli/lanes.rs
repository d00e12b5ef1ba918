//! `lanes`: every destination's state as a table, and below each what it refuses and what was learned of it.
use super::listing::aligned;
use std::collections::BTreeMap;
use waystation::control::protocol::Lane;
use waystation::sender::survey::words;
use waystation::transcode::forms::name_of;
use waystation::transcode::known::Learned;

/// The table.
pub fn table(lanes: &[Lane]) -> String {
    let heads = ["DESTINATION", "STATE", "IN FLIGHT", "ASSOCIATIONS", "LAST TROUBLE"];
    let mut rows = vec![heads.map(str::to_owned)];
    for lane in lanes {
        rows.push([
            lane.destination.clone(),
            lane.state.clone(),
            lane.in_flight.to_string(),
            format!("{} open, {} wanted", lane.associations, lane.wanted),
            lane.reason.clone().unwrap_or_default(),
        ]);
        let none = String::new;
        for pair in &lane.parked {
            rows.push([none(), "parked".to_owned(), none(), none(), pair.clone()]);
        }
        for (word, what) in matrix(&lane.learned) {
            rows.push([none(), word.to_owned(), none(), none(), what]);
        }
    }
    aligned(&rows)
}

/// One line for each class and answer: the syntaxes, and until when the first of them counts.
fn matrix(learned: &[Learned]) -> Vec<(&'static str, String)> {
    let mut groups: BTreeMap<(&str, u8), (Vec<String>, &str)> = BTreeMap::new();
    for cell in learned {
        let key = (cell.class.as_str(), cell.result);
        let (syntaxes, until) = groups.entry(key).or_insert((Vec::new(), &cell.until));
        syntaxes.push(name_of(&cell.syntax));
        // Both are written alike, so that their order is that of time.
        *until = (*until).min(&cell.until);
    }
    let line = |((class, result), (syntaxes, until)): ((&str, u8), (Vec<String>, &str))| {
        let (word, why) = match result {
            0 => ("accepts", String::new()),
            _ => ("refuses", format!(", {}", words(result))),
        };
        let syntaxes = syntaxes.join(", ");
        (
            word,
            format!("{class} in {syntaxes} (learned{why}; counts until {until})"),
        )
    };
    groups.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waystation::base::names::Uid;

    fn cell(class: &str, syntax: &'static str, result: u8, until: &str) -> Learned {
        Learned {
            class: Uid::parse(class).unwrap(),
            syntax: Uid::known(syntax),
            result,
            learned: "2026-01-01T00:00:00Z".to_owned(),
            until: until.to_owned(),
        }
    }

    #[test]
    fn a_lane_shows_what_it_wants_and_what_was_learned_of_it() {
        let lane = Lane {
            destination: "vna".to_owned(),
            state: "up".to_owned(),
            in_flight: 3,
            queued: 40,
            held: 0,
            awaiting: 0,
            associations: 1,
            wanted: 4,
            reason: None,
            parked: Vec::new(),
            learned: vec![
                cell("1.2.3", "1.2.840.10008.1.2", 0, "2026-01-09T00:00:00Z"),
                cell("1.2.3", "1.2.840.10008.1.2.1", 0, "2026-01-08T00:00:00Z"),
                cell("1.2.3", "1.2.840.10008.1.2.4.50", 4, "2026-01-01T01:00:00Z"),
            ],
        };
        let text = table(&[lane]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("1 open, 4 wanted"), "{text}");
        assert_eq!(lines[0].find("STATE"), lines[2].find("accepts"));
        assert!(
            lines[2].ends_with(
                "1.2.3 in Implicit VR Little Endian, Explicit VR Little Endian (learned; counts until 2026-01-08T00:00:00Z)"
            ),
            "{text}"
        );
        assert!(
            lines[3].contains("refuses")
                && lines[3].ends_with(
                    "JPEG Baseline (learned, transfer syntax not supported; counts until 2026-01-01T01:00:00Z)"
                ),
            "{text}"
        );
    }
}
